package crypto

import (
	"bytes"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"
)

// The structures as RFC 5208 and RFC 5915 have them, and some room for what they should not have.
type (
	privateKeyInfo struct {
		Version    int
		Algorithm  algorithmIdentifier
		PrivateKey []byte
		Attributes asn1.RawValue `asn1:"optional"`
		Extra      asn1.RawValue `asn1:"optional"`
	}
	algorithmIdentifier struct {
		Algorithm  asn1.ObjectIdentifier
		Parameters asn1.RawValue `asn1:"optional"`
		Extra      asn1.RawValue `asn1:"optional"`
	}
	ecPrivateKey struct {
		Version    int
		PrivateKey []byte
		Parameters asn1.ObjectIdentifier `asn1:"optional,explicit,tag:0"`
		PublicKey  asn1.BitString        `asn1:"optional,explicit,tag:1"`
		Extra      asn1.RawValue         `asn1:"optional"`
	}
)

// craft returns the material after the change, and without the second name of the curve.
func craft(t testing.TB, material []byte, change func(*privateKeyInfo, *ecPrivateKey)) []byte {
	t.Helper()
	var info privateKeyInfo
	var key ecPrivateKey
	_, err := asn1.Unmarshal(material, &info)
	require.NoError(t, err)
	_, err = asn1.Unmarshal(info.PrivateKey, &key)
	require.NoError(t, err)
	key.Parameters = nil
	plain := info.PrivateKey
	change(&info, &key)
	if bytes.Equal(plain, info.PrivateKey) {
		info.PrivateKey = mustMarshal(t, key)
	}
	return mustMarshal(t, info)
}

func mustMarshal(t testing.TB, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	require.NoError(t, err)
	return der
}

// outerPublic is the public key of an RFC 5958 OneAsymmetricKey.
func outerPublic(t testing.TB, public []byte) asn1.RawValue {
	t.Helper()
	return asn1.RawValue{FullBytes: mustMarshal(t, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, Bytes: append([]byte{0}, public...)})}
}

func explicit(t testing.TB, tag int, content []byte) asn1.RawValue {
	t.Helper()
	return asn1.RawValue{FullBytes: mustMarshal(t, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: true, Bytes: content})}
}

var (
	null       = asn1.RawValue{FullBytes: []byte{5, 0}}
	attributes = asn1.RawValue{FullBytes: []byte{0xa0, 0}}
)

// invalidOnCurve returns what no family on the curve accepts.
func invalidOnCurve(t *testing.T, family Family, curve *namedCurve, order *big.Int, material []byte) [][]byte {
	t.Helper()
	size := curve.size
	ownPublic, otherPublic := ecPoint(t, material), ecPoint(t, generate(t, family))

	all := [][]byte{
		append(bytes.Clone(material), 0),
		append(bytes.Clone(material), material...),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: material}),
	}
	for _, change := range []func(*privateKeyInfo, *ecPrivateKey){
		func(i *privateKeyInfo, _ *ecPrivateKey) { i.Version = 1 },
		func(i *privateKeyInfo, _ *ecPrivateKey) { i.Version = 2 },
		func(i *privateKeyInfo, _ *ecPrivateKey) { i.Version = -1 },
		func(i *privateKeyInfo, _ *ecPrivateKey) { i.Extra = outerPublic(t, ownPublic) },
		func(i *privateKeyInfo, _ *ecPrivateKey) { i.Version, i.Extra = 1, outerPublic(t, otherPublic) },
		func(i *privateKeyInfo, _ *ecPrivateKey) { i.Version, i.Extra = 1, outerPublic(t, nil) },
		func(i *privateKeyInfo, _ *ecPrivateKey) { i.Version, i.Extra = 1, outerPublic(t, ownPublic[1:]) },
		func(i *privateKeyInfo, _ *ecPrivateKey) { i.Extra = null },
		func(i *privateKeyInfo, _ *ecPrivateKey) {
			i.Attributes = explicit(t, 0, make([]byte, maxMaterialBytes))
		},
		func(i *privateKeyInfo, _ *ecPrivateKey) { i.PrivateKey = append(bytes.Clone(i.PrivateKey), 0) },
		func(i *privateKeyInfo, _ *ecPrivateKey) { i.PrivateKey = []byte{} },
		func(i *privateKeyInfo, _ *ecPrivateKey) {
			i.Algorithm.Algorithm = asn1.ObjectIdentifier{1, 3, 132, 1, 12}
		}, // id-ecDH
		func(i *privateKeyInfo, _ *ecPrivateKey) { i.Algorithm.Parameters = null },
		func(i *privateKeyInfo, _ *ecPrivateKey) { i.Algorithm.Parameters = asn1.RawValue{} },
		func(i *privateKeyInfo, _ *ecPrivateKey) { i.Algorithm.Extra = null },
		func(i *privateKeyInfo, _ *ecPrivateKey) { // P-224
			i.Algorithm.Parameters = asn1.RawValue{FullBytes: mustMarshal(t, asn1.ObjectIdentifier{1, 3, 132, 0, 33})}
		},
		func(_ *privateKeyInfo, k *ecPrivateKey) { k.Version = 0 },
		func(_ *privateKeyInfo, k *ecPrivateKey) { k.Version = 2 },
		func(_ *privateKeyInfo, k *ecPrivateKey) { k.Extra = null },
		func(_ *privateKeyInfo, k *ecPrivateKey) { k.Parameters = asn1.ObjectIdentifier{1, 3, 132, 0, 33} },
		func(_ *privateKeyInfo, k *ecPrivateKey) {
			k.PrivateKey, k.PublicKey = append([]byte{0}, k.PrivateKey...), asn1.BitString{}
		},
		func(_ *privateKeyInfo, k *ecPrivateKey) { k.PrivateKey = append([]byte{0}, k.PrivateKey...) },
		func(_ *privateKeyInfo, k *ecPrivateKey) {
			k.PrivateKey, k.PublicKey = k.PrivateKey[1:], asn1.BitString{}
		},
		func(_ *privateKeyInfo, k *ecPrivateKey) { k.PrivateKey = k.PrivateKey[1:] },
		func(_ *privateKeyInfo, k *ecPrivateKey) {
			k.PrivateKey, k.PublicKey = append(bytes.Clone(k.PrivateKey), 0), asn1.BitString{}
		},
		func(_ *privateKeyInfo, k *ecPrivateKey) { k.PrivateKey = []byte{} },
		func(_ *privateKeyInfo, k *ecPrivateKey) {
			k.PrivateKey, k.PublicKey = make([]byte, size), asn1.BitString{}
		},
		func(_ *privateKeyInfo, k *ecPrivateKey) {
			k.PrivateKey, k.PublicKey = order.FillBytes(make([]byte, size)), asn1.BitString{}
		},
		func(_ *privateKeyInfo, k *ecPrivateKey) {
			k.PrivateKey, k.PublicKey = bytes.Repeat([]byte{0xff}, size), asn1.BitString{}
		},
		func(_ *privateKeyInfo, k *ecPrivateKey) {
			k.PublicKey = asn1.BitString{Bytes: otherPublic, BitLength: 8 * len(otherPublic)}
		},
		func(_ *privateKeyInfo, k *ecPrivateKey) { k.PublicKey.Bytes = flip(k.PublicKey.Bytes, 8) },
		func(_ *privateKeyInfo, k *ecPrivateKey) { k.PublicKey.BitLength-- },
		func(_ *privateKeyInfo, k *ecPrivateKey) { k.PublicKey = asn1.BitString{Bytes: []byte{0}, BitLength: 8} },
		func(i *privateKeyInfo, k *ecPrivateKey) { // more than the curve in [0]
			k.PublicKey = asn1.BitString{}
			k.Extra = explicit(t, 0, append(bytes.Clone(i.Algorithm.Parameters.FullBytes), null.FullBytes...))
		},
		func(_ *privateKeyInfo, k *ecPrivateKey) { // more than the public key in [1]
			k.Extra = explicit(t, 1, append(mustMarshal(t, k.PublicKey), null.FullBytes...))
			k.PublicKey = asn1.BitString{}
		},
	} {
		all = append(all, craft(t, material, change))
	}
	spki, err := marshalSPKI(curve.algorithm, ownPublic)
	require.NoError(t, err)
	rsaPair, err := rsaRows[0].pair()
	require.NoError(t, err)
	return append(all, spki, rsaPair[0], generate(t, Ed25519()))
}

// ecPoint returns the public key in the material.
func ecPoint(t testing.TB, material []byte) (point []byte) {
	t.Helper()
	craft(t, material, func(_ *privateKeyInfo, k *ecPrivateKey) { point = k.PublicKey.Bytes })
	return point
}
