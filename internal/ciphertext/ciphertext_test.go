package ciphertext

import (
	"bytes"
	"encoding/hex"
	"maps"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/arn"
)

func golden(t testing.TB) []byte {
	t.Helper()
	b, err := hex.DecodeString("010019df6690e51234abcd12ab34cd56ef1234567890abe326c6b8de325b6bc988925dfd9780a64bf5916c51e1f2961f7a70a19da4b00f" +
		"404142434445464748494a4b4c4d4e4f5051525354555657" + "2aa923f391860c1a528641ffd14d86ce5676b4" + "888a860f65c656e3cdce57538be935a7")
	require.NoError(t, err)
	return b
}

func TestParseRefusesWhatNoWriterWrites(t *testing.T) {
	change := func(at int, to ...byte) []byte {
		b := golden(t)
		copy(b[at:], to)
		return b
	}
	for name, b := range map[string][]byte{
		"nothing":                          nil,
		"only a header":                    golden(t)[:HeaderBytes],
		"one byte less than shortest":      golden(t)[:MinBytes-1],
		"version 0":                        change(0, 0),
		"version 3":                        change(0, 3),
		"version 2, of a multi-Region key": change(0, 2, 1),
		"version 2, too long":              append(change(0, 2), make([]byte, NonceEnd+MaxDeviceBytes-len(golden(t))+1)...),
		"flag 1":                           change(1, 2),
		"flag 7":                           change(1, 0x80),
		"both flags":                       change(1, 3),
		"account 10^12":                    change(2, 0xe8, 0xd4, 0xa5, 0x10, 0x00),
		"account 2^40 - 1":                 change(2, 0xff, 0xff, 0xff, 0xff, 0xff),
	} {
		t.Run(name, func(t *testing.T) { require.Nil(t, Parse(b)) })
	}
	h := Parse(change(2, 0xe8, 0xd4, 0xa5, 0x0f, 0xff))
	require.NotNil(t, h)
	require.Equal(t, "999999999999", h.Account("111122223333"))
	require.NotNil(t, Parse(golden(t)[:MinBytes]), "the shortest: of an empty plaintext")
	require.NotNil(t, Parse(append(change(0, 2), make([]byte, NonceEnd+MaxDeviceBytes-len(golden(t)))...)), "the longest of version 2")
}

func TestAppendContextIsCanonical(t *testing.T) {
	for name, tt := range map[string]struct {
		encryptionContext map[string]string
		want              string
	}{
		"absent":                                 {nil, ""},
		"empty":                                  {map[string]string{}, ""},
		"a before b, although given after it":    {map[string]string{"b": "1", "a": "2"}, "00016100013200016200" + "0131"},
		"bytes decide the order, not letters":    {map[string]string{"a": "x", "B": "y", "é": "z"}, "000142000179" + "000161000178" + "0002c3a900017a"},
		"a key that is the beginning of another": {map[string]string{"ab": "c", "a": "b"}, "0001610001" + "62" + "00026162000163"},
	} {
		t.Run(name, func(t *testing.T) {
			for range 20 { // maps have no order
				data, err := AppendContext([]byte("header"), tt.encryptionContext)
				require.NoError(t, err)
				require.Equal(t, hex.EncodeToString([]byte("header"))+tt.want, hex.EncodeToString(data))
			}
		})
	}
}

func TestAppendContextRefusesWhatHasNoCanonicalForm(t *testing.T) {
	_, err := AppendContext(nil, map[string]string{"k": strings.Repeat("v", MaxContextBytes-5)})
	require.NoError(t, err)
	long := strings.Repeat("v", MaxContextBytes-4)
	for name, tt := range map[string]struct {
		encryptionContext map[string]string
		want              error
	}{
		"one byte too long":                 {map[string]string{"k": long}, ErrContextTooLong},
		"an empty value":                    {map[string]string{"k": ""}, ErrContextEmpty},
		"an empty key":                      {map[string]string{"": "v"}, ErrContextEmpty},
		"an empty value among others":       {map[string]string{"a": "b", "c": "", "d": "e"}, ErrContextEmpty},
		"a key that is not UTF-8":           {map[string]string{"\xff": "v"}, ErrContextNotUTF8},
		"a value that is not UTF-8":         {map[string]string{"k": "\xed\xa0\x80"}, ErrContextNotUTF8},
		"not UTF-8 among others":            {map[string]string{"a": "b", "c": "d\xc3", "e": "f"}, ErrContextNotUTF8},
		"too long, and an empty value":      {map[string]string{"k": long, "a": "", "b": ""}, ErrContextTooLong},
		"an empty value, and no UTF-8":      {map[string]string{"k": "", "a": "\xff"}, ErrContextEmpty},
		"too long, and a key without UTF-8": {map[string]string{"k": long, "\xff": "v"}, ErrContextTooLong},
	} {
		t.Run(name, func(t *testing.T) {
			for range 20 { // maps have no order
				_, err := AppendContext(nil, tt.encryptionContext)
				require.ErrorIs(t, err, tt.want)
			}
		})
	}
}

// What an appender remembers of one context must not show in what it appends of the next.
func TestAContextAppenderAppendsWhateverCameBefore(t *testing.T) {
	contexts := []map[string]string{
		nil, {},
		{"a": "1", "b": "2"}, {"b": "2", "a": "1"}, {"a": "2", "b": "1"},
		{"a": "1"}, {"b": "1"}, {"b": "1", "c": "2"}, {"a": "1", "b": "2", "c": "3"},
		{"a": "1", "b": ""}, {"a": "", "": "1"}, {"": "1", "b": "2"},
		{"a": "1", "b": "\xff"}, {"a": "1", "b": "é"}, {"a": "1", "é": "2"}, {"é": "1", "ê": "2"},
		{"a": strings.Repeat("v", 127), "b": "2"}, {"a": strings.Repeat("v", 128), "b": "2"},
		{"a": strings.Repeat("v", 5000), "b": strings.Repeat("w", 5000)}, {"a": strings.Repeat("v", MaxContextBytes), "b": "2"},
		{"a": strings.Repeat("v", MaxContextBytes-10), "b": "2"}, {"a": strings.Repeat("v", MaxContextBytes-11), "b": "2"},
		{"a": "1", "b": "2", "c": "3", "d": "4"}, {"a": "1", "b": "2", "c": "3", "d": "4", "e": "5"}, {"e": "1", "b": "2", "c": "3", "d": "4"},
	}
	for _, first := range contexts {
		for _, second := range contexts {
			var appender ContextAppender
			for _, context := range []map[string]string{first, second, first, first} {
				want, wantErr := AppendContext([]byte("header"), context)
				got, err := appender.Append([]byte("header"), context)
				require.Equal(t, wantErr, err, "%q after %q", second, first)
				if err == nil {
					require.Equal(t, string(want), string(got), "%q after %q", second, first)
				}
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(golden(f))
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 6144))
	f.Add(append([]byte{2, 0}, golden(f)[2:]...))
	f.Add(append([]byte{2, 1}, golden(f)[2:]...))
	f.Add(append([]byte{1, 1, 0xe8, 0xd4, 0xa5, 0x10}, make([]byte, 100)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		h := Parse(b)
		if h == nil {
			return
		}
		account, id := h.Account("111122223333"), h.KeyID()
		require.True(t, arn.IsAccount(account), account)
		require.True(t, arn.IsKeyID(id), id)
		write := NewHeader
		if h[0] == deviceVersion {
			write = NewDeviceHeader
			require.LessOrEqual(t, len(b), NonceEnd+MaxDeviceBytes)
		}
		require.Equal(t, b[:HeaderBytes], write(account, id, h.MaterialID())[:], "there is one way to write what was read")
	})
}

// The bytes of a context decide which context it is, in both directions.
func FuzzAppendContext(f *testing.F) {
	f.Add("a", "bc", "d", "e", "ab", "c", "d", "e")
	f.Add("a", "b", "c", "d", "c", "d", "a", "b")
	f.Add("b", "\x00", "a", "c", "b", "a", "a", "\x00\x00")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2, k3, v3, k4, v4 string) {
		a, b := map[string]string{k1: v1, k2: v2}, map[string]string{k3: v3, k4: v4}
		dataA, errA := AppendContext(nil, a)
		dataB, errB := AppendContext(nil, b)
		if errA != nil || errB != nil {
			return
		}
		require.Equal(t, maps.Equal(a, b), bytes.Equal(dataA, dataB))
	})
}
