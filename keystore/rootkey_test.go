package keystore_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/keystoretest"
	"github.com/pocketkms/kms/keystore/memory"
)

// blind is an AEAD that protects nothing, so that tests can forge.
type blind struct{}

func (blind) Encrypt(plain, _ []byte) ([]byte, error)  { return bytes.Clone(plain), nil }
func (blind) Decrypt(sealed, _ []byte) ([]byte, error) { return bytes.Clone(sealed), nil }

// resum gives a changed header the checksum that fits.
func resum(header []byte) string {
	body := header[:len(header)-sha256.Size]
	sum := sha256.Sum256(body)
	return string(append(bytes.Clone(body), sum[:]...))
}

func newKeyFile(tb testing.TB) string {
	path := filepath.Join(tb.TempDir(), "root.key")
	require.NoError(tb, keystore.CreateKeyFile(path))
	return path
}

func TestRootKeysOpenWhatTheySealed(t *testing.T) {
	file, ephemeral := newKeyFile(t), keystore.Ephemeral()
	for name, c := range map[string]struct{ right, wrong keystore.RootKey }{
		"passphrase": {keystore.Passphrase([]byte("correct horse")), keystore.Passphrase([]byte("correct horsf"))},
		"key file":   {keystore.KeyFile(file), keystore.KeyFile(newKeyFile(t))},
		"raw key":    {keystore.Key(make([]byte, 32)), keystore.Key(append(make([]byte, 31), 1))},
		"AEAD":       {keystore.External("one", blind{}), keystore.External("two", blind{})},
		"ephemeral":  {ephemeral, keystore.Ephemeral()},
		"other kind": {ephemeral, keystore.KeyFile(file)},
	} {
		t.Run(name, func(t *testing.T) {
			b := memory.New()
			put(t, open(t, b, c.right), "a", "value")
			_, err := keystore.Open(ctx, b, c.wrong)
			require.ErrorIs(t, err, keystore.ErrRootKey)
			require.NotContains(t, err.Error(), "horsf")
			require.Equal(t, "value", get(t, open(t, b, c.right), "a"))
		})
	}
}

func TestRootKeysThatCannotSeal(t *testing.T) {
	for name, root := range map[string]keystore.RootKey{
		"empty passphrase": keystore.Passphrase(nil),
		"no AEAD":          keystore.External("name", nil),
		"no name":          keystore.External("", blind{}),
		"long name":        keystore.External(strings.Repeat("n", 257), blind{}),
	} {
		b := memory.New()
		_, err := keystore.Open(ctx, b, root)
		require.ErrorIs(t, err, keystore.ErrRootKey, name)
		records, err := b.Scan(ctx, "", "", 1)
		require.NoError(t, err)
		require.Empty(t, records, name)
	}
}

func TestANewPassphraseHasAtLeast8Bytes(t *testing.T) {
	for _, short := range []string{"x", "1234567"} {
		b := memory.New()
		_, err := keystore.Open(ctx, b, keystore.Passphrase([]byte(short)))
		require.ErrorIs(t, err, keystore.ErrInvalid)
		require.ErrorContains(t, err, fmt.Sprintf("a new passphrase of %d bytes; it must have 8 or more", len(short)))
		s := open(t, b, keystore.Ephemeral())
		require.ErrorIs(t, s.ChangeRootKey(ctx, keystore.Passphrase([]byte(short))), keystore.ErrInvalid)
	}
	s := open(t, memory.New(), keystore.Passphrase([]byte("12345678")))
	require.NoError(t, s.Ping(ctx))

	// A store that an earlier version created with a short passphrase opens.
	params, _, err := keystore.Passphrase([]byte("12345678")).Create(ctx)
	require.NoError(t, err)
	_, err = keystore.Passphrase([]byte("x")).Open(ctx, params)
	require.NoError(t, err)
}

func TestPingAsksTheBackend(t *testing.T) {
	b := kept{memory.New()}
	s := open(t, b, keystoretest.RootKey())
	require.NoError(t, s.Ping(ctx))
	require.NoError(t, b.Backend.Close())
	require.ErrorIs(t, s.Ping(ctx), keystore.ErrClosed, "a backend that is not a Pinger is read")
	s = open(t, pinging{memory.New()}, keystoretest.RootKey())
	require.ErrorIs(t, s.Ping(ctx), errUnreachable)
}

type pinging struct{ keystore.Backend }

func (pinging) Ping(context.Context) error { return errUnreachable }

func TestPassphraseIsCopied(t *testing.T) {
	b := memory.New()
	passphrase := []byte("correct horse")
	root := keystore.Passphrase(passphrase)
	clear(passphrase)
	open(t, b, root)
	open(t, b, keystore.Passphrase([]byte("correct horse")))
}

// What a store asks for is bounded before it is done.
func TestPassphraseCostsAreBounded(t *testing.T) {
	root := keystore.Passphrase([]byte("correct horse"))
	params, _, err := root.Create(ctx)
	require.NoError(t, err)
	require.Equal(t, []uint32{3, 64 * 1024}, []uint32{binary.BigEndian.Uint32(params), binary.BigEndian.Uint32(params[4:])})
	require.EqualValues(t, 4, params[8])
	require.Len(t, params, 9+16)
	for name, change := range map[string]func([]byte) []byte{
		"no passes":       func(p []byte) []byte { binary.BigEndian.PutUint32(p, 0); return p },
		"too many passes": func(p []byte) []byte { binary.BigEndian.PutUint32(p, 17); return p },
		"no memory":       func(p []byte) []byte { binary.BigEndian.PutUint32(p[4:], 0); return p },
		"too much memory": func(p []byte) []byte { binary.BigEndian.PutUint32(p[4:], 1<<20+1); return p },
		"no lanes":        func(p []byte) []byte { p[8] = 0; return p },
		"too many lanes":  func(p []byte) []byte { p[8] = 65; return p },
		"short":           func(p []byte) []byte { return p[:len(p)-1] },
		"long":            func(p []byte) []byte { return append(p, 0) },
		"none":            func([]byte) []byte { return nil },
	} {
		_, err := root.Open(ctx, change(bytes.Clone(params)))
		require.ErrorIs(t, err, keystore.ErrCorrupt, name)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = root.Open(cancelled, params)
	require.ErrorIs(t, err, context.Canceled)
}

func TestKeyFile(t *testing.T) {
	path := newKeyFile(t)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode())
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Regexp(t, `\Apocketkms-root-key-1:[0-9a-f]{64}\n\z`, string(text))
	require.ErrorIs(t, keystore.CreateKeyFile(path), fs.ErrExist)
	again, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, text, again)
	require.ErrorIs(t, keystore.CreateKeyFile(filepath.Join(path, "below")), syscall.ENOTDIR)

	_, err = keystore.KeyFile(filepath.Join(t.TempDir(), "missing")).Open(ctx, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	for _, mode := range []fs.FileMode{0o604, 0o640, 0o620, 0o602, 0o601, 0o700, 0o777} {
		require.NoError(t, os.Chmod(path, mode))
		_, err = keystore.KeyFile(path).Open(ctx, nil)
		require.ErrorIs(t, err, keystore.ErrPermissions, "mode %o", mode)
	}
	for _, mode := range []fs.FileMode{0o600, 0o400} {
		require.NoError(t, os.Chmod(path, mode))
		_, err = keystore.KeyFile(path).Open(ctx, nil)
		require.NoError(t, err, "mode %o", mode)
	}
	_, err = keystore.KeyFile(t.TempDir()).Open(ctx, nil)
	require.ErrorIs(t, err, keystore.ErrPermissions, "a directory")
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	_, err = keystore.KeyFile(pipe).Open(ctx, nil)
	require.ErrorIs(t, err, keystore.ErrPermissions, "a pipe without a writer")

	digits := strings.TrimPrefix(strings.TrimSpace(string(text)), "pocketkms-root-key-1:")
	for name, bad := range map[string]string{
		"empty":        "",
		"no digits":    "pocketkms-root-key-1:\n",
		"short":        string(text[:len(text)-2]) + "\n",
		"long":         string(text[:len(text)-1]) + "00\n",
		"a digit more": string(text[:len(text)-1]) + "0",
		"second line":  string(text) + "\n",
		"no hex":       string(text[:len(text)-2]) + "x\n",
		"no prefix":    digits + "\n",
		"other prefix": "pocketkms-root-key-2:" + digits + "\n",
	} {
		bad2 := filepath.Join(t.TempDir(), "bad")
		require.NoError(t, os.WriteFile(bad2, []byte(bad), 0o600))
		_, err := keystore.KeyFile(bad2).Open(ctx, nil)
		require.ErrorIs(t, err, keystore.ErrRootKey, name)
		require.NotContains(t, err.Error(), digits[:8], name)
	}
}

func TestAKeyAndAKeyFileWithTheSameBytesAreTheSame(t *testing.T) {
	file := newKeyFile(t)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	raw, err := hex.DecodeString(strings.TrimPrefix(strings.TrimSpace(string(text)), "pocketkms-root-key-1:"))
	require.NoError(t, err)
	key := keystore.Key(raw)
	clear(raw) // it was copied
	b := memory.New()
	put(t, open(t, b, keystore.KeyFile(file)), "a", "value")
	require.Equal(t, "value", get(t, open(t, b, key), "a"))
}

func TestAKeyHas32Bytes(t *testing.T) {
	for _, n := range []int{0, 16, 31, 33, 64} {
		_, err := keystore.Open(ctx, memory.New(), keystore.Key(make([]byte, n)))
		require.ErrorIs(t, err, keystore.ErrInvalid, n)
	}
}

func TestOpenAndChangeRootKeyRefuseANilRootKey(t *testing.T) {
	b := memory.New()
	_, err := keystore.Open(ctx, b, nil)
	require.ErrorIs(t, err, keystore.ErrInvalid)
	root := keystore.Ephemeral()
	s := open(t, b, root)
	require.ErrorIs(t, s.ChangeRootKey(ctx, nil), keystore.ErrInvalid)
	_, err = keystore.Open(ctx, b, nil)
	require.ErrorIs(t, err, keystore.ErrInvalid)
	open(t, b, root)
}

var errUnreachable = errors.New("unreachable")

type unreachable struct{ err error }

func (u unreachable) Encrypt([]byte, []byte) ([]byte, error) { return nil, u.err }
func (u unreachable) Decrypt([]byte, []byte) ([]byte, error) { return nil, u.err }

func TestErrorsOfARemoteRootKeyAreReturned(t *testing.T) {
	b := memory.New()
	_, err := keystore.Open(ctx, b, keystore.External("name", unreachable{errUnreachable}))
	require.ErrorIs(t, err, errUnreachable)
	open(t, b, keystore.External("name", blind{}))
	_, err = keystore.Open(ctx, b, keystore.External("name", unreachable{errUnreachable}))
	require.ErrorIs(t, err, errUnreachable)
	require.ErrorIs(t, err, keystore.ErrRootKey)
	_, err = keystore.Open(ctx, b, keystore.External("name", unreachable{context.DeadlineExceeded}))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, keystore.ErrRootKey)
}

type talkative struct {
	blind
	Secret string
}

func TestNothingPrintsASecret(t *testing.T) {
	const secret = "correct horse"
	file := newKeyFile(t)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	key := string(text[21:37])
	raw, err := hex.DecodeString(key)
	require.NoError(t, err)
	needles := []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), fmt.Sprint([]byte(secret))[1:30], key, string(raw)}
	roots := []keystore.RootKey{
		keystore.Passphrase([]byte(secret)), keystore.KeyFile(file), keystore.External("name", &talkative{Secret: secret}),
		keystore.External("name", talkative{Secret: secret}), keystore.Ephemeral(), keystore.Key(append(raw, make([]byte, 32-len(raw))...)),
	}
	for _, root := range roots {
		s := open(t, memory.New(), root)
		put(t, s, "key", secret)
		var values []any
		values = append(values, root, &root, struct{ r keystore.RootKey }{root}, []keystore.RootKey{root}, map[string]any{"r": root}, s, struct{ s *keystore.Store }{s})
		for _, value := range values {
			var out bytes.Buffer
			for verb := 'A'; verb <= 'z'; verb++ {
				for _, flag := range []string{"", "+", "#", " ", "-", "0", "# ", "200.200"} {
					fmt.Fprintf(&out, "%"+flag+string(verb), value)
				}
			}
			fmt.Fprintln(&out, value)
			encoded, _ := json.Marshal(value)
			out.Write(encoded)
			slog.New(slog.NewTextHandler(&out, nil)).Info("text", "value", value)
			slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "value", value)
			for _, needle := range needles {
				require.False(t, strings.Contains(out.String(), needle), "%T shows its secret", value)
			}
		}
	}
}

// A root key of a third party, with all that it needs.
type thirdParty struct{ tink.AEAD }

func (thirdParty) Kind() string { return "thirdParty" }
func (h thirdParty) Create(context.Context) ([]byte, tink.AEAD, error) {
	return []byte("params"), h.AEAD, nil
}
func (h thirdParty) Open(_ context.Context, params []byte) (tink.AEAD, error) {
	if string(params) != "params" {
		return nil, keystore.ErrRootKey
	}
	return h.AEAD, nil
}

type misbehaved struct {
	thirdParty
	kind   string
	params int
}

func (m misbehaved) Kind() string { return m.kind }
func (m misbehaved) Create(context.Context) ([]byte, tink.AEAD, error) {
	return make([]byte, m.params), m.AEAD, nil
}

func TestThirdPartyRootKeys(t *testing.T) {
	b := memory.New()
	put(t, open(t, b, thirdParty{blind{}}), "a", "value")
	require.Equal(t, "value", get(t, open(t, b, thirdParty{blind{}}), "a"))
	for name, root := range map[string]keystore.RootKey{
		"no kind":         misbehaved{thirdParty{blind{}}, "", 0},
		"long kind":       misbehaved{thirdParty{blind{}}, strings.Repeat("k", 65), 0},
		"unprintable":     misbehaved{thirdParty{blind{}}, "k\n", 0},
		"long parameters": misbehaved{thirdParty{blind{}}, "k", 4097},
		"no AEAD":         misbehaved{thirdParty{nil}, "k", 0},
	} {
		_, err := keystore.Open(ctx, memory.New(), root)
		require.ErrorIs(t, err, keystore.ErrInvalid, name)
	}
}

type hidden struct{ keystore.RootKey }

func TestAnEphemeralRootKeyIsOnlyForAVolatileBackend(t *testing.T) {
	durable := kept{memory.New()} // as a third party's, which knows nothing of Volatile
	for name, root := range map[string]keystore.RootKey{
		"itself": keystore.Ephemeral(), "wrapped": hidden{keystore.Ephemeral()},
	} {
		_, err := keystore.Open(ctx, durable, root)
		require.ErrorIs(t, err, keystore.ErrInvalid, name)
		require.ErrorContains(t, err, "an ephemeral root key is lost when the process ends", name)
		records, err := durable.Scan(ctx, "", "", 1)
		require.NoError(t, err)
		require.Empty(t, records, name)
	}
	root := keystoretest.RootKey()
	s := open(t, durable, root)
	require.ErrorIs(t, s.ChangeRootKey(ctx, keystore.Ephemeral()), keystore.ErrInvalid)
	open(t, durable, root)

	s = open(t, memory.New(), root)
	require.NoError(t, s.ChangeRootKey(ctx, keystore.Ephemeral()))
}
