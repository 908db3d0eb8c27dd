package kms_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	bbolt "go.etcd.io/bbolt"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/internal/benchtest"
	"github.com/pocketkms/kms/keystore/keystoretest"
)

// Each benchmark also measures its floor, the bare primitive that the operation needs, and reports
// the ratio of the two times as "x-floor". docs/benchmarks.md has the budgets.

func benchService(b *testing.B, in *kms.CreateKeyInput) (*kms.Service, string) {
	b.Helper()
	svc, err := kms.New(kms.Config{})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, svc.Close()) })
	out, err := svc.CreateKey(context.Background(), in)
	require.NoError(b, err)
	return svc, out.KeyMetadata.KeyId
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func bareGCM() cipher.AEAD {
	key := make([]byte, 32)
	rand.Read(key)
	return must(cipher.NewGCM(must(aes.NewCipher(key))))
}

var (
	benchPlaintext = make([]byte, 32)
	benchContext   = map[string]string{"tenant": "4711", "purpose": "invoices"}
)

// benchAssociatedData is as long as the data that Encrypt authenticates: the header of a ciphertext
// and benchContext.
var benchAssociatedData = make([]byte, 95)

// floorSeal is the floor of operations that encrypt: a Seal with a random nonce into a new slice.
func floorSeal(gcm cipher.AEAD) func() {
	return func() {
		nonce := make([]byte, 12, 12+32+16)
		rand.Read(nonce)
		benchSealed = gcm.Seal(nonce, nonce, benchPlaintext, benchAssociatedData)
	}
}

var benchSealed, benchOpened []byte // keep what floors return, so that the compiler cannot leave it on the stack

func BenchmarkEncrypt(b *testing.B) {
	svc, id := benchService(b, nil)
	in := &kms.EncryptInput{KeyId: id, Plaintext: benchPlaintext, EncryptionContext: benchContext}
	benchtest.Compare(b, floorSeal(bareGCM()), func() { must(svc.Encrypt(context.Background(), in)) })
}

func BenchmarkGenerateDataKey(b *testing.B) {
	svc, id := benchService(b, nil)
	in := &kms.GenerateDataKeyInput{KeyId: id, KeySpec: kms.DataKeySpecAES256, EncryptionContext: benchContext}
	benchtest.Compare(b, floorSeal(bareGCM()), func() { must(svc.GenerateDataKey(context.Background(), in)) })
}

func BenchmarkDecrypt(b *testing.B) {
	svc, id := benchService(b, nil)
	out := must(svc.Encrypt(context.Background(), &kms.EncryptInput{KeyId: id, Plaintext: benchPlaintext, EncryptionContext: benchContext}))
	in := &kms.DecryptInput{CiphertextBlob: out.CiphertextBlob, EncryptionContext: benchContext}
	gcm := bareGCM()
	nonce := make([]byte, 12)
	sealed := gcm.Seal(nil, nonce, benchPlaintext, benchAssociatedData)
	benchtest.Compare(b, func() {
		benchOpened = must(gcm.Open(nil, nonce, sealed, benchAssociatedData))
	}, func() { must(svc.Decrypt(context.Background(), in)) })
}

// BenchmarkAudited compares calls with a sink that drops events with calls without a sink, which
// are its floor. Production's sinks borrow events; "kept" is with a sink that may keep them.
func BenchmarkAudited(b *testing.B) {
	ctx := context.Background()
	for _, operation := range []struct {
		name string
		key  *kms.CreateKeyInput
		call func(svc *kms.Service, keyID string) func()
	}{
		{"Encrypt", nil, func(svc *kms.Service, keyID string) func() {
			in := &kms.EncryptInput{KeyId: keyID, Plaintext: benchPlaintext, EncryptionContext: benchContext}
			return func() { must(svc.Encrypt(ctx, in)) }
		}},
		{"Decrypt", nil, func(svc *kms.Service, keyID string) func() {
			sealed := must(svc.Encrypt(ctx, &kms.EncryptInput{KeyId: keyID, Plaintext: benchPlaintext, EncryptionContext: benchContext}))
			in := &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: benchContext}
			return func() { must(svc.Decrypt(ctx, in)) }
		}},
		{"GenerateDataKey", nil, func(svc *kms.Service, keyID string) func() {
			in := &kms.GenerateDataKeyInput{KeyId: keyID, KeySpec: kms.DataKeySpecAES256, EncryptionContext: benchContext}
			return func() { must(svc.GenerateDataKey(ctx, in)) }
		}},
		{"Sign", &kms.CreateKeyInput{KeySpec: kms.KeySpecECCNISTP256, KeyUsage: kms.KeyUsageSignVerify}, func(svc *kms.Service, keyID string) func() {
			in := &kms.SignInput{KeyId: keyID, Message: benchPlaintext, SigningAlgorithm: kms.SigningAlgorithmECDSASHA256}
			return func() { must(svc.Sign(ctx, in)) }
		}},
	} {
		prepare := func(b *testing.B, sink audit.Sink) func() {
			svc := must(kms.New(kms.Config{Audit: sink}))
			b.Cleanup(func() { require.NoError(b, svc.Close()) })
			return operation.call(svc, must(svc.CreateKey(ctx, operation.key)).KeyMetadata.KeyId)
		}
		compare := func(b *testing.B, sink audit.Sink) {
			unaudited := prepare(b, nil)
			benchtest.Compare(b, unaudited, prepare(b, sink))
			b.ReportMetric(testing.AllocsPerRun(100, unaudited), "floor-allocs/op")
		}
		b.Run(operation.name, func(b *testing.B) { compare(b, audit.Discard) })
		b.Run(operation.name+"/kept", func(b *testing.B) {
			compare(b, audit.SinkFunc(func(context.Context, *audit.Event) error { return nil }))
		})
	}
}

// BenchmarkEncryptTwoCores reports the throughput of Encrypt with one key on two cores, divided by
// that on one core, as "x-one-core". It includes garbage collection. It reports the same for the
// floor, in which the cores share only the machine and Go's runtime, and for the parts of the
// floor.
func BenchmarkEncryptTwoCores(b *testing.B) {
	svc, id := benchService(b, nil)
	in := &kms.EncryptInput{KeyId: id, Plaintext: benchPlaintext, EncryptionContext: benchContext}
	encrypt := func() { must(svc.Encrypt(context.Background(), in)) }
	seal := func() func() {
		gcm, nonce, out := bareGCM(), make([]byte, 12), make([]byte, 0, 4096) // far from the other's
		return func() { gcm.Seal(out, nonce, benchPlaintext, nil) }
	}
	random := func() func() {
		nonce := make([]byte, 4096)[:12]
		return func() { rand.Read(nonce) }
	}
	allocate := func() func() {
		var kept []byte
		return func() { kept = make([]byte, 60); runtime.KeepAlive(&kept) }
	}
	for _, part := range []struct {
		unit string
		work [2]func()
	}{
		{"x-one-core", [2]func(){encrypt, encrypt}},
		{"floor-x-one-core", [2]func(){floorSeal(bareGCM()), floorSeal(bareGCM())}},
		{"aes-x-one-core", [2]func(){seal(), seal()}},
		{"random-x-one-core", [2]func(){random(), random()}},
		{"allocation-x-one-core", [2]func(){allocate(), allocate()}},
	} {
		const slices = 20
		var one, two time.Duration
		for range slices {
			one += together(b.N/slices+1, part.work[0])
			two += together(b.N/slices+1, part.work[:]...)
		}
		b.ReportMetric(2*float64(one)/float64(two), part.unit)
	}
}

// together runs the functions n times each, concurrently, on one core each. It returns the time
// taken.
func together(n int, functions ...func()) time.Duration {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(len(functions)))
	var all sync.WaitGroup
	start := time.Now()
	for _, f := range functions {
		all.Go(func() {
			for range n {
				f()
			}
		})
	}
	all.Wait()
	return time.Since(start)
}

// BenchmarkDurableChange compares a change of a key in a file with a bare bbolt transaction that
// writes as many bytes.
func BenchmarkDurableChange(b *testing.B) {
	svc, err := kms.Open(filepath.Join(b.TempDir(), "keys"), keystoretest.RootKey(), kms.Config{})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, svc.Close()) })
	key := must(svc.CreateKey(context.Background(), nil)).KeyMetadata.KeyId
	db := must(bbolt.Open(filepath.Join(b.TempDir(), "floor"), 0o600, nil))
	b.Cleanup(func() { require.NoError(b, db.Close()) })
	value := make([]byte, 900)
	var n atomic.Int64
	benchtest.Compare(b, func() {
		err := db.Update(func(tx *bbolt.Tx) error {
			bucket, err := tx.CreateBucketIfNotExists([]byte("records"))
			if err != nil {
				return err
			}
			return bucket.Put([]byte(key), value)
		})
		if err != nil {
			panic(err)
		}
	}, func() {
		in := &kms.UpdateKeyDescriptionInput{KeyId: key, Description: time.Duration(n.Add(1)).String()}
		must(svc.UpdateKeyDescription(context.Background(), in))
	})
}

// BenchmarkImportKeyMaterial is mostly the reading of the RSA key in the token and the commit.
func BenchmarkImportKeyMaterial(b *testing.B) {
	for _, spec := range []kms.WrappingKeySpec{kms.WrappingKeySpecRSA2048, kms.WrappingKeySpecRSA4096} {
		b.Run(string(spec), func(b *testing.B) {
			svc, _ := benchService(b, nil)
			i := newImporter(b, svc, nil, kms.AlgorithmRSAESOAEPSHA256, spec)
			in := i.input(benchPlaintext)
			private := must(rsa.GenerateKey(rand.Reader, map[kms.WrappingKeySpec]int{kms.WrappingKeySpecRSA2048: 2048, kms.WrappingKeySpecRSA4096: 4096}[spec]))
			wrapped := must(rsa.EncryptOAEP(sha256.New(), rand.Reader, &private.PublicKey, benchPlaintext, nil))
			benchtest.Compare(b, func() {
				benchOpened = must(rsa.DecryptOAEP(sha256.New(), nil, private, wrapped, nil))
			}, func() { must(svc.ImportKeyMaterial(context.Background(), in)) })
		})
	}
}
