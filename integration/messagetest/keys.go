package messagetest

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"testing"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/stretchr/testify/require"
)

// Namespace is that of the raw keys.
const Namespace = "test"

// A WrappingKey describes a key that encrypts data keys. An implementation makes a keyring of it.
type WrappingKey struct {
	Kind    Kind   `json:"kind"`
	Name    string `json:"name"`              // of a key of the KMS: its ARN
	Secret  []byte `json:"secret,omitempty"`  // of AES
	Public  string `json:"public,omitempty"`  // of RSA: PKIX in PEM
	Private string `json:"private,omitempty"` // of RSA: PKCS #8 in PEM
	Hash    string `json:"hash,omitempty"`    // of RSA-OAEP: "sha1", "sha256", "sha384" or "sha512"

	private *rsa.PrivateKey
}

// A Kind of WrappingKey.
type Kind string

const (
	KMS       Kind = "KMS"
	Discovery Kind = "discovery" // any key of the KMS, only to decrypt
	AES       Kind = "AES"
	RSA       Kind = "RSA"
)

// A recipe has the keys that a message is written with, and those that it is read with.
type recipe struct{ write, read []WrappingKey }

// String shows no keys, only their names.
func (r recipe) String() string {
	var text string
	for _, keys := range [][]WrappingKey{r.write, r.read} {
		for _, k := range keys {
			text += fmt.Sprintf("%s %s; ", k.Kind, k.Name)
		}
		text += "| "
	}
	return text
}

func recipes(t testing.TB, client *awskms.Client) []recipe {
	one, two := newKMSKey(t, client), newKMSKey(t, client)
	discovery := WrappingKey{Kind: Discovery}
	aes := func(bits int) WrappingKey {
		return WrappingKey{Kind: AES, Name: fmt.Sprintf("ü %d", bits), Secret: bytes.Repeat([]byte{byte(bits)}, bits/8)}
	}
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	pkix, err := x509.MarshalPKIXPublicKey(private.Public())
	require.NoError(t, err)
	oaep := func(hash string) WrappingKey {
		return WrappingKey{Kind: RSA, Name: "ü " + hash, Hash: hash, private: private,
			Public:  string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix})),
			Private: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))}
	}
	list := func(keys ...WrappingKey) []WrappingKey { return keys }
	return []recipe{
		{list(one, two), list(one)},
		{list(one, two), list(two)},
		{list(one, two), list(discovery)},
		{list(aes(256)), list(aes(256))},
		{list(oaep("sha256")), list(oaep("sha256"))},
		{list(aes(128), two), list(two)},
		{list(two, aes(192), oaep("sha512")), list(aes(192))},
		{list(one, oaep("sha384")), list(oaep("sha384"))},
		{list(oaep("sha1"), one), list(aes(256), oaep("sha1"))},
	}
}
