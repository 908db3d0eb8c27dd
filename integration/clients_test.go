package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsapi"
	"github.com/pocketkms/kms/internal/testenv"
	"github.com/pocketkms/kms/kmstest"
)

// A kind of client. All are exercised alike, unchanged, over HTTP with signatures that are verified.
type kind struct {
	name    string
	version string
	// found tells that the version is the machine's, and not one that this module pins.
	found bool
	// form is the type that an exception has in the client's language.
	form func(code string) string
	// whole is set if it is a client of the whole API, and not only encrypts.
	whole   bool
	connect func(testing.TB, server) client
}

// A client is connected to a server.
type client struct {
	caller // nil if it only encrypts
	aead   func(t testing.TB, keyARN string) tink.AEAD
}

// kinds prepares the clients.
func kinds(t *testing.T) []kind {
	// typed is the form where the API's exceptions have types, and the others share one.
	typed := func(shared string) func(string) string {
		untyped := []string{"AccessDeniedException", "InvalidSignatureException", "ThrottlingException", "ValidationException"}
		return func(code string) string {
			if slices.Contains(untyped, code) {
				return shared
			}
			return code
		}
	}
	whole := func(c caller) client {
		return client{c, func(t testing.TB, key string) tink.AEAD { return callerAEAD{c, t, key} }}
	}
	modules := versions(t)
	script := filepath.Join(installNode(t, "js"), "index.mjs")
	return []kind{
		{
			name: "AWS SDK for Go v2", version: modules["github.com/aws/aws-sdk-go-v2/service/kms"], form: typed("GenericAPIError"), whole: true,
			connect: func(_ testing.TB, s server) client { return whole(newSDKGo(s)) },
		},
		{
			name: "AWS SDK for JavaScript v3", version: modules["@aws-sdk/client-kms"], form: typed("KMSServiceException"), whole: true,
			connect: func(t testing.TB, s server) client { return whole(start(t, s, "node", script)) },
		},
		{
			name: "boto3", version: output(t, "python3", "-c", "import boto3; print(boto3.__version__)"), found: true, whole: true,
			form:    typed("ClientError"),
			connect: func(t testing.TB, s server) client { return whole(start(t, s, "python3", "python/main.py")) },
		},
		{
			name: "AWS CLI", version: output(t, "python3", "-c", "import awscli; print(awscli.__version__)"), found: true, whole: true,
			form:    func(code string) string { return code },
			connect: func(t testing.TB, s server) client { return whole(newCommandLine(t, s)) },
		},
		{
			name: "tink-go-awskms", version: modules["github.com/tink-crypto/tink-go-awskms/v3"], form: typed("GenericAPIError"),
			connect: func(_ testing.TB, s server) client {
				return client{aead: func(t testing.TB, key string) tink.AEAD { return newTinkAEAD(t, s, key) }}
			},
		},
		{
			name: "gocloud.dev/secrets/awskms", version: modules["gocloud.dev"],
			connect: func(_ testing.TB, s server) client {
				return client{aead: func(t testing.TB, key string) tink.AEAD { return newGoCloudAEAD(t, s, key) }}
			},
			form: func(code string) string {
				form, ok := map[string]string{
					"DisabledException": "PermissionDenied", "InvalidCiphertextException": "InvalidArgument", "InvalidKeyUsageException": "InvalidArgument",
					"KMSInvalidStateException": "FailedPrecondition", "NotFoundException": "NotFound",
				}[code]
				if !ok {
					return "Unknown"
				}
				return form
			},
		},
	}
}

// newer names what came after the oldest clients that a machine may have, which are of the year 2022: operations, members
// of their inputs and outputs, and lists that clients had no paginator for. Clients that this module pins know all of it.
var newer = []string{
	"Decapsulate", "DeriveSharedSecret", "Encapsulate", "GetKeyLastUsage", "ListKeyRotations", "RotateKeyOnDemand",
	"DryRun", "IncludeKeyMaterial", "RotationPeriodInDays",
	"CurrentKeyMaterialId", "DeleteImportedKeyMaterial.KeyId", "DestinationKeyMaterialId", "GetKeyPolicy.PolicyName", "GetKeyRotationStatus.KeyId",
	"ImportKeyMaterial.KeyId", "KeyMaterialId", "NextRotationDate", "SourceKeyMaterialId",
	"pages of ListResourceTags",
}

// mayLack requires that a client may well not know one of names.
func (k kind) mayLack(t testing.TB, err error, names ...string) {
	require.True(t, k.found, "%v", err)
	require.True(t, slices.ContainsFunc(names, func(name string) bool { return slices.Contains(newer, name) }), "%v", err)
}

// A wire is a server on the loopback interface whose Service can be replaced. It notes what it answers.
type wire struct {
	server
	mu        sync.Mutex
	handler   http.Handler
	exchanges []exchange
}

type exchange struct {
	operation string
	status    int
	body      []byte
}

func listen(t testing.TB) *wire {
	w := new(wire)
	s := httptest.NewUnstartedServer(nil)
	s.Config = awsapi.Server(w)
	s.Start()
	t.Cleanup(s.Close)
	w.server = server{url: s.URL, secret: secretAccessKey}
	return w
}

// serve begins anew, with another Service.
func (w *wire) serve(svc *kms.Service) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handler, w.exchanges = verifying(svc), nil
}

func (w *wire) ServeHTTP(to http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	handler := w.handler
	w.mu.Unlock()
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, r)
	w.mu.Lock()
	w.exchanges = append(w.exchanges, exchange{strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "TrentService."), recorder.Code, recorder.Body.Bytes()})
	w.mu.Unlock()
	for name, values := range recorder.Header() {
		to.Header()[name] = values
	}
	to.WriteHeader(recorder.Code)
	to.Write(recorder.Body.Bytes())
}

// take returns the exchanges since the last time.
func (w *wire) take() []exchange {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.exchanges
	w.exchanges = nil
	return taken
}

func (e exchange) members(t testing.TB) map[string]any {
	if len(e.body) == 0 {
		return map[string]any{}
	}
	return plain(t, json.RawMessage(e.body)).(map[string]any)
}

// Every client, unchanged, does what it can against a Service, and what it did stands in docs/clients.md.
func TestClients(t *testing.T) {
	testenv.NeedsTool(t, "node", "npm")
	needsPython(t, "boto3", "awscli")
	clients := kinds(t)
	results := make([]result, len(clients))
	t.Run("each", func(t *testing.T) {
		for i, k := range clients {
			t.Run(k.name, func(t *testing.T) {
				t.Parallel()
				exercise(t, k, &results[i])
			})
		}
	})
	exchangeWork(t, clients, results)
	requireDocument(t, clients, results)
}

// A result is what a client has done.
type result struct {
	mu         sync.Mutex
	operations map[string]bool // called with success
	exceptions map[string]bool // received, in the client's own form
	lists      map[string]bool // read to the end, page by page
	retried    bool            // a call that was throttled twice
	gaveUp     bool            // a call that was throttled for ever
	signed     bool            // which a wrong secret cannot
	decrypts   map[string]bool // the clients whose ciphertexts it decrypts
	verifies   map[string]bool // the clients whose signatures and MACs it verifies
}

// note adds to what has been done.
func (r *result) note(done *map[string]bool, what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if *done == nil {
		*done = map[string]bool{}
	}
	(*done)[what] = true
}

func (r *result) succeeded(exchanges []exchange) {
	for _, e := range exchanges {
		if e.status == http.StatusOK {
			r.note(&r.operations, e.operation)
		}
	}
}

func exercise(t *testing.T, k kind, r *result) {
	run := func(name string, do func(*testing.T, kind, *wire, *result)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			do(t, k, listen(t), r)
		})
	}
	if k.whole {
		run("operations", everyOperation)
		run("lists", everyList)
		run("refused calls", refusedCalls)
	}
	run("associated data", associatedData)
	run("refused keys", refusedKeys)
	run("throttled", throttled)
	run("a wrong secret", wrongSecret)
}

// requireRefusal requires an exception of that code, in the client's form, with the message that it was sent.
func (k kind) requireRefusal(t testing.TB, err error, code string, w *wire) {
	exchanges := w.take()
	require.NotEmpty(t, exchanges, "%v", err)
	var r *refusal
	require.ErrorAs(t, err, &r)
	sent := exchanges[len(exchanges)-1]
	require.Equal(t, code, r.Code, "%v", r)
	require.Equal(t, k.form(code), r.Type)
	if r.Status != 0 {
		require.Equal(t, http.StatusBadRequest, r.Status)
	}
	members := sent.members(t)
	for _, name := range []string{"message", "Message"} { // AccessDeniedException has the second
		if message, ok := members[name]; ok {
			require.Equal(t, message, r.Message)
		}
	}
}

// Every operation succeeds, and the client gives what was on the wire, whole and unchanged.
func everyOperation(t *testing.T, k kind, w *wire, r *result) {
	c := k.connect(t, w.server)
	for _, op := range kms.Operations() {
		t.Run(op.Name(), func(t *testing.T) {
			svc := newService(t)
			in := calls[op.Name()](fixture{t, svc})
			if name := reflect.ValueOf(in).Elem().FieldByName("PolicyName"); name.IsValid() {
				name.SetString("default") // which older clients want to be told
			}
			w.serve(svc)
			got, err := c.call(t, op.Name(), in)
			if errors.Is(err, errUnknown) {
				k.mayLack(t, err, append(memberNames(in), op.Name())...)
				require.Empty(t, w.take())
				return
			}
			require.NoError(t, err)
			exchanges := w.take()
			require.Len(t, exchanges, 1)
			require.Equal(t, op.Name(), exchanges[0].operation)
			sent := exchanges[0].members(t)
			delete(sent, "AliasCount") // AWS sends it with ListAliases, but its model does not have it
			if k.found {
				withoutNewer(op.Name(), sent, plain(t, got))
			}
			require.Equal(t, sent, plain(t, got))
			r.succeeded(exchanges)
		})
	}
}

func memberNames(in any) (names []string) {
	for name := range inputOf(in) {
		names = append(names, name)
	}
	return names
}

// withoutNewer leaves out of what was sent the newer members that the client did not take up.
func withoutNewer(operation string, sent, got any) {
	switch sent := sent.(type) {
	case map[string]any:
		got, _ := got.(map[string]any)
		for name, member := range sent {
			if _, taken := got[name]; !taken && (slices.Contains(newer, name) || slices.Contains(newer, operation+"."+name)) {
				delete(sent, name)
			}
			withoutNewer(operation, member, got[name])
		}
	case []any:
		got, _ := got.([]any)
		for i := range min(len(sent), len(got)) {
			withoutNewer(operation, sent[i], got[i])
		}
	}
}

// Every list that comes in pages is read to its end by the client's paginator.
func everyList(t *testing.T, k kind, w *wire, r *result) {
	c := k.connect(t, w.server)
	svc := newService(t)
	f := fixture{t, svc}
	key := f.aliased("alias/0")
	for _, n := range []string{"1", "2", "3", "4"} {
		f.aliased("alias/" + n)
		_, err := svc.TagResource(t.Context(), &kms.TagResourceInput{KeyId: key, Tags: []kms.Tag{{TagKey: n}}})
		require.NoError(t, err)
		_, err = svc.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: key})
		require.NoError(t, err)
		_, err = svc.CreateGrant(t.Context(), &kms.CreateGrantInput{
			KeyId: key, GranteePrincipal: grantee, RetiringPrincipal: grantee, Operations: []kms.GrantOperation{kms.GrantOperationDecrypt},
		})
		require.NoError(t, err)
	}
	f.hsm()
	for _, name := range []string{"a", "b"} {
		in := f.proxy()
		in.CustomKeyStoreName, in.XksProxyUriEndpoint = name, "https://"+name+".example.com"
		in.XksProxyConnectivity = kms.XksProxyConnectivityVPCEndpointService // which is not called before it is connected
		in.XksProxyVpcEndpointServiceName = "com.amazonaws.vpce.us-east-1.vpce-svc-" + name
		_, err := svc.CreateCustomKeyStore(t.Context(), in)
		require.NoError(t, err)
	}
	w.serve(svc)
	for _, op := range kms.Operations() {
		in := op.NewInput()
		v := reflect.ValueOf(in).Elem()
		if !v.FieldByName("Marker").IsValid() {
			continue
		}
		t.Run(op.Name(), func(t *testing.T) {
			if f, ok := v.Type().FieldByName("KeyId"); ok && strings.Contains(f.Tag.Get("kms"), "required") {
				v.FieldByName("KeyId").SetString(key)
			}
			if retiring := v.FieldByName("RetiringPrincipal"); retiring.IsValid() {
				retiring.SetString(grantee)
			}
			all, err := op.Invoke(t.Context(), svc, in)
			require.NoError(t, err)
			got, err := c.list(t, op.Name(), in, 2)
			if errors.Is(err, errUnknown) {
				k.mayLack(t, err, op.Name(), "pages of "+op.Name())
				return
			}
			require.NoError(t, err)
			var sent []any
			pages := 0
			for _, e := range w.take() {
				require.Equal(t, op.Name(), e.operation)
				sent = append(sent, itemsOf(t, e.members(t))...)
				pages++
			}
			require.Equal(t, sent, plain(t, got))
			require.Len(t, got, len(itemsOf(t, plain(t, present(reflect.ValueOf(all), true)).(map[string]any))))
			require.GreaterOrEqual(t, 2*pages, len(got), "pages of 2")
			require.Equal(t, len(got) > 2, pages > 1)
			r.note(&r.lists, op.Name())
		})
	}
}

// Each call is refused, for a reason of its own.
func refusedCalls(t *testing.T, k kind, w *wire, r *result) {
	c := k.connect(t, w.server)
	for _, tt := range []struct {
		code, operation string
		in              func(fixture) any
	}{
		{"AlreadyExistsException", "CreateAlias", func(f fixture) any {
			return &kms.CreateAliasInput{AliasName: "alias/taken", TargetKeyId: f.aliased("alias/taken")}
		}},
		{"DryRunOperationException", "Encrypt", func(f fixture) any {
			return &kms.EncryptInput{KeyId: f.symmetric(), Plaintext: []byte("x"), DryRun: true}
		}},
		{"IncorrectKeyException", "Decrypt", func(f fixture) any {
			return &kms.DecryptInput{KeyId: f.symmetric(), CiphertextBlob: f.ciphertext(f.symmetric()), EncryptionContext: encryptionContext}
		}},
		{"InvalidAliasNameException", "CreateAlias", func(f fixture) any {
			return &kms.CreateAliasInput{AliasName: "alias/aws/mine", TargetKeyId: f.symmetric()}
		}},
		{"InvalidCiphertextException", "Decrypt", func(fixture) any { return &kms.DecryptInput{CiphertextBlob: []byte("none")} }},
		{"InvalidMarkerException", "ListKeys", func(fixture) any { return &kms.ListKeysInput{Marker: "none"} }},
		{"KMSInvalidMacException", "VerifyMac", func(f fixture) any {
			in := f.mac()
			return &kms.VerifyMacInput{KeyId: in.KeyId, Message: in.Message, MacAlgorithm: in.MacAlgorithm, Mac: make([]byte, 32)}
		}},
		{"KMSInvalidSignatureException", "Verify", func(f fixture) any {
			in := f.sign()
			return &kms.VerifyInput{KeyId: in.KeyId, Message: in.Message, SigningAlgorithm: in.SigningAlgorithm, Signature: []byte("none")}
		}},
		{"MalformedPolicyDocumentException", "PutKeyPolicy", func(f fixture) any {
			return &kms.PutKeyPolicyInput{KeyId: f.symmetric(), PolicyName: "default", Policy: "none"}
		}},
		{"TagException", "CreateKey", func(fixture) any {
			return &kms.CreateKeyInput{Tags: []kms.Tag{{TagKey: "aws:mine"}}}
		}},
		{"UnsupportedOperationException", "EnableKeyRotation", func(f fixture) any {
			return &kms.EnableKeyRotationInput{KeyId: f.sign().KeyId}
		}},
		{"ValidationException", "GenerateDataKey", func(f fixture) any {
			return &kms.GenerateDataKeyInput{KeyId: f.symmetric()}
		}},
	} {
		t.Run(tt.code, func(t *testing.T) {
			svc := newService(t)
			in := tt.in(fixture{t, svc})
			w.serve(svc)
			_, err := c.call(t, tt.operation, in)
			if errors.Is(err, errUnknown) {
				k.mayLack(t, err, memberNames(in)...)
				return
			}
			k.requireRefusal(t, err, tt.code, w)
			r.note(&r.exceptions, tt.code)
		})
	}
}

func (f fixture) arnOf(id string) string {
	out, err := f.DescribeKey(context.Background(), &kms.DescribeKeyInput{KeyId: id})
	require.NoError(f.t, err)
	return out.KeyMetadata.Arn
}

func (f fixture) arn() string { return f.arnOf(f.symmetric()) }

func associatedData(t *testing.T, k kind, w *wire, r *result) {
	svc := newService(t)
	w.serve(svc)
	aead := k.connect(t, w.server).aead(t, fixture{t, svc}.arn())
	for _, plaintext := range [][]byte{{0}, []byte("ü\n"), bytes.Repeat([]byte{0xff}, 4096)} {
		ciphertext, err := aead.Encrypt(plaintext, []byte("mine"))
		require.NoError(t, err)
		got, err := aead.Decrypt(ciphertext, []byte("mine"))
		require.NoError(t, err)
		require.Equal(t, plaintext, got)
		r.succeeded(w.take())
		_, err = aead.Decrypt(ciphertext, []byte("another's"))
		k.requireRefusal(t, err, "InvalidCiphertextException", w)
		r.note(&r.exceptions, "InvalidCiphertextException")
	}
}

// Each key refuses to encrypt, for a reason of its own.
func refusedKeys(t *testing.T, k kind, w *wire, r *result) {
	c := k.connect(t, w.server)
	for _, tt := range []struct {
		code string
		key  func(fixture) string
	}{
		{"AccessDeniedException", func(f fixture) string { // a key of another account
			return fixture{f.t, f.As(must(kms.ParsePrincipal("arn:aws:iam::999988887777:root")))}.arn()
		}},
		{"DisabledException", func(f fixture) string {
			arn := f.arn()
			_, err := f.DisableKey(context.Background(), &kms.DisableKeyInput{KeyId: arn})
			require.NoError(f.t, err)
			return arn
		}},
		{"InvalidArnException", func(fixture) string { return "arn:aws:kms:us-east-1:x:key/x" }},
		{"InvalidKeyUsageException", func(f fixture) string { return f.arnOf(f.mac().KeyId) }},
		{"KMSInvalidStateException", func(f fixture) string {
			arn := f.arn()
			_, err := f.ScheduleKeyDeletion(context.Background(), &kms.ScheduleKeyDeletionInput{KeyId: arn})
			require.NoError(f.t, err)
			return arn
		}},
		{"NotFoundException", func(fixture) string {
			return "arn:aws:kms:us-east-1:111122223333:key/00000000-0000-0000-0000-000000000000"
		}},
	} {
		t.Run(tt.code, func(t *testing.T) {
			svc := newService(t)
			key := tt.key(fixture{t, svc})
			w.serve(svc)
			_, err := c.aead(t, key).Encrypt([]byte("x"), nil)
			k.requireRefusal(t, err, tt.code, w)
			r.note(&r.exceptions, tt.code)
		})
	}
}

// A call that is throttled twice succeeds at the third attempt, by the client's own retries. One that is throttled for ever
// is given up when the client was told to.
func throttled(t *testing.T, k kind, w *wire, r *result) {
	svc := kmstest.New(t)
	key := fixture{t, svc.Service}.arn()
	w.serve(svc.Service)

	svc.Inject(kmstest.Fault{Operations: []string{"Encrypt"}, Count: 2, Err: kmstest.Throttling()})
	_, err := k.connect(t, w.server).aead(t, key).Encrypt([]byte("x"), nil)
	require.NoError(t, err)
	svc.RequireCalled(t, "Encrypt", 3)
	r.retried = true

	svc.ResetCalls()
	svc.Inject(kmstest.Fault{Operations: []string{"Encrypt"}, Err: kmstest.Throttling()})
	impatient := w.server
	impatient.maxAttempts = 2
	_, err = k.connect(t, impatient).aead(t, key).Encrypt([]byte("x"), nil)
	k.requireRefusal(t, err, "ThrottlingException", w)
	r.note(&r.exceptions, "ThrottlingException")
	svc.RequireCalled(t, "Encrypt", 2)
	r.gaveUp = true
}

func wrongSecret(t *testing.T, k kind, w *wire, r *result) {
	svc := newService(t)
	w.serve(svc)
	wrong := w.server
	wrong.secret += "x"
	_, err := k.connect(t, wrong).aead(t, fixture{t, svc}.arn()).Encrypt([]byte("x"), nil)
	k.requireRefusal(t, err, "InvalidSignatureException", w)
	r.note(&r.exceptions, "InvalidSignatureException")
	r.signed = true
}

// What one client made through `kms serve`, every other can use: all decrypt, and those of the whole API verify.
func exchangeWork(t *testing.T, clients []kind, results []result) {
	s := serve(t)
	create := func(in *kms.CreateKeyInput) string {
		out, err := newSDKGo(s).call(t, "CreateKey", in)
		require.NoError(t, err)
		return out["KeyMetadata"].(map[string]any)["Arn"].(string)
	}
	message, key := []byte("message"), create(&kms.CreateKeyInput{})
	sign := &kms.SignInput{Message: message, SigningAlgorithm: kms.SigningAlgorithmECDSASHA256,
		KeyId: create(&kms.CreateKeyInput{KeySpec: kms.KeySpecECCNISTP256, KeyUsage: kms.KeyUsageSignVerify})}
	mac := &kms.GenerateMacInput{Message: message, MacAlgorithm: kms.MacAlgorithmHMACSHA256,
		KeyId: create(&kms.CreateKeyInput{KeySpec: kms.KeySpecHMAC256, KeyUsage: kms.KeyUsageGenerateVerifyMac})}
	type work struct{ ciphertext, signature, mac []byte }
	made, connected := make([]work, len(clients)), make([]client, len(clients))
	for i, k := range clients {
		connected[i] = k.connect(t, s)
	}
	t.Run("made by", func(t *testing.T) {
		for i, k := range clients {
			t.Run(k.name, func(t *testing.T) {
				t.Parallel()
				c := connected[i]
				ciphertext, err := c.aead(t, key).Encrypt(message, []byte(k.name))
				require.NoError(t, err)
				made[i].ciphertext = ciphertext
				if !k.whole {
					return
				}
				out, err := c.call(t, "Sign", sign)
				require.NoError(t, err)
				made[i].signature = bytesOf(t, out, "Signature")
				out, err = c.call(t, "GenerateMac", mac)
				require.NoError(t, err)
				made[i].mac = bytesOf(t, out, "Mac")
			})
		}
	})
	t.Run("used by", func(t *testing.T) {
		for i, k := range clients {
			t.Run(k.name, func(t *testing.T) {
				t.Parallel()
				c, r := connected[i], &results[i]
				for j, by := range clients {
					plaintext, err := c.aead(t, key).Decrypt(made[j].ciphertext, []byte(by.name))
					require.NoError(t, err, by.name)
					require.Equal(t, message, plaintext, by.name)
					r.note(&r.decrypts, by.name)
				}
				if !k.whole {
					return
				}
				for j, by := range clients {
					if !by.whole {
						continue
					}
					out, err := c.call(t, "Verify", &kms.VerifyInput{KeyId: sign.KeyId, Message: message, SigningAlgorithm: sign.SigningAlgorithm, Signature: made[j].signature})
					require.NoError(t, err, by.name)
					require.Equal(t, true, out["SignatureValid"], by.name)
					out, err = c.call(t, "VerifyMac", &kms.VerifyMacInput{KeyId: mac.KeyId, Message: message, MacAlgorithm: mac.MacAlgorithm, Mac: made[j].mac})
					require.NoError(t, err, by.name)
					require.Equal(t, true, out["MacValid"], by.name)
					r.note(&r.verifies, by.name)
				}
			})
		}
	})
}

// installed has the directories of programs for Node.js, which TestMain removes.
var installed = struct {
	sync.Mutex
	dirs map[string]string
}{dirs: map[string]string{}}

func TestMain(m *testing.M) {
	status := m.Run()
	for _, dir := range installed.dirs {
		os.RemoveAll(dir)
	}
	os.Exit(status)
}

// installNode installs the packages of a program for Node.js, as its package-lock.json says, beside a copy of the program,
// whose directory it returns. What is installed serves all tests.
func installNode(t *testing.T, program string) string {
	installed.Lock()
	defer installed.Unlock()
	if dir, ok := installed.dirs[program]; ok {
		return dir
	}
	dir, err := os.MkdirTemp("", filepath.Base(program))
	require.NoError(t, err)
	installed.dirs[program] = dir
	require.NoError(t, os.CopyFS(dir, os.DirFS(program)))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = dir
	text, err := npm.CombinedOutput()
	require.NoError(t, err, "%s", text)
	return dir
}

// needsPython skips the test, or fails it in CI, if one of the Python packages is not on this machine.
func needsPython(t testing.TB, packages ...string) {
	testenv.NeedsTool(t, "python3")
	for _, name := range packages {
		if err := exec.Command("python3", "-c", "import "+name).Run(); err != nil {
			testenv.Missing(t, "Python's "+name)
		}
	}
}

func output(t testing.TB, name string, args ...string) string {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	text, err := exec.CommandContext(ctx, name, args...).Output()
	require.NoError(t, err, name)
	return strings.TrimSpace(string(text))
}
