package envelope

import (
	"archive/zip"
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// A vectorSet is an archive of decrypt vectors of the AWS Encryption SDK; see testdata/README.md.
type vectorSet struct {
	files fs.FS
	Keys  map[string]struct{ Type, Material string } `json:"-"` // the manifest has the name of their file
	Tests map[string]vector

	private map[string]*rsa.PrivateKey // by name; parsing one takes milliseconds
}

type vector struct {
	Ciphertext        string
	MasterKeys        []masterKey       `json:"master-keys"`
	CMM               string            `json:"cmm"`
	EncryptionContext map[string]string `json:"encryption-context"`
	Result            struct {
		Output struct{ Plaintext string }
	}
}

type masterKey struct {
	Type, Key   string
	ProviderID  string `json:"provider-id"`
	Algorithm   string `json:"encryption-algorithm"`
	PaddingHash string `json:"padding-hash"`
}

func openVectors(t *testing.T, archive string) *vectorSet {
	t.Helper()
	z, err := zip.OpenReader("testdata/" + archive)
	require.NoError(t, err)
	t.Cleanup(func() { z.Close() })
	v := &vectorSet{files: z, private: make(map[string]*rsa.PrivateKey)}
	require.NoError(t, json.Unmarshal(v.file(t, "manifest.json"), v))
	keys := struct{ Keys any }{&v.Keys}
	require.NoError(t, json.Unmarshal(v.file(t, "keys.json"), &keys))
	return v
}

func (v *vectorSet) file(t *testing.T, name string) []byte {
	t.Helper()
	b, err := fs.ReadFile(v.files, strings.TrimPrefix(name, "file://"))
	require.NoError(t, err)
	return b
}

// keyring returns the keyring of a vector, or nil if it needs keys of AWS.
func (v *vectorSet) keyring(t *testing.T, test vector) Keyring {
	t.Helper()
	var all []Keyring
	for _, m := range test.MasterKeys {
		key := v.Keys[m.Key]
		switch m.Type + " " + m.Algorithm {
		case "aws-kms ":
			return nil
		case "raw aes":
			material, err := base64.StdEncoding.DecodeString(key.Material)
			require.NoError(t, err)
			all = append(all, RawAES(m.ProviderID, m.Key, material))
		case "raw rsa":
			hash := map[string]crypto.Hash{"sha256": crypto.SHA256, "sha512": crypto.SHA512}[m.PaddingHash]
			block, _ := pem.Decode([]byte(key.Material))
			if key.Type == "public" {
				public, err := x509.ParsePKIXPublicKey(block.Bytes)
				require.NoError(t, err)
				all = append(all, RawRSAPublic(m.ProviderID, m.Key, hash, public.(*rsa.PublicKey)))
				continue
			}
			if v.private[m.Key] == nil {
				private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
				require.NoError(t, err)
				v.private[m.Key] = private.(*rsa.PrivateKey)
			}
			all = append(all, RawRSA(m.ProviderID, m.Key, hash, v.private[m.Key]))
		default:
			require.Fail(t, "unknown key", m.Type+" "+m.Algorithm)
		}
	}
	return Multi(all[0], all[1:]...)
}

func TestPublishedVectorsDecrypt(t *testing.T) {
	for archive, want := range map[string]struct{ decrypted, kms int }{
		"v4-Net-4.0.1.zip":    {99, 33},
		"valid-Net-4.0.0.zip": {5, 0},
	} {
		t.Run(archive, func(t *testing.T) {
			v := openVectors(t, archive)
			decrypted, kms := 0, 0
			for name, test := range v.Tests {
				keyring := v.keyring(t, test)
				if keyring == nil {
					kms++
					continue
				}
				d, err := NewDecrypter(keyring, anySuite())
				require.NoError(t, err)
				message, want := v.file(t, test.Ciphertext), v.file(t, test.Result.Output.Plaintext)
				got, err := d.Open(t.Context(), message, test.EncryptionContext)
				require.NoError(t, err, name)
				require.True(t, bytes.Equal(want, got), name)

				r, err := d.NewReader(t.Context(), iotest.HalfReader(bytes.NewReader(message)), test.EncryptionContext)
				require.NoError(t, err, name)
				got, err = io.ReadAll(iotest.OneByteReader(r))
				require.NoError(t, err, name)
				require.True(t, bytes.Equal(want, got), name)
				require.Equal(t, test.EncryptionContext, r.EncryptionContext(), name)
				require.Equal(t, name[:4], suiteHex(r.Suite()), name)
				decrypted++
			}
			require.Equal(t, want.decrypted, decrypted)
			require.Equal(t, want.kms, kms)
		})
	}
}

// Version 4.0.0 for .NET derived keys and authenticated headers in its own way. Some implementations
// read that, too; this one does not.
func TestVectorsThatAreNotOfTheFormatAreRefused(t *testing.T) {
	v := openVectors(t, "invalid-Net-4.0.0.zip")
	require.Len(t, v.Tests, 28)
	for name, test := range v.Tests {
		d, err := NewDecrypter(v.keyring(t, test), anySuite())
		require.NoError(t, err)
		_, err = d.Open(t.Context(), v.file(t, test.Ciphertext), test.EncryptionContext)
		require.ErrorIs(t, err, ErrAltered, name)
	}
}
