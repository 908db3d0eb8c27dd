package crypto

import (
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// readPKCS8 takes a DER PrivateKeyInfo (RFC 5208, section 5) apart: the content of its AlgorithmIdentifier, and the
// private key in the algorithm's own encoding. It is for what crypto/x509 lets pass and a key store should not:
// bytes after the structure or within it, and versions unheard of. Attributes are allowed, and ignored.
func readPKCS8(der []byte) (algorithm, privateKey cryptobyte.String, ok bool) {
	input, info, version := cryptobyte.String(der), cryptobyte.String(nil), -1
	ok = input.ReadASN1(&info, asn1.SEQUENCE) && input.Empty() &&
		info.ReadASN1Integer(&version) && version == 0 &&
		info.ReadASN1(&algorithm, asn1.SEQUENCE) &&
		info.ReadASN1(&privateKey, asn1.OCTET_STRING) &&
		info.SkipOptionalASN1(asn1.Tag(0).ContextSpecific().Constructed()) && info.Empty()
	return algorithm, privateKey, ok
}
