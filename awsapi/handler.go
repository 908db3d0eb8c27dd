// Package awsapi serves a [kms.Service] by the AWS protocol of KMS, so that programs written for
// AWS run against it unchanged: the SDKs in every language, and the command line interface.
//
// Use [Handler] for a socket, best with [Server], and [HTTPClient] for an SDK client in the same
// process:
//
//	client := awskms.New(awskms.Options{
//		Region:      svc.Region(),
//		Credentials: credentials.NewStaticCredentialsProvider("any", "any", ""),
//		HTTPClient:  awsapi.HTTPClient(svc),
//	})
//
// The protocol is AWS JSON 1.1 (https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html):
// each operation is a POST to "/" that is named by its X-Amz-Target header. As at AWS, every client
// error has the status 400, whatever the API's documentation says, except a request that is not of
// the protocol, which has 404.
package awsapi

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/internal/clientaddr"
	"github.com/pocketkms/kms/internal/jsontext"
	"github.com/pocketkms/kms/internal/shape"
	"github.com/pocketkms/kms/internal/testhook"
	"github.com/pocketkms/kms/internal/uuid"
)

// Options configure a [Handler]. The zero value refuses every request.
type Options struct {
	// Credentials returns the credentials of an access key ID, or nil if there are none. Every
	// request must be signed with them (Signature Version 4), and its caller is their principal. If
	// Credentials is nil, every request is refused with an UnrecognizedClientException, unless
	// InsecureTrustAll is set. It may be called concurrently.
	Credentials func(accessKeyID string) *Credentials

	// InsecureTrustAll accepts every request, signed or not, without verifying a signature. The
	// caller is that of the service's view: usually the root of the account, which may do
	// everything. Use it only where everyone who can send a request may use all keys. Requests of
	// web pages are still refused: see [Handler]. InsecureTrustAll has no effect if Credentials is
	// set.
	InsecureTrustAll bool

	// AllowedHosts are names and addresses, without a port, that a request may be sent to if
	// InsecureTrustAll is set, besides those of the loopback interface.
	AllowedHosts []string

	// Clock returns the time against which signatures are verified; nil means time.Now. It is not
	// the service's clock, because clients sign by their own.
	Clock func() time.Time

	// Logger receives errors that are not sent to clients: panics, and the causes of a
	// KMSInternalException. It never receives any part of a request's body. Nil means
	// slog.Default().
	Logger *slog.Logger
}

// Handler returns a handler that serves all operations of svc. The Region of a request is that of
// its credential scope, or svc's if there is none.
//
// Bodies may have up to 1 MiB, before and after decompression (gzip). At most 64 that are larger
// than 16 KiB are received at a time: another one ends the oldest unfinished body of the client
// address that has the most. At most 64 requests that are compressed or larger than 16 KiB are
// carried out at a time. Excess requests get a ThrottlingException. A request whose body has been
// received completely is carried out even if the client closes its side of the connection.
//
// With InsecureTrustAll, requests of web pages are refused: those with an Origin or Sec-Fetch-Site
// header, and those whose Host is neither a loopback name or address nor among the AllowedHosts. A
// browser sends such a Host if the name of a page's site has been made to resolve to the address of
// this service (DNS rebinding). Requests by a [Transport] may have any Host.
func Handler(svc *kms.Service, options Options) http.Handler {
	if options.Clock == nil {
		options.Clock = time.Now
	}
	if options.Logger == nil {
		options.Logger = slog.Default()
	}
	h := &handler{
		svc:        svc,
		logger:     options.Logger,
		operations: map[string]*operation{},
		large:      make(chan struct{}, maxLarge),
	}
	switch {
	case options.Credentials != nil:
		h.verifier = &verifier{options.Credentials, options.Clock}
	case options.InsecureTrustAll:
		h.trustAll = true
		for _, host := range options.AllowedHosts {
			if host != "" { // a request without a Host does not name one that is allowed
				h.allowedHosts = append(h.allowedHosts, clientaddr.CanonicalHost(host))
			}
		}
	default:
		h.logger.Warn("awsapi: no credentials are configured: every request is refused")
	}
	for _, op := range kms.Operations() {
		h.operations[targetPrefix+op.Name()] = &operation{op, shape.OfType(reflect.TypeOf(op.NewInput()).Elem())}
	}
	return h
}

// writeTimeout bounds the time from a request's header to the end of its response.
const writeTimeout = time.Minute

// Server returns an HTTP server for h with timeouts and limits for small requests: without them, a
// client that does not finish its request would keep a connection open without end. Its Addr and
// TLSConfig are not set.
func Server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10, // a session token has up to about 12 KiB
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 100},
	}
}

const targetPrefix = "TrentService."

type handler struct {
	svc          *kms.Service
	verifier     *verifier // nil: either everyone is trusted or nobody
	trustAll     bool
	allowedHosts []string // canonical
	logger       *slog.Logger
	operations   map[string]*operation // by X-Amz-Target
	unfinished   unfinishedBodies
	large        chan struct{} // an element for each large request that is carried out
}

type operation struct {
	kms.Operation
	in *shape.Struct
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := newRequestID()
	w.Header()["X-Amzn-Requestid"] = []string{uuid.Format(id)}
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p) // the server closes the connection
			}
			// The value is left out: it may contain a secret.
			h.logger.Error("awsapi: a request panicked", "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			writeError(w, &exception{http.StatusInternalServerError, kms.KMSInternalException, internalMessage})
		}
	}()
	if err := h.serve(w, r, id); err != nil {
		if errors.Is(err, testhook.ErrConnection) {
			panic(http.ErrAbortHandler)
		}
		e, hidden := exceptionOf(err)
		if hidden != nil {
			h.logger.Error("awsapi: a call failed", "target", r.Header.Get("X-Amz-Target"), "error", hidden)
		}
		writeError(w, e)
	}
}

// contentType is shared by all responses. Nobody may modify it.
var contentType = []string{"application/x-amz-json-1.1"}

func writeError(w http.ResponseWriter, e *exception) {
	body := jsontext.AppendString([]byte(`{"__type":`), string(e.code))
	if e.message != "" {
		name := `,"message":`
		if e.code == serialization || e.code == kms.AccessDeniedException { // AWS spells it so in these two
			name = `,"Message":`
		}
		body = jsontext.AppendString(append(body, name...), e.message)
	}
	body = append(body, '}')
	header := w.Header()
	header["Content-Type"] = contentType
	header["Content-Length"] = []string{strconv.Itoa(len(body))}
	header["X-Amzn-Errortype"] = []string{string(e.code)}
	if e == errTooLarge || e == errEvicted {
		header["Connection"] = []string{"close"} // rather than read the rest of the body
	}
	w.WriteHeader(e.status)
	w.Write(body)
}

// serve carries out r and writes the response, or returns an error and writes nothing.
func (h *handler) serve(w http.ResponseWriter, r *http.Request, id [16]byte) error {
	if h.trustAll {
		if err := h.refuseWebPages(r); err != nil {
			return err
		}
	}
	if r.Method != http.MethodPost || r.URL.Path != "/" && r.URL.Path != "" || !isJSON(r.Header.Get("Content-Type")) {
		return &exception{http.StatusNotFound, unknownOperation, "Send a POST to / with Content-Type application/x-amz-json-1.1 " +
			"and X-Amz-Target TrentService.<Operation>."}
	}
	var query url.Values
	if r.URL.RawQuery != "" {
		var err error
		if query, err = url.ParseQuery(r.URL.RawQuery); err != nil {
			return badRequest(invalidSignature, mismatchMessage)
		}
	}
	name := target(r, query)
	op := h.operations[name]
	if op == nil {
		return badRequest(unknownOperation, unsupportedMessage(name))
	}
	signature := readSignature(r, query)
	var signed *signedRequest
	switch {
	case h.verifier != nil:
		var err error
		if signed, err = h.verifier.precheck(r, query, signature); err != nil {
			return err
		}
	case !h.trustAll:
		return badRequest(unrecognizedClient, invalidTokenMessage)
	}
	x, err := h.receive(r)
	if err != nil {
		return err
	}
	defer x.end()
	if err := x.readBody(w, r); err != nil {
		return err
	}
	svc := h.svc
	if signed != nil {
		principal, err := signed.verify(r, query, x.request, h.verifier.now())
		if err != nil {
			return err
		}
		svc = svc.As(principal)
	}
	if region := signature.region(); region != "" && region != svc.Region() {
		svc = svc.In(region)
	}
	if err := x.decompress(r.Header.Get("Content-Encoding")); err != nil {
		return err
	}
	info := requestInfo(r, id)
	if signed != nil { // else nobody has verified it
		info.AccessKeyID = signature.keyID()
		info.MFAPresent = signed.mfaPresent()
	}
	ctx, cancel := callContext(r.Context())
	defer cancel()
	if err := x.call(audit.ContextWithRequestInfo(ctx, info), svc, op); err != nil {
		return err
	}
	header := w.Header()
	header["Content-Type"] = contentType
	header["Content-Length"] = []string{strconv.Itoa(len(x.response))}
	w.Write(x.response) // fails only if the client is gone
	return nil
}

// callContext returns the context of a call. Package net/http cancels a request's context when the
// client closes its side of the connection, which it may do as soon as it has sent the request.
// Since the body has been received by then, the call has its own time limit instead.
func callContext(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Value(http.ServerContextKey) == nil {
		return ctx, func() {}
	}
	end := time.Now().Add(writeTimeout)
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(end) {
		end = deadline
	}
	return context.WithDeadline(context.WithoutCancel(ctx), end)
}

// call invokes op with the input in the request, and encodes its output into the response.
func (x *exchange) call(ctx context.Context, svc *kms.Service, op *operation) error {
	in := op.NewInput()
	defer op.in.Erase(in)
	empty, err := decode(x.request, op.in, in)
	if err != nil {
		return err
	}
	x.wire = shape.Wire{Input: in, Empty: empty}
	out, err := op.Invoke(ctx, svc, &x.wire)
	if err != nil {
		return err
	}
	s := shape.OfType(reflect.TypeOf(out).Elem())
	defer s.Erase(out)
	x.response = encode(slices.Grow(x.response, sizeHint(s, out)), s, out)
	return nil
}

// isJSON reports whether a body is of this protocol. A browser sends these types to another origin
// only after a preflight request, which is refused.
func isJSON(contentType string) bool {
	switch contentType {
	case "application/x-amz-json-1.1", "application/json":
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == "application/x-amz-json-1.1" || media == "application/json")
}

// target names the operation. A presigned URL may have it in the query string.
func target(r *http.Request, query url.Values) string {
	return cmp.Or(r.Header.Get("X-Amz-Target"), query.Get("X-Amz-Target"), query.Get("x-amz-target"))
}

// unsupportedMessage returns the message for an operation of the API that the service does not
// have. For other targets AWS sends no message.
func unsupportedMessage(target string) string {
	name, ok := strings.CutPrefix(target, targetPrefix)
	if ok && slices.Contains(apiOperations, name) {
		return name + " is not among the operations of this service."
	}
	return ""
}

// apiOperations are the operations of the API's model, version 2014-11-01.
var apiOperations = strings.Fields(`
CancelKeyDeletion ConnectCustomKeyStore CreateAlias CreateCustomKeyStore CreateGrant CreateKey Decapsulate
Decrypt DeleteAlias DeleteCustomKeyStore DeleteImportedKeyMaterial DeriveSharedSecret DescribeCustomKeyStores
DescribeKey DisableKey DisableKeyRotation DisconnectCustomKeyStore EnableKey EnableKeyRotation Encapsulate
Encrypt GenerateDataKey GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext GenerateDataKeyWithoutPlaintext
GenerateMac GenerateRandom GetKeyLastUsage GetKeyPolicy GetKeyRotationStatus GetParametersForImport GetPublicKey
ImportKeyMaterial ListAliases ListGrants ListKeyPolicies ListKeyRotations ListKeys ListResourceTags
ListRetirableGrants PutKeyPolicy ReEncrypt ReplicateKey RetireGrant RevokeGrant RotateKeyOnDemand
ScheduleKeyDeletion Sign TagResource UntagResource UpdateAlias UpdateCustomKeyStore UpdateKeyDescription
UpdatePrimaryRegion Verify VerifyMac
`)

// requestInfo returns the facts about a request that its audit event records and policies decide
// by. They are those of the connection: a header that a client sends proves nothing, except what it
// calls itself.
func requestInfo(r *http.Request, id [16]byte) audit.RequestInfo {
	address, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		address = r.RemoteAddr
	}
	info := audit.RequestInfo{ID: id, SourceIPAddress: address, UserAgent: strings.ToValidUTF8(r.UserAgent(), "\uFFFD")}
	if r.TLS != nil {
		info.TLS = &audit.TLSDetails{
			TLSVersion:               strings.Replace(tls.VersionName(r.TLS.Version), "TLS ", "TLSv", 1),
			CipherSuite:              tls.CipherSuiteName(r.TLS.CipherSuite),
			ClientProvidedHostHeader: r.Host,
			KeyExchange:              r.TLS.CurveID.String(),
		}
	}
	return info
}

// newRequestID returns a random UUID (RFC 9562, section 5.4): an identifier, not a secret.
func newRequestID() (id [16]byte) {
	binary.NativeEndian.PutUint64(id[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(id[8:], rand.Uint64())
	return uuid.Of(id)
}
