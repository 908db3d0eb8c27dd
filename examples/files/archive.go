package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/envelope"
)

// An archive is a directory of encrypted files. The encryption context of each has its path, so that
// nobody can put one in the place of another.
type archive struct {
	directory string
	encrypter *envelope.Encrypter
	decrypter *envelope.Decrypter
}

func newArchive(svc *kms.Service, directory string) (*archive, error) {
	keyring := envelope.KMSKey(svc, alias)
	encrypter, err := envelope.NewEncrypter(keyring, envelope.EncrypterOptions{})
	if err != nil {
		return nil, err
	}
	decrypter, err := envelope.NewDecrypter(keyring, envelope.DecrypterOptions{})
	return &archive{directory, encrypter, decrypter}, err
}

func (a *archive) path(name string) string {
	return filepath.Join(a.directory, filepath.FromSlash(name)+".encrypted")
}

// add encrypts a file, and returns its length before and after.
func (a *archive) add(ctx context.Context, from fs.FS, name string) (before, after int64, err error) {
	in, err := from.Open(name)
	if err != nil {
		return 0, 0, err
	}
	defer in.Close()
	err = create(a.path(name), func(out *os.File) error {
		w, err := a.encrypter.NewWriter(ctx, out, map[string]string{"path": name})
		if err != nil {
			return err
		}
		if before, err = io.Copy(w, in); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
		after, err = out.Seek(0, io.SeekEnd)
		return err
	})
	return before, after, err
}

// open returns the content of a file. Only io.EOF says that it was all.
func (a *archive) open(ctx context.Context, name string) (io.Reader, io.Closer, error) {
	f, err := os.Open(a.path(name))
	if err != nil {
		return nil, nil, err
	}
	r, err := a.decrypter.NewReader(ctx, f, map[string]string{"path": name})
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return r, f, nil
}

// compare returns an error if a file does not have the content of the original.
func (a *archive) compare(ctx context.Context, original fs.FS, name string) error {
	r, closer, err := a.open(ctx, name)
	if err != nil {
		return err
	}
	defer closer.Close()
	want, err := original.Open(name)
	if err != nil {
		return err
	}
	defer want.Close()
	got, err := sum(r)
	if err != nil {
		return err
	}
	expected, err := sum(want)
	if err == nil && !bytes.Equal(got, expected) {
		err = errors.New("the content differs")
	}
	return err
}

func sum(r io.Reader) ([]byte, error) {
	h := sha256.New()
	_, err := io.Copy(h, r)
	return h.Sum(nil), err
}

// stale returns the files that are not under the current material of the key. It needs only the
// beginning of each.
func (a *archive) stale(ctx context.Context, svc *kms.Service, names []string) (stale []string, err error) {
	key, err := svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: alias})
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		f, err := os.Open(a.path(name))
		if err != nil {
			return nil, err
		}
		info, err := envelope.Inspect(f, 0)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		if info.EncryptedDataKeys[0].KeyMaterialID != key.KeyMetadata.CurrentKeyMaterialId {
			stale = append(stale, name)
		}
	}
	return stale, nil
}

// renew encrypts a file again, under the current material of the key.
func (a *archive) renew(ctx context.Context, name string) error {
	in, err := os.Open(a.path(name))
	if err != nil {
		return err
	}
	defer in.Close()
	return create(a.path(name), func(out *os.File) error {
		return envelope.ReEncrypt(ctx, out, a.encrypter, in, a.decrypter, map[string]string{"path": name})
	})
}

// create creates a file, which gets its name when it is complete.
func create(path string, write func(*os.File) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
