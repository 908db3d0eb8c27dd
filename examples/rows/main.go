// Rows encrypts columns of a table for several tenants, in the two ways that there are: small values
// with Encrypt, and larger ones with data keys.
//
//	go run ./examples/rows
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/envelope"
)

// A row is what the database has.
type row struct {
	id, tenant string
	iban       []byte // of Encrypt
	letter     []byte // a message of the AWS Encryption SDK
}

// A table encrypts the columns. The encryption context says what a ciphertext is: nobody who can
// write to the database can move an iban to another row, or a letter to another tenant.
type table struct {
	svc       *kms.Service
	encrypter *envelope.Encrypter
	decrypter *envelope.Decrypter
}

const alias = "alias/customers"

func newTable(svc *kms.Service) (*table, error) {
	// All letters of a tenant have the same encryption context, and so may share a data key.
	cache, err := envelope.NewCache(envelope.CacheOptions{MaxAge: time.Minute, MaxMessages: 1000})
	if err != nil {
		return nil, err
	}
	keyring := envelope.KMSKey(svc, alias)
	encrypter, err := envelope.NewEncrypter(keyring, envelope.EncrypterOptions{Cache: cache})
	if err != nil {
		return nil, err
	}
	decrypter, err := envelope.NewDecrypter(keyring, envelope.DecrypterOptions{Cache: cache})
	return &table{svc, encrypter, decrypter}, err
}

// sealIBAN asks the KMS for each value: the KMS authorizes and records each use, a value has the
// fewest bytes, and it is bound to its row.
func (t *table) sealIBAN(ctx context.Context, r *row, iban string) error {
	out, err := t.svc.Encrypt(ctx, &kms.EncryptInput{
		KeyId: alias, Plaintext: []byte(iban), EncryptionContext: map[string]string{"tenant": r.tenant, "iban": r.id},
	})
	if err == nil {
		r.iban = out.CiphertextBlob
	}
	return err
}

func (t *table) openIBAN(ctx context.Context, r *row) (string, error) {
	out, err := t.svc.Decrypt(ctx, &kms.DecryptInput{
		KeyId: alias, CiphertextBlob: r.iban, EncryptionContext: map[string]string{"tenant": r.tenant, "iban": r.id},
	})
	if err != nil {
		return "", err
	}
	return string(out.Plaintext), nil
}

// sealLetter encrypts a value of any length. The KMS is asked once a minute for each tenant.
func (t *table) sealLetter(ctx context.Context, r *row, letter string) (err error) {
	r.letter, err = t.encrypter.Seal(ctx, []byte(letter), map[string]string{"tenant": r.tenant, "column": "letter"})
	return err
}

func (t *table) openLetter(ctx context.Context, r *row) (string, error) {
	letter, err := t.decrypter.Open(ctx, r.letter, map[string]string{"tenant": r.tenant, "column": "letter"})
	return string(letter), err
}

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, w io.Writer) error {
	calls := map[string]int{}
	svc, err := kms.New(kms.Config{Intercept: func(ctx context.Context, c kms.Call, next func(context.Context) (any, error)) (any, error) {
		calls[c.Operation.Name()]++
		return next(ctx)
	}})
	if err != nil {
		return err
	}
	defer svc.Close()
	if _, err := svc.EnsureKey(ctx, alias, nil); err != nil {
		return err
	}
	t, err := newTable(svc)
	if err != nil {
		return err
	}
	const iban = "DE89370400440532013000"
	letter := strings.Repeat("Dear customer, ", 1000)
	var rows []*row
	for i := range 100 {
		r := &row{id: fmt.Sprint(i), tenant: []string{"blue", "red"}[i%2]}
		if err := t.sealIBAN(ctx, r, iban); err != nil {
			return err
		}
		if err := t.sealLetter(ctx, r, letter); err != nil {
			return err
		}
		rows = append(rows, r)
	}
	fmt.Fprintf(w, "100 rows of 2 tenants. The KMS was asked for:\n")
	fmt.Fprintf(w, "  ibans:   %3d Encrypt,         %6d -> %6d bytes each\n", calls["Encrypt"], len(iban), len(rows[0].iban))
	fmt.Fprintf(w, "  letters: %3d GenerateDataKey, %6d -> %6d bytes each\n", calls["GenerateDataKey"], len(letter), len(rows[0].letter))
	for _, r := range rows {
		gotIBAN, err := t.openIBAN(ctx, r)
		if err != nil {
			return err
		}
		gotLetter, err := t.openLetter(ctx, r)
		if err != nil {
			return err
		}
		if gotIBAN != iban || gotLetter != letter {
			return fmt.Errorf("row %s differs", r.id)
		}
	}
	fmt.Fprintln(w, "All open again.")

	rows[0].iban, rows[1].letter = rows[2].iban, rows[0].letter
	_, err = t.openIBAN(ctx, rows[0])
	fmt.Fprintln(w, "\nAn iban moved to another row:     ", err)
	_, err = t.openLetter(ctx, rows[1])
	fmt.Fprintln(w, "A letter moved to another tenant: ", err)
	return nil
}
