package awsapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"sync/atomic"
	"time"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/secret"
)

// Credentials are what belongs to one access key ID: the secret access key that signs, perhaps a session token, and the
// principal who makes the calls. They cannot be printed, and may be used concurrently. The zero value is good for nothing:
// whoever signs with it is refused like one whose access key is unknown.
type Credentials struct {
	principal    kms.Principal
	secret       *secret.Bytes // nil for the zero value
	sessionToken *secret.Bytes // nil for long-term credentials
	expiry       time.Time     // zero: never

	latest atomic.Pointer[signingKey]
}

// NewCredentials returns the long-term credentials of a principal. With an empty secret, such as a variable of the
// environment that is not set, which anyone could sign with, it returns the zero value.
func NewCredentials(p kms.Principal, secretAccessKey string) *Credentials {
	if secretAccessKey == "" {
		return new(Credentials)
	}
	return &Credentials{principal: p, secret: secret.New([]byte(secretAccessKey))}
}

// NewSessionCredentials returns the temporary credentials of a principal, which are good until expires; a zero time means
// for ever. Requests must carry the session token. With an empty secret or token it returns the zero value.
func NewSessionCredentials(p kms.Principal, secretAccessKey, sessionToken string, expires time.Time) *Credentials {
	if secretAccessKey == "" || sessionToken == "" {
		return new(Credentials)
	}
	c := NewCredentials(p, secretAccessKey)
	c.sessionToken, c.expiry = secret.New([]byte(sessionToken)), expires
	return c
}

// holds tells whether token is the session token, or is empty where there is none.
func (c *Credentials) holds(token string) bool {
	if c.sessionToken == nil {
		return token == ""
	}
	return subtle.ConstantTimeCompare(c.sessionToken.Expose(), []byte(token)) == 1
}

// A signingKey is what signs the requests of one day in one Region.
type signingKey struct {
	date, region string
	key          *secret.Bytes
}

// signingKey derives a key. Most requests in succession need the same one, so the latest is kept.
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
