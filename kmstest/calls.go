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

// A Call is one call of an operation, as it was recorded. It is printed as an audit event would tell of it, without
// plaintexts and other secrets; only Input and Output give them.
type Call struct {
	Operation string // its name: "Decrypt"
	Caller    kms.Principal
	Region    string
	Time      time.Time // of its beginning, by the Service's clock
	Pending   bool      // it has not ended yet: it has neither an output nor an error
	Err       error     // nil if it succeeded
	Injected  bool      // Err is that of a [Fault]

	in, out func() any // functions, because fmt and test reports look into all else
}

// Input returns a copy of what was sent, such as a *kms.DecryptInput.
func (c Call) Input() any { return c.in() }

// Output returns a copy of what was answered, such as a *kms.DecryptOutput; nil with an error, or as long as the call is
// pending.
func (c Call) Output() any { return c.out() }

// String tells of the call in one line.
func (c Call) String() string {
	in := c.in()
	var b audit.Builder
	var input audit.Object
	b.Start(&input, "input", audit.MaxFailedBytes)
	shape.OfType(reflect.TypeOf(in).Elem()).VisitLoggable(in, &b)
	params := "{}"
	b.Finish()
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

// Calls returns the calls of the named operations, of all if there is no name, in the order in which they began. It fails the
// test if there is no such operation. What it returns is the caller's own.
func (s *Service) Calls(operations ...string) []Call {
	s.t.Helper()
	for _, name := range operations {
		s.known(name)
	}
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

// ResetCalls forgets the calls so far. All are kept until then, at about the size of their inputs and outputs.
func (s *Service) ResetCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = nil
}

// Inputs returns copies of what was sent to one operation, in the order of the calls. It fails the test if In is no
// operation's input, as those of the AWS SDK are not.
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
	for _, name := range operations {
		s.known(name)
	}
	calls := s.Calls()
	if !slices.EqualFunc(calls, operations, func(c Call, name string) bool { return c.Operation == name }) {
		t.Fatalf("want the calls %s\ngot %s", strings.Join(operations, ", "), list(calls))
	}
}

// RequireCalled fails t unless an operation was called so many times, failed calls included.
func (s *Service) RequireCalled(t testing.TB, operation string, times int) {
	t.Helper()
	if n := len(s.Calls(operation)); n != times {
		t.Fatalf("want %d calls of %s, got %d; all calls: %s", times, operation, n, list(s.Calls()))
	}
}

func list(calls []Call) string {
	if len(calls) == 0 {
		return "none"
	}
	var b strings.Builder
	for i, c := range calls {
		fmt.Fprintf(&b, "\n%3d. %s", i+1, c)
	}
	return b.String()
}

// A record is a call under way or ended; the Service's lock guards it.
type record struct {
	Call
	input, output any
}

func (r *record) call() Call {
	c, input, output := r.Call, r.input, r.output
	c.in, c.out = func() any { return clone(input) }, func() any { return clone(output) }
	return c
}

func (s *Service) begin(on *kms.Service, op kms.Operation, in any) *record {
	r := &record{
		Call:  Call{Operation: op.Name(), Caller: on.Caller(), Region: on.Region(), Time: s.Now(), Pending: true},
		input: clone(in),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, r)
	return r
}

func (s *Service) end(r *record, out any, err error, injected bool) {
	output := clone(out)
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Pending, r.Err, r.Injected, r.output = false, err, injected, output
}

// clone returns a deep copy of an input or output, or nil.
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
