// Package messagetest exchanges messages between package envelope and another implementation of the
// message format of the AWS Encryption SDK.
package messagetest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"testing"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/awsclient"
	"github.com/pocketkms/kms/envelope"
)

// FrameLength is the number of plaintext bytes in the frames that are written.
const FrameLength = 1000

// suites are all that the format has.
var suites = []envelope.Suite{0x0014, 0x0046, 0x0078, 0x0114, 0x0146, 0x0178, 0x0214, 0x0346, 0x0378, envelope.SuiteCommitKey, envelope.SuiteCommitKeyECDSA}

var committingSuites = suites[9:]

// The lengths of the plaintexts and their encryption contexts. The keys of a context are sorted as UTF-8:
// as UTF-16, in which 😀 begins with D83D, the order of the last two would be the other.
var (
	lengths  = []int{0, 1, FrameLength, FrameLength + 1, 100_000}
	contexts = []map[string]string{nil, {"tenant": "4711", "ü\n": "\"\\", "\uffee": "𝔘", "😀": "x"}}
)

// An Implementation is another implementation of the format. Its methods return the errors of that.
type Implementation interface {
	// Encrypt encrypts a plaintext in frames of FrameLength, and the data key with each of keys.
	Encrypt(t testing.TB, suite envelope.Suite, keys []WrappingKey, pairs map[string]string, plaintext []byte) (message []byte, err error)
	// Decrypt decrypts a message with any of keys, if its suite commits to the data key.
	Decrypt(t testing.TB, keys []WrappingKey, message []byte) (Decrypted, error)
}

// Decrypted is what an implementation returns of a message.
type Decrypted struct {
	Plaintext []byte
	Suite     envelope.Suite
	Context   map[string]string // may have reserved pairs
}

// Exchange requires that another implementation and package envelope decrypt each other's messages, in
// every suite that both write, and that the other decrypts what a Writer wrote, but none of it that
// lacks its end.
func Exchange(t *testing.T, client *awskms.Client, other Implementation) {
	all := recipes(t, client)
	plaintext := make([]byte, lengths[len(lengths)-1])
	rand.Read(plaintext)
	n := 0 // counts on from suite to suite, so that recipes meet other lengths and contexts
	for _, suite := range suites {
		t.Run(suite.String(), func(t *testing.T) {
			for _, length := range lengths {
				for _, pairs := range contexts {
					r := all[n%len(all)]
					n++
					about := fmt.Sprintf("%d bytes, %v, %s", length, pairs, r)
					want := Decrypted{plaintext[:length], suite, pairs}
					message, err := other.Encrypt(t, suite, r.write, pairs, want.Plaintext)
					require.NoError(t, err, about)
					requireDecrypts(t, Keyring(client, r.read), message, want, about)
					if !suite.Commits() {
						continue
					}
					message, err = newEncrypter(t, client, suite, r.write).Seal(t.Context(), want.Plaintext, pairs)
					require.NoError(t, err, about)
					got, err := other.Decrypt(t, r.read, message)
					require.NoError(t, err, about)
					want.requireEqual(t, got, about)
				}
			}
		})
	}
	for _, suite := range committingSuites {
		t.Run("what is left of a stream, "+suite.String(), func(t *testing.T) {
			requireRefusesTruncated(t, client, suite, other)
		})
	}
}

func newEncrypter(t testing.TB, client *awskms.Client, suite envelope.Suite, keys []WrappingKey) *envelope.Encrypter {
	e, err := envelope.NewEncrypter(Keyring(client, keys), envelope.EncrypterOptions{Suite: suite, FrameLength: FrameLength})
	require.NoError(t, err)
	return e
}

// requireDecrypts requires that package envelope decrypts a message, and with its default policy only if
// the suite commits to the data key.
func requireDecrypts(t testing.TB, keyring envelope.Keyring, message []byte, want Decrypted, about string) {
	d, err := envelope.NewDecrypter(keyring, envelope.DecrypterOptions{})
	require.NoError(t, err)
	if !want.Suite.Commits() {
		_, err = d.Open(t.Context(), message, nil)
		require.ErrorIs(t, err, envelope.ErrCommitment, about)
		d, err = envelope.NewDecrypter(keyring, envelope.DecrypterOptions{CommitmentPolicy: envelope.RequireEncryptAllowDecrypt})
		require.NoError(t, err)
	}
	plaintext, err := d.Open(t.Context(), message, want.Context)
	require.NoError(t, err, about)
	require.True(t, bytes.Equal(want.Plaintext, plaintext), about)

	r, err := d.NewReader(t.Context(), bytes.NewReader(message), nil)
	require.NoError(t, err, about)
	plaintext, err = io.ReadAll(r)
	require.NoError(t, err, about)
	want.requireEqual(t, Decrypted{plaintext, r.Suite(), r.EncryptionContext()}, about)

	r, err = d.NewReader(t.Context(), bytes.NewReader(message[:len(message)-1]), nil)
	require.NoError(t, err, about)
	_, err = io.ReadAll(r)
	require.ErrorIs(t, err, envelope.ErrTruncated, about)
}

func (want Decrypted) requireEqual(t testing.TB, got Decrypted, about string) {
	require.True(t, bytes.Equal(want.Plaintext, got.Plaintext), about)
	require.Equal(t, want.Suite, got.Suite, about)
	pairs := map[string]string{}
	for k, v := range got.Context {
		if !strings.HasPrefix(k, "aws-crypto-") {
			pairs[k] = v
		}
	}
	require.Len(t, pairs, len(want.Context), about)
	for k, v := range want.Context {
		require.Equal(t, v, pairs[k], about)
	}
}

// requireRefusesTruncated writes a stream in pieces that are no frames, and cuts it in the header, in a
// frame, between frames and in what ends it.
func requireRefusesTruncated(t *testing.T, client *awskms.Client, suite envelope.Suite, other Implementation) {
	keys := []WrappingKey{newKMSKey(t, client)}
	var file bytes.Buffer
	w, err := newEncrypter(t, client, suite, keys).NewWriter(t.Context(), &file, contexts[1])
	require.NoError(t, err)
	header := file.Len()
	plaintext := make([]byte, 10*FrameLength)
	rand.Read(plaintext)
	for rest := plaintext; len(rest) > 0; {
		n, err := w.Write(rest[:min(777, len(rest))])
		require.NoError(t, err)
		rest = rest[n:]
	}
	require.NoError(t, w.Close())

	got, err := other.Decrypt(t, keys, file.Bytes())
	require.NoError(t, err)
	Decrypted{plaintext, suite, contexts[1]}.requireEqual(t, got, "")
	const frame = 4 + 12 + FrameLength + 16
	for _, left := range []int{0, 1, 50, header - 1, header, header + 1, header + frame, header + 5*frame/2, header + 9*frame, file.Len() - 1} {
		got, err := other.Decrypt(t, keys, file.Bytes()[:left])
		require.Error(t, err, "%d of %d bytes", left, file.Len())
		require.Empty(t, got)
	}
}

// Keyring returns the keyring of package envelope for keys, of which the first generates data keys.
func Keyring(client *awskms.Client, keys []WrappingKey) envelope.Keyring {
	svc := awsclient.EnvelopeKMS(client)
	var keyrings []envelope.Keyring
	for _, k := range keys {
		switch k.Kind {
		case KMS:
			keyrings = append(keyrings, envelope.KMSKey(svc, k.Name))
		case Discovery:
			keyrings = append(keyrings, envelope.KMSDiscovery(svc, envelope.DiscoveryFilter{}))
		case AES:
			keyrings = append(keyrings, envelope.RawAES(Namespace, k.Name, k.Secret))
		case RSA:
			keyrings = append(keyrings, envelope.RawRSA(Namespace, k.Name, oaepHashes[k.Hash], k.private))
		}
	}
	return envelope.Multi(keyrings[0], keyrings[1:]...)
}

var oaepHashes = map[string]crypto.Hash{"sha1": crypto.SHA1, "sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512}

func newKMSKey(t testing.TB, client *awskms.Client) WrappingKey {
	created, err := client.CreateKey(context.WithoutCancel(t.Context()), nil)
	require.NoError(t, err)
	return WrappingKey{Kind: KMS, Name: *created.KeyMetadata.Arn}
}
