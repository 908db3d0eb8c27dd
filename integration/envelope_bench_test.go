package integration_test

import (
	"bytes"
	"io"
	"testing"

	"filippo.io/age"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/streamingaead"

	"github.com/pocketkms/kms/envelope"
)

// A stream of 256 MiB, by package envelope and by what else a Go program may use: age, and Tink's
// streaming AEAD with segments of 1 MiB.
func BenchmarkEncryptedStream(b *testing.B) {
	const size = 256 << 20
	keyring := envelope.RawAES("bench", "key", make([]byte, 32))
	enc, err := envelope.NewEncrypter(keyring, envelope.EncrypterOptions{})
	require.NoError(b, err)
	dec, err := envelope.NewDecrypter(keyring, envelope.DecrypterOptions{})
	require.NoError(b, err)
	identity, err := age.GenerateX25519Identity()
	require.NoError(b, err)
	handle, err := keyset.NewHandle(streamingaead.AES256GCMHKDF1MBKeyTemplate())
	require.NoError(b, err)
	tink, err := streamingaead.New(handle)
	require.NoError(b, err)

	for _, tool := range []struct {
		name  string
		write func(dst io.Writer) (io.WriteCloser, error)
		read  func(src io.Reader) (io.Reader, error)
	}{
		{"envelope",
			func(dst io.Writer) (io.WriteCloser, error) { return enc.NewWriter(b.Context(), dst, nil) },
			func(src io.Reader) (io.Reader, error) { return dec.NewReader(b.Context(), src, nil) }},
		{"age",
			func(dst io.Writer) (io.WriteCloser, error) { return age.Encrypt(dst, identity.Recipient()) },
			func(src io.Reader) (io.Reader, error) { return age.Decrypt(src, identity) }},
		{"Tink",
			func(dst io.Writer) (io.WriteCloser, error) { return tink.NewEncryptingWriter(dst, nil) },
			func(src io.Reader) (io.Reader, error) { return tink.NewDecryptingReader(src, nil) }},
	} {
		piece := make([]byte, 1<<20)
		encrypt := func(b *testing.B, dst io.Writer) {
			w, err := tool.write(dst)
			require.NoError(b, err)
			for range size / len(piece) {
				_, err = w.Write(piece)
				require.NoError(b, err)
			}
			require.NoError(b, w.Close())
		}
		b.Run(tool.name+"/encrypt", func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				encrypt(b, io.Discard)
			}
		})
		b.Run(tool.name+"/decrypt", func(b *testing.B) {
			var message bytes.Buffer
			encrypt(b, &message)
			b.SetBytes(size)
			for b.Loop() {
				r, err := tool.read(bytes.NewReader(message.Bytes()))
				require.NoError(b, err)
				n, err := io.CopyBuffer(writerOnly{io.Discard}, readerOnly{r}, piece)
				require.NoError(b, err)
				require.EqualValues(b, size, n)
			}
		})
	}
}

// writerOnly and readerOnly hide the other methods, so that io.CopyBuffer uses its buffer.
type (
	writerOnly struct{ io.Writer }
	readerOnly struct{ io.Reader }
)
