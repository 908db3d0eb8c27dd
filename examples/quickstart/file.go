package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/envelope"
)

// forFile is the encryption context of files.
var forFile = map[string]string{"purpose": "quickstart", "what": "a file"}

// sealFile encrypts the file src, of any size, to the file dst, with a new data key that the key of
// the alias encrypts. dst is a message of the AWS Encryption SDK.
func sealFile(ctx context.Context, svc *kms.Service, src, dst string) error {
	encrypter, err := envelope.NewEncrypter(envelope.KMSKey(svc, alias), envelope.EncrypterOptions{})
	if err != nil {
		return err
	}
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	return create(dst, func(out io.Writer) error {
		sealed, err := encrypter.NewWriter(ctx, out, forFile)
		if err != nil {
			return err
		}
		if _, err := io.Copy(sealed, in); err != nil {
			return err
		}
		return sealed.Close() // writes the last frame
	})
}

// openFile decrypts the file src, which sealFile wrote, to the file dst.
func openFile(ctx context.Context, svc *kms.Service, src, dst string) error {
	decrypter, err := envelope.NewDecrypter(envelope.KMSKey(svc, alias), envelope.DecrypterOptions{})
	if err != nil {
		return err
	}
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	return create(dst, func(out io.Writer) error {
		opened, err := decrypter.NewReader(ctx, in, forFile)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, opened) // fails at the end of a truncated file
		return err
	})
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
