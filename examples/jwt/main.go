// Jwt is an issuer of JSON Web Tokens whose key is in a KMS, and a server that verifies the tokens
// with the public key only:
//
//	go run ./examples/jwt
package main

import (
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/cryptosigner"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/pocketkms/kms"
)

const (
	issuerURL = "https://login.example"
	audience  = "https://orders.example"
	lifetime  = 5 * time.Minute
)

// An Issuer signs tokens with a key of a KMS.
type Issuer struct {
	signer jose.Signer
	keys   jose.JSONWebKeySet
}

// NewIssuer returns an Issuer that signs with a key of ECC_NIST_P256. It uses ctx for every token.
func NewIssuer(ctx context.Context, svc *kms.Service, keyID string) (*Issuer, error) {
	key, err := svc.Signer(ctx, keyID)
	if err != nil {
		return nil, err
	}
	public := jose.JSONWebKey{Key: key.Public(), Algorithm: string(jose.ES256), Use: "sig"}
	thumbprint, err := public.Thumbprint(crypto.SHA256) // a verifier finds the key by it
	if err != nil {
		return nil, err
	}
	public.KeyID = base64.RawURLEncoding.EncodeToString(thumbprint)
	options := new(jose.SignerOptions).WithType("JWT").WithHeader("kid", public.KeyID)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: cryptosigner.Opaque(key)}, options)
	if err != nil {
		return nil, err
	}
	return &Issuer{signer, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public}}}, nil
}

// Keys returns what an issuer publishes, usually at /.well-known/jwks.json.
func (i *Issuer) Keys() jose.JSONWebKeySet { return i.keys }

// Issue returns a token that says who calls, from now for five minutes.
func (i *Issuer) Issue(subject string, now time.Time) (string, error) {
	return jwt.Signed(i.signer).Claims(jwt.Claims{
		Issuer: issuerURL, Subject: subject, Audience: jwt.Audience{audience},
		IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(lifetime)),
	}).Serialize()
}

// Verify returns the subject of a valid token. The algorithm is the verifier's choice, never that of
// the token.
func Verify(token string, keys jose.JSONWebKeySet, now time.Time) (subject string, err error) {
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return "", err
	}
	var claims jwt.Claims
	if err := parsed.Claims(&keys, &claims); err != nil {
		return "", err
	}
	if claims.Expiry == nil { // which Validate would take to mean forever
		return "", jwt.ErrExpired
	}
	err = claims.ValidateWithLeeway(jwt.Expected{Issuer: issuerURL, AnyAudience: jwt.Audience{audience}, Time: now}, 0)
	return claims.Subject, err
}

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "jwt:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer) error {
	svc, err := kms.New(kms.Config{})
	if err != nil {
		return err
	}
	defer svc.Close()
	key, err := svc.EnsureKey(ctx, "alias/tokens", &kms.CreateKeyInput{KeySpec: kms.KeySpecECCNISTP256, KeyUsage: kms.KeyUsageSignVerify})
	if err != nil {
		return err
	}
	issuer, err := NewIssuer(ctx, svc, key.Arn)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "The issuer signs with %s\n", key.Arn)
	published, err := json.Marshal(issuer.Keys())
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "and publishes only the public key:\n  %s\n\n", published)

	now := time.Now()
	token, err := issuer.Issue("alice", now)
	if err != nil {
		return err
	}
	header, rest, _ := strings.Cut(token, ".")
	claims, signature, _ := strings.Cut(rest, ".")
	fmt.Fprintf(w, "A token for alice:\n  %s\n  header     %s\n  claims     %s\n  signature  %.24s…\n\n", token, decode(header), decode(claims), signature)

	none := encode(`{"alg":"none"}`)
	fmt.Fprintln(w, "What the server says, which has nothing but the public key:")
	try := func(what, token string, at time.Time) {
		subject, err := Verify(token, issuer.Keys(), at)
		if err != nil {
			fmt.Fprintf(w, "  %-28s refused: %v\n", what, err)
			return
		}
		fmt.Fprintf(w, "  %-28s welcome, %s\n", what, subject)
	}
	try("the token", token, now)
	try("mallory instead of alice", header+"."+encode(strings.Replace(decode(claims), "alice", "mallory", 1))+"."+signature, now)
	try("without a signature", none+"."+claims+".", now)
	try("ten minutes later", token, now.Add(10*time.Minute))

	if _, err := svc.DisableKey(ctx, &kms.DisableKeyInput{KeyId: key.KeyId}); err != nil {
		return err
	}
	_, err = issuer.Issue("bob", now)
	fmt.Fprintf(w, "\nWith the key disabled, there is no token for bob:\n  %v\n", err)
	try("but alice's is still valid", token, now)
	return nil
}

func encode(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// decode returns the text of a part of a token.
func decode(part string) string {
	text, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
