package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsapi"
)

// A scene is where one fact is checked: a fixture and the caller. It is its own test.
type scene struct {
	ctx    context.Context
	target Target
	start  time.Time
	svc    *kms.Service // a service whose calls are those of the target
	caller *kms.Service // the view that the call is made on
	opened []*kms.Service
	key    *kms.KeyMetadata // that a message calls {key}
	fixture

	made     []madeThing // what the fact has created, in its order
	got      reply
	checked  bool   // an expectation was checked
	skipped  string // what an expectation needs that was not checked
	missing  string // what the fact needs
	failed   bool
	failures []string
}

// A rawCall is a call that can be made only by its JSON, because no Go input has it.
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

func (r reply) String() string {
	if r.code != "" {
		return fmt.Sprintf("%s %q", r.code, r.message)
	}
	return fmt.Sprint(r.members)
}

// The methods of a test, which package require calls.

type stopped struct{}

func (s *scene) Helper()                  {}
func (s *scene) Context() context.Context { return s.ctx }
func (s *scene) FailNow()                 { s.failed = true; panic(stopped{}) }
func (s *scene) Errorf(format string, arguments ...any) {
	s.failed = true
	text := fmt.Sprintf(format, arguments...)
	if _, cause, ok := strings.Cut(text, "Error:"); ok { // of package require, after a trace of this package
		text = cause
	}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			s.failures = append(s.failures, line)
		}
	}
}

// needs ends the check because the target does not have what it needs.
func (s *scene) needs(what string) {
	s.missing = what
	panic(stopped{})
}

// run checks a fact.
func (s *scene) run(f Fact) {
	defer func() {
		if p := recover(); p != nil && p != (stopped{}) {
			s.Errorf("the check panicked: %v", p)
		}
		if s.missing == "" && !s.checked && !s.failed {
			s.missing = s.skipped
		}
	}()
	s.open("us-east-1")
	in := f.call(s)
	s.got = s.send(in)
	f.want(s, s.got)
}

// open makes the target the service of the scene.
func (s *scene) open(region string) {
	svc, err := kms.New(kms.Config{Region: region, Intercept: s.forward, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(s, err)
	s.opened = append(s.opened, svc)
	s.svc, s.caller = svc, svc
	s.start = time.Now().Truncate(time.Second)
	if s.target.Clock != nil {
		s.start = s.target.Clock.Now()
	}
	s.fixture = fixture{}
}

// restart replaces the target by one with other settings and no keys.
func (s *scene) restart(with Settings) {
	if s.target.Restart == nil {
		s.needs("a target that can be started with other settings")
	}
	if with.Region == "" {
		with.Region = "us-east-1"
	}
	s.target = s.target.Restart(with)
	s.open(with.Region)
}

func (s *scene) end() {
	if !s.target.Discard {
		s.deleteMade()
	}
	for _, svc := range s.opened {
		svc.Close()
	}
}

// as sets the caller.
func (s *scene) as(arn string) {
	p, err := kms.ParsePrincipal(arn)
	require.NoError(s, err)
	s.caller = s.svc.As(p)
}

// do makes a call that prepares the scene. It must succeed.
func (s *scene) do(in any) map[string]any {
	s.Helper()
	got := s.sendAs(s.svc, in)
	require.Empty(s, got.code+got.message)
	return got.members
}

// create creates the key {key}.
func (s *scene) create(in *kms.CreateKeyInput) *kms.KeyMetadata {
	s.key = createKey(s, s.svc, in)
	return s.key
}

// alone ends the check if there may be keys that the fact has not created.
func (s *scene) alone() bool {
	if !s.target.Discard {
		s.needs("an account without other keys")
	}
	return true
}

func (s *scene) now() time.Time {
	if s.target.Clock == nil {
		s.needs("a clock that moves")
	}
	return Start.Add(s.target.Clock.Now().Sub(s.start))
}

func (s *scene) advance(d time.Duration) {
	if s.target.Clock == nil {
		s.needs("a clock that moves")
	}
	s.target.Clock.Advance(d)
}

func operationOf(in any) kms.Operation {
	name := strings.TrimSuffix(reflect.TypeOf(in).Elem().Name(), "Input")
	for _, op := range kms.Operations() {
		if op.Name() == name {
			return op
		}
	}
	panic("there is no operation " + name)
}

// send makes a call.
func (s *scene) send(in any) reply { return s.sendAs(s.caller, in) }

func (s *scene) sendAs(view *kms.Service, in any) reply {
	var got reply
	var err error
	if raw, ok := in.(rawCall); ok {
		if s.target.Service != nil {
			s.needs("inputs that are sent as JSON")
		}
		got, err = s.sendJSON(s.ctx, view, raw.operation, []byte(raw.body))
	} else {
		got, _, err = s.invoke(s.ctx, view, operationOf(in), in)
	}
	if s.missing != "" {
		panic(stopped{})
	}
	require.NoError(s, err)
	return got
}

// forward makes a call of the scene's service one of the target.
func (s *scene) forward(ctx context.Context, call kms.Call, _ func(context.Context) (any, error)) (any, error) {
	got, out, err := s.invoke(ctx, call.Service, call.Operation, call.Input)
	switch {
	case err != nil:
		return nil, &kms.Error{Code: "TransportError", Message: err.Error()}
	case got.code != "":
		return nil, &kms.Error{Code: kms.ErrorCode(got.code), Message: got.message}
	case out != nil:
		return out, nil
	}
	method, _ := reflect.TypeFor[*kms.Service]().MethodByName(call.Operation.Name())
	out = reflect.New(method.Type.Out(0).Elem()).Interface()
	return out, awsapi.Unmarshal([]byte(got.body), out)
}

// invoke calls an operation of the target, as a view of the scene's service says. The error is one
// that is not the API's.
func (s *scene) invoke(ctx context.Context, view *kms.Service, op kms.Operation, in any) (got reply, out any, err error) {
	if i, ok := in.(*kms.ImportKeyMaterialInput); ok && !i.ValidTo.Before(Start) {
		shifted := *i
		shifted.ValidTo = i.ValidTo.Add(s.start.Sub(Start))
		in = &shifted
	}
	body, err := awsapi.Marshal(in)
	if err != nil {
		return got, nil, err
	}
	s.needsAlias(string(body))
	if op.Name() == "CreateCustomKeyStore" && s.target.Device == nil {
		s.missing = "a device for custom key stores"
		return got, nil, errors.ErrUnsupported
	}
	if s.target.Service == nil {
		got, err = s.sendJSON(ctx, view, op.Name(), body)
		return got, nil, err
	}
	out, err = op.Invoke(ctx, s.target.Service.In(view.Region()).As(view.Caller()), in)
	if err == nil {
		if body, err = awsapi.Marshal(out); err == nil {
			err = json.Unmarshal(body, &got.members)
		}
		return got, out, err
	}
	got, err = refused(err)
	return got, nil, err
}

const account = "111122223333"

// sendJSON calls an operation by its JSON.
func (s *scene) sendJSON(ctx context.Context, view *kms.Service, operation string, input []byte) (got reply, err error) {
	call, arn := s.target.Call, view.Caller().String()
	ours := s.target.Account != "" && s.target.Account != account
	switch {
	case arn != s.svc.Caller().String() && s.target.As == nil:
		s.missing = "another caller"
		return got, errors.ErrUnsupported
	case arn != s.svc.Caller().String():
		call = s.target.As(arn)
	case s.target.As == nil && ours && (strings.Contains(string(input), ":user/alice") || strings.Contains(string(input), ":role/worker")):
		s.missing = "a user alice and a role worker"
		return got, errors.ErrUnsupported
	}
	if ours {
		input = []byte(strings.ReplaceAll(string(input), account, s.target.Account))
	}
	output, err := call(ctx, view.Region(), operation, input)
	if errors.Is(err, errors.ErrUnsupported) {
		s.missing = "a client that can send it"
		return got, err
	}
	if err != nil {
		if got, err = refused(err); err != nil {
			return got, err
		}
	} else {
		got.body = string(output)
	}
	if ours {
		got.body = strings.ReplaceAll(got.body, s.target.Account, account)
		got.message = strings.ReplaceAll(got.message, s.target.Account, account)
	}
	if got.code != "" {
		return got, nil
	}
	got.members = map[string]any{}
	if len(got.body) > 0 {
		if err := json.Unmarshal([]byte(got.body), &got.members); err != nil {
			return got, fmt.Errorf("the output is not JSON: %w", err)
		}
	}
	s.note(view.Region(), operation, input, got.members)
	return got, nil
}

// refused returns the reply of an exception, or err if it is none.
func refused(err error) (reply, error) {
	exception, ok := errors.AsType[interface {
		error
		ErrorCode() string
		ErrorMessage() string
	}](err)
	if !ok {
		return reply{}, err
	}
	got := reply{code: exception.ErrorCode(), message: exception.ErrorMessage()}
	if sent, ok := errors.AsType[interface {
		error
		Body() []byte
	}](err); ok {
		got.body = string(sent.Body())
	}
	return got, nil
}

// A madeThing is what is deleted after the check, by a call.
type madeThing struct{ region, operation, input string }

// note notes what a call has created.
func (s *scene) note(region, operation string, input []byte, output map[string]any) {
	made := func(operation, member string, value any) {
		text, err := json.Marshal(map[string]any{member: value})
		if err == nil && value != nil {
			s.made = append(s.made, madeThing{region, operation, string(text)})
		}
	}
	switch operation {
	case "CreateKey":
		made("ScheduleKeyDeletion", "KeyId", at(output, "KeyMetadata.KeyId"))
	case "ReplicateKey":
		region, _ = at(output, "ReplicaKeyMetadata.MultiRegionConfiguration.ReplicaKeys.0.Region").(string)
		made("ScheduleKeyDeletion", "KeyId", at(output, "ReplicaKeyMetadata.KeyId"))
	case "CreateAlias":
		var in struct{ AliasName string }
		if json.Unmarshal(input, &in) == nil {
			made("DeleteAlias", "AliasName", in.AliasName)
		}
	case "CreateCustomKeyStore":
		made("DeleteCustomKeyStore", "CustomKeyStoreId", output["CustomKeyStoreId"])
	}
}

// deleteMade deletes what the fact has created, the last first. What cannot be deleted is left: the
// fact may have deleted it.
func (s *scene) deleteMade() {
	if s.target.Call == nil {
		return
	}
	ctx := context.WithoutCancel(s.ctx)
	for _, m := range slices.Backward(s.made) {
		s.target.Call(ctx, m.region, m.operation, []byte(strings.Replace(m.input, "}", deletionWindow[m.operation]+"}", 1)))
	}
}

var deletionWindow = map[string]string{"ScheduleKeyDeletion": `,"PendingWindowInDays":7`}
