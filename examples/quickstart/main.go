// Quickstart keeps a key in a file, and encrypts a text and a file with it:
//
//	go run ./examples/quickstart [PATH]
//
// Without PATH the store is in a temporary directory, and deleted in the end.
// The environment variable KMS_PASSPHRASE chooses the passphrase.
package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
)

const alias = "alias/quickstart"

var (
	text = []byte("The quick brown fox jumps over the lazy dog.")

	// An encryption context says what a ciphertext is for: it decrypts for nothing else.
	forText = map[string]string{"purpose": "quickstart", "what": "a text"}
)

func main() {
	path := ""
	if len(os.Args) > 1 {
		path = os.Args[1]
	}
	// A passphrase in a program's source protects nothing: a real program asks for it.
	passphrase := cmp.Or(os.Getenv("KMS_PASSPHRASE"), "the quickstart's own, known to the world")
	if err := run(os.Stdout, path, []byte(passphrase)); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, path string, passphrase []byte) error {
	dir, err := os.MkdirTemp("", "quickstart-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	last := "Run this again to find the key in it."
	if path == "" {
		path = filepath.Join(dir, "keys")
		last = "It goes now; to keep one, run this with a path."
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	info, err := os.Stat(program)
	if err != nil {
		return err
	}
	sealed, opened := filepath.Join(dir, "program.sealed"), filepath.Join(dir, "program")
	ctx, say := context.Background(), &teller{w: w}

	var ciphertext []byte
	say.title("A store of keys in one file")
	err = with(path, passphrase, func(svc *kms.Service) (err error) {
		say.done("open", "%s, under a passphrase", path)
		if err := findKey(ctx, svc, say); err != nil {
			return err
		}
		say.title("A short text, encrypted by the key itself")
		if ciphertext, err = encryptText(ctx, svc, say); err != nil {
			return err
		}
		say.title("A large file, this very program, encrypted by a data key")
		if err := sealFile(ctx, svc, program, sealed); err != nil {
			return err
		}
		say.done("encrypt", "%s; the data key is in front, itself encrypted", size(info.Size()))
		return nil
	})
	if err != nil {
		return err
	}

	say.title("Later, perhaps in another process")
	err = with(path, []byte("a wrong one"), nothing)
	if !errors.Is(err, keystore.ErrRootKey) {
		return fmt.Errorf("a wrong passphrase was not refused: %w", err)
	}
	say.done("refuse", "a wrong passphrase: %v", keystore.ErrRootKey)
	err = with(path, passphrase, func(svc *kms.Service) error {
		say.done("open", "the store again")
		if err := decryptText(ctx, svc, ciphertext); err != nil {
			return err
		}
		say.done("decrypt", "the text: the same")
		if err := openFile(ctx, svc, sealed, opened); err != nil {
			return err
		}
		say.done("decrypt", "the file, %s", size(info.Size()))
		return nil
	})
	if err != nil {
		return err
	}
	if err := compare(opened, program); err != nil {
		return err
	}
	say.done("compare", "it with the original: the same")
	fmt.Fprintf(w, "\nThe store was %s. %s\n", path, last)
	return nil
}

// with opens the store and closes it when use is done.
func with(path string, passphrase []byte, use func(*kms.Service) error) error {
	svc, err := kms.Open(path, keystore.Passphrase(passphrase), kms.Config{})
	if err != nil {
		return err
	}
	return errors.Join(use(svc), svc.Close())
}

func nothing(*kms.Service) error { return nil }

// findKey makes the key if the alias names none yet.
func findKey(ctx context.Context, svc *kms.Service, say *teller) error {
	found, err := svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: alias})
	if err == nil {
		say.done("find", "the key that %s names: %s", alias, found.KeyMetadata.KeyId)
		return nil
	}
	if !errors.Is(err, kms.NotFoundException) {
		return err
	}
	created, err := svc.CreateKey(ctx, &kms.CreateKeyInput{Description: "quickstart"})
	if err != nil {
		return err
	}
	say.done("create", "a key, %s: %s", created.KeyMetadata.KeySpec, created.KeyMetadata.KeyId)
	_, err = svc.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: alias, TargetKeyId: created.KeyMetadata.KeyId})
	if err != nil {
		return err
	}
	say.done("name", "it %s", alias)
	return nil
}

func encryptText(ctx context.Context, svc *kms.Service, say *teller) ([]byte, error) {
	out, err := svc.Encrypt(ctx, &kms.EncryptInput{KeyId: alias, Plaintext: text, EncryptionContext: forText})
	if err != nil {
		return nil, err
	}
	say.done("encrypt", "%s into %s", size(len(text)), size(len(out.CiphertextBlob)))
	if err := decryptText(ctx, svc, out.CiphertextBlob); err != nil {
		return nil, err
	}
	say.done("decrypt", "the same text")
	_, err = svc.Decrypt(ctx, &kms.DecryptInput{KeyId: alias, CiphertextBlob: out.CiphertextBlob, EncryptionContext: forFile})
	if !errors.Is(err, kms.InvalidCiphertextException) {
		return nil, fmt.Errorf("another encryption context was not refused: %w", err)
	}
	say.done("refuse", "another encryption context: %v", err)
	return out.CiphertextBlob, nil
}

func decryptText(ctx context.Context, svc *kms.Service, ciphertext []byte) error {
	out, err := svc.Decrypt(ctx, &kms.DecryptInput{KeyId: alias, CiphertextBlob: ciphertext, EncryptionContext: forText})
	if err != nil {
		return err
	}
	if !bytes.Equal(out.Plaintext, text) {
		return errors.New("the text came back changed")
	}
	return nil
}

func compare(file, original string) error {
	got, err := sum(file)
	if err != nil {
		return err
	}
	want, err := sum(original)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("the file came back changed")
	}
	return nil
}

// sum is the SHA-256 of a file, which is not read into memory for that.
func sum(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, err
	}
	return h.Sum(nil), nil
}

// A teller says what was done, and how long it took.
type teller struct {
	w     io.Writer
	since time.Time
}

func (t *teller) title(text string) {
	if !t.since.IsZero() {
		fmt.Fprintln(t.w)
	}
	fmt.Fprintln(t.w, text)
	t.since = time.Now()
}

func (t *teller) done(verb, format string, args ...any) {
	took := time.Since(t.since)
	fmt.Fprintf(t.w, "  ✓ %-8s %-70s %7s\n", verb, fmt.Sprintf(format, args...), human(took))
	t.since = time.Now()
}

func human(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

func size[N int | int64](bytes N) string {
	if bytes < 1<<20 {
		return fmt.Sprintf("%d bytes", bytes)
	}
	return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
}
