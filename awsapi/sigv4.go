package awsapi

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pocketkms/kms"
)

// Signature Version 4, as the AWS General Reference describes it ("AWS Signature Version 4 for API requests"), verified.
// The checks stand in the order in which AWS makes them, which decides what a request that is wrong in two ways is told.

const (
	algorithm   = "AWS4-HMAC-SHA256"
	signingName = "kms"
	terminator  = "aws4_request"
	basicFormat = "20060102T150405Z" // ISO 8601 basic format, of UTC

	// window is how far the clocks of caller and service may differ. A request that was overheard can be sent again
	// within it, here as at AWS: against that there is TLS.
	window     = 5 * time.Minute
	maxExpires = 7 * 24 * time.Hour // of a presigned URL
)

const (
	incompleteSignature kms.ErrorCode = "IncompleteSignatureException"
	invalidSignature    kms.ErrorCode = "InvalidSignatureException"
	missingToken        kms.ErrorCode = "MissingAuthenticationTokenException"
	unrecognizedClient  kms.ErrorCode = "UnrecognizedClientException"
	expiredToken        kms.ErrorCode = "ExpiredTokenException"
)

const (
	mismatchMessage      = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
	invalidTokenMessage  = "The security token included in the request is invalid."
	expiredTokenMessage  = "The security token included in the request is expired"
	unsignedHeaders      = "There were headers present in the request which were not signed: "
	hostMustBeSigned     = "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."
	foundBothForms       = "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header."
	missingTokenMessage  = "Missing Authentication Token"
	malformedDateMessage = "Date must be in ISO-8601 'basic format'. Got '%.40s'. See http://en.wikipedia.org/wiki/ISO_8601"
)

// A claim is what a request says of who signed it, and how.
type claim struct {
	algorithm     string
	credential    string // access key ID, date, Region, service and terminator, with slashes between them
	signedHeaders string
	signature     string
	date          string // as sent
	token         string // of a session
	presigned     bool   // it came in the query string
	expires       string // of a presigned URL, in seconds; "" if it does not say
}

// A scope is a credential in its parts.
type scope struct{ keyID, date, region, service, end string }

// scope splits the credential; slashes at its end do not count.
func (c *claim) scope() (scope, bool) {
	parts := strings.Split(strings.TrimRight(c.credential, "/"), "/")
	if len(parts) != 5 {
		return scope{}, false
	}
	return scope{parts[0], parts[1], parts[2], parts[3], parts[4]}, true
}

// regionName is what a Region's name looks like.
var regionName = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

// region returns the Region of the credential scope, or "" if the claim does not name one.
func (c *claim) region() string {
	if to, ok := c.scope(); ok && regionName.MatchString(to.region) {
		return to.region
	}
	return ""
}

// readClaim finds the claim of a request. It is not verified yet, and may lack anything.
func readClaim(r *http.Request, query url.Values) claim {
	if query.Has("X-Amz-Algorithm") {
		return claim{
			algorithm:     query.Get("X-Amz-Algorithm"),
			credential:    query.Get("X-Amz-Credential"),
			signedHeaders: query.Get("X-Amz-SignedHeaders"),
			signature:     query.Get("X-Amz-Signature"),
			date:          query.Get("X-Amz-Date"),
			token:         query.Get("X-Amz-Security-Token"),
			presigned:     true,
			expires:       query.Get("X-Amz-Expires"),
		}
	}
	c := claim{date: cmp.Or(r.Header.Get("X-Amz-Date"), r.Header.Get("Date")), token: r.Header.Get("X-Amz-Security-Token")}
	var parameters string
	c.algorithm, parameters, _ = strings.Cut(r.Header.Get("Authorization"), " ")
	for parameter := range strings.SplitSeq(parameters, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
		switch name {
		case "Credential":
			c.credential = value
		case "SignedHeaders":
			c.signedHeaders = value
		case "Signature":
			c.signature = value
		}
	}
	return c
}

// A verifier tells who signed a request.
type verifier struct {
	credentials func(accessKeyID string) *Credentials
	now         func() time.Time
}

// A signer is one whose request is in order so far. What is left to do needs the body.
type signer struct {
	claim
	*Credentials
	region string
	stamp  string // the time of the signature, in basic format
}

// begin makes the checks that need no body, so that the service does not read that of a request without a known access key
// ID. This is no secret: who has seen one can make the service read up to maxBody bytes before the signature is found wrong.
func (v *verifier) begin(r *http.Request, query url.Values, c claim) (*signer, error) {
	authorization := r.Header.Get("Authorization")
	switch {
	case c.presigned && authorization != "":
		return nil, refuse(invalidSignature, foundBothForms)
	case !c.presigned && !strings.HasPrefix(authorization, "AWS4-"):
		return nil, refuse(missingToken, missingTokenMessage)
	}
	if err := c.complete(query, authorization); err != nil {
		return nil, err
	}
	at, err := c.fresh(v.now())
	if err != nil {
		return nil, err
	}
	signed := strings.Split(c.signedHeaders, ";")
	if !slices.ContainsFunc(signed, func(name string) bool { return strings.EqualFold(name, "host") }) {
		return nil, refuse(invalidSignature, hostMustBeSigned)
	}
	if c.algorithm != algorithm {
		return nil, refuse(incompleteSignature, fmt.Sprintf("Unsupported AWS 'algorithm': '%.40s' (only %s for now). ", c.algorithm, algorithm))
	}
	to, ok := c.scope()
	if !ok {
		return nil, refuse(incompleteSignature, fmt.Sprintf("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%.200s'", c.credential))
	}
	stamp := at.Format(basicFormat)
	var wrong string
	if !regionName.MatchString(to.region) {
		wrong += fmt.Sprintf("Credential should be scoped to a valid region, not '%.40s'. ", to.region)
	}
	if to.service != signingName {
		wrong += fmt.Sprintf("Credential should be scoped to correct service: '%s'. ", signingName)
	}
	if to.end != terminator {
		wrong += fmt.Sprintf("Credential should be scoped with a valid terminator: '%s', not '%.40s'. ", terminator, to.end)
	}
	if to.date != stamp[:8] {
		wrong += fmt.Sprintf("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%.40s' != '%s', from '%s'. ", to.date, stamp[:8], stamp)
	}
	if wrong != "" {
		return nil, refuse(invalidSignature, wrong)
	}
	credentials := v.credentials(to.keyID)
	if credentials == nil || credentials.secret == nil {
		return nil, refuse(unrecognizedClient, invalidTokenMessage)
	}
	// In order, so that each header is hashed once, however long the list is.
	if !slices.IsSorted(signed) || len(slices.Compact(signed)) != strings.Count(c.signedHeaders, ";")+1 {
		return nil, refuse(invalidSignature, mismatchMessage)
	}
	for name := range r.Header {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-amz-") {
			if _, ok := slices.BinarySearch(signed, lower); !ok {
				return nil, refuse(invalidSignature, unsignedHeaders+lower)
			}
		}
	}
	return &signer{c, credentials, to.region, stamp}, nil
}

// complete tells what is missing.
func (c *claim) complete(query url.Values, authorization string) error {
	var missing strings.Builder
	if c.presigned {
		for _, name := range []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date"} {
			if query.Get(name) == "" {
				missing.WriteString("AWS query-string parameters must include '" + name + "'. ")
			}
		}
		if missing.Len() > 0 {
			return refuse(incompleteSignature, missing.String()+"Re-examine the query-string parameters.")
		}
		return nil
	}
	for _, p := range [...]struct{ name, value string }{
		{"Credential", c.credential}, {"Signature", c.signature}, {"SignedHeaders", c.signedHeaders},
	} {
		if p.value == "" {
			missing.WriteString("Authorization header requires '" + p.name + "' parameter. ")
		}
	}
	if c.date == "" {
		missing.WriteString("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ")
	}
	if missing.Len() > 0 {
		hash := sha256.Sum256([]byte(authorization))
		return refuse(incompleteSignature, missing.String()+
			"(Hashed with SHA-256 and encoded with Base64) Authorization="+base64.StdEncoding.EncodeToString(hash[:]))
	}
	return nil
}

// fresh returns the time of the signature, unless it is too long ago or too far ahead.
func (c *claim) fresh(now time.Time) (time.Time, error) {
	at, err := time.Parse(basicFormat, c.date)
	if err != nil && !c.presigned {
		at, err = http.ParseTime(c.date) // of a Date header
		at = at.UTC()
	}
	if err != nil {
		return time.Time{}, refuse(incompleteSignature, fmt.Sprintf(malformedDateMessage, c.date))
	}
	valid := window
	if c.expires != "" {
		seconds, err := strconv.Atoi(c.expires)
		switch {
		case err != nil:
			return time.Time{}, refuse(invalidSignature, "X-Amz-Expires should be a number")
		case seconds < 1:
			return time.Time{}, refuse(invalidSignature, "X-Amz-Expires must be greater than zero")
		case seconds > int(maxExpires/time.Second):
			return time.Time{}, refuse(invalidSignature, "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds")
		}
		valid = time.Duration(seconds) * time.Second
	}
	now = now.UTC().Truncate(time.Second)
	if earliest := now.Add(-valid); at.Before(earliest) {
		return time.Time{}, refuse(invalidSignature, fmt.Sprintf("Signature expired: %s is now earlier than %s (%s - %s)",
			at.Format(basicFormat), earliest.Format(basicFormat), now.Format(basicFormat), inWords(valid)))
	}
	if latest := now.Add(window); at.After(latest) {
		return time.Time{}, refuse(invalidSignature, fmt.Sprintf("Signature not yet current: %s is still later than %s (%s + %s)",
			at.Format(basicFormat), latest.Format(basicFormat), now.Format(basicFormat), inWords(window)))
	}
	return at, nil
}

func inWords(d time.Duration) string {
	if d%time.Minute != 0 {
		return strconv.Itoa(int(d/time.Second)) + " sec."
	}
	return strconv.Itoa(int(d/time.Minute)) + " min."
}

// finish verifies the signature, now that the body is there, and returns who made it.
func (s *signer) finish(r *http.Request, query url.Values, body []byte, now time.Time) (kms.Principal, error) {
	hash := sha256.Sum256(body)
	payload := hex.EncodeToString(hash[:])
	for _, said := range []string{r.Header.Get("X-Amz-Content-Sha256"), query.Get("X-Amz-Content-Sha256")} {
		if said != "" && said != payload { // or "UNSIGNED-PAYLOAD", which is for services that stream
			return kms.Principal{}, refuse(invalidSignature, mismatchMessage)
		}
	}
	h := sha256.New()
	writeCanonical(h, r, query, s.signedHeaders, payload)
	date := s.stamp[:8]
	text := algorithm + "\n" + s.stamp + "\n" + date + "/" + s.region + "/" + signingName + "/" + terminator + "\n" + hex.EncodeToString(h.Sum(nil))
	expected := hex.EncodeToString(hmacSHA256(s.signingKey(date, s.region), text))
	switch {
	case !hmac.Equal([]byte(expected), []byte(s.signature)):
		return kms.Principal{}, refuse(invalidSignature, mismatchMessage)
	case !s.holds(s.token):
		return kms.Principal{}, refuse(unrecognizedClient, invalidTokenMessage)
	case !s.expiry.IsZero() && !now.Before(s.expiry):
		return kms.Principal{}, refuse(expiredToken, expiredTokenMessage)
	}
	return s.principal, nil
}

// writeCanonical writes the canonical form of a request for "/", which is what is signed.
func writeCanonical(w io.Writer, r *http.Request, query url.Values, signedHeaders, payload string) {
	io.WriteString(w, r.Method+"\n/\n"+canonicalQuery(query)+"\n")
	for name := range strings.SplitSeq(signedHeaders, ";") {
		io.WriteString(w, name+":")
		for i, value := range headerValues(r, name) {
			if i > 0 {
				io.WriteString(w, ",")
			}
			io.WriteString(w, canonicalValue(value))
		}
		io.WriteString(w, "\n")
	}
	io.WriteString(w, "\n"+signedHeaders+"\n"+payload)
}

// canonicalQuery sorts the parameters, as they are encoded, by name and value. The signature is not among them.
func canonicalQuery(query url.Values) string {
	var parameters [][2]string
	for name, values := range query {
		if name != "X-Amz-Signature" {
			for _, value := range values {
				parameters = append(parameters, [2]string{canonicalEscape(name), canonicalEscape(value)})
			}
		}
	}
	slices.SortFunc(parameters, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	var b strings.Builder
	for i, p := range parameters {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p[0] + "=" + p[1])
	}
	return b.String()
}

func canonicalEscape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// headerValues returns a header of that name in lower case. Some are not among the others in Go.
func headerValues(r *http.Request, name string) []string {
	switch name {
	case "host":
		return []string{r.Host}
	case "content-length":
		if r.ContentLength >= 0 {
			return []string{strconv.FormatInt(r.ContentLength, 10)}
		}
	}
	return r.Header.Values(name)
}

// canonicalValue drops the spaces around a value, and all but one of those in a row.
func canonicalValue(value string) string {
	value = strings.Trim(value, " \t")
	for strings.Contains(value, "  ") {
		value = strings.ReplaceAll(value, "  ", " ")
	}
	return value
}
