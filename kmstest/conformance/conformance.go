// Package conformance checks a KMS against what is known of AWS KMS: some hundred facts, each a call
// with its answer, which were recorded or observed at AWS, or documented or reported. The KMS may be
// the one of this module, a fake of your own, or AWS itself:
//
//	report := conformance.Check(ctx, conformance.Target{Call: awsclient.JSON(client)}, nil)
//	fmt.Println(report) // every deviation, and what was not run and why
//
// Each fact is checked with new keys, aliases and grants, which Check creates and afterwards deletes.
// A fact that needs what a target does not have, such as a clock that can be moved, is not run, and
// the report says so.
package conformance

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/kmstest"
)

// A Call calls an operation in a Region. Its input and output are the JSON of the API. The error for
// an exception has the methods ErrorCode and ErrorMessage, as those of the AWS SDK and of package kms
// do. If errors.Is finds [errors.ErrUnsupported] in it, the Call has no way to send the input, and the
// fact is not run. Any other error is a deviation.
type Call func(ctx context.Context, region, operation string, input []byte) (output []byte, err error)

// A Target is what is checked. Only Call is required, or Service in its place. What is absent leaves
// out the facts that need it.
type Target struct {
	// Call calls the target in its account. Its caller may do everything there, and it must reach the
	// Regions us-east-1 and eu-west-1.
	Call Call

	// Service is called in Go, in place of Call.
	Service *kms.Service

	// Account is the account of Call; empty means 111122223333.
	Account string

	// As returns a Call by another caller, a user, role or root, to whom only key policies and grants
	// of this check allow anything. A Service needs none.
	As func(arn string) Call

	// Clock moves the clock of the target. It must begin at [Start] if HTTP is set. A target whose clock
	// stands still, such as a service of kmstest, needs it: its replicas are never ready without.
	Clock Clock

	// Restart returns a target of the same kind, without keys, with other settings.
	Restart func(Settings) Target

	// Event returns the audit event of the latest call as JSON.
	Event func() []byte

	// Device is the CloudHSM cluster and the external key store proxy of the target: see [Devices].
	Device *kmstest.Device

	// HTTP means that Call sends its input as the body of a request, returns the body of the
	// response, and that its errors have a method Body() []byte.
	HTTP bool

	// Discard means that the target is discarded after each fact, so that nothing has to be deleted.
	Discard bool

	// replicasTakeLong, if it is not nil, is set when a replica was not ready in a minute, so that only
	// one fact of a Check waits for that.
	replicasTakeLong *bool
}

// A Clock is that of a target, such as a *kmstest.Service.
type Clock interface {
	Now() time.Time
	Advance(d time.Duration)
}

// Settings are those of a target that is started again.
type Settings struct {
	Region           string // of the calls; empty means us-east-1
	ReplicationDelay bool   // a replica takes kms.DefaultReplicationDelay, on the clock, to be created
}

// Start is the time by which the facts were written down.
var Start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// A Fact is a call of the API and its answer.
type Fact struct {
	Text   string             // in a few words
	Source string             // how it is known: recorded in a year, observed, reported, documented, inferred
	call   func(s *scene) any // prepares the call and returns its input, or a rawCall
	want   expectation
}

// Facts returns all facts, sorted by their texts, which are unique.
func Facts() []Fact {
	var all []Fact
	for _, about := range []func() []Fact{
		factsAboutKeys, factsAboutPolicies, factsAboutTags, factsAboutAliases, factsAboutRotation,
		factsAboutEncryption, factsAboutDataKeys, factsAboutSignatures, factsAboutMacs, factsAboutAgreementAndEncapsulation,
		factsAboutGrants, factsAboutImports, factsAboutImportedMultiRegionKeys, factsAboutMultiRegionKeys, factsAboutCustomKeyStores,
		factsAboutKindsOfIdentifiers, factsAboutInvalidEncryptionContexts, factsAboutKeysOfAnotherAccount, factsAboutPartitions,
		factsAboutFormsOfAnswers, factsAboutEvents,
	} {
		all = append(all, about()...)
	}
	slices.SortFunc(all, func(a, b Fact) int { return cmp.Compare(a.Text, b.Text) })
	return all
}

// An Outcome is what came of a fact.
type Outcome int

// The outcomes. The zero value is none of them.
const (
	Conforms Outcome = iota + 1
	Deviates
	NotRun
)

// A Result is that of one fact.
type Result struct {
	Fact
	Outcome Outcome
	Reason  string // how the target deviates, or what the fact needs that the target does not have
}

// Check checks the fact.
func (f Fact) Check(ctx context.Context, target Target) (result Result) {
	s := &scene{ctx: ctx, target: target}
	defer s.end()
	s.run(f)
	result = Result{Fact: f, Outcome: Conforms}
	switch {
	case s.missing != "":
		result.Outcome, result.Reason = NotRun, "needs "+s.missing
	case s.failed:
		result.Outcome = Deviates
		result.Reason = strings.Join(s.failures, "\n") + fmt.Sprintf("\nknown from: %s; answered: %s", f.Source, s.got)
	}
	return result
}

// Check checks all facts, or those for which selected returns true. The report is complete unless
// ctx ended.
func Check(ctx context.Context, target Target, selected func(Fact) bool) *Report {
	r := new(Report)
	target.replicasTakeLong = new(bool)
	for _, f := range Facts() {
		if ctx.Err() != nil {
			break
		}
		if selected == nil || selected(f) {
			r.Results = append(r.Results, f.Check(ctx, target))
		}
	}
	return r
}

// A Report has the result of each fact that was selected.
type Report struct{ Results []Result }

// With returns the results with an outcome.
func (r *Report) With(outcome Outcome) []Result {
	var found []Result
	for _, result := range r.Results {
		if result.Outcome == outcome {
			found = append(found, result)
		}
	}
	return found
}

// String returns the deviations, the facts that were not run by what they need, and the numbers.
func (r *Report) String() string {
	var b strings.Builder
	deviations, notRun := r.With(Deviates), r.With(NotRun)
	for _, d := range deviations {
		fmt.Fprintf(&b, "deviates: %s\n    %s\n", d.Text, strings.ReplaceAll(d.Reason, "\n", "\n    "))
	}
	slices.SortStableFunc(notRun, func(a, b Result) int { return cmp.Compare(a.Reason, b.Reason) })
	for i, n := range notRun {
		if i == 0 || n.Reason != notRun[i-1].Reason {
			fmt.Fprintf(&b, "not run: %s\n", n.Reason)
		}
		fmt.Fprintf(&b, "    %s\n", n.Text)
	}
	fmt.Fprintf(&b, "%d facts: %d conform, %d deviate, %d not run", len(r.Results), len(r.With(Conforms)), len(deviations), len(notRun))
	return b.String()
}
