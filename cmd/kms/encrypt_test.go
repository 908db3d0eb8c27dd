package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/envelope"
)

// newFiles returns the flags of a store with the keys alias/a and alias/b, and the directory of
// that store.
func newFiles(t *testing.T) (directory string, store []string) {
	p := newPlace(t)
	p.addKey(t, "alias/a")
	p.addKey(t, "alias/b")
	return p.dir, []string{"--store", p.store, "--key-file", p.key}
}

// convert runs a command with standard input.
func convert(t *testing.T, stdin string, store []string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	p := program{stdin: strings.NewReader(stdin), stdout: &out, stderr: &errs}
	status = p.run(t.Context(), append(args, store...))
	return status, out.String(), errs.String()
}

func requireConverted(t *testing.T, stdin string, store []string, args ...string) string {
	t.Helper()
	status, stdout, stderr := convert(t, stdin, store, args...)
	require.Zero(t, status, stderr)
	require.Empty(t, stderr)
	return stdout
}

func requireRefused(t *testing.T, stdin, text string, store []string, args ...string) {
	t.Helper()
	status, _, stderr := convert(t, stdin, store, args...)
	require.NotZero(t, status)
	require.Contains(t, stderr, text)
}

// content returns the paths of a directory with what is there.
func content(t *testing.T, directory string) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(directory, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := d.Info()
		require.NoError(t, err)
		name, err := filepath.Rel(directory, path)
		require.NoError(t, err)
		all[name] = info.Mode().String()
		if !d.IsDir() {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			all[name] += " " + string(text)
		}
		return nil
	}))
	return all
}

func names(t *testing.T, directory string) []string {
	t.Helper()
	return slices.Sorted(maps.Keys(content(t, directory)))
}

func writeFiles(t *testing.T, directory string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Join(directory, "sub", "empty"), 0o755))
	for name, text := range map[string]string{"a": strings.Repeat("large ", 12_000), "empty": "", "sub/b.txt": "small", "sub/é": "x"} {
		require.NoError(t, os.WriteFile(filepath.Join(directory, filepath.FromSlash(name)), []byte(text), 0o640))
	}
}

func TestADirectoryComesBack(t *testing.T) {
	d, store := newFiles(t)
	in, out, back := filepath.Join(d, "in"), filepath.Join(d, "deep", "out"), filepath.Join(d, "back")
	writeFiles(t, in)
	require.Equal(t, fmt.Sprintf("%s: 4 files, 72006 bytes read\n", out),
		requireConverted(t, "", store, "encrypt", "--key", "alias/a", "--context", "owner=me", "--in", in, "--out", out))
	encrypted := content(t, out)
	require.Len(t, encrypted, len(content(t, in)))
	require.NotContains(t, encrypted["a.encrypted"], "large")
	require.Contains(t, encrypted["sub/b.txt.encrypted"], "path\x00\tsub/b.txt")

	requireConverted(t, "", store, "decrypt", "--context", "owner=me", "--in", out, "--out", back)
	require.Equal(t, content(t, in), content(t, back))
	requireRefused(t, "", filepath.Join(back, "a")+": file already exists: --force", store, "decrypt", "--in", out, "--out", back)
	require.NoError(t, os.WriteFile(filepath.Join(back, "a"), nil, 0o600))
	requireConverted(t, "", store, "decrypt", "--force", "--in", out, "--out", back)
	require.Equal(t, content(t, in), content(t, back))

	// One file in the place of another is noticed, but may be decrypted alone.
	require.NoError(t, os.Rename(filepath.Join(out, "empty.encrypted"), filepath.Join(out, "a.encrypted")))
	requireRefused(t, "", "another value of \"path\"", store, "decrypt", "--in", out, "--out", filepath.Join(d, "moved"))
	require.Empty(t, requireConverted(t, "", store, "decrypt", "--in", filepath.Join(out, "a.encrypted"), "--out", "-"))
}

func TestPipesAreEncrypted(t *testing.T) {
	_, store := newFiles(t)
	sealed := requireConverted(t, "a secret", store, "encrypt", "--key", "alias/a", "--in", "-", "--out", "-")
	require.NotContains(t, sealed, "secret")
	require.Equal(t, "a secret", requireConverted(t, sealed, store, "decrypt", "--in", "-", "--out", "-"))
	require.Equal(t, "a secret", requireConverted(t, sealed, store, "decrypt", "--key", "alias/a", "--in", "-", "--out", "-"))
	requireRefused(t, sealed, "no keyring decrypts", store, "decrypt", "--key", "alias/b", "--in", "-", "--out", "-")
	requireRefused(t, sealed, "-: envelope: no keyring decrypts", store, "decrypt", "--context", "a=b", "--in", "-", "--out", "-")
	created := requireConverted(t, "more", store, "encrypt", "--key", "alias/new", "--create-key", "--in", "-", "--out", "-")
	again := requireConverted(t, "more", store, "encrypt", "--key", "alias/new", "--create-key", "--in", "-", "--out", "-")
	for _, sealed := range []string{created, again} {
		require.Equal(t, "more", requireConverted(t, sealed, store, "decrypt", "--key", "alias/new", "--in", "-", "--out", "-"))
	}
	requireRefused(t, "more", "alias", store, "encrypt", "--key", "1234abcd-12ab-34cd-56ef-1234567890ab", "--create-key", "--in", "-", "--out", "-")
	requireRefused(t, sealed+"x", "bytes follow", store, "decrypt", "--in", "-", "--out", "-")
}

// Nothing of a truncated message gets the name of the file, and nothing of its last frame leaves
// the program.
func TestATruncatedFileLeavesNoFile(t *testing.T) {
	d, store := newFiles(t)
	plain := strings.Repeat("0123456789abcdef", 64<<10/16) + "the last frame"
	sealed := requireConverted(t, plain, store, "encrypt", "--key", "alias/a", "--in", "-", "--out", "-")
	half := filepath.Join(d, "half")
	require.NoError(t, os.WriteFile(half, []byte(sealed[:len(sealed)-1]), 0o600))
	before := names(t, d)

	requireRefused(t, "", half+": envelope: truncated message", store, "decrypt", "--in", half, "--out", filepath.Join(d, "out"))
	require.Equal(t, before, names(t, d))
	status, stdout, _ := convert(t, "", store, "decrypt", "--in", half, "--out", "-")
	require.Equal(t, 1, status)
	require.Equal(t, plain[:64<<10], stdout)

	// Neither does what stops in the middle of writing, and the file that exists stays.
	require.NoError(t, os.WriteFile(half, []byte(sealed), 0o600))
	out := file(t, "out", "kept")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(fmt.Errorf("received signal: interrupt"))
	var stderr bytes.Buffer
	p := program{stderr: &stderr}
	require.Equal(t, 1, p.run(ctx, append([]string{"decrypt", "--force", "--in", half, "--out", out}, store...)))
	require.Equal(t, map[string]string{".": content(t, filepath.Dir(out))["."], "out": "-rw------- kept"}, content(t, filepath.Dir(out)))
}

// A signature can only be verified at the end of a message.
func TestASignedMessageGoesToAFile(t *testing.T) {
	d, store := newFiles(t)
	key := make([]byte, 32)
	raw := envelope.RawAES("escrow", "1", key)
	e, err := envelope.NewEncrypter(raw, envelope.EncrypterOptions{Suite: envelope.SuiteCommitKeyECDSA})
	require.NoError(t, err)
	sealed, err := e.Seal(t.Context(), []byte("signed"), nil)
	require.NoError(t, err)
	requireRefused(t, string(sealed), "write to a file", store, "decrypt", "--in", "-", "--out", "-")
	requireRefused(t, string(sealed), "no keyring decrypts", store, "decrypt", "--in", "-", "--out", filepath.Join(d, "out"))
}

func TestFilesThatCannotBeConverted(t *testing.T) {
	d, store := newFiles(t)
	in, out := filepath.Join(d, "in"), filepath.Join(d, "out")
	writeFiles(t, in)
	sealing := func(args ...string) []string { return append([]string{"encrypt", "--key", "alias/a"}, args...) }
	before := names(t, d)
	for _, tt := range []struct {
		text string
		args []string
	}{
		{"needs --key", []string{"encrypt", "--in", in, "--out", out}},
		{"needs --in", sealing("--out", out)},
		{"needs --out", sealing("--in", in)},
		{"--out has to be one, too", sealing("--in", in, "--out", "-")},
		{"--json", sealing("--in", "-", "--out", "-", "--json")},
		{"is in the directory", sealing("--in", in, "--out", in)},
		{"is in the directory", sealing("--in", in, "--out", filepath.Join(in, "new", "out"))},
		{"is the path of each file", sealing("--context", "path=x", "--in", in, "--out", out)},
		{"no such file", sealing("--in", filepath.Join(d, "absent"), "--out", out)},
		{"no such file", sealing("--in", filepath.Join(in, "a"), "--out", filepath.Join(d, "absent", "out"))},
		{"is not a file", sealing("--in", filepath.Join(in, "a"), "--out", in)},
		{"is not a file", sealing("--in", filepath.Join(in, "a"), "--out", in+"/")},
		{"reserved", sealing("--context", "aws-crypto-x=y", "--in", filepath.Join(in, "a"), "--out", out)},
		{"alias/none", []string{"encrypt", "--key", "alias/none", "--in", filepath.Join(in, "a"), "--out", out}},
		{"followed by .encrypted", []string{"decrypt", "--in", in, "--out", in + "2"}},
		{"in: envelope: not a message", []string{"decrypt", "--in", file(t, "in", "plain"), "--out", out}},
		{"base64", []string{"decrypt", "--in", file(t, "in", "AgR4"), "--out", out}},
	} {
		requireRefused(t, "", tt.text, store, tt.args...)
	}
	require.NoError(t, os.Remove(in+"2")) // made for nothing
	require.Equal(t, before, names(t, d))

	require.NoError(t, os.Symlink("a", filepath.Join(in, "link")))
	requireRefused(t, "", "link is neither a file nor a directory", store, sealing("--in", in, "--out", out)...)
}

func TestAFileKeepsItsModeExceptForTheUmask(t *testing.T) {
	d, store := newFiles(t)
	long := strings.Repeat("n", 250) // the temporary file has a name, too
	require.NoError(t, os.WriteFile(filepath.Join(d, "in"), nil, 0o600))
	require.NoError(t, os.Chmod(filepath.Join(d, "in"), 0o666))
	require.NoError(t, os.WriteFile(filepath.Join(d, "umask"), nil, 0o666))
	info, err := os.Stat(filepath.Join(d, "umask"))
	require.NoError(t, err)
	requireConverted(t, "", store, "encrypt", "--key", "alias/a", "--in", filepath.Join(d, "in"), "--out", filepath.Join(d, long))
	written, err := os.Stat(filepath.Join(d, long))
	require.NoError(t, err)
	require.Equal(t, info.Mode(), written.Mode())
}

func TestProgressIsShownOnATerminal(t *testing.T) {
	d, store := newFiles(t)
	in := filepath.Join(d, "in")
	writeFiles(t, in)
	for _, source := range []string{in, "-"} {
		var stdout, stderr bytes.Buffer
		p := program{stdin: strings.NewReader("text"), stdout: &stdout, stderr: &stderr, terminal: true}
		require.Zero(t, p.run(t.Context(), append([]string{"encrypt", "--key", "alias/a", "--in", source, "--out", filepath.Join(t.TempDir(), "out"), "--json"}, store...)))
		require.Contains(t, stderr.String(), "\r")
		require.Contains(t, stdout.String(), `"files":`)
	}
}

func TestAFileThatAppearsMeanwhileIsNotReplaced(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	require.NoError(t, err)
	defer root.Close()
	write := func(text string) func(io.Writer) error {
		return func(w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		}
	}
	require.NoError(t, writeFile(root, "a", 0o600, false, write("first")))
	require.ErrorIs(t, rename(root, "a", "a", false), fs.ErrExist)
	require.ErrorIs(t, writeFile(root, "a", 0o600, false, write("second")), fs.ErrExist)
	require.NoError(t, writeFile(root, "a", 0o600, true, write("third")))
	require.Equal(t, map[string]string{".": content(t, root.Name())["."], "a": "-rw------- third"}, content(t, root.Name()))
}
