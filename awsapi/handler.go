// Package awsapi serves a [kms.Service] by the AWS protocol of KMS, so that programs which were written for AWS run
// against it unchanged: any SDK, the command line interface, in any language.
//
// [Handler] is for a socket, best behind [Server]. [HTTPClient] is for an SDK client in the same process:
//
//	client := awskms.New(awskms.Options{
//		Region:      svc.Region(),
//		Credentials: credentials.NewStaticCredentialsProvider("any", "any", ""),
//		HTTPClient:  awsapi.HTTPClient(svc),
//	})
//
// The protocol is AWS JSON 1.1 (https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html): each operation is a POST
// to "/" whose X-Amz-Target header names it. Every client error has the status 400, as it has at AWS, whatever the API's
// documentation says, except a request that is not of the protocol at all, which has 404.
package awsapi

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
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
	"sync"
	"time"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/internal/shape"
	"github.com/pocketkms/kms/internal/testhook"
	"github.com/pocketkms/kms/internal/uuid"
)

// Options say how a [Handler] works. Their zero value is for local development: it trusts everyone.
type Options struct {
	// Credentials returns what belongs to an access key ID, and nil for an unknown one. With it every request must be
	// signed (Signature Version 4), and its caller is the principal of the access key. It may be called concurrently.
	//
	// Without it signatures are not looked at, requests need not have one, and the caller is that of the handler's
	// view of the service, whoever that is. Only web pages are refused: see [Handler].
	Credentials func(accessKeyID string) *Credentials

	// Clock tells the time against which signatures are verified; nil means time.Now. It is not the service's own
	// clock: the clients, which sign by their clocks, know nothing of that one.
	Clock func() time.Time

	// Logger hears of what no client can be told: defects, and failures behind a KMSInternalException. It never gets
	// anything of a request's body. Nil means the Logger of the service's Config.
	Logger *slog.Logger
}

// Handler serves all operations of svc. The Region is that of a request's credential scope, or svc's if there is none.
//
// A request waits for its body without more memory than net/http has already taken; the timeouts that end its waiting are
// the server's: see [Server]. Bodies may have up to 1 MiB, compressed (gzip) or not. At most 64 at a time are compressed or
// have more than 16 KiB; more are refused with a ThrottlingException.
//
// Where there are no credentials, a request with an Origin header is refused. Browsers send one with every POST of a page,
// even to what they take for the page's own site, and that is this service once the site's name resolves to its address
// (DNS rebinding).
func Handler(svc *kms.Service, options Options) http.Handler {
	if options.Clock == nil {
		options.Clock = time.Now
	}
	if options.Logger == nil {
		options.Logger = svc.Logger()
	}
	h := &handler{svc: svc, logger: options.Logger, operations: map[string]*operation{}, large: make(chan struct{}, maxLarge)}
	if options.Credentials != nil {
		h.verifier = &verifier{options.Credentials, options.Clock}
	}
	for _, op := range kms.Operations() {
		h.operations[targetPrefix+op.Name()] = &operation{op, shape.OfType(reflect.TypeOf(op.NewInput()).Elem())}
	}
	return h
}

// Server returns an HTTP server for h with timeouts and bounds that suit small requests: without them a client that does
// not end its request would hold a connection for ever. It has no address, and TLS is as usual.
func Server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10, // a session token has up to some 12 KiB
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 100},
	}
}

const (
	targetPrefix = "TrentService."

	// maxBody has room for the largest input that the API allows, which is CreateKey's: a policy of 131,072 characters,
	// a description of 8,192, and 50 tags of 384, even if each is written as an escape of 6 bytes.
	maxBody = 1 << 20
	// smallBody is enough for all inputs but policies, attestation documents and long grant tokens. Only maxLarge
	// larger ones are held at a time, so that no number of slow connections takes all memory. A compressed body counts
	// as large: what it will need is not known before.
	smallBody = 16 << 10
	maxLarge  = 64
)

type handler struct {
	svc        *kms.Service
	verifier   *verifier // nil: everyone is trusted
	logger     *slog.Logger
	operations map[string]*operation // by X-Amz-Target
	large      chan struct{}         // one element for each request under way that is not small
}

type operation struct {
	kms.Operation
	in *shape.Struct
}

// An exchange is one request and its response. Its buffers are used again, and are erased before.
type exchange struct {
	*handler
	request  []byte
	response []byte
	sent     shape.Wire
	isLarge  bool
}

var exchanges = sync.Pool{New: func() any {
	return &exchange{request: make([]byte, 0, 2048), response: make([]byte, 0, 2048)}
}}

func (x *exchange) end() {
	secret.Clear(x.request)
	secret.Clear(x.response)
	if x.isLarge {
		<-x.large
	}
	request, response := x.request[:0], x.response[:0]
	if cap(request) > smallBody || cap(response) > smallBody {
		return
	}
	*x = exchange{request: request, response: response}
	exchanges.Put(x)
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := newRequestID()
	w.Header()["X-Amzn-Requestid"] = []string{uuid.Format(id)}
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p) // meant for the server, which breaks the connection
			}
			// Its value may hold anything: left out.
			h.logger.Error("awsapi: a request panicked", "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			fail(w, &exception{http.StatusInternalServerError, kms.KMSInternalException, internalMessage})
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
		fail(w, e)
	}
}

// contentType is of every response. Nobody appends to it in place.
var contentType = []string{"application/x-amz-json-1.1"}

// fail answers with an exception.
func fail(w http.ResponseWriter, e *exception) {
	body := appendString([]byte(`{"__type":`), string(e.code))
	if e.message != "" {
		name := `,"message":`
		if e.code == serialization { // the framework's own, which spells it so
			name = `,"Message":`
		}
		body = appendString(append(body, name...), e.message)
	}
	body = append(body, '}')
	header := w.Header()
	header["Content-Type"] = contentType
	header["Content-Length"] = []string{strconv.Itoa(len(body))}
	header["X-Amzn-Errortype"] = []string{string(e.code)}
	if e.code == tooLarge {
		header["Connection"] = []string{"close"} // rather than read the rest
	}
	w.WriteHeader(e.status)
	w.Write(body)
}

// serve does what r asks for and answers, or returns why it does not.
func (h *handler) serve(w http.ResponseWriter, r *http.Request, id [16]byte) error {
	if h.verifier == nil && r.Header["Origin"] != nil {
		return errWebPage
	}
	if r.Method != http.MethodPost || r.URL.Path != "/" && r.URL.Path != "" || !isJSON(r.Header.Get("Content-Type")) {
		return &exception{http.StatusNotFound, unknownOperation, "Send a POST to / with Content-Type application/x-amz-json-1.1 " +
			"and X-Amz-Target TrentService.<Operation>."}
	}
	var query url.Values
	if r.URL.RawQuery != "" {
		var err error
		if query, err = url.ParseQuery(r.URL.RawQuery); err != nil {
			return refuse(invalidSignature, mismatchMessage)
		}
	}
	name := target(r, query)
	op := h.operations[name]
	if op == nil {
		return refuse(unknownOperation, missing(name))
	}
	claim := readClaim(r, query)
	var s *signer
	if h.verifier != nil {
		var err error
		if s, err = h.verifier.begin(r, query, claim); err != nil {
			return err
		}
	}
	x, err := h.receive(r)
	if err != nil {
		return err
	}
	defer x.end()
	if err := x.fill(r.Body); err != nil {
		return err
	}
	svc := h.svc
	if s != nil {
		principal, err := s.finish(r, query, x.request, h.verifier.now())
		if err != nil {
			return err
		}
		svc = svc.As(principal)
	}
	if region := claim.region(); region != "" && region != svc.Region() {
		svc = svc.In(region)
	}
	if err := x.decompress(r.Header.Get("Content-Encoding")); err != nil {
		return err
	}
	if err := x.call(audit.ContextWithRequestInfo(r.Context(), requestOf(r, id)), svc, op); err != nil {
		return err
	}
	header := w.Header()
	header["Content-Type"] = contentType
	header["Content-Length"] = []string{strconv.Itoa(len(x.response))}
	w.Write(x.response) // fails only if the client is gone
	return nil
}

// call invokes op on the request's input, and encodes its output.
func (x *exchange) call(ctx context.Context, svc *kms.Service, op *operation) error {
	in := op.NewInput()
	defer op.in.Erase(in)
	empty, err := decode(x.request, op.in, in)
	if err != nil {
		return err
	}
	x.sent = shape.Wire{Input: in, Empty: empty}
	out, err := op.Invoke(ctx, svc, &x.sent)
	if err != nil {
		return err
	}
	s := shape.OfType(reflect.TypeOf(out).Elem())
	defer s.Erase(out)
	x.response = encode(slices.Grow(x.response, room(s, out)), s, out)
	return nil
}

// isJSON tells whether a body is of this protocol. To another site browsers send these types only after they have asked,
// and are not answered; this does not stop a page which they take to be of the same site: see Handler.
func isJSON(contentType string) bool {
	switch contentType {
	case "application/x-amz-json-1.1", "application/json":
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == "application/x-amz-json-1.1" || media == "application/json")
}

// target names the operation. Signers of URLs may move the header into the query string.
func target(r *http.Request, query url.Values) string {
	return cmp.Or(r.Header.Get("X-Amz-Target"), query.Get("X-Amz-Target"), query.Get("x-amz-target"))
}

// missing is the message about a target that the service does not have, if it is an operation of the API. About others AWS
// has none.
func missing(target string) string {
	if name, ours := strings.CutPrefix(target, targetPrefix); ours && slices.Contains(apiOperations, name) {
		return name + " is not among the operations of this service."
	}
	return ""
}

// apiOperations are those of the API's model, version 2014-11-01, whether or not the service has them.
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

// maxUserAgent bounds what an audit event repeats, in bytes.
const maxUserAgent = 1024

func requestOf(r *http.Request, id [16]byte) audit.RequestInfo {
	address, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		address = r.RemoteAddr
	}
	agent := r.UserAgent()
	if len(agent) > maxUserAgent {
		agent = strings.ToValidUTF8(agent[:maxUserAgent], "")
	}
	return audit.RequestInfo{ID: id, SourceIPAddress: address, UserAgent: agent}
}

var (
	errTooLarge = &exception{http.StatusRequestEntityTooLarge, tooLarge, "HTTP content length exceeded " + strconv.Itoa(maxBody) + " bytes."}
	errTooMany  = refuse(kms.ThrottlingException, "Rate exceeded")
	errWebPage  = &exception{http.StatusForbidden, kms.AccessDeniedException, "Web pages may ask only a service that verifies signatures."}
)

// receive waits for the first byte of the body, or its end. Until then there is no exchange. An empty body is not refused
// here, but where it is read as JSON: before that the signature is verified.
func (h *handler) receive(r *http.Request) (*exchange, error) {
	if r.ContentLength > maxBody {
		return nil, errTooLarge
	}
	var first [1]byte
	n, err := io.ReadFull(r.Body, first[:])
	if err != nil && err != io.EOF {
		return nil, refuse(serialization, "")
	}
	x := exchanges.Get().(*exchange)
	x.handler = h
	x.request = append(x.request, first[:n]...)
	return x, nil
}

// fill appends what from has to the request.
func (x *exchange) fill(from io.Reader) error {
	for {
		if len(x.request) == cap(x.request) {
			x.grow()
		}
		n, err := from.Read(x.request[len(x.request):cap(x.request)])
		x.request = x.request[:len(x.request)+n]
		if len(x.request) > smallBody {
			if err := x.enlarge(); err != nil {
				return err
			}
		}
		switch {
		case len(x.request) > maxBody:
			return errTooLarge
		case err == io.EOF:
			return nil
		case err != nil:
			return refuse(serialization, "")
		}
	}
}

// grow doubles the room for the request. One that is not large gets a byte more than a small body has: whether that byte
// comes decides what the request is.
func (x *exchange) grow() {
	size := 2 * cap(x.request)
	if !x.isLarge {
		size = min(size, smallBody+1)
	}
	larger := append(make([]byte, 0, size), x.request...)
	secret.Clear(x.request)
	x.request = larger
}

// enlarge makes this one of the exchanges that may be large.
func (x *exchange) enlarge() error {
	if x.isLarge {
		return nil
	}
	select {
	case x.large <- struct{}{}:
		x.isLarge = true
		return nil
	default:
		return errTooMany
	}
}

// decompress replaces the request by what it stands for.
func (x *exchange) decompress(encoding string) error {
	switch strings.ToLower(encoding) {
	case "", "identity":
		return nil
	case "gzip":
	default:
		return refuse(serialization, "")
	}
	if err := x.enlarge(); err != nil {
		return err
	}
	compressed := x.request
	defer secret.Clear(compressed)
	z, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return refuse(serialization, "")
	}
	x.request = make([]byte, 0, smallBody)
	return x.fill(z)
}

// newRequestID makes a random UUID (RFC 9562, section 5.4): an identifier, not a secret.
func newRequestID() (id [16]byte) {
	binary.NativeEndian.PutUint64(id[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(id[8:], rand.Uint64())
	return uuid.Of(id)
}
