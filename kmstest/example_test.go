package kmstest_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/kmstest"
	"github.com/pocketkms/kms/seed"
)

// T stands for the *testing.T of a test, which an example does not have.
type T struct{ ended }

func (*T) Helper()                                  {}
func (*T) Output() io.Writer                        { return os.Stderr }
func (*T) Fatalf(format string, arguments ...any)   { panic(fmt.Sprintf(format, arguments...)) }
func (t *T) Errorf(format string, arguments ...any) { t.Fatalf(format, arguments...) }

var _ testing.TB = (*T)(nil)

var ctx = context.Background()

func Example() {
	t := new(T)
	defer t.end()

	svc := kmstest.New(t, kmstest.Seed(seed.Key{ID: "1234abcd-12ab-34cd-56ef-1234567890ab", Aliases: []string{"alias/app"}}))
	svc.Inject(kmstest.Fault{Operations: []string{"Encrypt"}, Count: 1, Err: kmstest.Throttling()})

	// This is the code under test: it retries once.
	for range 2 {
		_, err := svc.Encrypt(ctx, &kms.EncryptInput{KeyId: "alias/app", Plaintext: []byte("hello")})
		if err == nil {
			break
		}
		fmt.Println(err)
	}

	for _, call := range svc.Calls("Encrypt") {
		fmt.Println(call)
	}
	// Output:
	// kms: Encrypt: ThrottlingException: You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.
	// Encrypt {"keyId":"alias/app"}: ThrottlingException (injected)
	// Encrypt {"keyId":"alias/app"}: succeeded
}

func ExampleService_Advance() {
	t := new(T)
	defer t.end()
	svc := kmstest.New(t, kmstest.Seed(seed.Key{ID: "1234abcd-12ab-34cd-56ef-1234567890ab", State: kms.KeyStatePendingDeletion}))

	for range 2 {
		out, err := svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: "1234abcd-12ab-34cd-56ef-1234567890ab"})
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Println(out.KeyMetadata.KeyState, "until", out.KeyMetadata.DeletionDate.Format(time.DateOnly))
		svc.Advance(30 * 24 * time.Hour)
	}
	// Output:
	// PendingDeletion until 2026-01-31
	// kms: DescribeKey: NotFoundException: Key 'arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab' does not exist
}

func ExampleService_BlockUntil() {
	t := new(T)
	defer t.end()
	svc := kmstest.New(t)
	svc.Inject(kmstest.Fault{Operations: []string{"ListKeys"}, Latency: 2 * time.Second})

	done := make(chan error)
	go func() { // in the same goroutine the call would wait forever
		_, err := svc.ListKeys(ctx, nil)
		done <- err
	}()
	svc.BlockUntil(1) // the call waits for the clock now
	svc.Advance(2 * time.Second)
	fmt.Println(<-done)
	// Output:
	// <nil>
}

func ExampleService_Fork() {
	t := new(T)
	defer t.end()
	prepared := kmstest.New(t, kmstest.Seed(seed.Key{ID: "1234abcd-12ab-34cd-56ef-1234567890ab", Aliases: []string{"alias/app"}}))

	for _, row := range []struct {
		name    string
		prepare func(*kmstest.Service) error
	}{
		{"as prepared", func(svc *kmstest.Service) error { return nil }},
		{"disabled", func(svc *kmstest.Service) error {
			_, err := svc.DisableKey(ctx, &kms.DisableKeyInput{KeyId: "1234abcd-12ab-34cd-56ef-1234567890ab"})
			return err
		}},
		{"without its alias", func(svc *kmstest.Service) error {
			_, err := svc.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: "alias/app"})
			return err
		}},
	} {
		svc := prepared.Fork(t) // so that no row sees the changes of another
		if err := row.prepare(svc); err != nil {
			t.Fatalf("%v", err)
		}
		_, err := svc.Encrypt(ctx, &kms.EncryptInput{KeyId: "alias/app", Plaintext: []byte("hello")})
		fmt.Printf("%s: %v\n", row.name, err)
	}
	// Output:
	// as prepared: <nil>
	// disabled: kms: Encrypt: DisabledException: arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab is disabled.
	// without its alias: kms: Encrypt: NotFoundException: Alias arn:aws:kms:us-east-1:111122223333:alias/app is not found.
}

func ExampleEventualConsistency() {
	t := new(T)
	defer t.end()
	svc := kmstest.New(t, kmstest.EventualConsistency(5*time.Second), kmstest.Seed(seed.Key{ID: "1234abcd-12ab-34cd-56ef-1234567890ab"}))

	_, err := svc.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: "alias/new", TargetKeyId: "1234abcd-12ab-34cd-56ef-1234567890ab"})
	fmt.Println(err)
	_, err = svc.Encrypt(ctx, &kms.EncryptInput{KeyId: "alias/new", Plaintext: []byte("hello")})
	fmt.Println(err)
	svc.Advance(5 * time.Second)
	_, err = svc.Encrypt(ctx, &kms.EncryptInput{KeyId: "alias/new", Plaintext: []byte("hello")})
	fmt.Println(err)
	// Output:
	// <nil>
	// kms: Encrypt: NotFoundException: Alias arn:aws:kms:us-east-1:111122223333:alias/new is not found.
	// <nil>
}

func ExampleDevice() {
	t := new(T)
	defer t.end()
	hsm := kmstest.NewDevice("password")
	svc := kmstest.New(t, kmstest.Configure(func(c *kms.Config) {
		c.Devices = map[string]keystore.Device{"cluster-234567abcde": hsm}
	}))
	store, err := svc.CreateCustomKeyStore(ctx, &kms.CreateCustomKeyStoreInput{
		CustomKeyStoreName: "hsm", CloudHsmClusterId: "cluster-234567abcde",
		TrustAnchorCertificate: kmstest.TrustAnchor, KeyStorePassword: "password",
	})
	if err != nil {
		t.Fatalf("%v", err)
	}
	svc.Connect(store.CustomKeyStoreId)
	key, err := svc.CreateKey(ctx, &kms.CreateKeyInput{Origin: kms.OriginAWSCloudHSM, CustomKeyStoreId: store.CustomKeyStoreId})
	if err != nil {
		t.Fatalf("%v", err)
	}

	encrypt := func() error {
		_, err := svc.Encrypt(ctx, &kms.EncryptInput{KeyId: key.KeyMetadata.KeyId, Plaintext: []byte("hello")})
		return err
	}
	fmt.Println(encrypt())
	remove := hsm.Inject(kmstest.DeviceFault{Method: "Encrypt", Err: keystore.DeviceUnreachable})
	fmt.Println(encrypt())
	remove()
	fmt.Println(encrypt())
	// Output:
	// <nil>
	// kms: Encrypt: KMSInvalidStateException: The CloudHSM cluster of the custom key store cannot be used: the device cannot be reached.
	// <nil>
}
