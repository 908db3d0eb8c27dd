package main

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/tink-crypto/tink-go/v2/streamingaead/subtle"

	"github.com/pocketkms/kms"
)

// forFile is the encryption context of the data keys of files.
var forFile = map[string]string{"purpose": "quickstart", "what": "a data key"}

// sealFile encrypts the file src, of any size, into the file dst: first a new
// data key, encrypted by the key, behind its length in two bytes; then what is
// in src, encrypted under the data key. The format has neither magic nor
// version: give it both where files have to outlive the program.
func sealFile(ctx context.Context, svc *kms.Service, src, dst string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	key, err := svc.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{
		KeyId: alias, KeySpec: kms.DataKeySpecAES256, EncryptionContext: forFile,
	})
	if err != nil {
		return err
	}
	defer clear(key.Plaintext)
	aead, err := streaming(key.Plaintext)
	if err != nil {
		return err
	}
	return create(dst, func(out io.Writer) error {
		header := binary.BigEndian.AppendUint16(nil, uint16(len(key.CiphertextBlob)))
		if _, err := out.Write(append(header, key.CiphertextBlob...)); err != nil {
			return err
		}
		sealed, err := aead.NewEncryptingWriter(out, nil)
		if err != nil {
			return err
		}
		if _, err := io.Copy(sealed, in); err != nil {
			return err
		}
		return sealed.Close() // which writes the last segment
	})
}

// openFile decrypts the file src, which sealFile made, into the file dst.
func openFile(ctx context.Context, svc *kms.Service, src, dst string) error {
	in, err := os.Open(src)
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
	return create(dst, func(out io.Writer) error {
		_, err := io.Copy(out, opened) // that nothing is missing shows at the end only
		return err
	})
}

// streaming is Tink's AES256-GCM-HKDF: the file is cut into segments of 1 MiB,
// each authenticated with its place and with whether it is the last.
func streaming(key []byte) (*subtle.AESGCMHKDF, error) {
	return subtle.NewAESGCMHKDF(key, "SHA256", 32, 1<<20, 0)
}

// create makes a file of mode 0600 that gets its name once it is whole. If
// write fails, nothing is left of it, and a file that had the name stays.
func create(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".unfinished-")
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync() // or else a crash could leave the name without the contents
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
