package envelope

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/secret"
)

func suiteHex(s Suite) string { return fmt.Sprintf("%04x", uint16(s)) }

// testKeyring is a keyring with a fixed key.
func testKeyring() Keyring { return RawAES("test", "fixed", bytes.Repeat([]byte{7}, 32)) }

// testRSA is a keyring with an RSA key.
func testRSA(t testing.TB) Keyring {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	return RawRSA("test", "RSA", crypto.SHA256, private)
}

func newEncrypter(t testing.TB, k Keyring, options EncrypterOptions) *Encrypter {
	t.Helper()
	e, err := NewEncrypter(k, options)
	require.NoError(t, err)
	return e
}

func newDecrypter(t testing.TB, k Keyring, options DecrypterOptions) *Decrypter {
	t.Helper()
	d, err := NewDecrypter(k, options)
	require.NoError(t, err)
	return d
}

// anySuite are the options of a Decrypter that reads all suites.
func anySuite() DecrypterOptions {
	return DecrypterOptions{CommitmentPolicy: RequireEncryptAllowDecrypt}
}

// A testWriter writes messages of every form that the format has.
type testWriter struct {
	suite       Suite
	pairs       map[string]string
	frameLength int     // 0 does not frame
	emptyFinal  bool    // ends full frames with an empty one
	longFinal   bool    // has all of the plaintext in the final frame
	public      *string // in the place of the signature's public key
}

func (tw testWriter) seal(t testing.TB, plaintext []byte) []byte {
	t.Helper()
	s := findSuite(tw.suite)
	require.NotNil(t, s)
	list, err := checkKeyrings(testKeyring(), true)
	require.NoError(t, err)
	m, err := keyringMaterials(list).forEncryption(t.Context(), s, tw.pairs, -1)
	require.NoError(t, err)
	if tw.public != nil {
		m.context, err = newContext(with(tw.pairs, publicKeyPair, *tw.public))
		require.NoError(t, err)
		dataKey, keys, err := newDataKey(t.Context(), list, s.keyBytes, m.context)
		require.NoError(t, err)
		m.dataKey, m.keys = secret.New(dataKey), keys
	}
	h := header{suite: s, messageID: bytes.Repeat([]byte{9}, s.messageIDBytes()), keys: m.keys,
		framed: tw.frameLength > 0, frameLength: uint32(tw.frameLength)}
	aead, commitment, err := s.derive(m.dataKey.Expose(), h.messageID)
	require.NoError(t, err)
	h.commitment = commitment
	require.NoError(t, h.encode(m.context.encoded))
	if s.version == 1 {
		h.auth = make([]byte, ivBytes)
	}
	out := append(bytes.Clone(h.body), aead.Seal(h.auth, []byte(noIV), nil, h.body)...)
	f := newFrameCipher(aead, h.messageID, h.framed)
	if h.framed {
		sequence := uint32(1)
		for !tw.longFinal && len(plaintext) > tw.frameLength || tw.emptyFinal && len(plaintext) == tw.frameLength {
			out = f.seal(out, sequence, plaintext[:tw.frameLength])
			plaintext = plaintext[tw.frameLength:]
			sequence++
		}
		out = f.sealFinal(out, sequence, plaintext)
	} else {
		out = f.appendIV(out, 1)
		out = binary.BigEndian.AppendUint64(out, uint64(len(plaintext)))
		out = aead.Seal(out, f.iv[:], plaintext, f.single.of(1, len(plaintext)))
	}
	transcript := newTranscript(s)
	transcript.write(out)
	out, err = (&outgoing{sign: m.sign, transcript: transcript}).appendFooter(out)
	require.NoError(t, err)
	return out
}

// A split is a message in its parts. Joined, they are the message.
type split struct {
	header *header
	frames [][]byte // the last is the final frame
	footer []byte
}

func splitMessage(t testing.TB, message []byte) split {
	t.Helper()
	s := scanner{buf: message}
	h, err := scanHeader(&s, maxKeys)
	require.NoError(t, err)
	parts := split{header: h}
	rest := message[s.off:]
	cut := func(n int) {
		require.LessOrEqual(t, n, len(rest))
		parts.frames = append(parts.frames, rest[:n])
		rest = rest[n:]
	}
	if h.framed {
		for binary.BigEndian.Uint32(rest) != finalMark {
			cut(frameOverhead + int(h.frameLength))
		}
		cut(finalOverhead + int(binary.BigEndian.Uint32(rest[8+ivBytes:])))
	} else {
		cut(unframedBytes + int(binary.BigEndian.Uint64(rest[ivBytes:])) + tagBytes)
	}
	parts.footer = rest
	if h.suite.signs() {
		require.Equal(t, len(rest)-2, int(binary.BigEndian.Uint16(rest)))
	} else {
		require.Empty(t, rest)
	}
	return parts
}

func (s split) join() []byte {
	out := append(bytes.Clone(s.header.body), s.header.auth...)
	return append(append(out, bytes.Join(s.frames, nil)...), s.footer...)
}

// A way is one of the ways to decrypt a message.
type way func(d *Decrypter, message []byte, pairs map[string]string) ([]byte, error)

func ways(t testing.TB) map[string]way {
	return map[string]way{
		"Open": func(d *Decrypter, message []byte, pairs map[string]string) ([]byte, error) {
			return d.Open(t.Context(), message, pairs)
		},
		"NewReader": func(d *Decrypter, message []byte, pairs map[string]string) ([]byte, error) {
			r, err := d.NewReader(t.Context(), bytes.NewReader(message), pairs)
			if err != nil {
				return nil, err
			}
			return io.ReadAll(r)
		},
	}
}

// with returns pairs and one more.
func with(pairs map[string]string, k, v string) map[string]string {
	all := map[string]string{k: v}
	maps.Copy(all, pairs)
	return all
}
