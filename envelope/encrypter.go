package envelope

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// EncrypterOptions are the settings of an [Encrypter]. The zero value is right for most uses.
type EncrypterOptions struct {
	// Suite is the algorithm suite; 0 means [SuiteCommitKey], because what it writes can be verified
	// while it is read, and it is faster. The AWS Encryption SDK's default is [SuiteCommitKeyECDSA].
	Suite Suite

	// FrameLength is the number of plaintext bytes in a frame, 1 to 4,294,967,295; 0 means 65,536,
	// with which the overhead is small. Readers keep a frame in memory. The AWS Encryption SDK's
	// default is 4,096.
	FrameLength int64

	// MaxEncryptedDataKeys is the largest number of wrapping keys, up to 65,535; 0 means 10, as many
	// as a [Decrypter] accepts by default.
	MaxEncryptedDataKeys int

	// RequiredContextKeys are keys of the encryption context that every message must have and that
	// are authenticated but not stored: whoever decrypts must give their pairs.
	RequiredContextKeys []string

	// Cache keeps data keys, if set. Read what that costs.
	Cache *Cache
}

const (
	defaultFrameLength = 64 << 10
	defaultMaxKeys     = 10
)

// An Encrypter encrypts messages. It is immutable and may be used concurrently.
type Encrypter struct {
	materials   materialsProvider
	suite       *suite
	frameLength int64
	required    []string
}

var errZero = errors.New("envelope: use NewEncrypter or NewDecrypter, and their methods")

// NewEncrypter returns an Encrypter whose data keys keyring generates and encrypts. It fails if the
// keyring cannot, or if an option is out of range.
func NewEncrypter(keyring Keyring, options EncrypterOptions) (*Encrypter, error) {
	list, err := checkKeyrings(keyring, true)
	if err != nil {
		return nil, err
	}
	limit, err := checkMaxKeys(options.MaxEncryptedDataKeys)
	if err != nil {
		return nil, err
	}
	if len(list) > limit {
		return nil, fmt.Errorf("%w: %d wrapping keys, more than MaxEncryptedDataKeys, %d", ErrLimit, len(list), limit)
	}
	e := &Encrypter{materials: keyringMaterials(list), frameLength: options.FrameLength}
	if options.Suite == 0 {
		options.Suite = SuiteCommitKey
	}
	if !options.Suite.Commits() {
		return nil, fmt.Errorf("%w: %v is only for reading", ErrCommitment, options.Suite)
	}
	e.suite = findSuite(options.Suite)
	if e.frameLength == 0 {
		e.frameLength = defaultFrameLength
	}
	if e.frameLength < 0 || e.frameLength > math.MaxUint32 || e.frameLength > math.MaxInt-finalOverhead {
		return nil, fmt.Errorf("envelope: a FrameLength of %d", e.frameLength)
	}
	if e.required, err = checkRequiredKeys(options.RequiredContextKeys); err != nil {
		return nil, err
	}
	if e.materials, err = options.Cache.before(e.materials); err != nil {
		return nil, err
	}
	return e, nil
}

func checkMaxKeys(n int) (int, error) {
	if n == 0 {
		n = defaultMaxKeys
	}
	if n < 0 || n > maxKeys {
		return 0, fmt.Errorf("envelope: MaxEncryptedDataKeys is %d, not 1 to %d", n, maxKeys)
	}
	return n, nil
}

// Seal encrypts plaintext, of any length, and returns the message. It asks the keyring for a data
// key. The message is a new slice.
func (e *Encrypter) Seal(ctx context.Context, plaintext []byte, encryptionContext map[string]string) (message []byte, err error) {
	m, err := e.begin(ctx, encryptionContext, int64(len(plaintext)))
	if err != nil {
		return nil, err
	}
	frame := int(e.frameLength)
	full := max(len(plaintext)-1, 0) / frame // the final frame has 1 to frame bytes, or the plaintext is empty
	size := uint64(m.header.length()) + uint64(len(plaintext)) + uint64(full)*frameOverhead + finalOverhead
	if m.sign != nil {
		size += 2 + maxSignature
	}
	if int64(full) >= maxFrames || size > math.MaxInt {
		return nil, fmt.Errorf("%w: the plaintext has too many frames", ErrLimit)
	}
	out := append(make([]byte, 0, size), m.header.body...)
	out = append(out, m.header.auth...)
	sequence := uint32(1)
	for ; len(plaintext) > frame; plaintext = plaintext[frame:] {
		out = m.frames.seal(out, sequence, plaintext[:frame])
		sequence++
	}
	out = m.frames.sealFinal(out, sequence, plaintext)
	m.transcript.write(out)
	return m.appendFooter(out)
}

// maxSignature is the most bytes of an ECDSA P-384 signature in DER.
const maxSignature = 104

// An outgoing is a message whose header has been made.
type outgoing struct {
	header     header
	frames     *frameCipher
	sign       signer // nil if the suite does not sign
	transcript *transcript
}

// begin makes the header of a message. length is that of the plaintext, or -1 if it is not known.
func (e *Encrypter) begin(ctx context.Context, pairs map[string]string, length int64) (*outgoing, error) {
	if e == nil || e.materials == nil {
		return nil, errZero
	}
	if err := checkCallerPairs(pairs, e.required); err != nil {
		return nil, err
	}
	materials, err := e.materials.forEncryption(ctx, e.suite, pairs, length)
	if err != nil {
		return nil, err
	}
	defer materials.done()
	stored, omitted := materials.context.encoded, []byte(nil)
	if len(e.required) > 0 {
		kept, taken := withoutKeys(materials.context.pairs, e.required)
		if stored, err = encodeContext(kept); err != nil {
			return nil, err
		}
		if omitted, err = encodeContext(taken); err != nil {
			return nil, err
		}
	}
	m := &outgoing{sign: materials.sign, transcript: newTranscript(e.suite)}
	h := &m.header
	h.suite, h.keys, h.framed, h.frameLength = e.suite, materials.keys, true, uint32(e.frameLength)
	id := e.suite.messageIDBytes()
	buf := make([]byte, id, id+tagBytes)
	rand.Read(buf) // never fails
	h.messageID = buf
	aead, commitment, err := e.suite.derive(materials.dataKey.Expose(), h.messageID)
	if err != nil {
		return nil, err
	}
	h.commitment = commitment
	if err := h.encode(stored); err != nil {
		return nil, err
	}
	h.auth = aead.Seal(buf[id:], []byte(noIV), nil, append(h.body, omitted...))
	m.frames = newFrameCipher(aead, h.messageID, true)
	return m, nil
}

// appendFooter appends the signature of what the transcript has.
func (m *outgoing) appendFooter(b []byte) ([]byte, error) {
	if m.sign == nil {
		return b, nil
	}
	signature, err := m.sign(m.transcript.digest())
	if err != nil {
		return nil, fmt.Errorf("envelope: signing the message: %w", err)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(signature)))
	return append(b, signature...), nil
}
