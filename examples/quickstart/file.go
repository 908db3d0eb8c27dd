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

// sealFile encrypts the file src, of any size, to the file dst. dst begins with a new data key,
// encrypted by the KMS and preceded by its length in two bytes; the contents of src follow,
// encrypted with the data key. A format for files that outlive the program also needs a magic
// number and a version.
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
		return sealed.Close() // writes the last segment
	})
}

// openFile decrypts the file src, which sealFile wrote, to the file dst.
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
		_, err := io.Copy(out, opened) // a truncated file is detected only at its end
		return err
	})
}

// streaming returns Tink's AES256-GCM-HKDF. It encrypts segments of 1 MiB and authenticates the
// position of each, and which one is the last.
func streaming(key []byte) (*subtle.AESGCMHKDF, error) {
	return subtle.NewAESGCMHKDF(key, "SHA256", 32, 1<<20, 0)
}

// create creates a file with mode 0600, which gets its name when it is complete. If write fails,
// the file is removed and an older file of that name stays.
func create(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".unfinished-")
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync() // so that a crash cannot leave the name without the contents
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
