package spec

import "strings"

// Wrapping says by which algorithms the key material of a spec can be wrapped for its import.
type Wrapping int8

const (
	notImported         Wrapping = iota // such keys are always generated
	wrappedByKey                        // RSAES_OAEP or SM2PKE
	wrappedByAny                        // RSAES_OAEP, SM2PKE or RSA_AES_KEY_WRAP
	wrappedByAnyBut2048                 // the same, but not RSAES_OAEP with RSA_2048
	wrappedByAES                        // RSA_AES_KEY_WRAP, because the material is longer than a wrapping key
)

// Importable reports whether key material of s can be imported at all.
func (s *Spec) Importable() bool { return s.Wrapping != notImported }

// WrappedBy reports whether key material of s can be wrapped by an algorithm with a wrapping key of
// another spec, both in the API's words.
func (s *Spec) WrappedBy(algorithm, wrappingKey string) bool {
	isRSA := strings.HasPrefix(wrappingKey, "RSA_")
	switch algorithm {
	case "RSA_AES_KEY_WRAP_SHA_1", "RSA_AES_KEY_WRAP_SHA_256":
		return isRSA && (s.Wrapping == wrappedByAES || s.Wrapping == wrappedByAny || s.Wrapping == wrappedByAnyBut2048)
	case "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256":
		switch s.Wrapping {
		case wrappedByKey, wrappedByAny:
			return isRSA
		case wrappedByAnyBut2048:
			return isRSA && wrappingKey != "RSA_2048"
		}
	case "SM2PKE":
		return wrappingKey == "SM2" && s.Importable() && s.Wrapping != wrappedByAES
	}
	return false // RSAES_PKCS1_V1_5 is no longer accepted
}
