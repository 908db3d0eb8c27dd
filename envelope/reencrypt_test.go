package envelope

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// otherKeyring is a keyring with another key than testKeyring.
func otherKeyring() Keyring { return RawAES("other", "fixed", bytes.Repeat([]byte{8}, 32)) }

func TestReEncryptMovesAMessageOfAnySuiteAndForm(t *testing.T) {
	from := newDecrypter(t, testKeyring(), anySuite())
	pairs := map[string]string{"tenant": "7", "column": "name"}
	for _, s := range suites {
		for _, frameLength := range []int{0, 100} {
			for _, to := range []Suite{SuiteCommitKey, SuiteCommitKeyECDSA} {
				plaintext := pattern(1234)
				old := testWriter{suite: s.id, pairs: pairs, frameLength: frameLength}.seal(t, plaintext)
				var out bytes.Buffer
				e := newEncrypter(t, otherKeyring(), EncrypterOptions{Suite: to, FrameLength: 500})
				require.NoError(t, ReEncrypt(t.Context(), &out, e, bytes.NewReader(old), from, map[string]string{"tenant": "7"}))
				moved := out.Bytes()
				got, err := newDecrypter(t, otherKeyring(), DecrypterOptions{}).Open(t.Context(), moved, pairs)
				require.NoError(t, err)
				require.Equal(t, plaintext, got)
				_, err = newDecrypter(t, testKeyring(), DecrypterOptions{}).Open(t.Context(), moved, pairs)
				require.ErrorIs(t, err, ErrNoKey)
				was, is := splitMessage(t, old).header, splitMessage(t, moved).header
				require.Equal(t, to, is.suite.id)
				require.NotEqual(t, was.messageID, is.messageID)
				require.Equal(t, pairs, callerPairs(is.pairs))
			}
		}
	}
}

// Pairs that are not stored are those of the new message too, stored or not.
func TestReEncryptKeepsPairsThatAreNotStored(t *testing.T) {
	required := []string{"row"}
	pairs := map[string]string{"row": "1", "tenant": "7"}
	old := sealed(t, newEncrypter(t, testKeyring(), EncrypterOptions{RequiredContextKeys: required}), pattern(10), pairs)
	d := newDecrypter(t, testKeyring(), DecrypterOptions{})
	for stored, options := range map[bool]EncrypterOptions{true: {}, false: {RequiredContextKeys: required}} {
		var out bytes.Buffer
		require.NoError(t, ReEncrypt(t.Context(), &out, newEncrypter(t, testKeyring(), options), bytes.NewReader(old), d, map[string]string{"row": "1"}))
		require.Equal(t, stored, splitMessage(t, out.Bytes()).header.pairs["row"] == "1")
		_, err := d.Open(t.Context(), out.Bytes(), pairs)
		require.NoError(t, err)
		_, err = d.Open(t.Context(), out.Bytes(), nil)
		require.Equal(t, stored, err == nil)
	}
	var out bytes.Buffer
	require.ErrorIs(t, ReEncrypt(t.Context(), &out, newEncrypter(t, testKeyring(), EncrypterOptions{}), bytes.NewReader(old), d, nil), ErrNoKey)
	require.Zero(t, out.Len())
}

func TestAReEncryptionThatFailsLeavesNoWholeMessage(t *testing.T) {
	from := newDecrypter(t, testKeyring(), DecrypterOptions{})
	to := newEncrypter(t, otherKeyring(), EncrypterOptions{FrameLength: 50})
	for _, suite := range []Suite{SuiteCommitKey, SuiteCommitKeyECDSA} {
		message := sealed(t, newEncrypter(t, testKeyring(), EncrypterOptions{Suite: suite, FrameLength: 100}), pattern(1000), nil)
		altered := bytes.Clone(message)
		altered[len(altered)-1] ^= 1
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		refused := errors.New("the reader fails")
		for name, tt := range map[string]struct {
			ctx  context.Context
			src  io.Reader
			want error
		}{
			"truncated":    {t.Context(), bytes.NewReader(message[:len(message)-1]), ErrTruncated},
			"altered":      {t.Context(), bytes.NewReader(altered), ErrAltered},
			"followed":     {t.Context(), io.MultiReader(bytes.NewReader(message), bytes.NewReader([]byte{0})), ErrAltered},
			"reader fails": {t.Context(), io.MultiReader(bytes.NewReader(message[:len(message)-1]), iotest.ErrReader(refused)), refused},
			"canceled":     {canceled, bytes.NewReader(message), context.Canceled},
		} {
			var out bytes.Buffer
			require.ErrorIs(t, ReEncrypt(tt.ctx, &out, to, tt.src, from, nil), tt.want, name)
			plaintext, err := newDecrypter(t, otherKeyring(), DecrypterOptions{}).Open(t.Context(), out.Bytes(), nil)
			require.ErrorIs(t, err, ErrTruncated, name)
			require.Nil(t, plaintext)
		}
		for n := range 5 {
			require.Error(t, ReEncrypt(t.Context(), &limitedWriter{n: n * 200}, to, bytes.NewReader(message), from, nil))
		}
	}
	require.Error(t, ReEncrypt(t.Context(), nil, to, bytes.NewReader(nil), from, nil))
	require.Error(t, ReEncrypt(t.Context(), io.Discard, to, nil, from, nil))
	require.Error(t, ReEncrypt(t.Context(), io.Discard, nil, bytes.NewReader(nil), from, nil))
	require.Error(t, ReEncrypt(t.Context(), io.Discard, to, bytes.NewReader(nil), nil, nil))
}

func TestReEncryptStopsWhenItsContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	message := sealed(t, newEncrypter(t, testKeyring(), EncrypterOptions{FrameLength: 100}), pattern(10_000), nil)
	src := bytes.NewReader(message)
	dst := writerFunc(func(p []byte) (int, error) {
		if src.Len() < 5000 {
			cancel()
		}
		return len(p), nil
	})
	err := ReEncrypt(ctx, dst, newEncrypter(t, otherKeyring(), EncrypterOptions{FrameLength: 100}), src, newDecrypter(t, testKeyring(), DecrypterOptions{}), nil)
	require.ErrorIs(t, err, context.Canceled)
	require.Greater(t, src.Len(), 4000)
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
