package envelope

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever the bytes are, all ways to decrypt them agree, nothing panics, and a header that is read
// is written in the same way.
func FuzzOpen(f *testing.F) {
	for _, s := range suites {
		f.Add(testWriter{suite: s.id, frameLength: 8, pairs: map[string]string{"a": "1"}}.seal(f, []byte("plaintext")))
	}
	f.Add(testWriter{suite: 0x0178}.seal(f, []byte("plaintext")))
	d := newDecrypter(f, testKeyring(), anySuite())
	f.Fuzz(func(t *testing.T, message []byte) {
		want, wantErr := d.Open(context.Background(), message, nil)
		var got []byte
		r, err := d.NewReader(context.Background(), bytes.NewReader(message), nil)
		if err == nil {
			got, err = io.ReadAll(r)
		}
		require.Equal(t, wantErr == nil, err == nil, "%v %v", wantErr, err)
		if err == nil {
			require.True(t, bytes.Equal(want, got))
		} else {
			require.True(t, isKnown(wantErr), wantErr)
			require.True(t, isKnown(err), err)
		}
		random, err := d.NewReaderAt(context.Background(), bytes.NewReader(message), int64(len(message)), nil)
		if err == nil && wantErr == nil {
			all, err := io.ReadAll(io.NewSectionReader(random, 0, random.Size()))
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, all))
		}

		s := scanner{buf: message}
		h, err := scanHeader(&s, maxKeys)
		if err != nil {
			return
		}
		again := *h
		atContext := 1 + 2 + len(h.messageID)
		if h.suite.version == 1 {
			atContext++
		}
		context, _, _ := cutString(h.body[atContext:])
		require.NoError(t, again.encode(context))
		require.Equal(t, h.body, again.body)
	})
}

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("plaintext"), []byte{1, 2, 3}, uint16(4), false)
	f.Add([]byte{}, []byte{}, uint16(0), true)
	f.Fuzz(func(t *testing.T, plaintext, pieces []byte, frameLength uint16, sign bool) {
		options := EncrypterOptions{FrameLength: int64(frameLength)}
		if sign {
			options.Suite = SuiteCommitKeyECDSA
		}
		e, d := newEncrypter(t, testKeyring(), options), newDecrypter(t, testKeyring(), DecrypterOptions{})
		pairs := map[string]string{"length": string(rune(len(plaintext)))}
		var message bytes.Buffer
		w, err := e.NewWriter(context.Background(), &message, pairs)
		require.NoError(t, err)
		rest := plaintext
		for _, n := range pieces {
			piece := rest[:min(int(n), len(rest))]
			rest = rest[len(piece):]
			if n%2 == 0 {
				write(t, w, piece)
			} else {
				readFrom(t, w, bytes.NewReader(piece))
			}
		}
		write(t, w, rest)
		require.NoError(t, w.Close())
		got, err := d.Open(context.Background(), message.Bytes(), pairs)
		require.NoError(t, err)
		require.True(t, bytes.Equal(plaintext, got))

		r, err := d.NewReader(context.Background(), &message, pairs)
		require.NoError(t, err)
		got = nil
		for _, n := range append(bytes.Clone(pieces), 255) { // the arguments may share memory
			b := make([]byte, n)
			n, err := r.Read(b)
			got = append(got, b[:n]...)
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
		}
		tail, err := io.ReadAll(r)
		require.NoError(t, err)
		require.True(t, bytes.Equal(plaintext, append(got, tail...)))
	})
}
