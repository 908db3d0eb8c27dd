package integration_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"
	awskmstink "github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"
	"github.com/tink-crypto/tink-go/v2/tink"
	"gocloud.dev/gcerrors"
	"gocloud.dev/secrets"
	gocloudkms "gocloud.dev/secrets/awskms"

	"github.com/pocketkms/kms"
)

// A server is what a client is told of one: the URL, the secret that belongs to accessKeyID, and after how many attempts to
// give a call up, with 0 for the client's own number. With an id and a token, the secret belongs to those.
type server struct {
	url, secret string
	maxAttempts int
	id, token   string
}

const region = "us-east-1"

// environment configures a program for the server, and for nothing else.
func (s server) environment() []string {
	env := []string{
		"AWS_ACCESS_KEY_ID=" + cmp.Or(s.id, accessKeyID), "AWS_SECRET_ACCESS_KEY=" + s.secret,
		"AWS_REGION=" + region, "AWS_DEFAULT_REGION=" + region,
		"AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull, "AWS_EC2_METADATA_DISABLED=true",
		"AWS_PAGER=", "LC_ALL=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1",
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), // where interpreters find their packages
	}
	if s.token != "" {
		env = append(env, "AWS_SESSION_TOKEN="+s.token)
	}
	if s.maxAttempts != 0 {
		env = append(env, fmt.Sprintf("AWS_MAX_ATTEMPTS=%d", s.maxAttempts))
	}
	return env
}

// A caller is a client of the whole API.
type caller interface {
	// call calls an operation. in is one of our inputs, output has the API's members as the client gives them.
	call(t testing.TB, operation string, in any) (output map[string]any, err error)
	// list returns the items of all pages of a list, as the client's paginator gives them.
	list(t testing.TB, operation string, in any, pageSize int) (items []any, err error)
}

// A refusal is an exception in the form of the client that received it.
type refusal struct {
	Type          string // what the client's language tells exceptions apart by
	Code, Message string
	Status        int // 0 if the client does not tell
}

func (r *refusal) Error() string {
	return fmt.Sprintf("%s %s: %s (%d)", r.Type, r.Code, r.Message, r.Status)
}

// errUnknown is for operations and members that the client does not know, and so never sends.
var errUnknown = errors.New("the client does not know")

// blob marks bytes on their way to a program.
type blob []byte

func (b blob) MarshalJSON() ([]byte, error) { return json.Marshal(map[string][]byte{"$blob": b}) }

// inputOf has the members of one of our inputs that are there.
func inputOf(in any) map[string]any { return present(reflect.ValueOf(in), true).(map[string]any) }

// present leaves absent members out: our zero values, but for the tag's value that may be empty; and nil pointers and empty
// enumerations of the SDK, whose booleans are always there.
func present(v reflect.Value, ours bool) any {
	switch {
	case v.Kind() == reflect.Pointer:
		return present(v.Elem(), ours)
	case v.Type() == reflect.TypeFor[[]byte]() && ours:
		return blob(v.Bytes())
	case v.Type() == reflect.TypeFor[[]byte](), v.Type() == reflect.TypeFor[time.Time]():
		return v.Interface()
	case v.Kind() == reflect.Slice:
		items := make([]any, v.Len())
		for i := range items {
			items[i] = present(v.Index(i), ours)
		}
		return items
	case v.Kind() == reflect.Struct:
		found := map[string]any{}
		for f, value := range v.Fields() {
			always := ours && f.Name == "TagValue" || !ours && value.Kind() == reflect.Bool
			if f.IsExported() && f.Name != "ResultMetadata" && (always || !value.IsZero()) {
				found[f.Name] = present(value, ours)
			}
		}
		return found
	}
	return v.Interface()
}

// itemsOf returns the one list that a page has.
func itemsOf(t testing.TB, page map[string]any) []any {
	var found [][]any
	for _, member := range page {
		if items, ok := member.([]any); ok {
			found = append(found, items)
		}
	}
	require.Len(t, found, 1, "%v", page)
	return found[0]
}

// plain is v as JSON has it, with times as numbers of seconds.
func plain(t testing.TB, v any) any {
	text, err := json.Marshal(v)
	require.NoError(t, err)
	var decoded any
	require.NoError(t, json.Unmarshal(text, &decoded))
	return withoutTimes(decoded)
}

func withoutTimes(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			v[name] = withoutTimes(member)
		}
	case []any:
		for i, item := range v {
			v[i] = withoutTimes(item)
		}
	case string:
		if at, err := time.Parse(time.RFC3339Nano, v); err == nil {
			return float64(at.UnixMilli()) / 1000
		}
	}
	return v
}

// A program is another language's client: it is told calls on its standard input and answers on its standard output.
type program struct {
	calls   *json.Encoder
	answers *json.Decoder
}

// start runs a program that ends with the test.
func start(t testing.TB, s server, name string, args ...string) *program {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 9*time.Minute)
	command := exec.CommandContext(ctx, name, append(args, s.url)...)
	command.Env = s.environment()
	stderr := new(bytes.Buffer)
	command.Stderr = stderr
	command.WaitDelay = 10 * time.Second
	stdin, err := command.StdinPipe()
	require.NoError(t, err)
	stdout, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	t.Cleanup(func() {
		defer cancel()
		stdin.Close()
		io.Copy(io.Discard, stdout)
		require.NoError(t, command.Wait(), "%s: %s", name, stderr)
	})
	return &program{json.NewEncoder(stdin), json.NewDecoder(stdout)}
}

// A told is a call as a program is told it.
type told struct {
	Operation string         `json:"operation"`
	Input     map[string]any `json:"input"`
	PageSize  int            `json:"pageSize,omitempty"`
}

// An answer has one member.
type answer struct {
	Output  map[string]any
	Pages   []map[string]any
	Error   *refusal
	Unknown string
}

func (p *program) ask(t testing.TB, call told) (a answer, err error) {
	require.NoError(t, p.calls.Encode(call))
	require.NoError(t, p.answers.Decode(&a), call.Operation)
	switch {
	case a.Unknown != "":
		return a, fmt.Errorf("%w: %s", errUnknown, a.Unknown)
	case a.Error != nil:
		return a, a.Error
	}
	return a, nil
}

func (p *program) call(t testing.TB, operation string, in any) (map[string]any, error) {
	a, err := p.ask(t, told{operation, inputOf(in), 0})
	return a.Output, err
}

func (p *program) list(t testing.TB, operation string, in any, pageSize int) (items []any, err error) {
	a, err := p.ask(t, told{operation, inputOf(in), pageSize})
	for _, page := range a.Pages {
		items = append(items, itemsOf(t, page)...)
	}
	return items, err
}

// A commandLine runs the AWS CLI, once for each call, in a fork of a program that has loaded it. Its major versions take
// bytes in JSON in different ways, but both read them from files.
type commandLine struct {
	server
	*program
}

func newCommandLine(t testing.TB, s server) commandLine {
	return commandLine{s, start(t, s, "python3", "python/aws.py")}
}

// dashed writes the name of an operation or member as the CLI does: "re-encrypt".
func dashed(name string) string {
	return strings.ToLower(regexp.MustCompile(`([a-z])([A-Z])`).ReplaceAllString(name, "$1-$2"))
}

func (c commandLine) call(t testing.TB, operation string, in any) (map[string]any, error) {
	return c.run(t, operation, in, "--no-paginate") // or else it turns the pages of a list
}

func (c commandLine) list(t testing.TB, operation string, in any, pageSize int) ([]any, error) {
	output, err := c.run(t, operation, in, "--page-size", fmt.Sprint(pageSize))
	if err != nil {
		return nil, err
	}
	return itemsOf(t, output), nil // of all pages
}

var (
	anError = regexp.MustCompile(`An error occurred \((\w+)\) when calling the \w+ operation(?: \([^)]*\))?: (.*)`)
	unknown = regexp.MustCompile(`(?i)invalid choice|unknown parameter in input|unknown options`)
)

func (c commandLine) run(t testing.TB, operation string, in any, args ...string) (output map[string]any, err error) {
	input := inputOf(in)
	for name, member := range input {
		if bytes, ok := member.(blob); ok {
			file := filepath.Join(t.TempDir(), name)
			require.NoError(t, os.WriteFile(file, bytes, 0o600))
			args = append(args, "--"+dashed(name), "fileb://"+file)
			delete(input, name)
		}
	}
	text, err := json.Marshal(input)
	require.NoError(t, err)
	args = append([]string{"kms", dashed(operation), "--endpoint-url", c.server.url, "--output", "json", "--cli-input-json", string(text)}, args...)
	var result struct {
		Status         int
		Stdout, Stderr string
	}
	require.NoError(t, c.calls.Encode(args))
	require.NoError(t, c.answers.Decode(&result), operation)
	switch exception := anError.FindStringSubmatch(result.Stderr); {
	case exception != nil:
		require.NotZero(t, result.Status)
		return nil, &refusal{Type: exception[1], Code: exception[1], Message: exception[2]}
	case result.Status != 0 && unknown.MatchString(result.Stderr):
		return nil, fmt.Errorf("%w: %s", errUnknown, result.Stderr)
	}
	require.Zero(t, result.Status, "%s", result.Stderr)
	if result.Stdout == "" {
		return map[string]any{}, nil
	}
	return output, json.Unmarshal([]byte(result.Stdout), &output)
}

// sdkGo is the AWS SDK for Go.
type sdkGo struct{ *awskms.Client }

func newSDKGo(s server) sdkGo {
	return sdkGo{awskms.New(awskms.Options{
		Region: region, BaseEndpoint: &s.url, RetryMaxAttempts: s.maxAttempts, Credentials: static(accessKeyID, s.secret, ""),
	})}
}

func (c sdkGo) call(t testing.TB, operation string, in any) (map[string]any, error) {
	out, err := send(t.Context(), c.Client, operation, in)
	if err != nil {
		return nil, asRefusal(err)
	}
	return present(reflect.ValueOf(out), false).(map[string]any), nil
}

func (c sdkGo) list(t testing.TB, operation string, in any, pageSize int) (items []any, err error) {
	var next func() (any, error)
	switch operation {
	case "DescribeCustomKeyStores":
		next = pages(t, awskms.NewDescribeCustomKeyStoresPaginator(c, sized[awskms.DescribeCustomKeyStoresInput](in, pageSize)))
	case "ListAliases":
		next = pages(t, awskms.NewListAliasesPaginator(c, sized[awskms.ListAliasesInput](in, pageSize)))
	case "ListGrants":
		next = pages(t, awskms.NewListGrantsPaginator(c, sized[awskms.ListGrantsInput](in, pageSize)))
	case "ListRetirableGrants":
		next = pages(t, awskms.NewListRetirableGrantsPaginator(c, sized[awskms.ListRetirableGrantsInput](in, pageSize)))
	case "ListKeyPolicies":
		next = pages(t, awskms.NewListKeyPoliciesPaginator(c, sized[awskms.ListKeyPoliciesInput](in, pageSize)))
	case "ListKeyRotations":
		next = pages(t, awskms.NewListKeyRotationsPaginator(c, sized[awskms.ListKeyRotationsInput](in, pageSize)))
	case "ListKeys":
		next = pages(t, awskms.NewListKeysPaginator(c, sized[awskms.ListKeysInput](in, pageSize)))
	case "ListResourceTags":
		next = pages(t, awskms.NewListResourceTagsPaginator(c, sized[awskms.ListResourceTagsInput](in, pageSize)))
	default:
		require.Fail(t, "which paginator has "+operation+"?")
	}
	for {
		page, err := next()
		if page == nil || err != nil {
			return items, err
		}
		items = append(items, itemsOf(t, plain(t, present(reflect.ValueOf(page), false)).(map[string]any))...)
	}
}

// sized is our input as the SDK's, with a limit.
func sized[In any](in any, pageSize int) *In {
	out := new(In)
	translate(reflect.ValueOf(out).Elem(), reflect.ValueOf(in).Elem())
	reflect.ValueOf(out).Elem().FieldByName("Limit").Set(reflect.ValueOf(aws.Int32(int32(pageSize))))
	return out
}

// pages returns what gives the next page, and nil after the last.
func pages[Page any](t testing.TB, p interface {
	HasMorePages() bool
	NextPage(context.Context, ...func(*awskms.Options)) (*Page, error)
}) func() (any, error) {
	return func() (any, error) {
		if !p.HasMorePages() {
			return nil, nil
		}
		return p.NextPage(t.Context())
	}
}

// asRefusal is an exception of the SDK for Go, and any other error itself.
func asRefusal(err error) error {
	var exception smithy.APIError
	var response *awshttp.ResponseError
	if !errors.As(err, &exception) || !errors.As(err, &response) {
		return err
	}
	return &refusal{reflect.TypeOf(exception).Elem().Name(), exception.ErrorCode(), exception.ErrorMessage(), response.HTTPStatusCode()}
}

// callerAEAD encrypts through a caller, with associated data as Tink has them in an encryption context.
type callerAEAD struct {
	caller
	t   testing.TB
	key string
}

func (a callerAEAD) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	return a.bytes("CiphertextBlob", "Encrypt", &kms.EncryptInput{KeyId: a.key, Plaintext: plaintext, EncryptionContext: contextOf(associatedData)})
}

func (a callerAEAD) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	return a.bytes("Plaintext", "Decrypt", &kms.DecryptInput{KeyId: a.key, CiphertextBlob: ciphertext, EncryptionContext: contextOf(associatedData)})
}

func (a callerAEAD) bytes(member, operation string, in any) ([]byte, error) {
	output, err := a.call(a.t, operation, in)
	if err != nil {
		return nil, err
	}
	return bytesOf(a.t, output, member), nil
}

func bytesOf(t testing.TB, output map[string]any, member string) []byte {
	decoded, err := base64.StdEncoding.DecodeString(plain(t, output[member]).(string))
	require.NoError(t, err)
	return decoded
}

func contextOf(associatedData []byte) map[string]string {
	if len(associatedData) == 0 { // the API refuses an empty value
		return nil
	}
	return map[string]string{"associatedData": hex.EncodeToString(associatedData)}
}

// tinkAEAD is Tink's, which returns the SDK's errors as they are.
type tinkAEAD struct{ tink.AEAD }

func newTinkAEAD(t testing.TB, s server, key string) tink.AEAD {
	uri := "aws-kms://" + key
	client, err := awskmstink.NewClientWithOptions(t.Context(), uri, awskmstink.WithKMS(newSDKGo(s).Client))
	require.NoError(t, err)
	require.True(t, client.Supported(uri))
	aead, err := client.GetAEAD(uri)
	require.NoError(t, err)
	return tinkAEAD{aead}
}

func (a tinkAEAD) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	ciphertext, err := a.AEAD.Encrypt(plaintext, associatedData)
	return ciphertext, asRefusal(err)
}

func (a tinkAEAD) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	plaintext, err := a.AEAD.Decrypt(ciphertext, associatedData)
	return plaintext, asRefusal(err)
}

// goCloudAEAD opens a keeper for each encryption context.
type goCloudAEAD struct {
	t      testing.TB
	client *awskms.Client
	key    string
}

func newGoCloudAEAD(t testing.TB, s server, key string) tink.AEAD {
	return goCloudAEAD{t, newSDKGo(s).Client, key}
}

func (a goCloudAEAD) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	return a.keep((*secrets.Keeper).Encrypt, plaintext, associatedData)
}

func (a goCloudAEAD) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	return a.keep((*secrets.Keeper).Decrypt, ciphertext, associatedData)
}

func (a goCloudAEAD) keep(do func(*secrets.Keeper, context.Context, []byte) ([]byte, error), in, associatedData []byte) ([]byte, error) {
	keeper := gocloudkms.OpenKeeperV2(a.client, a.key, &gocloudkms.KeeperOptions{EncryptionContext: contextOf(associatedData)})
	defer keeper.Close()
	out, err := do(keeper, a.t.Context(), in)
	if err == nil {
		return out, nil
	}
	var exception smithy.APIError
	require.True(a.t, keeper.ErrorAs(err, &exception), "%v", err)
	return nil, &refusal{Type: gcerrors.Code(err).String(), Code: exception.ErrorCode(), Message: exception.ErrorMessage()}
}
