package kms

import (
	"bytes"
	"encoding/hex"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/keystore"
)

// blobVectors are those of docs/ciphertext.md, made by another implementation.
// They never change.
var blobVectors = []struct {
	name       string
	ref        keyRef
	material   string
	materialID string
	plaintext  string
	context    map[string]string
	pairs      string // of the associated data, behind the header
	blob       string
}{
	{
		name:       "a key of one Region, with a context",
		ref:        keyRef{"111122223333", "us-east-1", "1234abcd-12ab-34cd-56ef-1234567890ab"},
		material:   "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
		materialID: "e326c6b8de325b6bc988925dfd9780a64bf5916c51e1f2961f7a70a19da4b00f",
		plaintext:  "The quick brown fox",
		context:    map[string]string{"tenant": "7", "purpose": "café"},
		pairs:      "0007707572706f73650005636166c3a9" + "000674656e616e74000137",
		blob: "010019df6690e51234abcd12ab34cd56ef1234567890abe326c6b8de325b6bc988925dfd9780a64bf5916c51e1f2961f7a70a19da4b00f" +
			"404142434445464748494a4b4c4d4e4f5051525354555657" +
			"2aa923f391860c1a528641ffd14d86ce5676b4" +
			"888a860f65c656e3cdce57538be935a7",
	},
	{
		name:       "a multi-Region key, without a context",
		ref:        keyRef{"000000000007", "eu-west-1", "mrk-1234abcd12ab34cd56ef1234567890ab"},
		material:   "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
		materialID: "54b2bac00cb9ede9f1f165b085055b9f4673de17161e1a5ff8016695e1e266c7",
		plaintext:  "x",
		blob: "010100000000071234abcd12ab34cd56ef1234567890ab54b2bac00cb9ede9f1f165b085055b9f4673de17161e1a5ff8016695e1e266c7" +
			"c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7" +
			"f5" +
			"c26dd28ff38a6f13a4aa9698ddf30a36",
	},
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

// testService returns a service whose core a test can reach.
func testService(t testing.TB) *Service {
	t.Helper()
	svc, err := New(Config{Clock: func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, svc.Close()) })
	return svc
}

func TestGoldenBlobsDecrypt(t *testing.T) {
	svc := testService(t)
	for _, v := range blobVectors {
		t.Run(v.name, func(t *testing.T) {
			material := unhex(t, v.material)
			require.Equal(t, v.materialID, materialID(v.ref.id, material))
			_, err := svc.store.Commit(t.Context(), keystore.Tx{Puts: []keystore.Put{
				{Key: v.ref.recordName(), Value: encodeRecord(keyRecord{
					Spec: KeySpecSymmetricDefault, Usage: KeyUsageEncryptDecrypt, Origin: OriginAWSKMS, Manager: KeyManagerCustomer,
					MultiRegion: strings.HasPrefix(v.ref.id, multiRegionPrefix), Materials: []keyMaterial{{ID: v.materialID}},
				})},
				{Key: v.ref.materialName(v.materialID), Value: append([]byte{recordVersion}, material...)},
			}})
			require.NoError(t, err)

			here := svc.In(v.ref.region).As(rootOf("aws", v.ref.account))
			out, err := here.Decrypt(t.Context(), &DecryptInput{CiphertextBlob: unhex(t, v.blob), EncryptionContext: v.context})
			require.NoError(t, err)
			require.Equal(t, v.plaintext, string(out.Plaintext))
			require.Equal(t, v.materialID, out.KeyMaterialId)
			require.Equal(t, svc.keyARN(v.ref), out.KeyId)

			again, err := here.Encrypt(t.Context(), &EncryptInput{KeyId: v.ref.id, Plaintext: out.Plaintext, EncryptionContext: v.context})
			require.NoError(t, err)
			require.Equal(t, unhex(t, v.blob)[:blobHeaderBytes], again.CiphertextBlob[:blobHeaderBytes])
			require.Len(t, again.CiphertextBlob, len(v.blob)/2)
			require.NotEqual(t, unhex(t, v.blob)[blobHeaderBytes:], again.CiphertextBlob[blobHeaderBytes:])
		})
	}
}

func TestGoldenBlobsAreThoseOfTheDocument(t *testing.T) {
	text, err := os.ReadFile("docs/ciphertext.md")
	require.NoError(t, err)
	bare := strings.NewReplacer("\n", "").Replace(string(text))
	for _, v := range blobVectors {
		for _, value := range []string{v.ref.account, v.ref.id, v.material, v.materialID, v.plaintext, v.pairs, v.blob} {
			require.Contains(t, bare, value)
		}
	}
}

func TestAssociatedDataIsCanonical(t *testing.T) {
	v := blobVectors[0]
	header := unhex(t, v.blob)[:blobHeaderBytes]
	for name, tt := range map[string]struct {
		context map[string]string
		want    string
	}{
		"the golden one":                         {v.context, v.pairs},
		"absent":                                 {nil, ""},
		"empty":                                  {map[string]string{}, ""},
		"empty key and value":                    {map[string]string{"": ""}, "00000000"},
		"a before b, although given after it":    {map[string]string{"b": "1", "a": "2"}, "00016100013200016200" + "0131"},
		"bytes decide the order, not letters":    {map[string]string{"a": "", "B": "", "é": ""}, "0001420000" + "0001610000" + "0002c3a90000"},
		"a key that is the beginning of another": {map[string]string{"ab": "", "a": "b"}, "0001610001" + "62" + "000261620000"},
	} {
		t.Run(name, func(t *testing.T) {
			for range 20 { // maps have no order
				data, err := new(call).associatedData(header, tt.context)
				require.NoError(t, err)
				require.Equal(t, hex.EncodeToString(header)+tt.want, hex.EncodeToString(data))
			}
		})
	}
}

func TestParseBlobRefusesWhatNoWriterWrites(t *testing.T) {
	golden := unhex(t, blobVectors[0].blob)
	change := func(at int, to ...byte) []byte {
		b := bytes.Clone(golden)
		copy(b[at:], to)
		return b
	}
	for name, b := range map[string][]byte{
		"nothing":                     nil,
		"a header alone":              golden[:blobHeaderBytes],
		"one byte less than shortest": golden[:blobMinBytes-1],
		"version 0":                   change(0, 0),
		"version 2":                   change(0, 2),
		"flag 1":                      change(1, 2),
		"flag 7":                      change(1, 0x80),
		"both flags":                  change(1, 3),
		"account 10^12":               change(2, 0xe8, 0xd4, 0xa5, 0x10, 0x00),
		"account 2^40 - 1":            change(2, 0xff, 0xff, 0xff, 0xff, 0xff),
	} {
		t.Run(name, func(t *testing.T) {
			require.Nil(t, parseBlob(b))
		})
	}
	h := parseBlob(change(2, 0xe8, 0xd4, 0xa5, 0x0f, 0xff))
	require.NotNil(t, h)
	require.Equal(t, "999999999999", h.account("111122223333"))
	require.NotNil(t, parseBlob(golden[:blobMinBytes]), "the shortest: of an empty plaintext")
}

func FuzzParseBlob(f *testing.F) {
	for _, v := range blobVectors {
		f.Add(unhex(f, v.blob))
	}
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 6144))
	f.Add(append([]byte{1, 1, 0xe8, 0xd4, 0xa5, 0x10}, make([]byte, 100)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		h := parseBlob(b)
		if h == nil {
			return
		}
		ref := keyRef{account: h.account("111122223333"), id: h.keyID()}
		require.True(t, isAccount(ref.account), ref.account)
		require.True(t, isKeyID(ref.id), ref.id)
		require.Equal(t, b[:blobHeaderBytes], newBlobHeader(ref, h.materialID())[:], "there is one way to write what was read")
	})
}

// A context's bytes decide which context it is, in both directions.
func FuzzAssociatedData(f *testing.F) {
	f.Add("a", "bc", "", "", "ab", "c", "", "")
	f.Add("a", "b", "c", "d", "c", "d", "a", "b")
	f.Add("", "", "a", "", "", "a", "a", "\x00\x00")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2, k3, v3, k4, v4 string) {
		a, b := map[string]string{k1: v1, k2: v2}, map[string]string{k3: v3, k4: v4}
		dataA, errA := new(call).associatedData(nil, a)
		dataB, errB := new(call).associatedData(nil, b)
		if errA != nil || errB != nil {
			return
		}
		require.Equal(t, maps.Equal(a, b), bytes.Equal(dataA, dataB))
	})
}
