package kms_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/core/registry"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/pocketkms/kms"
)

// A Signer signs what the standard library signs. crypto.SignMessage hashes the message first.
func ExampleService_Signer() {
	svc, err := kms.New(kms.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close()
	ctx := context.Background()
	key, err := svc.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: kms.KeySpecECCNISTP256, KeyUsage: kms.KeyUsageSignVerify})
	if err != nil {
		log.Fatal(err)
	}
	signer, err := svc.Signer(ctx, key.KeyMetadata.KeyId)
	if err != nil {
		log.Fatal(err)
	}
	signature, err := crypto.SignMessage(signer, nil, []byte("a document"), crypto.SHA256)
	if err != nil {
		log.Fatal(err)
	}

	_, err = svc.Verify(ctx, &kms.VerifyInput{
		KeyId: key.KeyMetadata.KeyId, Message: []byte("a document"),
		SigningAlgorithm: kms.SigningAlgorithmECDSASHA256, Signature: signature,
	})
	fmt.Printf("%T, valid: %t\n", signer.Public(), err == nil)
	// Output: *ecdsa.PublicKey, valid: true
}

// A certificate authority whose key is in the service, and a TLS server whose key is there, too.
func ExampleService_Signer_tls() {
	svc, err := kms.New(kms.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close()
	ctx := context.Background()
	sign := &kms.CreateKeyInput{KeySpec: kms.KeySpecECCNISTP256, KeyUsage: kms.KeyUsageSignVerify}
	for _, alias := range []string{"alias/authority", "alias/server"} {
		if _, err := svc.EnsureKey(ctx, alias, sign); err != nil {
			log.Fatal(err)
		}
	}
	authority, err := svc.Signer(ctx, "alias/authority")
	if err != nil {
		log.Fatal(err)
	}
	server, err := svc.Signer(ctx, "alias/server")
	if err != nil {
		log.Fatal(err)
	}

	ca := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Our Authority"}, NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	root, err := issue(ca, ca, authority.Public(), authority)
	if err != nil {
		log.Fatal(err)
	}
	leaf, err := issue(&x509.Certificate{DNSNames: []string{"kms.example"}, NotAfter: time.Now().AddDate(0, 1, 0)}, root, server.Public(), authority)
	if err != nil {
		log.Fatal(err)
	}

	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	web.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: server}}}
	web.StartTLS()
	defer web.Close()
	trusted := x509.NewCertPool()
	trusted.AddCert(root)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted, ServerName: "kms.example"}}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Get(web.URL)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, says the server of %s\n", body, response.TLS.PeerCertificates[0].Issuer.CommonName)
	// Output: hello, says the server of Our Authority
}

// issue returns a certificate of a public key that is signed by its issuer.
func issue(template, issuer *x509.Certificate, public crypto.PublicKey, by crypto.Signer) (*x509.Certificate, error) {
	template.SerialNumber = new(big.Int).SetBytes([]byte(rand.Text()[:16]))
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, public, by)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Anyone who has the public key can encrypt to it, without the service.
func ExampleService_Decrypter() {
	svc, err := kms.New(kms.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close()
	ctx := context.Background()
	key, err := svc.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: kms.KeySpecRSA2048, KeyUsage: kms.KeyUsageEncryptDecrypt})
	if err != nil {
		log.Fatal(err)
	}
	decrypter, err := svc.Decrypter(ctx, key.KeyMetadata.KeyId)
	if err != nil {
		log.Fatal(err)
	}
	sealed, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, decrypter.Public().(*rsa.PublicKey), []byte("a secret"), nil)
	if err != nil {
		log.Fatal(err)
	}

	opened, err := decrypter.Decrypt(nil, sealed, &rsa.OAEPOptions{Hash: crypto.SHA256})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", opened)
	// Output: a secret
}

// A Tink keyset is stored encrypted, and is of use only with the key of the service.
func ExampleService_AEAD() {
	svc, err := kms.New(kms.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close()
	key, err := svc.EnsureKey(context.Background(), "alias/keysets", nil)
	if err != nil {
		log.Fatal(err)
	}
	handle, err := keyset.NewHandle(aead.XAES256GCM192BitNonceKeyTemplate())
	if err != nil {
		log.Fatal(err)
	}
	var stored bytes.Buffer
	err = handle.WriteWithAssociatedData(keyset.NewBinaryWriter(&stored), svc.AEAD(key.Arn), []byte("invoices"))
	if err != nil {
		log.Fatal(err)
	}

	read, err := keyset.ReadWithAssociatedData(keyset.NewBinaryReader(&stored), svc.AEAD(key.Arn), []byte("invoices"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(read.Len(), "key")
	// Output: 1 key
}

// Tink finds the key by its URI. Every message gets a data key of its own, which the key of the
// service encrypts.
func ExampleService_TinkClient() {
	svc, err := kms.New(kms.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close()
	key, err := svc.EnsureKey(context.Background(), "alias/files", nil)
	if err != nil {
		log.Fatal(err)
	}
	registry.RegisterKMSClient(svc.TinkClient())
	defer registry.ClearKMSClients()

	template, err := aead.CreateKMSEnvelopeAEADKeyTemplate("aws-kms://"+key.Arn, aead.AES256GCMKeyTemplate())
	if err != nil {
		log.Fatal(err)
	}
	handle, err := keyset.NewHandle(template)
	if err != nil {
		log.Fatal(err)
	}
	envelope, err := aead.New(handle)
	if err != nil {
		log.Fatal(err)
	}
	sealed, err := envelope.Encrypt([]byte("data of any length"), []byte("file 7"))
	if err != nil {
		log.Fatal(err)
	}
	opened, err := envelope.Decrypt(sealed, []byte("file 7"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", opened)
	// Output: data of any length
}
