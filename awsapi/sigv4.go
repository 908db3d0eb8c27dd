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
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/arn"
)

// This file verifies Signature Version 4, as the IAM User Guide describes it ("AWS Signature
// Version 4 for API requests"). The checks are in AWS's order, which decides the answer to a
// request that is wrong in two ways.

const (
	algorithm   = "AWS4-HMAC-SHA256"
	signingName = "kms"
	terminator  = "aws4_request"
	basicFormat = "20060102T150405Z" // ISO 8601 basic format, of UTC

	// maxSkew is how far the clocks of client and service may differ. Within it a captured request
	// can be replayed, as it can at AWS: TLS prevents that.
	maxSkew    = 5 * time.Minute
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

// signatureParams are the parameters of a request's signature, as sent: not verified, and any of
// them may be missing.
type signatureParams struct {
	algorithm     string
	credential    string // access key ID, date, Region, service and terminator, separated by slashes
	signedHeaders string
	signature     string
	date          string
	token         string // of a session
	presigned     bool   // the parameters are in the query string
	expires       string // of a presigned URL, in seconds; "" if absent
}

// A scope is a credential in its parts.
type scope struct{ keyID, date, region, service, end string }

// scope splits the credential, ignoring slashes at its end.
func (p *signatureParams) scope() (scope, bool) {
	parts := strings.SplitN(strings.TrimRight(p.credential, "/"), "/", 6)
	if len(parts) != 5 {
		return scope{}, false
	}
	return scope{parts[0], parts[1], parts[2], parts[3], parts[4]}, true
}

// keyID returns the access key ID of the credential, or "" if there is none.
func (p *signatureParams) keyID() string {
	s, _ := p.scope()
	return s.keyID
}

// region returns the Region of the credential scope, or "" if there is none.
func (p *signatureParams) region() string {
	if s, ok := p.scope(); ok && arn.IsRegion(s.region) {
		return s.region
	}
	return ""
}

func readSignature(r *http.Request, query url.Values) signatureParams {
	if query.Has("X-Amz-Algorithm") {
		return signatureParams{
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
	p := signatureParams{
		date:  cmp.Or(r.Header.Get("X-Amz-Date"), r.Header.Get("Date")),
		token: r.Header.Get("X-Amz-Security-Token"),
	}
	var parameters string
	p.algorithm, parameters, _ = strings.Cut(r.Header.Get("Authorization"), " ")
	for parameter := range strings.SplitSeq(parameters, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
		switch name {
		case "Credential":
			p.credential = value
		case "SignedHeaders":
			p.signedHeaders = value
		case "Signature":
			p.signature = value
		}
	}
	return p
}

// A verifier verifies the signatures of requests.
type verifier struct {
	credentials func(accessKeyID string) *Credentials
	now         func() time.Time
}

// A signedRequest has passed every check that does not need its body.
type signedRequest struct {
	signatureParams
	*Credentials
	region string
	stamp  string // the time of the signature, in basic format
}

// precheck makes the checks that do not need the body, so that no body is read for an unknown
// access key ID. An access key ID is not a secret: a client that knows one can make the service
// read up to maxBody bytes before it finds the signature wrong.
func (v *verifier) precheck(r *http.Request, query url.Values, p signatureParams) (*signedRequest, error) {
	authorization := r.Header.Get("Authorization")
	switch {
	case p.presigned && authorization != "":
		return nil, badRequest(invalidSignature, foundBothForms)
	case !p.presigned && !strings.HasPrefix(authorization, "AWS4-"):
		return nil, badRequest(missingToken, missingTokenMessage)
	}
	if err := p.checkComplete(query, authorization); err != nil {
		return nil, err
	}
	at, err := p.checkTime(v.now())
	if err != nil {
		return nil, err
	}
	signed := strings.Split(p.signedHeaders, ";")
	if !slices.ContainsFunc(signed, func(name string) bool { return strings.EqualFold(name, "host") }) {
		return nil, badRequest(invalidSignature, hostMustBeSigned)
	}
	if p.algorithm != algorithm {
		return nil, badRequest(incompleteSignature, fmt.Sprintf("Unsupported AWS 'algorithm': '%.40s' (only %s for now). ", p.algorithm, algorithm))
	}
	to, ok := p.scope()
	if !ok {
		return nil, badRequest(incompleteSignature, fmt.Sprintf("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%.200s'", p.credential))
	}
	stamp := at.Format(basicFormat)
	var wrong string
	if !arn.IsRegion(to.region) {
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
		return nil, badRequest(invalidSignature, wrong)
	}
	credentials := v.credentials(to.keyID)
	if credentials == nil || credentials.secret == nil {
		return nil, badRequest(unrecognizedClient, invalidTokenMessage)
	}
	// A strictly sorted list bounds the work: each header is hashed once.
	if !slices.IsSorted(signed) || len(slices.Compact(signed)) != strings.Count(p.signedHeaders, ";")+1 {
		return nil, badRequest(invalidSignature, mismatchMessage)
	}
	for name := range r.Header {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-amz-") {
			if _, ok := slices.BinarySearch(signed, lower); !ok {
				return nil, badRequest(invalidSignature, unsignedHeaders+fmt.Sprintf("%.100s", lower))
			}
		}
	}
	return &signedRequest{p, credentials, to.region, stamp}, nil
}

// checkComplete returns an error that names the missing parameters, in AWS's words.
func (p *signatureParams) checkComplete(query url.Values, authorization string) error {
	var missing strings.Builder
	if p.presigned {
		for _, name := range []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date"} {
			if query.Get(name) == "" {
				missing.WriteString("AWS query-string parameters must include '" + name + "'. ")
			}
		}
		if missing.Len() > 0 {
			return badRequest(incompleteSignature, missing.String()+"Re-examine the query-string parameters.")
		}
		return nil
	}
	for _, required := range [...]struct{ name, value string }{
		{"Credential", p.credential}, {"Signature", p.signature}, {"SignedHeaders", p.signedHeaders},
	} {
		if required.value == "" {
			missing.WriteString("Authorization header requires '" + required.name + "' parameter. ")
		}
	}
	if p.date == "" {
		missing.WriteString("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ")
	}
	if missing.Len() > 0 {
		hash := sha256.Sum256([]byte(authorization))
		return badRequest(incompleteSignature, missing.String()+
			"(Hashed with SHA-256 and encoded with Base64) Authorization="+base64.StdEncoding.EncodeToString(hash[:]))
	}
	return nil
}

// checkTime returns the time of the signature, or an error if it has expired or is in the future.
func (p *signatureParams) checkTime(now time.Time) (time.Time, error) {
	at, err := time.Parse(basicFormat, p.date)
	if err != nil && !p.presigned {
		at, err = http.ParseTime(p.date) // of a Date header
		at = at.UTC()
	}
	if err != nil {
		return time.Time{}, badRequest(incompleteSignature, fmt.Sprintf(malformedDateMessage, p.date))
	}
	valid := maxSkew
	if p.expires != "" {
		seconds, err := strconv.Atoi(p.expires)
		switch {
		case err != nil:
			return time.Time{}, badRequest(invalidSignature, "X-Amz-Expires should be a number")
		case seconds < 1:
			return time.Time{}, badRequest(invalidSignature, "X-Amz-Expires must be greater than zero")
		case seconds > int(maxExpires/time.Second):
			return time.Time{}, badRequest(invalidSignature, "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds")
		}
		valid = time.Duration(seconds) * time.Second
	}
	now = now.UTC().Truncate(time.Second)
	if earliest := now.Add(-valid); at.Before(earliest) {
		return time.Time{}, badRequest(invalidSignature, fmt.Sprintf("Signature expired: %s is now earlier than %s (%s - %s)",
			at.Format(basicFormat), earliest.Format(basicFormat), now.Format(basicFormat), inWords(valid)))
	}
	if latest := now.Add(maxSkew); at.After(latest) {
		return time.Time{}, badRequest(invalidSignature, fmt.Sprintf("Signature not yet current: %s is still later than %s (%s + %s)",
			at.Format(basicFormat), latest.Format(basicFormat), now.Format(basicFormat), inWords(maxSkew)))
	}
	return at, nil
}

func inWords(d time.Duration) string {
	if d%time.Minute != 0 {
		return strconv.Itoa(int(d/time.Second)) + " sec."
	}
	return strconv.Itoa(int(d/time.Minute)) + " min."
}

// verify verifies the signature over the request and its body, and returns the principal that made
// it.
func (s *signedRequest) verify(r *http.Request, query url.Values, body []byte, now time.Time) (kms.Principal, error) {
	hash := sha256.Sum256(body)
	payload := hex.EncodeToString(hash[:])
	for _, sent := range []string{r.Header.Get("X-Amz-Content-Sha256"), query.Get("X-Amz-Content-Sha256")} {
		if sent != "" && sent != payload { // also "UNSIGNED-PAYLOAD", which only streaming services accept
			return kms.Principal{}, badRequest(invalidSignature, mismatchMessage)
		}
	}
	h := sha256.New()
	writeCanonical(h, r, query, s.signedHeaders, payload)
	date := s.stamp[:8]
	text := algorithm + "\n" + s.stamp + "\n" + date + "/" + s.region + "/" + signingName + "/" + terminator + "\n" + hex.EncodeToString(h.Sum(nil))
	expected := hex.EncodeToString(hmacSHA256(s.signingKey(date, s.region), text))
	switch {
	case !hmac.Equal([]byte(expected), []byte(s.signature)):
		return kms.Principal{}, badRequest(invalidSignature, mismatchMessage)
	case !s.matchesToken(s.token):
		return kms.Principal{}, badRequest(unrecognizedClient, invalidTokenMessage)
	case !s.expiry.IsZero() && !now.Before(s.expiry):
		return kms.Principal{}, badRequest(expiredToken, expiredTokenMessage)
	}
	return s.principal, nil
}

// writeCanonical writes the canonical form of a request, of which the signature is made.
func writeCanonical(w io.Writer, r *http.Request, query url.Values, signedHeaders, payload string) {
	io.WriteString(w, r.Method+"\n"+signedPath(r)+"\n"+canonicalQuery(query)+"\n")
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

// signedPath returns the path that the client has signed: not that of r.URL, from which
// http.StripPrefix has removed where the handler is mounted.
func signedPath(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if !strings.HasPrefix(path, "/") { // in process there is none, and through a proxy it is a URL
		return "/"
	}
	return strings.ReplaceAll(path, "%", "%25")
}

// canonicalQuery returns the encoded parameters, except the signature, sorted by name and value.
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

// headerValues returns the values of a header, whose name is in lower case. Package net/http keeps
// some headers out of Request.Header.
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

// canonicalValue trims a value and collapses its runs of spaces.
func canonicalValue(value string) string {
	value = strings.Trim(value, " \t")
	for strings.Contains(value, "  ") {
		value = strings.ReplaceAll(value, "  ", " ")
	}
	return value
}
