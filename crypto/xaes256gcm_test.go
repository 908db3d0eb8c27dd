package crypto

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha3"
	"encoding/hex"
	"io"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/xaesgcm"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/secretdata"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/pocketkms/kms/internal/benchtest"
)

func xaesSubjects() []subject {
	return []subject{{
		name:   "XAES-256-GCM",
		family: XAES256GCM(nil),
		secret: whole,
		invalid: func(_ *testing.T, material []byte) [][]byte {
			return [][]byte{material[:16], material[:24], append(bytes.Clone(material), 0), append(bytes.Clone(material), material...)}
		},
	}}
}

func newXAES(t testing.TB, material []byte, clock func() time.Time) *xaesKey {
	t.Helper()
	key, err := XAES256GCM(clock).Parse(material)
	require.NoError(t, err)
	return key.(*xaesKey)
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

// sealWith is the specification's encryption under a nonce that Seal would have drawn: k's own
// derivation, and then bare AES-256-GCM. It returns no nonce.
func sealWith(t testing.TB, k *xaesKey, nonce, plaintext, associatedData []byte) []byte {
	t.Helper()
	key, err := k.p.Load().deriveBytes([12]byte(nonce))
	require.NoError(t, err)
	block, err := aes.NewCipher(key)
	require.NoError(t, err)
	gcm, err := cipher.NewGCM(block)
	require.NoError(t, err)
	return gcm.Seal(nil, nonce[12:], plaintext, associatedData)
}

// https://c2sp.org/XAES-256-GCM, "Test vectors".
func TestXAESPublishedVectors(t *testing.T) {
	nonce := []byte("ABCDEFGHIJKLMNOPQRSTUVWX")
	for name, v := range map[string]struct {
		key                             byte
		derived, associated, ciphertext string
	}{
		"first bit of L is 0": {0x01, "c8612c9ed53fe43e8e005b828a1631a0bbcb6ab2f46514ec4f439fcfd0fa969b",
			"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		"first bit of L is 1": {0x03, "e9c621d4cdd9b11b00a6427ad7e559aeedd66b3857646677748f8ca796cb3fd8",
			"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		t.Run(name, func(t *testing.T) {
			k := newXAES(t, bytes.Repeat([]byte{v.key}, 32), nil)
			derived, err := k.p.Load().deriveBytes([12]byte(nonce))
			require.NoError(t, err)
			require.Equal(t, v.derived, hex.EncodeToString(derived))
			require.Equal(t, v.ciphertext, hex.EncodeToString(sealWith(t, k, nonce, []byte("XAES-256-GCM"), []byte(v.associated))))

			for range 2 { // derived, then remembered
				plaintext, err := k.Decrypt(append(bytes.Clone(nonce), unhex(t, v.ciphertext)...), []byte(v.associated))
				require.NoError(t, err)
				require.Equal(t, "XAES-256-GCM", string(plaintext))
			}
		})
	}
}

// https://c2sp.org/XAES-256-GCM, "Accumulated randomized tests".
func TestXAESAccumulatedVectors(t *testing.T) {
	random, sum := sha3.NewSHAKE128(), sha3.NewSHAKE128()
	read := func(n int) []byte {
		b := make([]byte, n)
		_, err := io.ReadFull(random, b)
		require.NoError(t, err)
		return b
	}
	for range 10_000 {
		key, nonce := read(32), read(24)
		plaintext := read(int(read(1)[0]))
		associated := read(int(read(1)[0]))

		k := newXAES(t, key, nil)
		ciphertext := sealWith(t, k, nonce, plaintext, associated)
		sum.Write(ciphertext)
		opened, err := k.Decrypt(append(nonce, ciphertext...), associated)
		require.NoError(t, err)
		require.True(t, bytes.Equal(plaintext, opened))
	}
	digest := make([]byte, 32)
	_, err := io.ReadFull(sum, digest)
	require.NoError(t, err)
	require.Equal(t, "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939", hex.EncodeToString(digest))
}

func tinkXAES(t testing.TB, material []byte) tink.AEAD {
	t.Helper()
	parameters, err := xaesgcm.NewParameters(xaesgcm.VariantNoPrefix, 12)
	require.NoError(t, err)
	key, err := xaesgcm.NewKey(secretdata.NewBytesFromData(material, insecuresecretdataaccess.Token{}), 0, parameters)
	require.NoError(t, err)
	m := keyset.NewManager()
	id, err := m.AddKey(key)
	require.NoError(t, err)
	require.NoError(t, m.SetPrimary(id))
	handle, err := m.Handle()
	require.NoError(t, err)
	theirs, err := aead.New(handle)
	require.NoError(t, err)
	return theirs
}

func TestXAESAndTinkReadEachOther(t *testing.T) {
	for range 50 {
		material := randomBytes(32)
		ours, theirs := newXAES(t, material, nil), tinkXAES(t, material)
		for range 20 {
			plaintext, associated := randomBytes(mathrand.IntN(300)), randomBytes(mathrand.IntN(300))
			ciphertext, err := ours.Encrypt(plaintext, associated)
			require.NoError(t, err)
			require.Len(t, ciphertext, 24+len(plaintext)+16)
			opened, err := theirs.Decrypt(ciphertext, associated)
			require.NoError(t, err)
			require.True(t, bytes.Equal(plaintext, opened))

			ciphertext, err = theirs.Encrypt(plaintext, associated)
			require.NoError(t, err)
			opened, err = ours.Decrypt(ciphertext, associated)
			require.NoError(t, err)
			require.True(t, bytes.Equal(plaintext, opened))
		}
	}
}

// seal encrypts nothing in particular, and returns salt and rest of the nonce.
func seal(t testing.TB, k *xaesKey) (salt, rest [12]byte) {
	t.Helper()
	ciphertext, err := k.Encrypt(nil, nil)
	require.NoError(t, err)
	return [12]byte(ciphertext), [12]byte(ciphertext[12:])
}

func TestXAESKeepsItsSaltAndChangesTheRestOfTheNonce(t *testing.T) {
	k := newXAES(t, randomBytes(32), nil)
	salt, _ := seal(t, k)
	seen := make(map[[12]byte]bool)
	for range 1000 {
		again, rest := seal(t, k)
		require.Equal(t, salt, again)
		require.False(t, seen[rest])
		seen[rest] = true
	}
	other, _ := seal(t, newXAES(t, randomBytes(32), nil))
	require.NotEqual(t, salt, other)
}

func TestXAESSaltServesAnHour(t *testing.T) {
	for name, c := range map[string]struct {
		passes time.Duration
		stays  bool
	}{
		"not at once":           {0, true},
		"not within the hour":   {time.Hour - 1, true},
		"after an hour":         {time.Hour, false},
		"after a long idleness": {1000 * time.Hour, false},
		"on a clock set back":   {-1, false},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			k := newXAES(t, randomBytes(32), func() time.Time { return now })
			salt, _ := seal(t, k)
			now = now.Add(c.passes)
			var last [12]byte
			for range xaesClockStride - 1 {
				last, _ = seal(t, k)
			}
			require.Equal(t, c.stays, salt == last)
			for range xaesClockStride - 1 { // the next salt stays
				again, _ := seal(t, k)
				require.Equal(t, last, again)
			}
		})
	}
}

func TestXAESSaltServesNoMoreThanItsMessages(t *testing.T) {
	const left, workers, each = 100, 8, 50
	k := newXAES(t, randomBytes(32), nil)
	spent, _ := seal(t, k)
	k.p.Load().sealing.Load().messages.Store(xaesMaxMessages - left)

	var mu sync.Mutex
	uses := make(map[[12]byte]int)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				ciphertext, err := k.Encrypt(nil, nil)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				uses[[12]byte(ciphertext)]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.Equal(t, left, uses[spent])
	require.Len(t, uses, 2, "all go on with the same new salt")
}

func TestXAESAgreesOnOneSaltWhenManyDrawAtOnce(t *testing.T) {
	const workers = 8
	var arrived sync.WaitGroup
	arrived.Add(workers)
	k := newXAES(t, randomBytes(32), func() time.Time { // is read before a salt is drawn: let all come so far
		arrived.Done()
		arrived.Wait()
		return time.Unix(0, 0)
	})
	salts := make([][12]byte, workers)
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			ciphertext, err := k.Encrypt(nil, nil)
			if err != nil {
				t.Error(err)
				return
			}
			salts[i] = [12]byte(ciphertext)
		})
	}
	wg.Wait()
	for _, salt := range salts {
		require.Equal(t, salts[0], salt)
	}
}

// remembered returns the derived key that k keeps for the salt of a ciphertext, or nil.
func remembered(k *xaesKey, ciphertext []byte) *derivedKey {
	d := k.p.Load().opened[ciphertext[0]%xaesOpenedKeys].Load()
	if d == nil || d.salt != [12]byte(ciphertext) {
		return nil
	}
	return d
}

func TestXAESRemembersOnlyWhatItCouldOpen(t *testing.T) {
	k := newXAES(t, randomBytes(32), nil)
	genuine, err := k.Encrypt([]byte("plaintext"), nil)
	require.NoError(t, err)
	require.Nil(t, remembered(k, genuine))
	_, err = k.Decrypt(genuine, nil)
	require.NoError(t, err)
	first := remembered(k, genuine)
	require.NotNil(t, first)

	for range 1000 {
		forged := randomBytes(len(genuine))
		_, err = k.Decrypt(forged, nil)
		require.ErrorIs(t, err, ErrDecrypt)
		require.Nil(t, remembered(k, forged))
	}
	_, err = k.Decrypt(genuine, nil)
	require.NoError(t, err)
	require.Same(t, first, remembered(k, genuine), "still there, and used again")

	other := bytes.Clone(genuine[:24])
	other[1] ^= 1 // another salt for the same place
	other = append(other, sealWith(t, k, other, []byte("plaintext"), nil)...)
	_, err = k.Decrypt(other, nil)
	require.NoError(t, err)
	require.Nil(t, remembered(k, genuine), "a genuine one takes the place")
	_, err = k.Decrypt(genuine, nil)
	require.NoError(t, err)
}

func TestXAESAppendsToDst(t *testing.T) {
	k := newXAES(t, randomBytes(32), nil)
	plaintext, associated := []byte("plaintext"), []byte("context")
	for name, dst := range map[string][]byte{
		"nil":               nil,
		"too short":         append(make([]byte, 0, 6+24+9+15), "before"...),
		"just long enough":  append(make([]byte, 0, 6+24+9+16), "before"...),
		"longer than it is": append(make([]byte, 0, 1000), "before"...),
	} {
		t.Run(name, func(t *testing.T) {
			before := bytes.Clone(dst)
			sealed, err := k.Seal(dst, plaintext, associated)
			require.NoError(t, err)
			require.True(t, bytes.HasPrefix(sealed, before))
			opened, err := k.Open(dst, bytes.Clone(sealed[len(dst):]), associated)
			require.NoError(t, err)
			require.Equal(t, string(before)+"plaintext", string(opened))
		})
	}
}

func TestXAESDstMayLieBesideItsInputs(t *testing.T) {
	k := newXAES(t, randomBytes(32), nil)
	buffer := []byte("contextplaintext" + string(make([]byte, 24+9+16)) + "plaintextcontext")
	for name, at := range map[string]struct{ context, plaintext int }{"behind them": {0, 7}, "before them": {65 + 9, 65}} {
		t.Run(name, func(t *testing.T) {
			text := buffer[at.plaintext:][:9]
			context := buffer[at.context:][:7]
			sealed, err := k.Seal(buffer[16:16:65], text, context)
			require.NoError(t, err)
			require.Same(t, &buffer[16], &sealed[0])
			clear(text)
			opened, err := k.Open(text[:0:9], sealed, context)
			require.NoError(t, err)
			require.Equal(t, "plaintext", string(opened))
			require.Same(t, &text[0], &opened[0])
		})
	}
	require.True(t, bytes.HasPrefix(buffer, []byte("contextplaintext")))
	require.True(t, bytes.HasSuffix(buffer, []byte("plaintextcontext")))
}

func TestXAESDoesNotAllocateWhenDstHasRoom(t *testing.T) {
	k := newXAES(t, randomBytes(32), nil)
	plaintext, associated, dst, opened := randomBytes(32), randomBytes(32), make([]byte, 0, 72), make([]byte, 0, 32)
	var ciphertext []byte
	var err error
	require.Zero(t, testing.AllocsPerRun(100, func() { ciphertext, err = k.Seal(dst, plaintext, associated) }))
	require.NoError(t, err)
	require.Zero(t, testing.AllocsPerRun(100, func() { opened, err = k.Open(opened[:0], ciphertext, associated) }))
	require.NoError(t, err)
	require.Equal(t, plaintext, opened)
}

func TestXAESFailedOpenReleasesNothing(t *testing.T) {
	k := newXAES(t, randomBytes(32), nil)
	ciphertext, err := k.Encrypt(bytes.Repeat([]byte{0xa5}, 64), nil)
	require.NoError(t, err)
	dst := make([]byte, 64)
	opened, err := k.Open(dst[:0], flip(ciphertext, 8*len(ciphertext)-1), nil)
	require.ErrorIs(t, err, ErrDecrypt)
	require.Nil(t, opened)
	require.Equal(t, make([]byte, 64), dst)
}

func TestXAESReadsTheClockSeldom(t *testing.T) {
	var readings atomic.Int64
	k := newXAES(t, randomBytes(32), func() time.Time { readings.Add(1); return time.Unix(0, 0) })
	for range 10 * xaesClockStride {
		seal(t, k)
	}
	require.EqualValues(t, 1+10, readings.Load())
}

func FuzzOpen(f *testing.F) {
	k := newXAES(f, bytes.Repeat([]byte{1}, 32), nil)
	genuine := append([]byte("ABCDEFGHIJKLMNOPQRSTUVWX"), unhex(f, "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271")...)
	f.Add(genuine, []byte(nil))
	f.Add(genuine[:40], []byte("context"))
	f.Add(genuine[:39], []byte{})
	f.Fuzz(func(t *testing.T, ciphertext, associatedData []byte) {
		plaintext, err := k.Open(nil, ciphertext, associatedData)
		if bytes.Equal(ciphertext, genuine) && len(associatedData) == 0 {
			require.NoError(t, err)
			return
		}
		require.ErrorIs(t, err, ErrDecrypt)
		require.Nil(t, plaintext)
	})
}

func FuzzParseXAES256GCM(f *testing.F) { fuzzParse(f, xaesSubjects()) }

// fuzzParse passes arbitrary material to the families: they return ErrMaterial, or a key that
// works.
func fuzzParse(f *testing.F, subjects []subject) {
	for _, s := range subjects {
		f.Add(s.generate(f))
	}
	f.Fuzz(func(t *testing.T, material []byte) {
		for _, s := range subjects {
			key, err := s.family.Parse(material)
			if err != nil {
				require.ErrorIs(t, err, ErrMaterial)
				continue
			}
			for _, u := range s.uses(t, key) {
				proof, err := u.prove(u.message())
				require.NoError(t, err)
				require.NoError(t, u.check(proof, u.message()))
			}
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	k, gcm := newXAES(b, randomBytes(32), nil), bareGCM(b)
	plaintext, associated, dst := randomBytes(32), randomBytes(32), make([]byte, 0, 128)
	benchtest.Compare(b, func() {
		nonce := dst[:12]
		rand.Read(nonce)
		gcm.Seal(nonce, nonce, plaintext, associated)
	}, func() { k.Seal(dst, plaintext, associated) })
}

// Run with -cpu 1,2: what both gain from the second processor is to be the same.
func BenchmarkSealParallel(b *testing.B) {
	k, gcm := newXAES(b, randomBytes(32), nil), bareGCM(b)
	for name, op := range map[string]func(dst, plaintext, associated []byte){
		"floor": func(dst, plaintext, associated []byte) {
			nonce := dst[:12]
			rand.Read(nonce)
			gcm.Seal(nonce, nonce, plaintext, associated)
		},
		"Seal": func(dst, plaintext, associated []byte) { k.Seal(dst, plaintext, associated) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				plaintext, associated, dst := randomBytes(32), randomBytes(32), make([]byte, 0, 128)
				for pb.Next() {
					op(dst, plaintext, associated)
				}
			})
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	material := randomBytes(32)
	k, gcm := newXAES(b, material, nil), bareGCM(b)
	associated, nonce, dst := randomBytes(32), randomBytes(12), make([]byte, 0, 128)
	bare := gcm.Seal(nil, nonce, randomBytes(32), associated)
	floor := func() { gcm.Open(dst, nonce, bare, associated) }
	ciphertext, err := k.Encrypt(randomBytes(32), associated)
	require.NoError(b, err)

	b.Run("cached", func(b *testing.B) {
		benchtest.Compare(b, floor, func() { k.Open(dst, ciphertext, associated) })
	})
	b.Run("cold", func(b *testing.B) {
		slot := &k.p.Load().opened[ciphertext[0]%xaesOpenedKeys]
		benchtest.Compare(b, floor, func() {
			slot.Store(nil)
			k.Open(dst, ciphertext, associated)
		})
	})
	b.Run("Tink", func(b *testing.B) {
		theirs := tinkXAES(b, material)
		benchtest.Compare(b, floor, func() { theirs.Decrypt(ciphertext, associated) })
	})
}

func bareGCM(b *testing.B) cipher.AEAD {
	block, err := aes.NewCipher(randomBytes(32))
	require.NoError(b, err)
	gcm, err := cipher.NewGCM(block)
	require.NoError(b, err)
	return gcm
}
