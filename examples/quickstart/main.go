// Quickstart keeps a key in a local file and encrypts a text and a file with it:
//
//	go run ./examples/quickstart [PATH]
//
// Without PATH the key store is a temporary file that is deleted at the end. The environment
// variable KMS_PASSPHRASE sets the passphrase.
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

	// A ciphertext decrypts only with the encryption context that it was encrypted with.
	forText = map[string]string{"purpose": "quickstart", "what": "a text"}
)

func main() {
	path := ""
	if len(os.Args) > 1 {
		path = os.Args[1]
	}
	// A passphrase in the source code protects nothing. A real program prompts for it.
	passphrase := cmp.Or(os.Getenv("KMS_PASSPHRASE"), "the public passphrase of the quickstart")
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
	last := "Run this again to use the same key."
	if path == "" {
		path = filepath.Join(dir, "keys")
		last = "It is deleted now; pass a path to keep one."
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
	ctx, log := context.Background(), &stepLog{w: w}

	var ciphertext []byte
	log.title("A key in a local file")
	err = withService(path, passphrase, func(svc *kms.Service) (err error) {
		log.step("open", "the key store; deriving a key from the passphrase is slow by design")
		key, err := svc.EnsureKey(ctx, alias, &kms.CreateKeyInput{Description: "quickstart"})
		if err != nil {
			return err
		}
		log.step("ensure", "a key for %s: %s", alias, key.KeyId)
		log.title("A short text, encrypted with the key")
		if ciphertext, err = encryptText(ctx, svc, log); err != nil {
			return err
		}
		log.title("A large file (this program), encrypted with a data key")
		if err := sealFile(ctx, svc, program, sealed); err != nil {
			return err
		}
		log.step("encrypt", "%s to a message of the AWS Encryption SDK", size(info.Size()))
		return nil
	})
	if err != nil {
		return err
	}

	log.title("The same key store, opened again")
	err = withService(path, append([]byte("not "), passphrase...), func(*kms.Service) error { return nil })
	if !errors.Is(err, keystore.ErrRootKey) {
		return fmt.Errorf("a wrong passphrase was not refused: %w", err)
	}
	log.step("refuse", "a wrong passphrase: %v", keystore.ErrRootKey)
	err = withService(path, passphrase, func(svc *kms.Service) error {
		log.step("open", "with the right passphrase")
		if err := decryptText(ctx, svc, ciphertext); err != nil {
			return err
		}
		log.step("decrypt", "the text, which is unchanged")
		if err := openFile(ctx, svc, sealed, opened); err != nil {
			return err
		}
		log.step("decrypt", "the file")
		return nil
	})
	if err != nil {
		return err
	}
	if err := compare(opened, program); err != nil {
		return err
	}
	log.step("compare", "the file with the original: they are equal")
	fmt.Fprintf(w, "\nThe key store was %s.\n%s\n", path, last)
	return nil
}

// withService opens the key store, calls use and closes the key store.
func withService(path string, passphrase []byte, use func(*kms.Service) error) error {
	svc, err := kms.Open(path, keystore.Passphrase(passphrase), kms.Config{})
	if err != nil {
		return err
	}
	return errors.Join(use(svc), svc.Close())
}

func encryptText(ctx context.Context, svc *kms.Service, log *stepLog) ([]byte, error) {
	out, err := svc.Encrypt(ctx, &kms.EncryptInput{KeyId: alias, Plaintext: text, EncryptionContext: forText})
	if err != nil {
		return nil, err
	}
	log.step("encrypt", "%s to %s", size(len(text)), size(len(out.CiphertextBlob)))
	if err := decryptText(ctx, svc, out.CiphertextBlob); err != nil {
		return nil, err
	}
	log.step("decrypt", "the text, which is unchanged")
	_, err = svc.Decrypt(ctx, &kms.DecryptInput{KeyId: alias, CiphertextBlob: out.CiphertextBlob, EncryptionContext: forFile})
	if !errors.Is(err, kms.InvalidCiphertextException) {
		return nil, fmt.Errorf("another encryption context was not refused: %w", err)
	}
	log.step("refuse", "another encryption context: %v", kms.InvalidCiphertextException)
	return out.CiphertextBlob, nil
}

func decryptText(ctx context.Context, svc *kms.Service, ciphertext []byte) error {
	out, err := svc.Decrypt(ctx, &kms.DecryptInput{KeyId: alias, CiphertextBlob: ciphertext, EncryptionContext: forText})
	if err != nil {
		return err
	}
	if !bytes.Equal(out.Plaintext, text) {
		return errors.New("the decrypted text differs")
	}
	return nil
}

// compare returns an error if two files differ.
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
		return errors.New("the decrypted file differs")
	}
	return nil
}

// sum returns the SHA-256 of a file without reading all of it into memory.
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

// A stepLog prints the steps of the program and how long each took.
type stepLog struct {
	w    io.Writer
	last time.Time // when the last step ended
}

func (l *stepLog) title(text string) {
	if !l.last.IsZero() {
		fmt.Fprintln(l.w)
	}
	fmt.Fprintln(l.w, text)
	l.last = time.Now()
}

func (l *stepLog) step(verb, format string, args ...any) {
	took := time.Since(l.last)
	fmt.Fprintf(l.w, "  ✓ %-8s %-70s %7s\n", verb, fmt.Sprintf(format, args...), human(took))
	l.last = time.Now()
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
