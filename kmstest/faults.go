package kmstest

import (
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/testhook"
)

// A Fault says which calls fail or are slow, and how. Its zero value is about every call.
type Fault struct {
	// Operations are the names of those that it is about, such as "Decrypt"; none means all.
	Operations []string

	// Key is the key ID, key ARN, alias name or alias ARN of the key that it is about; absent means any, or none. A call is
	// about a key if it names it in any of these forms, or sends a ciphertext that does; and wherever it sends the same text.
	// A bare ID or alias name means the key of the Service's own account and Region, and that of the caller's.
	Key string

	// After lets so many such calls pass before, and Count ends the fault after so many were hit; 0 means no end.
	After, Count int

	// Probability is that of hitting such a call; 0 means 1. The calls that are hit depend on Seed and on their order alone.
	Probability float64
	Seed        uint64

	// Err is what the call fails with: [Throttling], [Internal], [DependencyTimeout], any other [kms.Error], such as
	// &kms.Error{Code: kms.DisabledException}, [ErrConnection] or a context's error. The code is sent as it is, even one
	// that the operation never answers with; a bare [kms.ErrorCode] is an error without a message. Nil lets the call go on
	// after its Latency. Any other error becomes a KMSInternalException, but those of the AWS SDK fail the test. Through
	// package awsapi, a context's error is a DependencyTimeoutException with status 503, unless the client's own context
	// has ended.
	Err error

	// Late lets the call take effect first, and loses its answer: what a client sees who must not repeat the call blindly.
	Late bool

	// Latency is how long the call takes before all else, or with Late after its effect. It waits for [Service.Advance], or
	// for the end of its context. A test that makes the call and never advances waits for ever: use RealTime, or call from
	// another goroutine, BlockUntil(1), then Advance. Waiting calls end with kms.ErrClosed when the test does.
	Latency time.Duration

	// RealTime makes Latency a time of the computer's clock: of the bubble's in package testing/synctest, where it costs
	// none.
	RealTime bool
}

// ErrConnection is the error of a call whose connection breaks. Through package awsapi the connection breaks indeed, and the
// client has an error of its transport.
var ErrConnection = testhook.ErrConnection

// Throttling is the error of a call beyond the request quota.
func Throttling() error {
	return &kms.Error{Code: kms.ThrottlingException,
		Message: "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."}
}

// Internal is the error of a call that failed inside of KMS, and may be repeated.
func Internal() error {
	return &kms.Error{Code: kms.KMSInternalException, Message: "The request could not be completed."}
}

// DependencyTimeout is the error of a call that KMS could not complete in time, and may be repeated.
func DependencyTimeout() error {
	return &kms.Error{Code: kms.DependencyTimeoutException, Message: "The request was not completed in time."}
}

type fault struct {
	Fault
	seen, hits int
	random     *rand.Rand
}

// Inject adds a fault, until remove is called. Where several match a call, their latencies add up, and the first one with an
// error decides; others with an error do not hit the call, and so keep their Count for later ones. A fault that no call meets
// is not reported: look for [Call].Injected.
func (s *Service) Inject(f Fault) (remove func()) {
	s.t.Helper()
	for _, name := range f.Operations {
		s.known(name)
	}
	if code, ok := f.Err.(kms.ErrorCode); ok {
		f.Err = &kms.Error{Code: code}
	}
	switch {
	case resembles(f.Err):
		s.t.Fatalf("kmstest: Err is not the service's: write &kms.Error{Code: kms.DisabledException}")
	case f.Err == nil && f.Latency == 0:
		s.t.Fatalf("kmstest: a fault needs an Err or a Latency")
	case f.Err == nil && f.Late:
		s.t.Fatalf("kmstest: a late fault needs an Err")
	case f.Latency < 0 || f.After < 0 || f.Count < 0 || !(f.Probability >= 0 && f.Probability <= 1):
		s.t.Fatalf("kmstest: Latency, After and Count are not negative, and Probability is between 0 and 1")
	}
	f.Operations = slices.Clone(f.Operations)
	added := &fault{Fault: f, random: rand.New(rand.NewPCG(f.Seed, 0))}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, added)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.faults = slices.DeleteFunc(s.faults, func(f *fault) bool { return f == added })
	}
}

// resembles tells whether err has the code of an exception, but is none that the service passes on: it is the AWS SDK's, or
// wrapped. As a fault it would be another exception than it says.
func resembles(err error) bool {
	if _, ok := err.(*kms.Error); ok {
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
	before latency
	err    error
	late   bool
	after  latency // with late
}

type latency struct{ clock, realTime time.Duration }

func (l *latency) add(f *fault) {
	if f.RealTime {
		l.realTime += f.Latency
	} else {
		l.clock += f.Latency
	}
}

func (s *Service) effect(on *kms.Service, op kms.Operation, in any) (e effect) {
	s.mu.Lock()
	faults := slices.Clone(s.faults)
	s.mu.Unlock()
	for _, f := range faults {
		if !f.matches(s.Service, on, op, in) || !s.hit(f, e.err != nil) {
			continue
		}
		if f.Err != nil {
			e.err, e.late = f.Err, f.Late
		}
		if f.Late {
			e.after.add(f)
		} else {
			e.before.add(f)
		}
	}
	return e
}

// hit tells whether f, which matches a call, hits it. If the call has an error already, another one does not.
func (s *Service) hit(f *fault, failed bool) bool {
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

func (s *Service) delay(ctx context.Context, l latency) error {
	if l.realTime > 0 {
		if err := s.clock.waitRealTime(ctx, l.realTime); err != nil {
			return err
		}
	}
	if l.clock > 0 {
		return s.clock.wait(ctx, l.clock)
	}
	return nil
}

// matches tells whether a call on a view of home is one that the fault is about.
func (f *fault) matches(home, on *kms.Service, op kms.Operation, in any) bool {
	named := len(f.Operations) == 0 || slices.Contains(f.Operations, op.Name())
	if !named || f.Key == "" {
		return named
	}
	abouts := []string{resolve(on, f.Key), resolve(home, f.Key)} // for the caller, and for the writer of the test
	return slices.ContainsFunc(identifiers(on, in), func(sent string) bool {
		arn := resolve(on, sent)
		return sent == f.Key || arn != "" && slices.Contains(abouts, arn)
	})
}

// identifiers are what an input names keys by.
func identifiers(on *kms.Service, in any) (sent []string) {
	v := reflect.ValueOf(in).Elem()
	text := func(member string) string {
		if f := v.FieldByName(member); f.IsValid() {
			return f.String()
		}
		return ""
	}
	for _, member := range []string{"KeyId", "SourceKeyId", "DestinationKeyId", "TargetKeyId", "AliasName"} {
		if id := text(member); id != "" {
			sent = append(sent, id)
		}
	}
	if blob := v.FieldByName("CiphertextBlob"); blob.IsValid() && text("KeyId")+text("SourceKeyId") == "" {
		sent = append(sent, keyOfCiphertext(on, blob.Bytes()))
	}
	return sent
}

// resolve returns the ARN of the key that an identifier means on a view of the service; empty if there is none.
func resolve(on *kms.Service, id string) string {
	partition, account := on.Caller().Partition(), on.Caller().Account()
	bare := !strings.HasPrefix(id, "arn:")
	switch {
	case id == "" || strings.Contains(id, "alias/aws/"): // to describe one would make its key
		return ""
	case !bare && strings.Contains(id, ":key/"):
		return id
	case bare && !strings.HasPrefix(id, "alias/"):
		return keyARN(partition, on.Region(), account, id)
	case !bare:
		if parts := strings.Split(id, ":"); len(parts) == 6 {
			account = parts[4]
		}
	}
	root, err := kms.ParsePrincipal("arn:" + partition + ":iam::" + account + ":root")
	if err != nil {
		return ""
	}
	out, err := on.As(root).DescribeKey(ownContext(), &kms.DescribeKeyInput{KeyId: id})
	if err != nil {
		return ""
	}
	return out.KeyMetadata.Arn
}

func keyARN(partition, region, account, id string) string {
	return "arn:" + partition + ":kms:" + region + ":" + account + ":key/" + id
}
