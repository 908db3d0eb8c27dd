package seed

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

// watchedMaterial is Material whose bytes the test can see.
func watchedMaterial(material []byte, private bool) Material {
	return newMaterial(func() ([]byte, bool, error) { return material, private, nil })
}

func TestMaterialIsErased(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	aes := bytes.Repeat([]byte{1}, 32)
	unreadable := newMaterial(func() ([]byte, bool, error) { return nil, false, errors.New("unreadable") })
	const id, other = "1234abcd-12ab-34cd-56ef-1234567890ab", "00000000-0000-4000-8000-000000000000"
	for name, tt := range map[string]struct {
		material []byte
		keys     func(Material) []Key
		fails    bool
	}{
		"a key is created": {aes, func(m Material) []Key { return []Key{{ID: id, Material: m}} }, false},
		"a private key is created": {der, func(m Material) []Key {
			return []Key{{ID: id, Spec: "ECC_NIST_P256", Usage: "SIGN_VERIFY", Material: m}}
		}, false},
		"a previous material": {aes, func(m Material) []Key {
			return []Key{{ID: id, PreviousMaterials: []Material{m}, Material: Bytes(make([]byte, 32))}}
		}, false},
		"a previous material before one that cannot be read": {aes, func(m Material) []Key {
			return []Key{{ID: id, PreviousMaterials: []Material{m}, Material: unreadable}}
		}, true},
		"a private key for another spec": {der, func(m Material) []Key { return []Key{{ID: id, Material: m}} }, true},
		"the service refuses the key":    {aes, func(m Material) []Key { return []Key{{ID: id, Region: "a/b", Material: m}} }, true},
		"it does not suit the spec": {aes, func(m Material) []Key {
			return []Key{{ID: id, Spec: "ECC_NIST_P256", Usage: "SIGN_VERIFY", Material: m}}
		}, true},
		"another key cannot be read": {aes, func(m Material) []Key { return []Key{{ID: id, Material: m}, {ID: other, Material: unreadable}} }, true},
		"an earlier key fails":       {aes, func(m Material) []Key { return []Key{{ID: other, Region: "a/b"}, {ID: id, Material: m}} }, true},
	} {
		t.Run(name, func(t *testing.T) {
			svc, err := kms.New(kms.Config{})
			require.NoError(t, err)
			defer svc.Close()
			material := bytes.Clone(tt.material)
			err = Apply(t.Context(), svc, tt.keys(watchedMaterial(material, name == "a private key for another spec"))...)
			require.Equal(t, tt.fails, err != nil, "%v", err)
			require.Equal(t, make([]byte, len(material)), material)
		})
	}
}

// A watched reader remembers the buffers that it was read into.
type watched struct {
	io.Reader
	into [][]byte
}

func (w *watched) Read(b []byte) (int, error) {
	w.into = append(w.into, b)
	return w.Reader.Read(b)
}

func TestAFileIsErased(t *testing.T) {
	for name, tt := range map[string]struct {
		file  string
		fails bool
	}{
		"it is read":             {"version: 1\nkeys: [{id: a, material: {hex: 00}, spec: HMAC_256}]\n", false},
		"it is not as described": {"s3cr3t\n", true},
		"it is too long":         {strings.Repeat("#", maxFileBytes), true},
	} {
		t.Run(name, func(t *testing.T) {
			w := &watched{Reader: strings.NewReader(tt.file + strings.Repeat("#\n", 4096))} // so long that the buffer has to grow
			_, err := Parse(w)
			require.Equal(t, tt.fails, err != nil, "%v", err)
			require.NotEmpty(t, w.into)
			for _, b := range w.into {
				require.Equal(t, len(b), bytes.Count(b, []byte{0}))
			}
		})
	}
}

// To decode it again, an RSA key would have to be tested again.
func TestMaterialIsDecodedOnce(t *testing.T) {
	decoded := 0
	m := newMaterial(func() ([]byte, bool, error) {
		decoded++
		return bytes.Repeat([]byte{1}, 32), false, nil
	})
	var ids [2]string
	for i := range ids {
		svc, err := kms.New(kms.Config{})
		require.NoError(t, err)
		require.NoError(t, Apply(t.Context(), svc, Key{ID: "1234abcd-12ab-34cd-56ef-1234567890ab", Material: m}))
		out, err := svc.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: "1234abcd-12ab-34cd-56ef-1234567890ab"})
		require.NoError(t, err)
		ids[i] = out.KeyMetadata.CurrentKeyMaterialId
		require.NoError(t, svc.Close())
	}
	require.Equal(t, ids[0], ids[1])
	require.Equal(t, 1, decoded)
}
