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
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/tink-crypto/tink-go/v2/streamingaead/subtle"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
)

const alias = "alias/quickstart"

var (
	text = []byte("The quick brown fox jumps over the lazy dog.")

	// Encryption contexts say what a ciphertext is for: it decrypts for nothing else.
	forText = map[string]string{"purpose": "quickstart", "what": "a text"}
	forFile = map[string]string{"purpose": "quickstart", "what": "a data key"}
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
	ctx, say, locked := context.Background(), &teller{w: w}, filepath.Join(dir, "program.locked")

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
		return encryptFile(ctx, svc, say, program, locked)
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
		return decryptFile(ctx, svc, say, locked, program)
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\nThe store was %s. %s\n", path, last)
	return nil
}

// with opens the store and closes it when use is done.
func with(path string, passphrase []byte, use func(*kms.Service) error) error {
	svc, err := kms.Open(path, keystore.Passphrase(passphrase))
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

// encryptFile writes to the target a data key encrypted by the key, behind its
// length in two bytes, and then the source, encrypted under the data key.
func encryptFile(ctx context.Context, svc *kms.Service, say *teller, source, target string) (err error) {
	key, err := svc.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{
		KeyId: alias, KeySpec: kms.DataKeySpecAES256, EncryptionContext: forFile,
	})
	if err != nil {
		return err
	}
	defer clear(key.Plaintext)
	say.done("make", "a data key, to use now and forget, and its encrypted copy, to keep")

	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(target)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	header := binary.BigEndian.AppendUint16(nil, uint16(len(key.CiphertextBlob)))
	if _, err := out.Write(append(header, key.CiphertextBlob...)); err != nil {
		return err
	}
	aead, err := streaming(key.Plaintext)
	if err != nil {
		return err
	}
	sealed, err := aead.NewEncryptingWriter(out, nil)
	if err != nil {
		return err
	}
	n, err := io.Copy(sealed, in)
	if err != nil {
		return err
	}
	if err := sealed.Close(); err != nil { // which writes the last segment
		return err
	}
	say.done("encrypt", "%s, with the encrypted data key in front", size(n))
	return nil
}

// decryptFile reads what encryptFile made, and compares it with the original.
func decryptFile(ctx context.Context, svc *kms.Service, say *teller, source, original string) error {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	var length uint16
	if err := binary.Read(in, binary.BigEndian, &length); err != nil {
		return err
	}
	encryptedKey := make([]byte, length)
	if _, err := io.ReadFull(in, encryptedKey); err != nil {
		return err
	}
	key, err := svc.Decrypt(ctx, &kms.DecryptInput{KeyId: alias, CiphertextBlob: encryptedKey, EncryptionContext: forFile})
	if err != nil {
		return err
	}
	defer clear(key.Plaintext)
	aead, err := streaming(key.Plaintext)
	if err != nil {
		return err
	}
	opened, err := aead.NewDecryptingReader(in, nil)
	if err != nil {
		return err
	}
	plaintext, err := io.ReadAll(opened) // without an error at its end, nothing is missing
	if err != nil {
		return err
	}
	say.done("decrypt", "the file, %s", size(len(plaintext)))
	want, err := os.ReadFile(original)
	if err != nil {
		return err
	}
	if !bytes.Equal(plaintext, want) {
		return errors.New("the file came back changed")
	}
	say.done("compare", "it with the original: the same")
	return nil
}

// streaming is Tink's AES256-GCM-HKDF: the file is cut into segments of 1 MiB,
// each authenticated with its place and with whether it is the last.
func streaming(key []byte) (*subtle.AESGCMHKDF, error) {
	return subtle.NewAESGCMHKDF(key, "SHA256", 32, 1<<20, 0)
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
