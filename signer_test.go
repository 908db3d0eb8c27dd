package kms_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"filippo.io/mldsa"
	"filippo.io/mldsa/mldsacrypto"
	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

// newSigner returns a new key of a spec and its Signer.
func newSigner(t testing.TB, svc *kms.Service, spec kms.KeySpec) (*kms.KeyMetadata, crypto.Signer) {
	t.Helper()
	key := createKey(t, svc, &kms.CreateKeyInput{KeySpec: spec, KeyUsage: kms.KeyUsageSignVerify})
	signer, err := svc.Signer(t.Context(), key.KeyId)
	require.NoError(t, err)
	return key, signer
}

// certify returns the certificate of a public key, signed by an authority, or by itself if the
// authority is nil.
func certify(t testing.TB, name string, public crypto.PublicKey, algorithm x509.SignatureAlgorithm, by crypto.Signer, authority *x509.Certificate) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Unix(0, 0), NotAfter: time.Now().Add(time.Hour), SignatureAlgorithm: algorithm,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if authority == nil {
		template.KeyUsage, template.IsCA, template.BasicConstraintsValid = x509.KeyUsageCertSign, true, true
		authority = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, authority, public, by)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return certificate
}

func TestASignerSignsCertificates(t *testing.T) {
	svc, _ := newService(t)
	for _, tt := range []struct {
		spec       kms.KeySpec
		algorithms []x509.SignatureAlgorithm
	}{
		{kms.KeySpecRSA2048, []x509.SignatureAlgorithm{x509.UnknownSignatureAlgorithm, x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
			x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS}},
		{kms.KeySpecECCNISTP256, []x509.SignatureAlgorithm{x509.UnknownSignatureAlgorithm, x509.ECDSAWithSHA256}},
		{kms.KeySpecECCNISTP384, []x509.SignatureAlgorithm{x509.UnknownSignatureAlgorithm, x509.ECDSAWithSHA384}},
		{kms.KeySpecECCNISTP521, []x509.SignatureAlgorithm{x509.UnknownSignatureAlgorithm, x509.ECDSAWithSHA512}},
		{kms.KeySpecECCNISTEdwards25519, []x509.SignatureAlgorithm{x509.UnknownSignatureAlgorithm, x509.PureEd25519}},
	} {
		_, signer := newSigner(t, svc, tt.spec)
		_, leaf := newSigner(t, svc, kms.KeySpecECCNISTP256)
		for _, algorithm := range tt.algorithms {
			t.Run(string(tt.spec)+" "+algorithm.String(), func(t *testing.T) {
				authority := certify(t, "authority", signer.Public(), algorithm, signer, nil)
				certificate := certify(t, "leaf", leaf.Public(), algorithm, signer, authority)
				require.NoError(t, certificate.CheckSignatureFrom(authority))
				require.Error(t, certificate.CheckSignatureFrom(certify(t, "authority", leaf.Public(), 0, leaf, nil)))

				der, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{SignatureAlgorithm: algorithm}, signer)
				require.NoError(t, err)
				request, err := x509.ParseCertificateRequest(der)
				require.NoError(t, err)
				require.NoError(t, request.CheckSignature())
				require.Equal(t, signer.Public(), request.PublicKey)
			})
		}
	}
}

// handshake returns what the two sides of a TLS connection over loopback say of it.
func handshake(t *testing.T, server, client *tls.Config) error {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	deadline := time.Now().Add(time.Minute)
	result := make(chan error, 1)
	go func() {
		result <- func() error {
			accepted, err := listener.Accept()
			if err != nil {
				return err
			}
			defer accepted.Close()
			accepted.SetDeadline(deadline)
			_, err = io.WriteString(tls.Server(accepted, server), "hello")
			return err
		}()
	}()
	dialed, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	defer dialed.Close()
	dialed.SetDeadline(deadline)
	greeting := make([]byte, 5)
	_, err = io.ReadFull(tls.Client(dialed, client), greeting)
	dialed.Close()
	if err == nil {
		require.Equal(t, "hello", string(greeting))
	}
	return errors.Join(err, <-result)
}

func TestASignerAuthenticatesBothSidesOfTLS(t *testing.T) {
	svc, _ := newService(t)
	_, root := newSigner(t, svc, kms.KeySpecECCNISTP256)
	authority := certify(t, "authority", root.Public(), 0, root, nil)
	pool := x509.NewCertPool()
	pool.AddCert(authority)
	for _, tt := range []struct {
		spec kms.KeySpec
		tls2 []tls.SignatureScheme // what the certificate needs with TLS 1.2
	}{
		{kms.KeySpecRSA2048, nil},
		{kms.KeySpecECCNISTP256, nil},
		{kms.KeySpecECCNISTP384, []tls.SignatureScheme{tls.ECDSAWithP384AndSHA384}},
		{kms.KeySpecECCNISTP521, []tls.SignatureScheme{tls.ECDSAWithP521AndSHA512}},
		{kms.KeySpecECCNISTEdwards25519, nil},
	} {
		_, signer := newSigner(t, svc, tt.spec)
		chain := [][]byte{certify(t, "leaf", signer.Public(), 0, root, authority).Raw}
		run := func(version uint16, schemes []tls.SignatureScheme) error {
			own := []tls.Certificate{{Certificate: chain, PrivateKey: signer, SupportedSignatureAlgorithms: schemes}}
			return handshake(t,
				&tls.Config{Certificates: own, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MaxVersion: version},
				&tls.Config{Certificates: own, RootCAs: pool, ServerName: "leaf", MaxVersion: version})
		}
		t.Run(string(tt.spec), func(t *testing.T) {
			require.NoError(t, run(tls.VersionTLS13, nil))
			require.NoError(t, run(tls.VersionTLS12, tt.tls2))
			if tt.tls2 != nil {
				require.ErrorContains(t, run(tls.VersionTLS12, nil), "Algorithm ECDSA_SHA_256 is incompatible", "the client prefers it")
			}
		})
	}
}

// verifies reports whether a signature is one of a message, in the opinion of the package that the
// public key belongs to.
func verifies(public crypto.PublicKey, message, signature []byte, opts crypto.SignerOpts) bool {
	digest := message
	if hash := opts.HashFunc(); hash != 0 {
		h := hash.New()
		h.Write(message)
		digest = h.Sum(nil)
	}
	switch public := public.(type) {
	case *rsa.PublicKey:
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			return rsa.VerifyPSS(public, pss.Hash, digest, signature, pss) == nil
		}
		return rsa.VerifyPKCS1v15(public, opts.HashFunc(), digest, signature) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(public, digest, signature)
	case ed25519.PublicKey:
		return ed25519.Verify(public, message, signature)
	case *mldsa.PublicKey:
		options, _ := opts.(*mldsa.Options)
		return mldsa.Verify(public, message, signature, options) == nil
	}
	return false
}

func TestASignerSignsMessages(t *testing.T) {
	svc, _ := newService(t)
	long := bytes.Repeat([]byte("long "), 2000)
	for _, tt := range []struct {
		spec kms.KeySpec
		opts []crypto.SignerOpts
		long bool // it signs messages of any length
	}{
		{kms.KeySpecRSA2048, []crypto.SignerOpts{crypto.SHA256, crypto.SHA384, crypto.SHA512,
			&rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: rsa.PSSSaltLengthEqualsHash},
			&rsa.PSSOptions{Hash: crypto.SHA384, SaltLength: rsa.PSSSaltLengthAuto},
			&rsa.PSSOptions{Hash: crypto.SHA512, SaltLength: 64}}, true},
		{kms.KeySpecECCNISTP256, []crypto.SignerOpts{crypto.SHA256}, true},
		{kms.KeySpecECCNISTP384, []crypto.SignerOpts{crypto.SHA384}, true},
		{kms.KeySpecECCNISTP521, []crypto.SignerOpts{crypto.SHA512}, true},
		{kms.KeySpecECCNISTEdwards25519, []crypto.SignerOpts{crypto.Hash(0), &ed25519.Options{}}, false},
		{kms.KeySpecMLDSA44, []crypto.SignerOpts{crypto.Hash(0), &mldsa.Options{}, &mldsa.Options{Context: "context"}, (*mldsa.Options)(nil)}, true},
		{kms.KeySpecMLDSA65, []crypto.SignerOpts{crypto.Hash(0)}, true},
		{kms.KeySpecMLDSA87, []crypto.SignerOpts{crypto.Hash(0)}, true},
	} {
		t.Run(string(tt.spec), func(t *testing.T) {
			key, signer := newSigner(t, svc, tt.spec)
			for _, opts := range tt.opts {
				messages := [][]byte{{0}, []byte("message")}
				if tt.long {
					messages = append(messages, nil, long)
				}
				for _, message := range messages {
					signature, err := crypto.SignMessage(signer, nil, message, opts)
					require.NoError(t, err)
					require.True(t, verifies(signer.Public(), message, signature, opts), "%T", opts)
					require.False(t, verifies(signer.Public(), append(message[:len(message):len(message)], 1), signature, opts), "%T", opts)
				}
			}
			again, err := svc.Signer(t.Context(), key.Arn)
			require.NoError(t, err)
			require.True(t, signer.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(again.Public()))
		})
	}
}

// Anyone who has the public key and the message can compute mu, so that the signer need not see the
// message.
func TestASignerSignsMu(t *testing.T) {
	svc, _ := newService(t)
	_, signer := newSigner(t, svc, kms.KeySpecMLDSA44)
	mu := sha256.Sum256([]byte("half of it"))
	signature, err := signer.Sign(nil, append(mu[:], mu[:]...), mldsacrypto.MLDSAMu)
	require.NoError(t, err)
	require.Len(t, signature, mldsa.MLDSA44SignatureSize)
	_, err = signer.Sign(nil, mu[:], mldsacrypto.MLDSAMu)
	requireError(t, err, kms.ValidationException, "Digest is invalid length for algorithm ML_DSA_SHAKE_256.")
}

func TestASignerRefusesOtherOptions(t *testing.T) {
	svc, _ := newService(t)
	signers := map[kms.KeySpec]crypto.Signer{}
	for _, tt := range []struct {
		spec    kms.KeySpec
		opts    crypto.SignerOpts
		size    int // of the digest
		code    kms.ErrorCode
		message string
	}{
		{kms.KeySpecRSA2048, nil, 32, kms.UnsupportedOperationException, "A Signer needs options."},
		{kms.KeySpecRSA2048, (*rsa.PSSOptions)(nil), 32, kms.UnsupportedOperationException, "A Signer needs options."},
		{kms.KeySpecRSA2048, crypto.Hash(0), 32, kms.UnsupportedOperationException, "RSASSA_PKCS1_V1_5 needs a digest and its hash function."},
		{kms.KeySpecRSA2048, crypto.SHA1, 20, kms.UnsupportedOperationException, "RSASSA_PKCS1_V1_5 with SHA-1 is not supported."},
		{kms.KeySpecRSA2048, crypto.MD5SHA1, 36, kms.UnsupportedOperationException, "RSASSA_PKCS1_V1_5 with MD5+SHA1 is not supported."},
		{kms.KeySpecRSA2048, crypto.SHA512_256, 32, kms.UnsupportedOperationException, "RSASSA_PKCS1_V1_5 with SHA-512/256 is not supported."},
		{kms.KeySpecRSA2048, crypto.SHA256, 31, kms.ValidationException, "Digest is invalid length for algorithm RSASSA_PKCS1_V1_5_SHA_256."},
		{kms.KeySpecRSA2048, &rsa.PSSOptions{}, 32, kms.UnsupportedOperationException, "RSASSA_PSS needs a digest and its hash function."},
		{kms.KeySpecRSA2048, &rsa.PSSOptions{Hash: 99}, 32, kms.UnsupportedOperationException, "RSASSA_PSS with unknown hash value 99 is not supported."},
		{kms.KeySpecRSA2048, &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: 20}, 32, kms.UnsupportedOperationException,
			"RSASSA_PSS with a salt of 20 bytes is not supported, only with one as long as the digest."},
		{kms.KeySpecECCNISTP256, crypto.Hash(0), 32, kms.UnsupportedOperationException, "ECDSA needs a digest and its hash function."},
		{kms.KeySpecECCNISTP256, crypto.SHA384, 48, kms.InvalidKeyUsageException, "Algorithm ECDSA_SHA_384 is incompatible with key spec ECC_NIST_P256."},
		{kms.KeySpecECCNISTP256, crypto.SHA256, 48, kms.ValidationException, "Digest is invalid length for algorithm ECDSA_SHA_256."},
		{kms.KeySpecECCNISTEdwards25519, crypto.SHA512, 64, kms.UnsupportedOperationException, "A Signer offers Ed25519, but neither Ed25519ph nor Ed25519ctx."},
		{kms.KeySpecECCNISTEdwards25519, &ed25519.Options{Hash: crypto.SHA512}, 64, kms.UnsupportedOperationException, "A Signer offers Ed25519, but neither Ed25519ph nor Ed25519ctx."},
		{kms.KeySpecECCNISTEdwards25519, &ed25519.Options{Context: "x"}, 64, kms.UnsupportedOperationException, "A Signer offers Ed25519, but neither Ed25519ph nor Ed25519ctx."},
		{kms.KeySpecMLDSA44, crypto.SHA512, 64, kms.UnsupportedOperationException, "A Signer offers ML-DSA, but not HashML-DSA."},
		{kms.KeySpecMLDSA44, &mldsa.Options{Context: string(make([]byte, 256))}, 64, kms.UnsupportedOperationException, "The context of ML-DSA has at most 255 bytes."},
	} {
		if signers[tt.spec] == nil {
			_, signers[tt.spec] = newSigner(t, svc, tt.spec)
		}
		_, err := signers[tt.spec].Sign(rand.Reader, make([]byte, tt.size), tt.opts)
		requireError(t, err, tt.code, "%s", tt.message)
	}
	_, err := signers[kms.KeySpecECCNISTEdwards25519].Sign(nil, make([]byte, 4097), crypto.Hash(0))
	require.ErrorIs(t, err, kms.ValidationException)
}

func TestASignerIsOnlyForKeysThatSign(t *testing.T) {
	svc, _ := newService(t)
	agreement := createAgreementKey(t, svc, kms.KeySpecECCNISTP256)
	symmetric := createKey(t, svc, nil)
	_, err := svc.Signer(t.Context(), agreement.KeyId)
	requireError(t, err, kms.InvalidKeyUsageException, "%s key usage is KEY_AGREEMENT which is not valid for Sign.", agreement.Arn)
	_, err = svc.Signer(t.Context(), symmetric.KeyId)
	requireError(t, err, kms.UnsupportedOperationException, "%s key spec is SYMMETRIC_DEFAULT which is not valid for GetPublicKey.", symmetric.Arn)
	_, err = svc.Signer(t.Context(), "alias/missing")
	require.ErrorIs(t, err, kms.NotFoundException)
	for _, spec := range []kms.KeySpec{kms.KeySpecECCSECGP256K1, kms.KeySpecSM2} {
		key := createKey(t, svc, &kms.CreateKeyInput{KeySpec: spec, KeyUsage: kms.KeyUsageSignVerify})
		_, err := svc.Signer(t.Context(), key.KeyId)
		requireError(t, err, kms.UnsupportedOperationException, "%s key spec is %s, whose public keys crypto/x509 cannot represent.", key.Arn, spec)
	}
}

func TestASignerPassesOnTheErrorOfItsCall(t *testing.T) {
	svc, _ := newService(t)
	key, signer := newSigner(t, svc, kms.KeySpecECCNISTP256)
	digest := make([]byte, 32)
	disable(t, svc, key.KeyId)
	_, err := signer.Sign(nil, digest, crypto.SHA256)
	require.ErrorIs(t, err, kms.DisabledException)
	_, err = x509.CreateCertificateRequest(nil, &x509.CertificateRequest{}, signer)
	require.ErrorIs(t, err, kms.DisabledException, "through another package")
	enable(t, svc, key.KeyId)
	_, err = signer.Sign(nil, digest, crypto.SHA256)
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	signer, err = svc.Signer(ctx, key.KeyId)
	require.NoError(t, err)
	cancel()
	_, err = signer.Sign(nil, digest, crypto.SHA256)
	require.ErrorIs(t, err, context.Canceled)
	_, err = svc.Signer(ctx, key.KeyId)
	require.ErrorIs(t, err, context.Canceled)
}

// The calls of a Signer are those of its view, and in the audit trail as such.
func TestASignerIsAuthorizedAndRecordedLikeItsCalls(t *testing.T) {
	sink := new(trail)
	svc, _ := newService(t, func(c *kms.Config) { c.Audit = sink })
	key := createSigningKey(t, svc)
	allow := func(actions string) *kms.Service {
		alice, err := principal(t, fixtureAlice).WithIdentity(kms.Identity{Policies: []kms.Policy{{Document: `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": [` + actions + `], "Resource": "*"}}`}}})
		require.NoError(t, err)
		return svc.As(alice)
	}
	sink.take()

	_, err := allow(`"kms:Sign"`).Signer(t.Context(), key.KeyId)
	require.ErrorIs(t, err, kms.AccessDeniedException)
	signer, err := allow(`"kms:GetPublicKey"`).Signer(t.Context(), key.KeyId)
	require.NoError(t, err)
	_, err = signer.Sign(nil, make([]byte, 32), crypto.SHA256)
	require.ErrorIs(t, err, kms.AccessDeniedException)
	signer, err = allow(`"kms:GetPublicKey", "kms:Sign"`).Signer(t.Context(), key.KeyId)
	require.NoError(t, err)
	_, err = signer.Sign(nil, make([]byte, 32), crypto.SHA256)
	require.NoError(t, err)

	var calls []string
	for _, e := range sink.take() {
		require.Equal(t, fixtureAlice, e.UserIdentity.ARN)
		calls = append(calls, e.EventName+" "+e.ErrorCode)
	}
	require.Equal(t, []string{"GetPublicKey AccessDenied", "GetPublicKey ", "Sign AccessDenied", "GetPublicKey ", "Sign "}, calls)
}

func TestASignerStaysWithItsKeyWhenTheAliasMoves(t *testing.T) {
	svc, _ := newService(t)
	first, second := createSigningKey(t, svc), createSigningKey(t, svc)
	createAlias(t, svc, "alias/signing", first.KeyId)
	signer, err := svc.Signer(t.Context(), "alias/signing")
	require.NoError(t, err)
	_, err = svc.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: "alias/signing", TargetKeyId: second.KeyId})
	require.NoError(t, err)
	signature, err := crypto.SignMessage(signer, nil, []byte("message"), crypto.SHA256)
	require.NoError(t, err)
	require.True(t, verifies(signer.Public(), []byte("message"), signature, crypto.SHA256))
}

func TestASignerMayBeUsedConcurrently(t *testing.T) {
	svc, _ := newService(t)
	_, signer := newSigner(t, svc, kms.KeySpecECCNISTP256)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			message := []byte{byte(i)}
			for range 4 {
				signature, err := crypto.SignMessage(signer, nil, message, crypto.SHA256)
				if err != nil || !verifies(signer.Public(), message, signature, crypto.SHA256) {
					t.Errorf("the signature of %d does not verify: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
}
