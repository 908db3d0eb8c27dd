package kmstest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/internal/shape"
)

// A Call is a recorded call of an operation. It prints what an audit event would hold, without
// plaintexts and other secrets: only Input and Output return those.
type Call struct {
	Operation string // the name of the operation: "Decrypt"
	Caller    kms.Principal
	Region    string
	Time      time.Time // when the call began, by the Service's clock
	Pending   bool      // the call has not ended: it has neither an output nor an error
	Err       error     // nil if the call succeeded
	Injected  bool      // Err is that of a [Fault]

	in, out func() any // functions, because fmt and test reports print everything else
}

// Input returns a copy of the input, such as a *kms.DecryptInput.
func (c Call) Input() any { return c.in() }

// Output returns a copy of the output, such as a *kms.DecryptOutput. It returns nil if the call
// failed or has not ended.
func (c Call) Output() any { return c.out() }

// String returns a description of the call in one line.
func (c Call) String() string {
	in := c.in()
	var b audit.Builder
	var input audit.Object
	b.Start(&input, "input", audit.MaxFailedBytes)
	shape.OfType(reflect.TypeOf(in).Elem()).VisitLoggable(in, &b)
	params := "{}"
	b.Finish(true)
	if !input.IsZero() {
		params = input.String()
	}
	end := "succeeded"
	var failure *kms.Error
	switch {
	case c.Pending:
		end = "is pending"
	case errors.As(c.Err, &failure):
		end = string(failure.Code)
	case c.Err != nil:
		end = c.Err.Error()
	}
	if c.Injected {
		end += " (injected)"
	}
	return fmt.Sprintf("%s %s: %s", c.Operation, params, end)
}

// Calls returns the calls of the named operations, or of all operations if no name is given, in the
// order in which they began. It fails the test if an operation does not exist. The caller owns the
// result.
func (s *Service) Calls(operations ...string) []Call {
	s.t.Helper()
	s.require(checkOperations(operations))
	return s.sim.callsOf(operations)
}

func (s *simulator) callsOf(operations []string) []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := []Call{}
	for _, r := range s.calls {
		if len(operations) == 0 || slices.Contains(operations, r.Operation) {
			found = append(found, r.call())
		}
	}
	return found
}

// ResetCalls discards the recorded calls. Until then every call is kept, which takes about the
// memory of its input and output.
func (s *Service) ResetCalls() { s.sim.resetCalls() }

func (s *simulator) resetCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls, s.dropped = nil, 0
}

// Inputs returns copies of the inputs of one operation, in the order of its calls. It fails the
// test if In is not the input of an operation of package kms; those of the AWS SDK are not.
//
//	for _, in := range kmstest.Inputs[kms.DecryptInput](svc) { ... }
func Inputs[In any](s *Service) []*In {
	s.t.Helper()
	isInput := func(op kms.Operation) bool { _, ok := op.NewInput().(*In); return ok }
	if !slices.ContainsFunc(kms.Operations(), isInput) {
		s.t.Fatalf("kmstest: no operation of the Service takes a %v", reflect.TypeFor[In]())
	}
	inputs := []*In{}
	for _, c := range s.Calls() {
		if in, ok := c.Input().(*In); ok {
			inputs = append(inputs, in)
		}
	}
	return inputs
}

// RequireCalls fails t unless exactly these operations were called, in this order.
func (s *Service) RequireCalls(t testing.TB, operations ...string) {
	t.Helper()
	s.require(checkOperations(operations))
	calls := s.Calls()
	if !slices.EqualFunc(calls, operations, func(c Call, name string) bool { return c.Operation == name }) {
		t.Fatalf("want the calls %s\ngot %s", strings.Join(operations, ", "), format(calls))
	}
}

// RequireCalled fails t unless an operation was called that many times, failed calls included.
func (s *Service) RequireCalled(t testing.TB, operation string, times int) {
	t.Helper()
	if n := len(s.Calls(operation)); n != times {
		t.Fatalf("want %d calls of %s, got %d; all calls: %s", times, operation, n, format(s.Calls()))
	}
}

func format(calls []Call) string {
	if len(calls) == 0 {
		return "none"
	}
	var b strings.Builder
	for i, c := range calls {
		fmt.Fprintf(&b, "\n%3d. %s", i+1, c)
	}
	return b.String()
}

// A record is a call that has begun. The lock of its simulator guards it.
type record struct {
	Call
	input, output any
}

func (r *record) call() Call {
	c, input, output := r.Call, r.input, r.output
	c.in, c.out = func() any { return clone(input) }, func() any { return clone(output) }
	return c
}

func (s *simulator) beginCall(call kms.Call) *record {
	view := call.Service
	r := &record{
		Call:  Call{Operation: call.Operation.Name(), Caller: view.Caller(), Region: view.Region(), Time: s.clock.read(), Pending: true},
		input: clone(call.Input),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keep > 0 && len(s.calls) == s.keep {
		s.calls = slices.Delete(s.calls, 0, 1)
		s.dropped++
	}
	s.calls = append(s.calls, r)
	return r
}

func (s *simulator) endCall(r *record, out any, err error, injected bool) {
	output := clone(out)
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Pending, r.Err, r.Injected, r.output = false, err, injected, output
}

// clone returns a deep copy of an input or output. It returns nil for nil.
func clone(v any) any {
	if v == nil {
		return nil
	}
	return cloneValue(reflect.ValueOf(v)).Interface()
}

func cloneValue(v reflect.Value) reflect.Value {
	c := reflect.New(v.Type()).Elem()
	c.Set(v)
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
	case v.Kind() == reflect.Pointer && !v.IsNil():
		c.Set(reflect.New(v.Type().Elem()))
		c.Elem().Set(cloneValue(v.Elem()))
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			c.Field(i).Set(cloneValue(v.Field(i)))
		}
	case v.Kind() == reflect.Slice && !v.IsNil():
		c.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		if v.Type().Elem().Kind() == reflect.Uint8 {
			reflect.Copy(c, v)
			return c
		}
		for i := range v.Len() {
			c.Index(i).Set(cloneValue(v.Index(i)))
		}
	case v.Kind() == reflect.Map && !v.IsNil():
		c.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
		for entries := v.MapRange(); entries.Next(); {
			c.SetMapIndex(entries.Key(), cloneValue(entries.Value()))
		}
	}
	return c
}
