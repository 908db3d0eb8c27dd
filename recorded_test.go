package kms_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsapi"
)

// A fact is a known response of AWS KMS to a call. Every fact is checked twice, each time with a
// new fixture: by a call in Go, and by the same call over HTTP.
type fact struct {
	text   string
	source string             // how it is known: recorded in a year, observed, reported, documented
	call   func(s *scene) any // prepares the call and returns its input, or a rawCall
	want   expectation
}

// A scene is a fixture and the caller.
type scene struct {
	*fixture
	t      *testing.T
	caller *kms.Service // the view that the call is made on
	trail  *trail
	key    *kms.KeyMetadata // that a message calls {key}
}

// A rawCall is a call that can be made only over HTTP, because no Go input has its body.
type rawCall struct {
	operation string
	body      string
}

// A reply is the result of a call, in the same form from Go and over HTTP.
type reply struct {
	code    string         // of the exception; empty if the call succeeded
	message string         // empty if there is none
	members map[string]any // of the output, as JSON has them
	body    string         // as sent; only over HTTP
}

type expectation func(s *scene, got reply)

func requireFacts(t *testing.T, facts []fact) {
	t.Helper()
	seen := map[string]bool{}
	for _, f := range facts {
		require.False(t, seen[f.text], "two facts say: %s", f.text)
		seen[f.text] = true
		t.Run(f.text, func(t *testing.T) {
			for _, way := range []struct {
				name string
				send func(s *scene, in any) reply
			}{{"in Go", sendInGo}, {"over HTTP", sendOverHTTP}} {
				t.Run(way.name, func(t *testing.T) {
					s := newScene(t)
					in := f.call(s)
					if _, ok := in.(rawCall); ok && way.name == "in Go" {
						return
					}
					got := way.send(s, in)
					if t.Failed() {
						return
					}
					defer func() {
						if t.Failed() {
							t.Logf("known from %s; answered: %s %q %v", f.source, got.code, got.message, got.members)
						}
					}()
					f.want(s, got)
				})
			}
		})
	}
}

func newScene(t *testing.T) *scene {
	s := &scene{t: t, trail: new(trail)}
	s.fixture = newFixture(t, func(c *kms.Config) { c.Audit = s.trail })
	s.caller = s.svc
	return s
}

// restart replaces the service by one with other settings and no keys.
func (s *scene) restart(settings func(*kms.Config)) {
	s.svc, s.clock = newService(s.t, func(c *kms.Config) { c.Audit = s.trail }, settings)
	s.caller = s.svc
}

// as sets the caller.
func (s *scene) as(arn string) { s.caller = s.svc.As(principal(s.t, arn)) }

// do makes a call that prepares the scene. It must succeed.
func (s *scene) do(in any) map[string]any {
	s.t.Helper()
	out, err := operationOf(s.t, in).Invoke(s.t.Context(), s.svc, in)
	require.NoError(s.t, err)
	return jsonOf(reflect.ValueOf(out)).(map[string]any)
}

// create creates the key {key}.
func (s *scene) create(in *kms.CreateKeyInput) *kms.KeyMetadata {
	s.key = createKey(s.t, s.svc, in)
	return s.key
}

func operationOf(t testing.TB, in any) kms.Operation {
	name := reflect.TypeOf(in).Elem().Name()
	return operationNamed(t, strings.TrimSuffix(name, "Input"))
}

func sendInGo(s *scene, in any) reply {
	out, err := operationOf(s.t, in).Invoke(s.t.Context(), s.caller, in)
	if err == nil {
		return reply{members: jsonOf(reflect.ValueOf(out)).(map[string]any)}
	}
	var e *kms.Error
	require.ErrorAs(s.t, err, &e)
	return reply{code: string(e.Code), message: e.Message}
}

func sendOverHTTP(s *scene, in any) reply {
	raw, ok := in.(rawCall)
	if !ok {
		body, err := json.Marshal(jsonOf(reflect.ValueOf(in)))
		require.NoError(s.t, err)
		raw = rawCall{operationOf(s.t, in).Name(), string(body)}
	}
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://kms/", bytes.NewReader([]byte(raw.body)))
	require.NoError(s.t, err)
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService."+raw.operation)
	response, err := awsapi.HTTPClient(s.caller).Do(r)
	require.NoError(s.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	got := reply{body: string(body), members: map[string]any{}}
	if len(body) > 0 {
		require.NoError(s.t, json.Unmarshal(body, &got.members))
	}
	if response.StatusCode == http.StatusOK {
		return got
	}
	require.Equal(s.t, http.StatusBadRequest, response.StatusCode, "every client error has this status")
	failure := got.members
	got.members = nil
	got.code, _ = failure["__type"].(string)
	for _, name := range []string{"message", "Message"} {
		if text, ok := failure[name]; ok {
			got.message, _ = text.(string)
			require.NotEmpty(s.t, got.message, "an exception without a message has no such member")
		}
	}
	return got
}

// jsonOf returns a value of an input or output as JSON has it: of a structure, the members that are
// present.
func jsonOf(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer:
		return jsonOf(v.Elem())
	case reflect.Struct:
		if t, ok := v.Interface().(time.Time); ok {
			return float64(t.UnixMilli()) / 1000
		}
		members := map[string]any{}
		for i := range v.NumField() {
			options := strings.Split(v.Type().Field(i).Tag.Get("kms"), ",")
			if !v.Field(i).IsZero() || slices.Contains(options, "emitzero") || slices.Contains(options, "required-on-wire") {
				members[v.Type().Field(i).Name] = jsonOf(v.Field(i))
			}
		}
		return members
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return base64.StdEncoding.EncodeToString(v.Bytes())
		}
		list := []any{}
		for i := range v.Len() {
			list = append(list, jsonOf(v.Index(i)))
		}
		return list
	case reflect.Map:
		entries := map[string]any{}
		for key, value := range v.Seq2() {
			entries[key.String()] = value.String()
		}
		return entries
	case reflect.Bool:
		return v.Bool()
	case reflect.Int32, reflect.Int64:
		return float64(v.Int())
	}
	return v.String()
}

// input is a call without preparation.
func input(in any) func(*scene) any { return func(*scene) any { return in } }

// about is a call with a key as its KeyId, by one of the names of expand. The ARN is sent.
func about(key string, in any) func(*scene) any {
	return func(s *scene) any {
		again := reflect.New(reflect.TypeOf(in).Elem())
		again.Elem().Set(reflect.ValueOf(in).Elem())
		keyMembers(again.Interface())[0].SetString(s.expand(key))
		return again.Interface()
	}
}

// expand replaces {symmetric}, {other}, {signing}, {mac}, {lone}, {primary}, {replica}, {key} and
// {keyReplica} in a text by the keys' ARNs.
func (s *scene) expand(text string) string {
	if s.primary != nil {
		text = strings.ReplaceAll(text, "{replica}", replicaARN(s.primary))
	}
	if s.key != nil {
		text = strings.ReplaceAll(text, "{keyReplica}", replicaARN(s.key))
	}
	for name, k := range map[string]*kms.KeyMetadata{
		"{symmetric}": s.symmetric, "{other}": s.other, "{signing}": s.signing, "{mac}": s.mac, "{key}": s.key,
		"{lone}": s.lone, "{primary}": s.primary,
	} {
		if k != nil {
			text = strings.ReplaceAll(text, name, k.Arn)
		}
	}
	return text
}

// refuses expects an exception with exactly this message.
func refuses(code kms.ErrorCode, message string) expectation {
	return func(s *scene, got reply) {
		s.t.Helper()
		require.Equal(s.t, string(code)+": "+s.expand(message), got.code+": "+got.message)
	}
}

// violates expects the exception for one member that violates one constraint.
func violates(value, constraint string) expectation {
	return refuses(kms.ValidationException, "1 validation error detected: "+value+" failed to satisfy constraint: Member must "+constraint)
}

// denies expects the exception for a user of the key's account to whom no policy allows the call.
func denies(user, permission, resource string) expectation {
	return refuses(kms.AccessDeniedException, "User: "+user+" is not authorized to perform: "+permission+" on resource: "+resource+
		" because no identity-based policy allows the "+permission+" action")
}

// refusesSomehow expects an exception whose message is not known.
func refusesSomehow(codes ...kms.ErrorCode) expectation {
	return func(s *scene, got reply) {
		s.t.Helper()
		require.Contains(s.t, codes, kms.ErrorCode(got.code))
	}
}

// succeeds expects an output that meets all expectations.
func succeeds(wants ...expectation) expectation {
	return func(s *scene, got reply) {
		s.t.Helper()
		require.Empty(s.t, got.code+got.message)
		for _, want := range wants {
			want(s, got)
		}
	}
}

// has expects exactly these members, separated by spaces, in the structure at path. An empty path
// is the output itself.
func has(path, members string) expectation {
	return func(s *scene, got reply) {
		s.t.Helper()
		structure, ok := at(got.members, path).(map[string]any)
		require.True(s.t, ok, "there is no %s", path)
		names := []string{}
		for name := range structure {
			names = append(names, name)
		}
		require.ElementsMatch(s.t, strings.Fields(members), names)
	}
}

// is expects a value at path, such as Aliases.0.AliasName.
func is(path string, value any) expectation {
	return func(s *scene, got reply) {
		s.t.Helper()
		want := value
		if text, ok := value.(string); ok {
			want = s.expand(text)
		}
		require.Equal(s.t, want, at(got.members, path), path)
	}
}

func matches(path, pattern string) expectation {
	return func(s *scene, got reply) {
		s.t.Helper()
		require.Regexp(s.t, pattern, at(got.members, path), path)
	}
}

// isSent expects a text in the body. It is checked only over HTTP.
func isSent(text string) expectation {
	return func(s *scene, got reply) {
		s.t.Helper()
		if got.body != "" {
			require.Contains(s.t, got.body, s.expand(text))
		}
	}
}

// then makes another call afterwards, in Go, and checks its result.
func then(in func(s *scene) any, want expectation) expectation {
	return func(s *scene, _ reply) {
		s.t.Helper()
		want(s, sendInGo(s, in(s)))
	}
}

// isRecorded expects exactly this JSON at a path of the call's audit event.
func isRecorded(path, want string) expectation {
	return func(s *scene, _ reply) {
		s.t.Helper()
		text, err := json.Marshal(at(s.event(), path))
		require.NoError(s.t, err)
		require.JSONEq(s.t, s.expand(want), string(text), path)
	}
}

// hasRecorded expects exactly these members, separated by spaces, at a path of the call's audit
// event.
func hasRecorded(path, members string) expectation {
	return func(s *scene, _ reply) {
		s.t.Helper()
		has(path, members)(s, reply{members: s.event()})
	}
}

// event returns the audit event of the latest call, decoded from JSON.
func (s *scene) event() (members map[string]any) {
	s.t.Helper()
	events := s.trail.take()
	require.NotEmpty(s.t, events)
	text, err := json.Marshal(events[len(events)-1])
	require.NoError(s.t, err)
	require.NoError(s.t, json.Unmarshal(text, &members))
	return members
}

// at returns the value at a path in decoded JSON, or nil if there is none.
func at(v any, path string) any {
	for step := range strings.SplitSeq(path, ".") {
		switch structure := v.(type) {
		case map[string]any:
			if step != "" {
				v = structure[step]
			}
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(structure) {
				return nil
			}
			v = structure[i]
		default:
			return nil
		}
	}
	return v
}

// refusesWith expects a message whose exception is not known.
func refusesWith(message string) expectation {
	return func(s *scene, got reply) {
		s.t.Helper()
		require.NotEmpty(s.t, got.code)
		require.Equal(s.t, message, got.message)
	}
}
