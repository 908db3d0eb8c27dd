package envelope

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// pattern returns n bytes that differ from frame to frame.
func pattern(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// writeMessage returns the message of a Writer, after write has been called.
func writeMessage(t testing.TB, e *Encrypter, write func(w *Writer)) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := e.NewWriter(t.Context(), &out, nil)
	require.NoError(t, err)
	write(w)
	require.NoError(t, w.Close())
	return out.Bytes()
}

func TestAStreamIsWrittenInAnyPieces(t *testing.T) {
	e := newEncrypter(t, testKeyring(), EncrypterOptions{FrameLength: 100})
	d := newDecrypter(t, testKeyring(), DecrypterOptions{})
	for _, size := range []int{0, 1, 99, 100, 101, 200, 1000, 1234} {
		plaintext := pattern(size)
		for name, write := range map[string]func(w *Writer){
			"at once": func(w *Writer) {
				n, err := w.Write(plaintext)
				require.NoError(t, err)
				require.Equal(t, size, n)
			},
			"byte by byte": func(w *Writer) {
				for i := range plaintext {
					n, err := w.Write(plaintext[i : i+1])
					require.NoError(t, err)
					require.Equal(t, 1, n)
				}
			},
			"ReadFrom": func(w *Writer) {
				n, err := w.ReadFrom(bytes.NewReader(plaintext))
				require.NoError(t, err)
				require.EqualValues(t, size, n)
			},
			"ReadFrom, halves":    func(w *Writer) { readFrom(t, w, iotest.HalfReader(bytes.NewReader(plaintext))) },
			"ReadFrom, data+EOF":  func(w *Writer) { readFrom(t, w, iotest.DataErrReader(bytes.NewReader(plaintext))) },
			"Write then ReadFrom": func(w *Writer) { write(t, w, plaintext[:size/3]); readFrom(t, w, bytes.NewReader(plaintext[size/3:])) },
			"ReadFrom then Write": func(w *Writer) { readFrom(t, w, bytes.NewReader(plaintext[:size/2])); write(t, w, plaintext[size/2:]) },
		} {
			message := writeMessage(t, e, write)
			frames := splitMessage(t, message).frames
			require.Len(t, frames, max(1, (size+99)/100), "%s %d", name, size)
			got, err := d.Open(t.Context(), message, nil)
			require.NoError(t, err, "%s %d", name, size)
			require.Equal(t, string(plaintext), string(got), "%s %d", name, size)
		}
	}
}

func write(t testing.TB, w *Writer, p []byte) {
	t.Helper()
	_, err := w.Write(p)
	require.NoError(t, err)
}

func readFrom(t testing.TB, w *Writer, r io.Reader) {
	t.Helper()
	_, err := w.ReadFrom(r)
	require.NoError(t, err)
}

func TestAStreamIsReadInAnyPieces(t *testing.T) {
	for _, suite := range []Suite{SuiteCommitKey, SuiteCommitKeyECDSA} {
		plaintext := pattern(1234)
		message, err := newEncrypter(t, testKeyring(), EncrypterOptions{FrameLength: 100, Suite: suite}).Seal(t.Context(), plaintext, nil)
		require.NoError(t, err)
		d := newDecrypter(t, testKeyring(), DecrypterOptions{})
		for name, src := range map[string]func(io.Reader) io.Reader{
			"whole":         func(r io.Reader) io.Reader { return r },
			"byte by byte":  iotest.OneByteReader,
			"halves":        iotest.HalfReader,
			"data with EOF": iotest.DataErrReader,
		} {
			r, err := d.NewReader(t.Context(), src(bytes.NewReader(message)), nil)
			require.NoError(t, err, name)
			require.NoError(t, iotest.TestReader(r, plaintext), name)
		}
		var copied bytes.Buffer
		r, err := d.NewReader(t.Context(), bytes.NewReader(message), nil)
		require.NoError(t, err)
		start := make([]byte, 10)
		_, err = io.ReadFull(r, start)
		require.NoError(t, err)
		n, err := r.WriteTo(&copied)
		require.NoError(t, err)
		require.EqualValues(t, 1224, n)
		require.Equal(t, plaintext, append(start, copied.Bytes()...))
		require.Equal(t, suite, r.Suite())
	}
}

func TestErrorsOfTheUnderlyingReaderArePassedThrough(t *testing.T) {
	message, err := newEncrypter(t, testKeyring(), EncrypterOptions{FrameLength: 100}).Seal(t.Context(), pattern(250), nil)
	require.NoError(t, err)
	d := newDecrypter(t, testKeyring(), DecrypterOptions{})
	failure := errors.New("disk on fire")
	for n := range len(message) {
		src := io.MultiReader(bytes.NewReader(message[:n]), iotest.ErrReader(failure))
		r, err := d.NewReader(t.Context(), src, nil)
		if err == nil {
			_, err = io.ReadAll(r)
		}
		require.ErrorIs(t, err, failure, n)
		require.NotErrorIs(t, err, ErrTruncated)
	}
	r, err := d.NewReader(t.Context(), io.MultiReader(bytes.NewReader(message), iotest.ErrReader(failure)), nil)
	require.NoError(t, err)
	_, err = io.ReadAll(r)
	require.ErrorIs(t, err, failure, "the message may not have ended")
}

// limitedWriter fails after n bytes.
type limitedWriter struct {
	n     int
	short bool
	err   error
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	if len(p) <= l.n {
		l.n -= len(p)
		return len(p), nil
	}
	if l.short {
		return l.n, nil
	}
	return l.n, l.err
}

func TestErrorsOfTheUnderlyingWriterArePassedThrough(t *testing.T) {
	failure := errors.New("disk full")
	e := newEncrypter(t, testKeyring(), EncrypterOptions{FrameLength: 100, Suite: SuiteCommitKeyECDSA})
	whole := len(writeMessage(t, e, func(w *Writer) { write(t, w, pattern(250)) })) - 10 // signatures differ in length
	for n := 0; n < whole; n += 7 {
		for _, dst := range []*limitedWriter{{n: n, err: failure}, {n: n, short: true}} {
			want := failure
			if dst.short {
				want = io.ErrShortWrite
			}
			w, err := e.NewWriter(t.Context(), dst, nil)
			if err == nil {
				_, err = w.Write(pattern(250))
				if err != nil {
					_, again := w.Write([]byte{1})
					require.ErrorIs(t, again, want, "the error stays")
					_, again = w.ReadFrom(bytes.NewReader([]byte{1}))
					require.ErrorIs(t, again, want)
				}
				err = w.Close()
				require.ErrorIs(t, w.Close(), want)
			}
			require.ErrorIs(t, err, want, n)
		}
	}

	d := newDecrypter(t, testKeyring(), DecrypterOptions{})
	message := writeMessage(t, e, func(w *Writer) { write(t, w, pattern(250)) })
	for _, dst := range []*limitedWriter{{n: 120, err: failure}, {n: 120, short: true}} {
		r, err := d.NewReader(t.Context(), bytes.NewReader(message), nil)
		require.NoError(t, err)
		n, err := r.WriteTo(dst)
		require.Error(t, err)
		require.EqualValues(t, 120, n)
		rest, err := io.ReadAll(r)
		require.NoError(t, err)
		require.Equal(t, pattern(250)[120:], rest, "nothing is lost")
	}
}

func TestErrorsOfTheSourceOfAWriterDoNotEndIt(t *testing.T) {
	e := newEncrypter(t, testKeyring(), EncrypterOptions{FrameLength: 100})
	failure := errors.New("connection reset")
	message := writeMessage(t, e, func(w *Writer) {
		n, err := w.ReadFrom(io.MultiReader(bytes.NewReader(pattern(250)), iotest.ErrReader(failure)))
		require.ErrorIs(t, err, failure)
		require.EqualValues(t, 250, n)
	})
	got, err := newDecrypter(t, testKeyring(), DecrypterOptions{}).Open(t.Context(), message, nil)
	require.NoError(t, err)
	require.Equal(t, pattern(250), got)
}

func TestAWriterThatIsNotClosedLeavesATruncatedMessage(t *testing.T) {
	var out bytes.Buffer
	w, err := newEncrypter(t, testKeyring(), EncrypterOptions{FrameLength: 100}).NewWriter(t.Context(), &out, nil)
	require.NoError(t, err)
	write(t, w, pattern(250))
	_, err = newDecrypter(t, testKeyring(), DecrypterOptions{}).Open(t.Context(), out.Bytes(), nil)
	require.ErrorIs(t, err, ErrTruncated)
	require.NoError(t, w.Close())
	require.NoError(t, w.Close(), "a second Close does nothing")
	length := out.Len()
	_, err = w.Write([]byte{1})
	require.ErrorIs(t, err, errClosed)
	_, err = w.ReadFrom(bytes.NewReader([]byte{1}))
	require.ErrorIs(t, err, errClosed)
	require.Equal(t, length, out.Len())
}

func TestAnyPartOfAMessageIsRead(t *testing.T) {
	for _, size := range []int{0, 1, 99, 100, 101, 200, 1234} {
		plaintext := pattern(size)
		for name, message := range map[string][]byte{
			"full final frame":  testWriter{suite: SuiteCommitKey, frameLength: 100}.seal(t, plaintext),
			"empty final frame": testWriter{suite: 0x0178, frameLength: 100, emptyFinal: true}.seal(t, plaintext),
		} {
			r, err := newDecrypter(t, testKeyring(), anySuite()).NewReaderAt(t.Context(), bytes.NewReader(message), int64(len(message)), nil)
			require.NoError(t, err, "%s %d", name, size)
			require.EqualValues(t, size, r.Size())
			require.NoError(t, iotest.TestReader(io.NewSectionReader(r, 0, r.Size()), plaintext), "%s %d", name, size)
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for range 50 {
						from, length := rand.IntN(size+10), rand.IntN(250)
						got := make([]byte, length)
						n, err := r.ReadAt(got, int64(from))
						want := plaintext[min(from, size):min(from+length, size)]
						if n < length || from >= size {
							if err != io.EOF {
								t.Errorf("%s %d: %v", name, size, err)
							}
						} else if err != nil {
							t.Errorf("%s %d: %v", name, size, err)
						}
						if !bytes.Equal(want, got[:n]) {
							t.Errorf("%s %d: other bytes at %d", name, size, from)
						}
					}
				})
			}
			wg.Wait()
			_, err = r.ReadAt(make([]byte, 1), -1)
			require.Error(t, err)
		}
	}
}

func TestAReaderAtRefusesWhatItCannotAuthenticate(t *testing.T) {
	d := newDecrypter(t, testKeyring(), anySuite())
	signed := testWriter{suite: SuiteCommitKeyECDSA, frameLength: 8}.seal(t, pattern(20))
	_, err := d.NewReaderAt(t.Context(), bytes.NewReader(signed), int64(len(signed)), nil)
	require.ErrorIs(t, err, ErrSigned)
	unframed := testWriter{suite: 0x0178}.seal(t, pattern(20))
	_, err = d.NewReaderAt(t.Context(), bytes.NewReader(unframed), int64(len(unframed)), nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)

	message := testWriter{suite: SuiteCommitKey, frameLength: 8, pairs: map[string]string{"a": "1"}}.seal(t, pattern(20))
	second := splitMessage(t, message).header.length() + 8 + frameOverhead
	message[second+4+ivBytes] ^= 1
	r, err := d.NewReaderAt(t.Context(), bytes.NewReader(message), int64(len(message)), nil)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a": "1"}, r.EncryptionContext())
	require.Equal(t, SuiteCommitKey, r.Suite())
	got := make([]byte, 20)
	n, err := r.ReadAt(got, 4)
	require.ErrorIs(t, err, ErrAltered)
	require.Equal(t, 4, n)
	require.Equal(t, append(pattern(20)[4:8], make([]byte, 16)...), got, "nothing of the altered frame is released")
	n, err = r.ReadAt(got[:4], 16)
	require.NoError(t, err)
	require.Equal(t, pattern(20)[16:], got[:n])

	_, err = d.NewReaderAt(t.Context(), bytes.NewReader(message), -1, nil)
	require.Error(t, err)
	_, err = d.NewReaderAt(t.Context(), nil, 0, nil)
	require.Error(t, err)
}

func TestNilAndZeroValuesAreErrors(t *testing.T) {
	for _, e := range []*Encrypter{nil, {}} {
		_, err := e.Seal(t.Context(), nil, nil)
		require.Equal(t, errZero, err)
		_, err = e.NewWriter(t.Context(), io.Discard, nil)
		require.Equal(t, errZero, err)
	}
	for _, d := range []*Decrypter{nil, {}} {
		_, err := d.Open(t.Context(), nil, nil)
		require.Equal(t, errZero, err)
		_, err = d.NewReader(t.Context(), bytes.NewReader(nil), nil)
		require.Equal(t, errZero, err)
		_, err = d.NewReaderAt(t.Context(), bytes.NewReader(nil), 0, nil)
		require.Equal(t, errZero, err)
	}
	_, err := newEncrypter(t, testKeyring(), EncrypterOptions{}).NewWriter(t.Context(), nil, nil)
	require.Error(t, err)
	_, err = newDecrypter(t, testKeyring(), DecrypterOptions{}).NewReader(t.Context(), nil, nil)
	require.Error(t, err)

	// So are streams that no method has made.
	n, err := new(Writer).Write([]byte("x"))
	require.Zero(t, n)
	require.Equal(t, errZero, err)
	_, err = new(Writer).ReadFrom(strings.NewReader("x"))
	require.Equal(t, errZero, err)
	require.Nil(t, new(Reader).EncryptionContext())
	require.Zero(t, new(Reader).Suite())
	require.Nil(t, new(ReaderAt).EncryptionContext())
	require.Zero(t, new(ReaderAt).Suite())
	require.Zero(t, new(ReaderAt).Size())
	require.Equal(t, errZero, new(Writer).Close())
	_, err = new(Reader).Read(make([]byte, 1))
	require.Equal(t, errZero, err)
	_, err = new(Reader).WriteTo(io.Discard)
	require.Equal(t, errZero, err)
	_, err = new(ReaderAt).ReadAt(make([]byte, 1), 0)
	require.Equal(t, errZero, err)
}

func TestOptionsOutOfRangeAreRefused(t *testing.T) {
	for _, options := range []EncrypterOptions{
		{Suite: 1}, {FrameLength: -1}, {FrameLength: 1 << 32}, {MaxEncryptedDataKeys: -1}, {MaxEncryptedDataKeys: 1 << 16},
		{RequiredContextKeys: []string{""}}, {RequiredContextKeys: []string{publicKeyPair}}, {RequiredContextKeys: []string{"\xff"}},
	} {
		_, err := NewEncrypter(testKeyring(), options)
		require.Error(t, err, options)
	}
	for _, options := range []DecrypterOptions{
		{CommitmentPolicy: 2}, {CommitmentPolicy: -1}, {MaxFrameLength: -1}, {MaxEncryptedDataKeys: -1}, {MaxEncryptedDataKeys: 1 << 16},
		{RequiredContextKeys: []string{"aws-crypto-x"}},
	} {
		_, err := NewDecrypter(testKeyring(), options)
		require.Error(t, err, options)
	}
}
