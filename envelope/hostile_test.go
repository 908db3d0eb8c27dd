package envelope

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// shortMessages are messages of both suites that are written, and of one that is only read.
func shortMessages(t testing.TB) map[string][]byte {
	pairs := map[string]string{"a": "1"}
	plaintext := []byte("plaintext of frames")
	return map[string][]byte{
		"committing": testWriter{suite: SuiteCommitKey, pairs: pairs, frameLength: 8}.seal(t, plaintext),
		"signed":     testWriter{suite: SuiteCommitKeyECDSA, pairs: pairs, frameLength: 8}.seal(t, plaintext),
		"version 1":  testWriter{suite: 0x0178, pairs: pairs, frameLength: 8}.seal(t, plaintext),
		"unframed":   testWriter{suite: 0x0178, pairs: pairs}.seal(t, plaintext),
	}
}

func TestEveryBitFlipIsRefused(t *testing.T) {
	d := newDecrypter(t, testKeyring(), anySuite())
	for name, message := range shortMessages(t) {
		for way, open := range ways(t) {
			if name == "signed" && way == "NewReader" {
				continue // TestAReaderOfASignedMessageRefusesWhatOpenRefuses, at fewer bits, as a key is parsed each time
			}
			for bit := range 8 * len(message) {
				altered := bytes.Clone(message)
				altered[bit/8] ^= 1 << (bit % 8)
				_, err := open(d, altered, map[string]string{"a": "1"})
				if err == nil || !isKnown(err) {
					t.Errorf("%s %s bit %d: %v", name, way, bit, err)
				}
			}
		}
		if name != "signed" && name != "unframed" {
			for bit := range 8 * len(message) {
				altered := bytes.Clone(message)
				altered[bit/8] ^= 1 << (bit % 8)
				if readAllAt(d, altered, len("plaintext of frames")) == nil {
					t.Errorf("%s bit %d", name, bit)
				}
			}
		}
	}
}

func TestAReaderOfASignedMessageRefusesWhatOpenRefuses(t *testing.T) {
	d := newDecrypter(t, testKeyring(), anySuite())
	message := shortMessages(t)["signed"]
	for at := range message {
		altered := bytes.Clone(message)
		altered[at] ^= 0x80 >> (at % 8)
		_, err := ways(t)["NewReader"](d, altered, nil)
		require.True(t, isKnown(err), "byte %d: %v", at, err)
	}
}

// readAllAt returns the error of the first of the plaintext's bytes that cannot be read.
func readAllAt(d *Decrypter, message []byte, want int) error {
	r, err := d.NewReaderAt(context.Background(), bytes.NewReader(message), int64(len(message)), nil)
	if err != nil {
		return err
	}
	got := make([]byte, want)
	n, err := r.ReadAt(got, 0)
	if err == nil && (n != want || r.Size() != int64(want)) {
		return errors.New("another length")
	}
	return err
}

// isKnown reports whether callers can distinguish an error.
func isKnown(err error) bool {
	return slices.ContainsFunc([]error{ErrNotMessage, ErrTruncated, ErrAltered, ErrContext, ErrNoKey, ErrLimit, ErrCommitment, ErrSigned},
		func(target error) bool { return errors.Is(err, target) })
}

func TestAMessageThatIsCutIsTruncated(t *testing.T) {
	d := newDecrypter(t, testKeyring(), anySuite())
	for name, message := range shortMessages(t) {
		for n := range len(message) {
			for way, open := range ways(t) {
				_, err := open(d, message[:n], nil)
				require.ErrorIs(t, err, ErrTruncated, "%s %s %d bytes", name, way, n)
				require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			}
			if name == "committing" || name == "version 1" {
				require.ErrorIs(t, readAllAt(d, message[:n], 1), ErrTruncated, "%s %d bytes", name, n)
			}
		}
	}
}

// What a Reader returns of a message that is cut is the plaintext of its whole frames.
func TestATruncatedStreamEndsWithTheLastWholeFrame(t *testing.T) {
	for _, suite := range []Suite{SuiteCommitKey, SuiteCommitKeyECDSA} {
		plaintext := []byte("plaintext of frames")
		message := testWriter{suite: suite, frameLength: 8}.seal(t, plaintext)
		parts := splitMessage(t, message)
		header, frame := parts.header.length(), len(parts.frames[0])
		for n := header; n < len(message); n++ {
			r, err := newDecrypter(t, testKeyring(), DecrypterOptions{}).NewReader(t.Context(), bytes.NewReader(message[:n]), nil)
			require.NoError(t, err)
			got, err := io.ReadAll(r)
			require.ErrorIs(t, err, ErrTruncated)
			require.Equal(t, string(plaintext[:8*min((n-header)/frame, 2)]), string(got), "%d bytes", n)
			again, err := r.Read(make([]byte, 1))
			require.Zero(t, again)
			require.ErrorIs(t, err, ErrTruncated, "the error stays")
		}
	}
}

func TestFramesInAnotherOrderAreRefused(t *testing.T) {
	d := newDecrypter(t, testKeyring(), anySuite())
	for _, suite := range []Suite{SuiteCommitKey, SuiteCommitKeyECDSA, 0x0178} {
		plaintext := bytes.Repeat([]byte("01234567"), 5)
		parts := splitMessage(t, testWriter{suite: suite, frameLength: 8}.seal(t, plaintext))
		f := parts.frames
		require.Len(t, f, 5)
		renumbered := bytes.Clone(f[2])
		binary.BigEndian.PutUint32(renumbered, 2)
		finalEarly := bytes.Clone(f[4])
		binary.BigEndian.PutUint32(finalEarly[4:], 3)
		for name, frames := range map[string][][]byte{
			"swapped":                {f[1], f[0], f[2], f[3], f[4]},
			"dropped at the start":   {f[1], f[2], f[3], f[4]},
			"dropped in the middle":  {f[0], f[2], f[3], f[4]},
			"dropped and renumbered": {f[0], renumbered, f[3], f[4]},
			"dropped before the end": {f[0], f[1], f[2], f[4]},
			"final frame moved up":   {f[0], f[1], finalEarly},
			"repeated":               {f[0], f[0], f[1], f[2], f[3], f[4]},
			"final frame repeated":   {f[0], f[1], f[2], f[3], f[4], f[4]},
			"final frame only":       {f[4]},
			"of another message":     {f[0], f[1], splitMessage(t, testWriter{suite: suite, frameLength: 8, pairs: map[string]string{"b": "2"}}.seal(t, plaintext)).frames[2], f[3], f[4]},
		} {
			altered := split{parts.header, frames, parts.footer}.join()
			for way, open := range ways(t) {
				_, err := open(d, altered, nil)
				if suite.Signs() && name == "final frame repeated" {
					require.ErrorIs(t, err, ErrTruncated, "what is read as the signature has an impossible length")
					continue
				}
				require.ErrorIs(t, err, ErrAltered, "%s %s", name, way)
			}
			if !suite.Signs() {
				require.Error(t, readAllAt(d, altered, len(plaintext)), name)
			}
		}
	}
}

func TestFrameLengthAndContentTypeBelongTogether(t *testing.T) {
	for _, tt := range []struct{ frameLength, declared int }{{8, 0}, {0, 8}} {
		for _, suite := range []Suite{0x0178, SuiteCommitKey} {
			parts := splitMessage(t, testWriter{suite: suite, frameLength: tt.frameLength}.seal(t, nil))
			h := *parts.header
			h.frameLength = uint32(tt.declared)
			require.NoError(t, h.encode(nil))
			_, err := Inspect(bytes.NewReader(append(h.body, h.auth...)), 0)
			require.ErrorContains(t, err, "frame length", tt)
			require.ErrorIs(t, err, ErrAltered)
		}
	}
}

// Its tag verifies: who has the data key wrote it.
func TestAFinalFrameIsNoLongerThanAFrame(t *testing.T) {
	d := newDecrypter(t, testKeyring(), anySuite())
	for _, suite := range []Suite{0x0178, SuiteCommitKey} {
		for size, want := range map[int]error{8: nil, 9: ErrAltered, 1000: ErrAltered} {
			message := testWriter{suite: suite, frameLength: 8, longFinal: true}.seal(t, pattern(size))
			for name, open := range ways(t) {
				_, err := open(d, message, nil)
				require.ErrorIs(t, err, want, name)
			}
			_, err := d.NewReaderAt(t.Context(), bytes.NewReader(message), int64(len(message)), nil)
			require.Equal(t, want == nil, err == nil)
		}
	}
}

func TestBytesAfterAMessageAreRefused(t *testing.T) {
	d := newDecrypter(t, testKeyring(), anySuite())
	for name, message := range shortMessages(t) {
		for way, open := range ways(t) {
			_, err := open(d, append(bytes.Clone(message), 0), nil)
			require.ErrorIs(t, err, ErrAltered, "%s %s", name, way)
			_, err = open(d, append(bytes.Clone(message), message...), nil)
			require.ErrorIs(t, err, ErrAltered, "%s %s", name, way)
		}
		if name == "committing" {
			require.Error(t, readAllAt(d, append(bytes.Clone(message), 0), 19))
		}
	}
}

func TestOtherInputIsNotAMessage(t *testing.T) {
	d := newDecrypter(t, testKeyring(), anySuite())
	for name, message := range shortMessages(t) {
		text := []byte(base64.StdEncoding.EncodeToString(message))
		for _, input := range [][]byte{text, append([]byte{0}, message...), []byte("plaintext"), {3}, {1, 0x81}, {1, 0x80, 0x04, 0x78}, {2, 0x01, 0x78}, {2, 0, 0}, {2, 0x67, 0x01}} {
			for way, open := range ways(t) {
				_, err := open(d, input, nil)
				require.ErrorIs(t, err, ErrNotMessage, "%s %s", name, way)
			}
		}
		_, err := d.Open(t.Context(), text, nil)
		require.ErrorContains(t, err, "base64")
	}
}

// refuser is a provider that must not be asked.
type refuser struct {
	materialsProvider
	t testing.TB
}

func (r refuser) forDecryption(context.Context, *suite, *encryptionContext, []encryptedKey) (*decryptionMaterials, error) {
	r.t.Error("asked for a data key")
	return nil, ErrNoKey
}

func TestTooManyDataKeysAreRefusedBeforeOneIsDecrypted(t *testing.T) {
	parts := splitMessage(t, testWriter{suite: SuiteCommitKey, frameLength: 8}.seal(t, []byte("x")))
	parts.header.keys = slices.Repeat(parts.header.keys, 60000)
	require.NoError(t, parts.header.encode(nil))
	message := parts.join()

	d := newDecrypter(t, testKeyring(), DecrypterOptions{})
	d.materials = refuser{t: t}
	read := &countingReader{r: bytes.NewReader(message)}
	_, err := d.NewReader(t.Context(), read, nil)
	require.ErrorIs(t, err, ErrLimit)
	require.Less(t, read.n, 100, "the data keys were not read")
	_, err = d.Open(t.Context(), message, nil)
	require.ErrorIs(t, err, ErrLimit)

	lifted := newDecrypter(t, testKeyring(), DecrypterOptions{MaxEncryptedDataKeys: 65535})
	_, err = lifted.Open(t.Context(), message, nil)
	require.ErrorIs(t, err, ErrAltered, "the first data key is decrypted, and the header is another")
}

type countingReader struct {
	r io.Reader
	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// Lengths are believed only as far as bytes arrive.
func TestLengthsOfGigabytesCostNothing(t *testing.T) {
	parts := splitMessage(t, testWriter{suite: SuiteCommitKey, frameLength: 8}.seal(t, []byte("x")))
	parts.header.frameLength = math.MaxUint32
	require.NoError(t, parts.header.encode(nil))
	altered := parts.join()
	genuine := testWriter{suite: SuiteCommitKey, frameLength: math.MaxUint32}.seal(t, []byte("x"))
	first := append(bytes.Clone(genuine[:splitMessage(t, genuine).header.length()]), 0, 0, 0, 1)
	unframed := testWriter{suite: 0x0178}.seal(t, []byte("x"))
	binary.BigEndian.PutUint64(unframed[splitMessage(t, unframed).header.length()+ivBytes:], 1<<36-32)

	options := anySuite()
	d := newDecrypter(t, testKeyring(), options)
	options.MaxFrameLength = 1 << 40
	lifted := newDecrypter(t, testKeyring(), options)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for way, open := range ways(t) {
		_, err := open(d, altered, nil)
		require.ErrorIs(t, err, ErrAltered, way)
		_, err = open(lifted, first, nil)
		require.ErrorIs(t, err, ErrTruncated, way)
		_, err = open(lifted, unframed, nil)
		require.ErrorIs(t, err, ErrTruncated, way)
		got, err := open(lifted, genuine, nil)
		require.NoError(t, err, way)
		require.Equal(t, "x", string(got))
	}
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20))

	_, err := d.NewReader(t.Context(), bytes.NewReader(genuine), nil)
	require.ErrorIs(t, err, ErrLimit)
	_, err = d.NewReaderAt(t.Context(), bytes.NewReader(genuine), int64(len(genuine)), nil)
	require.ErrorIs(t, err, ErrLimit)
	r, err := d.NewReader(t.Context(), bytes.NewReader(unframed), nil)
	require.NoError(t, err)
	_, err = r.Read(make([]byte, 1))
	require.ErrorIs(t, err, ErrLimit)
}

func TestASignatureAndItsKeyBelongTogether(t *testing.T) {
	d := newDecrypter(t, testKeyring(), anySuite())
	_, public, err := newSigner(findSuite(SuiteCommitKeyECDSA).curve)
	require.NoError(t, err)
	extra := testWriter{suite: SuiteCommitKey, pairs: map[string]string{publicKeyPair: public}, frameLength: 8}.seal(t, []byte("x"))
	_, err = d.Open(t.Context(), extra, nil)
	require.ErrorContains(t, err, "only signed messages")
	require.ErrorIs(t, err, ErrAltered)

	for name, value := range map[string]string{"not base64": "?", "empty": "", "not a point": base64.StdEncoding.EncodeToString(make([]byte, 49)),
		"of another curve": base64.StdEncoding.EncodeToString(make([]byte, 33))} {
		message := testWriter{suite: SuiteCommitKeyECDSA, frameLength: 8, public: &value}.seal(t, []byte("x"))
		_, err = d.Open(t.Context(), message, nil)
		require.ErrorIs(t, err, ErrAltered, name)
		require.ErrorContains(t, err, "public key", name)
	}
	parts := splitMessage(t, testWriter{suite: SuiteCommitKeyECDSA, frameLength: 8}.seal(t, []byte("x")))
	require.NoError(t, parts.header.encode(nil))
	_, err = d.Open(t.Context(), parts.join(), nil)
	require.ErrorContains(t, err, "only signed messages")

	// The signature of another message of the same key.
	a := splitMessage(t, testWriter{suite: SuiteCommitKeyECDSA, frameLength: 8}.seal(t, []byte("x")))
	b := splitMessage(t, testWriter{suite: SuiteCommitKeyECDSA, frameLength: 8}.seal(t, []byte("x")))
	a.footer = b.footer
	for way, open := range ways(t) {
		got, err := open(d, a.join(), nil)
		require.ErrorContains(t, err, "signature does not verify", way)
		require.Empty(t, got, "the final frame is not returned")
	}
}

func TestTheCommitmentPolicyIsKept(t *testing.T) {
	for _, s := range suites {
		message := testWriter{suite: s.id, frameLength: 8}.seal(t, []byte("x"))
		strict := newDecrypter(t, testKeyring(), DecrypterOptions{})
		if !s.commits() {
			strict.materials = refuser{t: t}
		}
		for way, open := range ways(t) {
			_, err := open(strict, message, nil)
			if s.commits() {
				require.NoError(t, err, "%v %s", s.id, way)
			} else {
				require.ErrorIs(t, err, ErrCommitment, "%v %s", s.id, way)
			}
		}
		_, err := NewEncrypter(testKeyring(), EncrypterOptions{Suite: s.id})
		if s.commits() {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, ErrCommitment, s.id)
		}
	}
}

// A data key that is not the committed one is refused before it authenticates anything.
func TestAnotherDataKeyThanTheCommittedOneIsRefused(t *testing.T) {
	parts := splitMessage(t, testWriter{suite: SuiteCommitKey, frameLength: 8}.seal(t, []byte("x")))
	other := splitMessage(t, testWriter{suite: SuiteCommitKey, frameLength: 8}.seal(t, []byte("x")))
	parts.header.keys = other.header.keys
	require.NoError(t, parts.header.encode(nil))
	_, err := newDecrypter(t, testKeyring(), DecrypterOptions{}).Open(t.Context(), parts.join(), nil)
	require.ErrorIs(t, err, ErrAltered)
	require.ErrorContains(t, err, "commits to")
}

func TestUnsignedOnlyRefusesSignedMessages(t *testing.T) {
	d := newDecrypter(t, testKeyring(), DecrypterOptions{UnsignedOnly: true})
	d.materials = refuser{t: t}
	for way, open := range ways(t) {
		_, err := open(d, shortMessages(t)["signed"], nil)
		require.ErrorIs(t, err, ErrSigned, way)
	}
}
