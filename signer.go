package kms

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha3"
	"io"

	"filippo.io/mldsa"
	"filippo.io/mldsa/mldsacrypto"
	mldsax509 "filippo.io/mldsa/x509"
)

// Signer returns the key that keyID names as a [crypto.Signer], for crypto/x509, crypto/tls and
// libraries for tokens and documents. keyID is a key ID, key ARN, alias name or alias ARN of a key
// for KeyUsageSignVerify.
//
// Signer calls [Service.GetPublicKey], and the Signer's Sign calls [Service.Sign] on the same view:
// each signature is authorized and recorded as such a call is, and its error is that of the call.
// The Signer stays with its key if an alias is moved. It names the key by its ARN, so a policy that
// only allows an alias, with kms:RequestAlias, does not allow its calls.
//
// A crypto.Signer takes no context, so all calls use ctx: when it has ended, Sign fails. A Signer
// that outlives a request must not have the request's context: see [context.WithoutCancel].
//
// A Signer may be used concurrently. Sign ignores its io.Reader, and takes what the private keys of
// the standard library take, as far as AWS KMS has it:
//   - RSA: digests of SHA-256, SHA-384 and SHA-512, for PKCS #1 v1.5, or for PSS if opts are
//     [rsa.PSSOptions]. The salt is as long as the digest: SaltLength says so, or is
//     [rsa.PSSSaltLengthAuto].
//   - ECDSA: digests of SHA-256 with P-256, of SHA-384 with P-384 and of SHA-512 with P-521. A
//     server that uses P-384 or P-521 with TLS 1.2 must set
//     [crypto/tls.Certificate.SupportedSignatureAlgorithms], because TLS 1.2 lets the client choose
//     another hash.
//   - Ed25519: messages of 1 to 4,096 bytes, with a HashFunc of 0. The Ed25519ph of AWS KMS hashes
//     the digest once more, so that only Service.Sign offers it.
//   - ML-DSA: messages of any length with a HashFunc of 0, also with the context of
//     [mldsa.Options], and mu with [mldsacrypto.MLDSAMu]. Service.Sign gets mu in every case. The
//     public key is an [*mldsa.PublicKey].
//
// Other opts are an [UnsupportedOperationException], and so are the keys whose public keys neither
// crypto/x509 nor filippo.io/mldsa can represent: secp256k1 and SM2.
func (s *Service) Signer(ctx context.Context, keyID string) (crypto.Signer, error) {
	public, keyARN, err := s.publicKey(ctx, keyID, KeyUsageSignVerify, "Sign")
	if err != nil {
		return nil, err
	}
	return &keySigner{s, ctx, keyARN, public}, nil
}

type keySigner struct {
	svc    *Service
	ctx    context.Context // a crypto.Signer is not given one
	keyARN string
	public crypto.PublicKey
}

// Public returns the public key, whose type is that of crypto/x509 or filippo.io/mldsa.
func (k *keySigner) Public() crypto.PublicKey { return k.public }

// Sign signs a digest, or a message if opts.HashFunc returns 0.
func (k *keySigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	in, err := signInput(k.public, digest, opts)
	if err != nil {
		return nil, err
	}
	in.KeyId = k.keyARN
	out, err := k.svc.Sign(k.ctx, in)
	if err != nil {
		return nil, err
	}
	return out.Signature, nil
}

// signInput returns the input of Sign, without its KeyId, for opts. Whether the key has the
// algorithm, and whether the digest has its length, is left to Sign.
func signInput(public crypto.PublicKey, digest []byte, opts crypto.SignerOpts) (*SignInput, error) {
	switch opts { // the HashFunc of these would panic; that of (*mldsa.Options)(nil) does not
	case nil, (*rsa.PSSOptions)(nil), (*ed25519.Options)(nil):
		return nil, unsupported("Sign", "A Signer needs options.")
	}
	hash := opts.HashFunc()
	switch public := public.(type) {
	case *rsa.PublicKey:
		pss, ok := opts.(*rsa.PSSOptions)
		if !ok {
			return digestInput("RSASSA_PKCS1_V1_5", digest, hash)
		}
		in, err := digestInput("RSASSA_PSS", digest, hash)
		if err != nil {
			return nil, err
		}
		switch pss.SaltLength {
		case rsa.PSSSaltLengthAuto, rsa.PSSSaltLengthEqualsHash, hash.Size():
			return in, nil
		}
		return nil, unsupported("Sign", "RSASSA_PSS with a salt of %d bytes is not supported, only with one as long as the digest.", pss.SaltLength)
	case *ecdsa.PublicKey:
		return digestInput("ECDSA", digest, hash)
	case ed25519.PublicKey:
		if o, ok := opts.(*ed25519.Options); hash != 0 || ok && o.Context != "" {
			return nil, unsupported("Sign", "A Signer offers Ed25519, but neither Ed25519ph nor Ed25519ctx.")
		}
		return &SignInput{Message: digest, MessageType: MessageTypeRaw, SigningAlgorithm: SigningAlgorithmEd25519SHA512}, nil
	case *mldsa.PublicKey:
		mu := digest
		switch hash {
		case 0:
			var context string
			if o, ok := opts.(*mldsa.Options); ok && o != nil {
				context = o.Context
			}
			if len(context) > 255 {
				return nil, unsupported("Sign", "The context of ML-DSA has at most 255 bytes.")
			}
			mu = messageRepresentative(public, digest, context)
		case mldsacrypto.MLDSAMu:
		default:
			return nil, unsupported("Sign", "A Signer offers ML-DSA, but not HashML-DSA.")
		}
		return &SignInput{Message: mu, MessageType: MessageTypeExternalMu, SigningAlgorithm: SigningAlgorithmMLDSASHAKE256}, nil
	}
	return nil, unsupported("Sign", "A Signer has no use for a %T.", public)
}

func digestInput(scheme string, digest []byte, hash crypto.Hash) (*SignInput, error) {
	var name SigningAlgorithmSpec
	switch hash {
	case crypto.SHA256:
		name = "_SHA_256"
	case crypto.SHA384:
		name = "_SHA_384"
	case crypto.SHA512:
		name = "_SHA_512"
	case 0:
		return nil, unsupported("Sign", "%s needs a digest and its hash function.", scheme)
	default:
		return nil, unsupported("Sign", "%s with %v is not supported.", scheme, hash)
	}
	return &SignInput{Message: digest, MessageType: MessageTypeDigest, SigningAlgorithm: SigningAlgorithmSpec(scheme) + name}, nil
}

// messageRepresentative returns mu, which stands for a message: FIPS 204, algorithm 7, line 6, with
// the M' of algorithm 2. context has at most 255 bytes.
func messageRepresentative(public *mldsa.PublicKey, message []byte, context string) []byte {
	h := sha3.NewSHAKE256()
	h.Write(sha3.SumSHAKE256(public.Bytes(), 64))
	h.Write([]byte{0, byte(len(context))})
	h.Write([]byte(context))
	h.Write(message)
	mu := make([]byte, 64)
	h.Read(mu)
	return mu
}

// publicKey returns the public key of the key that keyID names, and the ARN of the key. It refuses
// a key that is not for a usage, in the words of an operation that needs it.
func (s *Service) publicKey(ctx context.Context, keyID string, usage KeyUsageType, operation string) (crypto.PublicKey, string, error) {
	out, err := s.GetPublicKey(ctx, &GetPublicKeyInput{KeyId: keyID})
	if err != nil {
		return nil, "", err
	}
	if out.KeyUsage != usage {
		return nil, "", &Error{Code: InvalidKeyUsageException, Operation: operation, Message: out.KeyId + " key usage is " + string(out.KeyUsage) + " which is not valid for " + operation + "."}
	}
	public, err := mldsax509.ParsePKIXPublicKey(out.PublicKey) // the standard library's, and ML-DSA
	if err != nil {
		return nil, "", unsupported(operation, "%s key spec is %s, whose public keys crypto/x509 cannot represent.", out.KeyId, out.KeySpec)
	}
	return public, out.KeyId, nil
}

// unsupported returns the error for what an operation cannot do for an interface of another
// package.
func unsupported(operation, format string, arguments ...any) *Error {
	e := exception(UnsupportedOperationException, format, arguments...)
	e.Operation = operation
	return e
}
