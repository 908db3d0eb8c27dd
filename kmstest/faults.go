package kmstest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/internal/ciphertext"
	"github.com/pocketkms/kms/internal/testhook"
)

// A Fault makes calls fail or wait. It applies to every call unless Operations, Key, After, Count
// or Probability restrict it.
//
//	Fault{Operations: []string{"Decrypt"}, Err: Throttling(), Count: 2}
//	Fault{Key: "alias/app", Err: kms.DisabledException}
//	Fault{Operations: []string{"CreateKey"}, Err: ErrConnection, LoseResponse: true}
//	Fault{Latency: time.Second, WallClock: true}
type Fault struct {
	// Operations are the names of the operations, such as "Decrypt"; none means all.
	Operations []string

	// Key is the key ID, key ARN, alias name or alias ARN of a key; empty means that calls of any
	// key and of none are affected. A call is affected if its input names the key in any of these
	// forms, has the same text for an identifier, or has only a ciphertext of the key. A key ID or
	// alias name means both the key in the account and Region of the Service and that of the
	// caller.
	Key string

	// The first After matching calls are not affected. After Count affected calls the fault ends; 0
	// means that it does not.
	After, Count int

	// Probability is the share of the matching calls that are affected; 0 means all. Which ones
	// they are depends only on Seed and on the order of the calls.
	Probability float64
	Seed        uint64

	// Err is the error of the call: [Throttling], [Internal], [DependencyTimeout], any other
	// [kms.Error], a bare [kms.ErrorCode], [ErrConnection], or the error of a context. If it is
	// nil, the call only waits for Latency.
	//
	// The service answers with any exception, also one that the operation never has in AWS. A bare
	// code gets the message that AWS most often has for it, if one is known. Package awsapi answers
	// the error of a context with DependencyTimeoutException and status 503. Other errors become a
	// KMSInternalException, but an error of the AWS SDK fails the test.
	Err error

	// LoseResponse lets the call succeed, and then fails it with Err. That is what a client sees if
	// the connection breaks before the response arrives; it must not blindly repeat the call.
	LoseResponse bool

	// Latency is how long the call waits before anything else, or with LoseResponse after it has
	// succeeded. The call waits for [Service.Advance] or for the end of its context; when the test
	// ends, it fails with kms.ErrClosed. A test that makes the call and then calls Advance in the
	// same goroutine blocks forever: make the call in another goroutine, call BlockUntil(1), then
	// Advance; or set WallClock.
	Latency time.Duration

	// WallClock makes Latency a time of the wall clock, or of the bubble in package
	// testing/synctest.
	WallClock bool
}

// ErrConnection is the error of a call whose connection breaks. Package awsapi breaks the
// connection of its client, which gets a transport error.
var ErrConnection = testhook.ErrConnection

// Throttling returns the error of a call that exceeds the request quota.
func Throttling() error { return withMessage(kms.ThrottlingException) }

// Internal returns the error of a call that failed inside KMS. It can be retried.
func Internal() error { return withMessage(kms.KMSInternalException) }

// DependencyTimeout returns the error of a call that KMS could not complete in time. It can be
// retried.
func DependencyTimeout() error { return withMessage(kms.DependencyTimeoutException) }

// messages are the messages of AWS that do not depend on the call.
var messages = map[kms.ErrorCode]string{
	kms.ThrottlingException:        "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.",
	kms.KMSInternalException:       "The request could not be completed.",
	kms.DependencyTimeoutException: "The request was not completed in time.",
	kms.IncorrectKeyException:      "The key ID in the request does not identify a CMK that can perform this operation.",
	kms.DryRunOperationException:   "The request would have succeeded, but the DryRun option is set.",
}

func withMessage(code kms.ErrorCode) error { return &kms.Error{Code: code, Message: messages[code]} }

type fault struct {
	Fault
	id         int
	request    *faultRequest // of a [Server]
	seen, hits int
	random     *rand.Rand
}

// Inject adds a fault and returns a function that removes it. If several faults match a call, their
// latencies add up, and the first one with an error decides; the call does not count as affected by
// the others with an error. A fault that affects no call is not reported: see [Call].Injected.
func (s *Service) Inject(f Fault) (remove func()) {
	s.t.Helper()
	added, err := s.sim.inject(f, nil)
	s.require(err)
	return func() { s.sim.removeFaults(func(f *fault) bool { return f == added }) }
}

// inject adds a fault. With a request, which the fault remembers, their number is bounded.
func (s *simulator) inject(f Fault, request *faultRequest) (*fault, error) {
	if err := checkOperations(f.Operations); err != nil {
		return nil, err
	}
	switch {
	case isForeignException(f.Err):
		return nil, errors.New("the Err is not an exception of package kms: use kms.DisabledException or &kms.Error{Code: kms.DisabledException}")
	case f.Err == nil && f.LoseResponse:
		return nil, errors.New("a fault with LoseResponse needs an Err")
	case f.Err == nil && f.Latency == 0:
		return nil, errors.New("a fault needs an Err or a Latency")
	case f.Latency < 0 || f.After < 0 || f.Count < 0:
		return nil, errors.New("the Latency, After and Count must not be negative")
	case !(f.Probability >= 0 && f.Probability <= 1):
		return nil, errors.New("the Probability must be between 0 and 1")
	}
	f.Operations = slices.Clone(f.Operations)
	s.mu.Lock()
	defer s.mu.Unlock()
	if request != nil && len(s.faults) == maxFaults {
		return nil, fmt.Errorf("there are %d faults: remove those that are done", maxFaults)
	}
	s.injected++
	added := &fault{Fault: f, id: s.injected, request: request, random: rand.New(rand.NewPCG(f.Seed, 0))}
	s.faults = append(s.faults, added)
	return added, nil
}

// removeFaults removes faults, and returns how many.
func (s *simulator) removeFaults(which func(*fault) bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.faults)
	s.faults = slices.DeleteFunc(s.faults, which)
	return before - len(s.faults)
}

// isForeignException reports whether err has the code of an exception in a form that the service
// does not return as such: it is an error of the AWS SDK, or wrapped. As a fault it would become
// another exception than it says.
func isForeignException(err error) bool {
	switch err.(type) {
	case *kms.Error, kms.ErrorCode:
		return false
	}
	_, bare := errors.AsType[kms.ErrorCode](err)
	_, coded := errors.AsType[interface {
		error
		ErrorCode() string
	}](err)
	return bare || coded
}

// An effect is what all faults together do to a call.
type effect struct {
	before       latency
	err          error
	loseResponse bool
	after        latency // with loseResponse
}

type latency struct{ clock, wall time.Duration }

func (l *latency) add(f *fault) {
	if f.WallClock {
		l.wall += f.Latency
	} else {
		l.clock += f.Latency
	}
}

func (s *simulator) effect(call kms.Call) (e effect) {
	s.mu.Lock()
	faults := slices.Clone(s.faults)
	s.mu.Unlock()
	for _, f := range faults {
		if !f.matches(s.svc, call) || !s.hit(f, e.err != nil) {
			continue
		}
		if f.Err != nil {
			e.err, e.loseResponse = f.Err, f.LoseResponse
		}
		if f.LoseResponse {
			e.after.add(f)
		} else {
			e.before.add(f)
		}
	}
	if code, ok := e.err.(kms.ErrorCode); ok {
		e.err = &kms.Error{Code: code, Message: message(code, call)}
	}
	return e
}

// hit reports whether f, which matches a call, affects it. A second error does not affect a call.
func (s *simulator) hit(f *fault, failed bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.seen++
	if f.seen <= f.After || f.Count > 0 && f.hits == f.Count || failed && f.Err != nil ||
		f.Probability > 0 && f.random.Float64() >= f.Probability {
		return false
	}
	f.hits++
	return true
}

func (s *simulator) delay(ctx context.Context, l latency) error {
	if l.wall > 0 {
		if err := s.clock.waitWallClock(ctx, l.wall); err != nil {
			return err
		}
	}
	if l.clock > 0 {
		return s.clock.wait(ctx, l.clock)
	}
	return nil
}

// matches reports whether the fault applies to a call. home is the view that the test has.
func (f *fault) matches(home *kms.Service, call kms.Call) bool {
	named := len(f.Operations) == 0 || slices.Contains(f.Operations, call.Operation.Name())
	if !named || f.Key == "" {
		return named
	}
	view := call.Service
	arns := []string{keyARN(view, f.Key), keyARN(home, f.Key)}
	return slices.ContainsFunc(identifiers(view, call.Input), func(id string) bool {
		arn := keyARN(view, id)
		return id == f.Key || arn != "" && slices.Contains(arns, arn)
	})
}

// identifiers returns what an input names keys by. The first one is the key that the call is
// refused for first.
func identifiers(view *kms.Service, in any) (ids []string) {
	if arn := ciphertextARN(view, in); arn != "" {
		ids = append(ids, arn)
	}
	for _, member := range []string{"KeyId", "SourceKeyId", "DestinationKeyId", "TargetKeyId", "AliasName"} {
		if id := text(in, member); id != "" {
			ids = append(ids, id)
		}
	}
	return ids
}

// ciphertextARN returns the ARN of the key that the header of a ciphertext names. It returns "" if
// the input names the key itself or has no ciphertext of a symmetric key.
func ciphertextARN(view *kms.Service, in any) string {
	blob := reflect.ValueOf(in).Elem().FieldByName("CiphertextBlob")
	if !blob.IsValid() || text(in, "KeyId") != "" || text(in, "SourceKeyId") != "" {
		return ""
	}
	h := ciphertext.Parse(blob.Bytes())
	if h == nil {
		return ""
	}
	return arn.Key(h.Account(view.Caller().Account()), view.Region(), h.KeyID())
}

// text returns a member of an input, or "" if it has none of that name.
func text(in any, member string) string {
	if f := reflect.ValueOf(in).Elem().FieldByName(member); f.IsValid() {
		return f.String()
	}
	return ""
}

// keyARN returns the ARN of the key that an identifier means on a view of the service, or "" if
// there is no such alias. It does not check that the key exists.
func keyARN(view *kms.Service, id string) string {
	account, resource := view.Caller().Account(), id
	parsed, isARN := arn.Parse(id)
	if isARN {
		account, resource = parsed.Account, parsed.Resource
	}
	switch {
	case id == "", strings.HasPrefix(resource, arn.ReservedAliasPrefix): // to describe one would create its key
		return ""
	case isARN && !strings.HasPrefix(resource, arn.AliasPrefix):
		return id
	case !strings.HasPrefix(resource, arn.AliasPrefix):
		return arn.Key(account, view.Region(), id)
	}
	root, err := kms.ParsePrincipal(arn.Root(arn.Partition(view.Region()), account))
	if err != nil {
		return ""
	}
	out, err := view.As(root).DescribeKey(internalContext(), &kms.DescribeKeyInput{KeyId: id})
	if err != nil {
		return ""
	}
	return out.KeyMetadata.Arn
}

// message returns the message that AWS most often has for an exception of a call, or "" if none is
// known.
func message(code kms.ErrorCode, call kms.Call) string {
	if m, ok := messages[code]; ok {
		return m
	}
	view := call.Service
	ids := identifiers(view, call.Input)
	if len(ids) == 0 {
		return ""
	}
	if code == kms.NotFoundException {
		if arn.IsAlias(ids[0]) {
			return "Alias " + arn.Alias(view.Caller().Account(), view.Region(), ids[0]) + " is not found."
		} else if a, ok := arn.Parse(ids[0]); ok && arn.IsAlias(a.Resource) {
			return "Alias " + ids[0] + " is not found."
		}
	}
	key := keyARN(view, ids[0])
	if key == "" {
		return ""
	}
	switch code {
	case kms.NotFoundException:
		return "Key '" + key + "' does not exist"
	case kms.DisabledException:
		return key + " is disabled."
	case kms.KMSInvalidStateException:
		return key + " is pending deletion."
	case kms.AccessDeniedException:
		resource := "resource: " + key
		if arn := ciphertextARN(view, call.Input); arn != "" {
			resource = "resource: " + arn
		}
		action := "kms:" + call.Operation.Name()
		if action == "kms:ReEncrypt" {
			action = "kms:ReEncryptFrom"
		}
		return fmt.Sprintf("User: %s is not authorized to perform: %s on %s because no identity-based policy allows the %s action",
			view.Caller(), action, resource, action)
	}
	return ""
}
