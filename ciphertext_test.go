package kms

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/internal/ciphertext"
	"github.com/pocketkms/kms/internal/keydb"
	"github.com/pocketkms/kms/internal/testhook"
)

// ciphertextVectors are those of docs/ciphertext.md, made by another implementation. They never
// change.
var ciphertextVectors = []struct {
	name              string
	ref               keydb.Ref
	material          string
	materialID        string
	plaintext         string
	encryptionContext map[string]string
	pairs             string // of the associated data, after the header
	ciphertext        string
}{
	{
		name:              "a key of one Region, with a context",
		ref:               keydb.Ref{Account: "111122223333", Region: "us-east-1", ID: "1234abcd-12ab-34cd-56ef-1234567890ab"},
		material:          "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
		materialID:        "e326c6b8de325b6bc988925dfd9780a64bf5916c51e1f2961f7a70a19da4b00f",
		plaintext:         "The quick brown fox",
		encryptionContext: map[string]string{"tenant": "7", "purpose": "café"},
		pairs:             "0007707572706f73650005636166c3a9" + "000674656e616e74000137",
		ciphertext: "010019df6690e51234abcd12ab34cd56ef1234567890abe326c6b8de325b6bc988925dfd9780a64bf5916c51e1f2961f7a70a19da4b00f" +
			"404142434445464748494a4b4c4d4e4f5051525354555657" +
			"2aa923f391860c1a528641ffd14d86ce5676b4" +
			"888a860f65c656e3cdce57538be935a7",
	},
	{
		name:       "a multi-Region key, without a context",
		ref:        keydb.Ref{Account: "000000000007", Region: "eu-west-1", ID: "mrk-1234abcd12ab34cd56ef1234567890ab"},
		material:   "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
		materialID: "54b2bac00cb9ede9f1f165b085055b9f4673de17161e1a5ff8016695e1e266c7",
		plaintext:  "x",
		ciphertext: "010100000000071234abcd12ab34cd56ef1234567890ab54b2bac00cb9ede9f1f165b085055b9f4673de17161e1a5ff8016695e1e266c7" +
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

func TestGoldenCiphertextsDecrypt(t *testing.T) {
	svc, err := New(Config{})
	require.NoError(t, err)
	defer svc.Close()
	for _, v := range ciphertextVectors {
		t.Run(v.name, func(t *testing.T) {
			here := svc.In(v.ref.Region).As(rootOf("aws", v.ref.Account))
			ctx := testhook.WithKey(t.Context(), &testhook.SeedKey{ID: v.ref.ID, Materials: [][]byte{unhex(t, v.material)}})
			_, err := here.CreateKey(ctx, &CreateKeyInput{MultiRegion: strings.HasPrefix(v.ref.ID, arn.MultiRegionPrefix)})
			require.NoError(t, err)

			golden := unhex(t, v.ciphertext)
			out, err := here.Decrypt(t.Context(), &DecryptInput{CiphertextBlob: golden, EncryptionContext: v.encryptionContext})
			require.NoError(t, err)
			require.Equal(t, v.plaintext, string(out.Plaintext))
			require.Equal(t, v.materialID, out.KeyMaterialId)
			require.Equal(t, v.ref.ARN(), out.KeyId)

			info, err := InspectCiphertext(golden)
			require.NoError(t, err)
			require.Equal(t, &CiphertextInfo{Account: v.ref.Account, KeyId: v.ref.ID, KeyMaterialId: v.materialID}, info)

			again, err := here.Encrypt(t.Context(), &EncryptInput{KeyId: v.ref.ID, Plaintext: out.Plaintext, EncryptionContext: v.encryptionContext})
			require.NoError(t, err)
			const header = ciphertext.HeaderBytes
			require.Equal(t, golden[:header], again.CiphertextBlob[:header])
			require.Len(t, again.CiphertextBlob, len(golden))
			require.NotEqual(t, golden[header:], again.CiphertextBlob[header:])
		})
	}
}

func TestInspectCiphertextRefusesOtherBytes(t *testing.T) {
	golden := unhex(t, ciphertextVectors[0].ciphertext)
	for _, b := range [][]byte{nil, golden[:ciphertext.MinBytes-1], append([]byte{1, 2}, golden[2:]...), append([]byte{3}, golden[1:]...)} {
		_, err := InspectCiphertext(b)
		require.ErrorIs(t, err, ErrNotCiphertext)
	}
	ofNobody := append(golden[:2:2], append(make([]byte, 5), golden[7:]...)...)
	info, err := InspectCiphertext(ofNobody)
	require.NoError(t, err)
	require.Equal(t, "000000000000", info.Account)
}

func TestGoldenCiphertextsAreThoseOfTheDocument(t *testing.T) {
	text, err := os.ReadFile("docs/ciphertext.md")
	require.NoError(t, err)
	bare := strings.NewReplacer("\n", "").Replace(string(text))
	for _, v := range ciphertextVectors {
		for _, value := range []string{v.ref.Account, v.ref.ID, v.material, v.materialID, v.plaintext, v.pairs, v.ciphertext} {
			require.Contains(t, bare, value)
		}
		data, err := ciphertext.AppendContext(nil, v.encryptionContext)
		require.NoError(t, err)
		require.Equal(t, v.pairs, hex.EncodeToString(data))
	}
}
