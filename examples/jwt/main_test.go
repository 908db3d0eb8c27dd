package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/kmstest"
)

func newIssuer(t *testing.T) (*kmstest.Service, *Issuer, string) {
	t.Helper()
	svc := kmstest.New(t)
	key, err := svc.EnsureKey(t.Context(), "alias/tokens", &kms.CreateKeyInput{KeySpec: kms.KeySpecECCNISTP256, KeyUsage: kms.KeyUsageSignVerify})
	require.NoError(t, err)
	issuer, err := NewIssuer(t.Context(), svc.Service, key.KeyId)
	require.NoError(t, err)
	return svc, issuer, key.KeyId
}

func TestATokenIsValidUntilItExpires(t *testing.T) {
	_, issuer, _ := newIssuer(t)
	now := time.Now().Truncate(time.Second)
	token, err := issuer.Issue("alice", now)
	require.NoError(t, err)
	for _, after := range []time.Duration{0, lifetime} {
		subject, err := Verify(token, issuer.Keys(), now.Add(after))
		require.NoError(t, err)
		require.Equal(t, "alice", subject)
	}
	_, err = Verify(token, issuer.Keys(), now.Add(lifetime+time.Second))
	require.ErrorIs(t, err, jwt.ErrExpired)
	_, err = Verify(token, issuer.Keys(), now.Add(-time.Second))
	require.Error(t, err, "before it was issued")
}

func TestOtherTokensAreRefused(t *testing.T) {
	_, issuer, _ := newIssuer(t)
	_, another, _ := newIssuer(t)
	now := time.Now()
	token, err := issuer.Issue("alice", now)
	require.NoError(t, err)
	_, err = Verify(token, another.Keys(), now)
	require.Error(t, err, "the token of another issuer")

	parts := strings.Split(token, ".")
	for what, forged := range map[string]string{
		"other claims":      parts[0] + "." + encode(strings.Replace(decode(parts[1]), "alice", "mallory", 1)) + "." + parts[2],
		"no algorithm":      encode(`{"alg":"none"}`) + "." + parts[1] + ".",
		"another algorithm": encode(`{"alg":"HS256"}`) + "." + parts[1] + "." + parts[2],
		"no signature":      parts[0] + "." + parts[1] + ".",
	} {
		_, err = Verify(forged, issuer.Keys(), now)
		require.Error(t, err, what)
	}
	valid := jwt.Claims{Issuer: issuerURL, Subject: "alice", Audience: jwt.Audience{audience}, Expiry: jwt.NewNumericDate(now.Add(time.Minute))}
	for what, change := range map[string]func(*jwt.Claims){
		"another issuer":   func(c *jwt.Claims) { c.Issuer = "https://evil.example" },
		"another audience": func(c *jwt.Claims) { c.Audience = jwt.Audience{"https://bank.example"} },
		"no expiry":        func(c *jwt.Claims) { c.Expiry = nil },
	} {
		claims := valid
		change(&claims)
		token, err := jwt.Signed(issuer.signer).Claims(claims).Serialize()
		require.NoError(t, err)
		_, err = Verify(token, issuer.Keys(), now)
		require.Error(t, err, what)
	}
	token, err = jwt.Signed(issuer.signer).Claims(valid).Serialize()
	require.NoError(t, err)
	_, err = Verify(token, issuer.Keys(), now)
	require.NoError(t, err, "the claims that those above spoil")

	// The key that a token brings along is the forger's.
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	forger, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: private}, &jose.SignerOptions{EmbedJWK: true})
	require.NoError(t, err)
	token, err = jwt.Signed(forger).Claims(valid).Serialize()
	require.NoError(t, err)
	_, err = Verify(token, issuer.Keys(), now)
	require.Error(t, err)
}

func TestADisabledKeyIssuesNoTokens(t *testing.T) {
	svc, issuer, keyID := newIssuer(t)
	_, err := svc.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: keyID})
	require.NoError(t, err)
	_, err = issuer.Issue("alice", time.Now())
	require.ErrorIs(t, err, kms.DisabledException)
}

func TestTheProgramShowsWhatIsRefused(t *testing.T) {
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out))
	require.Equal(t, 2, strings.Count(out.String(), "welcome, alice"), out.String())
	require.Equal(t, 3, strings.Count(out.String(), "refused: "), out.String())
	require.Contains(t, out.String(), "DisabledException")
}
