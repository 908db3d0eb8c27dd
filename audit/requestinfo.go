package audit

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"
)

// RequestInfo is what a protocol in front of the service knows of the request that a call came by.
// It goes into the audit event, and policies decide by it: the condition key of a field is in
// parentheses. Only trusted code may fill it in, never the caller itself.
type RequestInfo struct {
	// ID is the request's ID, which the event and the key's last usage then have too. Zero leaves
	// it to the service.
	ID UUID
	// SourceIPAddress is where the request came from (aws:SourceIp), and UserAgent what the client
	// calls itself (aws:UserAgent). Empty means AWSInternal.
	SourceIPAddress, UserAgent string
	// AccessKeyID is that of the credentials that signed the request, if it was signed.
	AccessKeyID string
	// TLS describes the connection, if it was one of TLS.
	TLS *TLSDetails
	// SecureTransport reports whether the request was encrypted on its way (aws:SecureTransport).
	// Nil means that it was if there is TLS, or no SourceIPAddress: then it came by no network.
	SecureTransport *bool

	// VPCEndpoint is the endpoint that the request came through (aws:SourceVpce), and VPC its network
	// (aws:SourceVpc). With an endpoint, SourceIPAddress is an address in that network
	// (aws:VpcSourceIp instead of aws:SourceIp).
	VPCEndpoint, VPC string

	// ViaService is the AWS service that calls with the permissions of the caller:
	// "ec2.REGION.amazonaws.com" (kms:ViaService, aws:ViaAWSService). Empty means that the caller
	// itself does.
	ViaService string
	// CalledVia has the services through which the call came, the first one first, such as
	// "cloudformation.amazonaws.com" (aws:CalledVia, aws:CalledViaFirst, aws:CalledViaLast).
	CalledVia []string

	// SourceARN and SourceAccount are the resource for which a service makes a call of its own, and
	// the account of the resource (aws:SourceArn, aws:SourceAccount). SourceOrgID and SourceOrgPaths
	// are the organization of that account (aws:SourceOrgID, aws:SourceOrgPaths).
	SourceARN, SourceAccount, SourceOrgID string
	SourceOrgPaths                        []string

	// MFAPresent reports whether temporary credentials were issued with multi-factor authentication
	// (aws:MultiFactorAuthPresent); nil for long-term credentials. MFATime is when that was
	// (aws:MultiFactorAuthAge).
	MFAPresent *bool
	MFATime    time.Time
	// TokenIssueTime is when temporary credentials were issued (aws:TokenIssueTime).
	TokenIssueTime time.Time
}

type requestInfoKey struct{}

// ContextWithRequestInfo returns a context whose calls, one or more, came by the request that info
// describes. Texts that are longer than events repeat are cut: the user agent and the host header
// after 1,024 bytes, all others after 128.
func ContextWithRequestInfo(ctx context.Context, info RequestInfo) context.Context {
	info.SourceIPAddress = truncate(info.SourceIPAddress, maxNameBytes)
	info.UserAgent = truncate(info.UserAgent, maxTextBytes)
	info.AccessKeyID = truncate(info.AccessKeyID, maxNameBytes)
	if info.TLS != nil {
		info.TLS = &TLSDetails{
			TLSVersion:               truncate(info.TLS.TLSVersion, maxNameBytes),
			CipherSuite:              truncate(info.TLS.CipherSuite, maxNameBytes),
			ClientProvidedHostHeader: truncate(info.TLS.ClientProvidedHostHeader, maxTextBytes),
			KeyExchange:              truncate(info.TLS.KeyExchange, maxNameBytes),
		}
	}
	return context.WithValue(ctx, requestInfoKey{}, &info)
}

// RequestInfoFromContext returns the RequestInfo in ctx, the zero one if there is none.
func RequestInfoFromContext(ctx context.Context) RequestInfo {
	if info, ok := ctx.Value(requestInfoKey{}).(*RequestInfo); ok {
		return *info
	}
	return RequestInfo{}
}

const (
	maxTextBytes = 1024 // what events, and CloudTrail, repeat of a text at most
	maxNameBytes = 128  // what events repeat of an identifier
)

// SetError makes e the event of a call that failed. A message longer than 1,024 bytes is cut.
func (e *Event) SetError(code, message string) {
	e.ErrorCode, e.ErrorMessage = truncate(code, maxNameBytes), truncate(message, maxTextBytes)
}

// truncate returns at most limit bytes of s, cut between characters, in memory of its own if it is
// cut.
func truncate(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for range utf8.UTFMax - 1 {
		if utf8.RuneStart(s[limit]) {
			break
		}
		limit--
	}
	return strings.Clone(s[:limit])
}
