package envelope

import (
	"context"
	"crypto/ecdsa"
	"crypto/subtle"
	"fmt"
	"math"
	"slices"

	"github.com/pocketkms/kms/internal/secret"
)

// DecrypterOptions are the settings of a [Decrypter]. The zero value is right for most uses.
type DecrypterOptions struct {
	// CommitmentPolicy is about messages that do not commit to their data key. They are refused by
	// default.
	CommitmentPolicy CommitmentPolicy

	// MaxEncryptedDataKeys is the largest number of encrypted data keys that a message may have, up
	// to 65,535; 0 means 10. Each may cost a call of the KMS.
	MaxEncryptedDataKeys int

	// MaxFrameLength is the largest number of bytes that a [Reader] or [ReaderAt] keeps in memory: a
	// frame, or all of a message that has no frames; 0 means 64 MiB. The memory grows only as
	// bytes arrive. It does not concern Open.
	MaxFrameLength int64

	// RequiredContextKeys are keys of the encryption context that every call must give.
	RequiredContextKeys []string

	// UnsignedOnly refuses signed messages with [ErrSigned]. Without it, a Reader of a signed
	// message returns all but the last frame before it can verify the signature.
	UnsignedOnly bool

	// Cache keeps data keys, if set. Read what that costs.
	Cache *Cache
}

const defaultMaxFrame = 64 << 20

// A Decrypter decrypts messages. It is immutable and may be used concurrently.
type Decrypter struct {
	materials     materialsProvider
	maxKeys       int
	maxFrame      int64
	required      []string
	nonCommitting bool
	unsignedOnly  bool
}

// NewDecrypter returns a Decrypter that decrypts data keys with keyring. It fails if the keyring
// cannot, or if an option is out of range.
func NewDecrypter(keyring Keyring, options DecrypterOptions) (*Decrypter, error) {
	list, err := checkKeyrings(keyring, false)
	if err != nil {
		return nil, err
	}
	d := &Decrypter{materials: keyringMaterials(list), maxFrame: options.MaxFrameLength, unsignedOnly: options.UnsignedOnly}
	switch options.CommitmentPolicy {
	case RequireEncryptRequireDecrypt:
	case RequireEncryptAllowDecrypt:
		d.nonCommitting = true
	default:
		return nil, fmt.Errorf("envelope: CommitmentPolicy(%d) does not exist", options.CommitmentPolicy)
	}
	if d.maxKeys, err = checkMaxKeys(options.MaxEncryptedDataKeys); err != nil {
		return nil, err
	}
	if d.maxFrame == 0 {
		d.maxFrame = defaultMaxFrame
	}
	if d.maxFrame < 0 {
		return nil, fmt.Errorf("envelope: a MaxFrameLength of %d", d.maxFrame)
	}
	d.maxFrame = min(d.maxFrame, math.MaxInt-finalOverhead)
	if d.required, err = checkRequiredKeys(options.RequiredContextKeys); err != nil {
		return nil, err
	}
	if d.materials, err = options.Cache.before(d.materials); err != nil {
		return nil, err
	}
	return d, nil
}

// Open decrypts a message and returns the plaintext, in a new slice. Each pair of encryptionContext
// must be the message's; the message may have others.
func (d *Decrypter) Open(ctx context.Context, message []byte, encryptionContext map[string]string) (plaintext []byte, err error) {
	s := &scanner{buf: message}
	m, err := d.begin(ctx, s, encryptionContext)
	if err != nil {
		return nil, err
	}
	body := cursor{message, s.off}
	if m.header.framed {
		plaintext, err = m.openFrames(&body)
	} else {
		plaintext, err = m.openUnframed(&body)
	}
	if err == nil && m.verify != nil {
		m.transcript.write(message[:body.off])
		err = m.openFooter(&body)
	}
	if err == nil && body.off != len(message) {
		err = errTrailing
	}
	if err != nil {
		secret.Clear(plaintext)
		return nil, err
	}
	return plaintext, nil
}

var errTrailing = fmt.Errorf("%w: bytes follow it", ErrAltered)

// An incoming is a message whose header has been authenticated.
type incoming struct {
	header     *header
	pairs      map[string]string // of the complete encryption context
	frames     *frameCipher
	verify     *ecdsa.PublicKey // nil if the suite does not sign
	transcript *transcript
}

// callerPairs returns the pairs that are not reserved. A nil message, of a zero Reader, has none.
func (m *incoming) callerPairs() map[string]string {
	if m == nil {
		return nil
	}
	return callerPairs(m.pairs)
}

func (m *incoming) suite() Suite {
	if m == nil {
		return 0
	}
	return m.header.suite.id
}

// begin reads the header of a message, decrypts the data key and authenticates the header.
func (d *Decrypter) begin(ctx context.Context, s *scanner, given map[string]string) (*incoming, error) {
	if d == nil || d.materials == nil {
		return nil, errZero
	}
	if err := checkCallerPairs(given, d.required); err != nil {
		return nil, err
	}
	h, err := scanHeader(s, d.maxKeys)
	if err != nil {
		return nil, err
	}
	if !h.suite.commits() && !d.nonCommitting {
		return nil, fmt.Errorf("%w: the message has %v", ErrCommitment, h.suite.id)
	}
	if h.suite.signs() && d.unsignedOnly {
		return nil, fmt.Errorf("%w: UnsignedOnly is set", ErrSigned)
	}
	all, onlyGiven, err := reproduce(h.pairs, given)
	if err != nil {
		return nil, err
	}
	m := &incoming{header: h, pairs: all, transcript: newTranscript(h.suite)}
	public, signed := h.pairs[publicKeyPair]
	if signed != h.suite.signs() {
		return nil, fmt.Errorf("%w: only signed messages have the public key of a signature", ErrAltered)
	}
	ec, err := newContext(all)
	if err != nil {
		return nil, err
	}
	omitted, err := encodeContext(onlyGiven)
	if err != nil {
		return nil, err
	}
	materials, err := d.materials.forDecryption(ctx, h.suite, ec, h.keys)
	if err != nil {
		return nil, err
	}
	defer materials.done()
	aead, commitment, err := h.suite.derive(materials.dataKey.Expose(), h.messageID)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(commitment, h.commitment) != 1 {
		return nil, fmt.Errorf("%w: the data key is not the one that it commits to", ErrAltered)
	}
	iv, tag := []byte(noIV), h.auth
	if h.suite.version == 1 {
		iv, tag = h.auth[:ivBytes], h.auth[ivBytes:]
	}
	authenticated := h.body
	if len(omitted) > 0 {
		authenticated = slices.Concat(h.body, omitted)
	}
	if _, err := aead.Open(nil, iv, tag, authenticated); err != nil {
		return nil, fmt.Errorf("%w: the tag of its header does not verify", ErrAltered)
	}
	if signed {
		if m.verify, err = parsePublicKey(h.suite.curve, public); err != nil {
			return nil, err
		}
	}
	m.frames = newFrameCipher(aead, h.messageID, h.framed)
	return m, nil
}
