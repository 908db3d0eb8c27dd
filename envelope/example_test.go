package envelope_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/envelope"
)

// A row that is encrypted for its tenant cannot be passed off as another tenant's.
func Example() {
	ctx := context.Background()
	svc, err := kms.New(kms.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close()
	key, err := svc.CreateKey(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}

	keyring := envelope.KMSKey(svc, key.KeyMetadata.Arn)
	enc, err := envelope.NewEncrypter(keyring, envelope.EncrypterOptions{})
	if err != nil {
		log.Fatal(err)
	}
	dec, err := envelope.NewDecrypter(keyring, envelope.DecrypterOptions{})
	if err != nil {
		log.Fatal(err)
	}
	message, err := enc.Seal(ctx, []byte("a row"), map[string]string{"tenant": "7"})
	if err != nil {
		log.Fatal(err)
	}
	for _, tenant := range []string{"7", "8"} {
		row, err := dec.Open(ctx, message, map[string]string{"tenant": tenant})
		fmt.Printf("tenant %s: %q, refused: %t\n", tenant, row, errors.Is(err, envelope.ErrContext))
	}
	// Output:
	// tenant 7: "a row", refused: false
	// tenant 8: "", refused: true
}

// newCoders returns an Encrypter and a Decrypter of a raw key.
func newCoders() (*envelope.Encrypter, *envelope.Decrypter) {
	keyring := envelope.RawAES("example", "key", make([]byte, 32))
	enc, err := envelope.NewEncrypter(keyring, envelope.EncrypterOptions{})
	if err != nil {
		log.Fatal(err)
	}
	dec, err := envelope.NewDecrypter(keyring, envelope.DecrypterOptions{})
	if err != nil {
		log.Fatal(err)
	}
	return enc, dec
}

// Close completes the message. If the source fails, leave the Writer: then nobody takes what was
// written for a whole message.
func ExampleEncrypter_NewWriter() {
	ctx := context.Background()
	enc, dec := newCoders()
	source := strings.NewReader(strings.Repeat("a long text ", 100_000))

	var file bytes.Buffer
	w, err := enc.NewWriter(ctx, &file, map[string]string{"file": "report.txt"})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.Copy(w, source); err != nil {
		log.Fatal(err)
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}

	r, err := dec.NewReader(ctx, &file, map[string]string{"file": "report.txt"})
	if err != nil {
		log.Fatal(err)
	}
	n, err := io.Copy(io.Discard, r)
	fmt.Println(n, err)
	// Output: 1200000 <nil>
}

// A message that was cut off has an error of its own, and nothing of its last frame is returned.
func ExampleDecrypter_NewReader_truncated() {
	ctx := context.Background()
	enc, dec := newCoders()
	message, err := enc.Seal(ctx, make([]byte, 200_000), nil)
	if err != nil {
		log.Fatal(err)
	}
	r, err := dec.NewReader(ctx, bytes.NewReader(message[:len(message)/2]), nil)
	if err != nil {
		log.Fatal(err)
	}
	n, err := io.Copy(io.Discard, r)
	fmt.Println(n, errors.Is(err, envelope.ErrTruncated))
	// Output: 65536 true
}

// Only the frames that are needed are read and decrypted.
func ExampleDecrypter_NewReaderAt() {
	ctx := context.Background()
	enc, dec := newCoders()
	message, err := enc.Seal(ctx, []byte(strings.Repeat("0123456789", 100_000)), nil)
	if err != nil {
		log.Fatal(err)
	}
	r, err := dec.NewReaderAt(ctx, bytes.NewReader(message), int64(len(message)), nil)
	if err != nil {
		log.Fatal(err)
	}
	part := make([]byte, 5)
	_, err = r.ReadAt(part, 765_432)
	fmt.Printf("%d %s %v\n", r.Size(), part, err)
	// Output: 1000000 23456 <nil>
}

// Either of two keys decrypts: one of a service, and one that is kept elsewhere for emergencies.
func ExampleMulti() {
	ctx := context.Background()
	svc, err := kms.New(kms.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close()
	key, err := svc.CreateKey(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	emergency := envelope.RawAES("emergency", "2026", make([]byte, 32))
	enc, err := envelope.NewEncrypter(envelope.Multi(envelope.KMSKey(svc, key.KeyMetadata.Arn), emergency), envelope.EncrypterOptions{})
	if err != nil {
		log.Fatal(err)
	}
	message, err := enc.Seal(ctx, []byte("data"), nil)
	if err != nil {
		log.Fatal(err)
	}

	dec, err := envelope.NewDecrypter(emergency, envelope.DecrypterOptions{})
	if err != nil {
		log.Fatal(err)
	}
	plaintext, err := dec.Open(ctx, message, nil)
	fmt.Printf("%s %v\n", plaintext, err)
	// Output: data <nil>
}
