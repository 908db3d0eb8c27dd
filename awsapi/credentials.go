package awsapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"sync/atomic"
	"time"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/secret"
)

// Credentials belong to one access key ID: the secret access key that signs, an optional session
// token, and the principal that makes the calls. They cannot be printed, and may be used
// concurrently. The zero value matches no signature: it is refused like an unknown access key.
type Credentials struct {
	principal    kms.Principal
	secret       *secret.Bytes // nil for the zero value
	sessionToken *secret.Bytes // nil for long-term credentials
	expiry       time.Time     // zero if they do not expire

	latest atomic.Pointer[signingKey]
}

// NewCredentials returns the long-term credentials of a principal. An empty secret, such as an
// environment variable that is not set, is an error: anyone could sign with it.
func NewCredentials(p kms.Principal, secretAccessKey string) (*Credentials, error) {
	if secretAccessKey == "" {
		return nil, errors.New("awsapi: the secret access key is empty")
	}
	return &Credentials{principal: p, secret: secret.New([]byte(secretAccessKey))}, nil
}

// NewSessionCredentials returns the temporary credentials of a principal. They are valid until
// expires; the zero time means that they do not expire. Requests must carry the session token. An
// empty secret or token is an error.
func NewSessionCredentials(p kms.Principal, secretAccessKey, sessionToken string, expires time.Time) (*Credentials, error) {
	c, err := NewCredentials(p, secretAccessKey)
	if err != nil {
		return nil, err
	}
	if sessionToken == "" {
		return nil, errors.New("awsapi: the session token is empty")
	}
	c.sessionToken, c.expiry = secret.New([]byte(sessionToken)), expires
	return c, nil
}

// matchesToken reports whether token is the session token, or is empty for long-term credentials.
func (c *Credentials) matchesToken(token string) bool {
	if c.sessionToken == nil {
		return token == ""
	}
	return subtle.ConstantTimeCompare(c.sessionToken.Expose(), []byte(token)) == 1
}

// mfaPresent returns what an audit.RequestInfo has for the credentials: temporary ones were issued
// without multi-factor authentication, for all that is known here.
func (c *Credentials) mfaPresent() *bool {
	if c.sessionToken == nil {
		return nil
	}
	return new(false)
}

// A signingKey signs the requests of one day in one Region.
type signingKey struct {
	date, region string
	key          *secret.Bytes
}

// signingKey derives a key. The latest is cached, because successive requests mostly need the same.
func (c *Credentials) signingKey(date, region string) []byte {
	if k := c.latest.Load(); k != nil && k.date == date && k.region == region {
		return k.key.Expose()
	}
	key := deriveKey(c.secret.Expose(), date, region, signingName)
	c.latest.Store(&signingKey{date, region, secret.New(key)})
	return key
}

func deriveKey(secretAccessKey []byte, date, region, service string) []byte {
	key := append([]byte("AWS4"), secretAccessKey...)
	for _, part := range []string{date, region, service, terminator} {
		next := hmacSHA256(key, part)
		secret.Clear(key)
		key = next
	}
	return key
}

func hmacSHA256(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
