package envelope

import (
	"archive/zip"
	"bytes"
	"encoding/hex"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEverySuiteIsReadInEveryForm(t *testing.T) {
	plaintext := bytes.Repeat([]byte("0123456789"), 30)
	pairs := map[string]string{"tenant": "7", "table": "orders"}
	for _, s := range suites {
		for name, w := range map[string]testWriter{
			"framed":               {frameLength: 64},
			"one frame":            {frameLength: 1000},
			"full final frame":     {frameLength: 100},
			"empty final frame":    {frameLength: 100, emptyFinal: true},
			"frames of one byte":   {frameLength: 1},
			"unframed":             {},
			"unframed, no context": {},
		} {
			t.Run(suiteHex(s.id)+" "+name, func(t *testing.T) {
				w.suite, w.pairs = s.id, pairs
				if strings.Contains(name, "no context") {
					w.pairs = nil
				}
				message := w.seal(t, plaintext)
				for name, open := range ways(t) {
					got, err := open(newDecrypter(t, testKeyring(), anySuite()), message, w.pairs)
					require.NoError(t, err, name)
					require.Equal(t, plaintext, got, name)
				}
				empty := w.seal(t, nil)
				for name, open := range ways(t) {
					got, err := open(newDecrypter(t, testKeyring(), anySuite()), empty, nil)
					require.NoError(t, err, name)
					require.Empty(t, got, name)
				}
			})
		}
	}
}

func TestSuitesDescribeThemselves(t *testing.T) {
	require.Len(t, suites, 11)
	require.Equal(t, "ALG_AES_256_GCM_HKDF_SHA512_COMMIT_KEY", SuiteCommitKey.String())
	require.Equal(t, "Suite(0x6701)", Suite(0x6701).String())
	for id, want := range map[Suite]struct{ commits, signs bool }{
		0: {false, false}, 0x0178: {false, false}, 0x0214: {false, true}, SuiteCommitKey: {true, false}, SuiteCommitKeyECDSA: {true, true},
	} {
		require.Equal(t, want.commits, id.Commits(), id)
		require.Equal(t, want.signs, id.Signs(), id)
	}
}

// Messages that this package once wrote, under testKeyring and with the context a=1. They must be
// read forever.
func TestGoldenMessages(t *testing.T) {
	text, err := os.ReadFile("testdata/golden.txt")
	require.NoError(t, err)
	var names []string
	for line := range strings.Lines(string(text)) {
		name, digits, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		message, err := hex.DecodeString(digits)
		require.NoError(t, err)
		names = append(names, name)
		for way, open := range ways(t) {
			got, err := open(newDecrypter(t, testKeyring(), DecrypterOptions{}), message, map[string]string{"a": "1"})
			require.NoError(t, err, "%s %s", name, way)
			require.Equal(t, "golden", string(got), "%s %s", name, way)
		}
		require.Equal(t, message, splitMessage(t, message).join())
	}
	require.Equal(t, []string{"0478", "0578", "0478-framed", "0478-required"}, names)
}

// The keys of these messages are AWS's. Their headers are read and written, and their signatures
// verified.
func TestMessagesOfVersion1AreParsed(t *testing.T) {
	z, err := zip.OpenReader("testdata/python-1.3.5.zip")
	require.NoError(t, err)
	defer z.Close()
	kinds := make(map[string]int)
	for _, f := range z.File {
		r, err := f.Open()
		require.NoError(t, err)
		message, err := io.ReadAll(r)
		require.NoError(t, err)
		parts := splitMessage(t, message)
		h := parts.header
		require.Equal(t, message, parts.join(), f.Name)
		kinds[suiteHex(h.suite.id)]++
		for _, k := range h.keys {
			require.Equal(t, providerKMS, k.provider)
			_, ok := parseKeyARN(k.info)
			require.True(t, ok, k.info)
		}

		encoded, err := encodeContext(h.pairs)
		require.NoError(t, err)
		again := *h
		require.NoError(t, again.encode(encoded))
		require.Equal(t, h.body, again.body, f.Name)

		public, signed := h.pairs[publicKeyPair]
		require.Equal(t, h.suite.signs(), signed)
		if signed {
			key, err := parsePublicKey(h.suite.curve, public)
			require.NoError(t, err)
			transcript := newTranscript(h.suite)
			transcript.write(message[:len(message)-len(parts.footer)])
			require.NoError(t, transcript.verify(key, parts.footer[2:]), f.Name)
			transcript.write([]byte{0})
			require.ErrorIs(t, transcript.verify(key, parts.footer[2:]), ErrAltered)
		}
	}
	require.Len(t, kinds, 9)
	require.Equal(t, []int{2, 2, 2, 2, 2, 2, 2, 2, 2}, slices.Collect(maps.Values(kinds)))
}

func TestWhatIsWrittenHasTheFormOfOtherImplementations(t *testing.T) {
	e := newEncrypter(t, testKeyring(), EncrypterOptions{FrameLength: 10})
	message, err := e.Seal(t.Context(), make([]byte, 20), map[string]string{"b": "2", "a": "1"})
	require.NoError(t, err)
	parts := splitMessage(t, message)
	require.Len(t, parts.frames, 2, "a full frame is the final one")
	require.Equal(t, []byte{2, 0x04, 0x78}, message[:3])
	require.Equal(t, "\x00\x0e\x00\x02\x00\x01a\x00\x011\x00\x01b\x00\x012", string(message[35:35+16]))
	require.Equal(t, "\x00\x00\x00\x01"+"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01", string(parts.frames[0][:16]))
	require.Equal(t, "\xff\xff\xff\xff"+"\x00\x00\x00\x02"+"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02"+"\x00\x00\x00\x0a", string(parts.frames[1][:24]))

	message, err = e.Seal(t.Context(), nil, nil)
	require.NoError(t, err)
	parts = splitMessage(t, message)
	require.Len(t, parts.frames, 1, "no plaintext is an empty final frame")
	require.Equal(t, "\x00\x00", string(message[35:37]), "no context is no bytes")

	other, err := e.Seal(t.Context(), nil, nil)
	require.NoError(t, err)
	require.NotEqual(t, parts.header.messageID, splitMessage(t, other).header.messageID)
}

func TestAWriterAndSealWriteTheSameForm(t *testing.T) {
	for _, suite := range []Suite{SuiteCommitKey, SuiteCommitKeyECDSA} {
		for _, size := range []int{0, 1, 9, 10, 11, 20, 21, 1000} {
			e := newEncrypter(t, testKeyring(), EncrypterOptions{FrameLength: 10, Suite: suite})
			plaintext := bytes.Repeat([]byte{'x'}, size)
			sealed, err := e.Seal(t.Context(), plaintext, nil)
			require.NoError(t, err)
			var written bytes.Buffer
			w, err := e.NewWriter(t.Context(), &written, nil)
			require.NoError(t, err)
			_, err = w.Write(plaintext)
			require.NoError(t, err)
			require.NoError(t, w.Close())
			a, b := splitMessage(t, sealed), splitMessage(t, written.Bytes())
			require.Equal(t, len(a.frames), len(b.frames), size)
			for i := range a.frames {
				require.Equal(t, len(a.frames[i]), len(b.frames[i]), size)
			}
			for name, open := range ways(t) {
				for _, message := range [][]byte{sealed, written.Bytes()} {
					got, err := open(newDecrypter(t, testKeyring(), DecrypterOptions{}), message, nil)
					require.NoError(t, err, "%s %d", name, size)
					require.Equal(t, string(plaintext), string(got), "%s %d", name, size)
				}
			}
		}
	}
}
