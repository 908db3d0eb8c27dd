// Files keeps the files of a directory encrypted, in the format of the AWS Encryption SDK, and shows
// what becomes of them when files are damaged and when the key is rotated:
//
//	go run ./examples/files [DIRECTORY]
//
// DIRECTORY is only read; without it, a few files are made. Everything else is in a temporary
// directory that is deleted at the end.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"

	"github.com/pocketkms/kms"
)

const alias = "alias/files"

func main() {
	directory := ""
	if len(os.Args) > 1 {
		directory = os.Args[1]
	}
	if err := run(context.Background(), os.Stdout, directory); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, w io.Writer, directory string) error {
	scratch, err := os.MkdirTemp("", "files-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	if directory == "" {
		directory = filepath.Join(scratch, "plain")
		if err := writeSamples(directory); err != nil {
			return err
		}
	}
	svc, err := kms.New(kms.Config{})
	if err != nil {
		return err
	}
	defer svc.Close()
	key, err := svc.EnsureKey(ctx, alias, nil)
	if err != nil {
		return err
	}
	a, err := newArchive(svc, filepath.Join(scratch, "encrypted"))
	if err != nil {
		return err
	}

	fmt.Fprintln(w, "Encrypted:")
	var names []string
	plain := os.DirFS(directory)
	err = fs.WalkDir(plain, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		before, after, err := a.add(ctx, plain, name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		names = append(names, name)
		fmt.Fprintf(w, "  %-24s %9d -> %9d bytes\n", name, before, after)
		return nil
	})
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return errors.New("there is no file")
	}
	for _, name := range names {
		if err := a.compare(ctx, plain, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	fmt.Fprintf(w, "All %d open again, with the same content.\n\n", len(names))

	fmt.Fprintln(w, "Refused:")
	message, err := os.ReadFile(a.path(names[0]))
	if err != nil {
		return err
	}
	_, err = a.decrypter.Open(ctx, message[:len(message)/2], map[string]string{"path": names[0]})
	fmt.Fprintln(w, "  half of a file:               ", err)
	_, err = a.decrypter.Open(ctx, message, map[string]string{"path": "another"})
	fmt.Fprintln(w, "  a file in the place of another:", err)
	message[len(message)-1] ^= 1
	_, err = a.decrypter.Open(ctx, message, map[string]string{"path": names[0]})
	fmt.Fprintln(w, "  a file with one bit changed:   ", err)

	if _, err := svc.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: key.KeyId}); err != nil {
		return err
	}
	stale, err := a.stale(ctx, svc, names)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\nAfter a rotation of the key, %d files are under its former material.\n", len(stale))
	for _, name := range stale {
		if err := a.renew(ctx, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if stale, err = a.stale(ctx, svc, names); err != nil {
		return err
	}
	fmt.Fprintf(w, "Encrypted again, %d are.\n", len(stale))
	return nil
}

func writeSamples(directory string) error {
	for name, size := range map[string]int{"empty.txt": 0, "letters/hello.txt": 6, "photos/large.jpg": 5 << 20} {
		path := filepath.Join(directory, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			return err
		}
	}
	return nil
}
