package kms_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

// requireAgreement requires that an explanation, or why there is none, says of a call what the call
// then did.
func requireAgreement(t *testing.T, e *kms.Explanation, explainErr, callErr error) {
	t.Helper()
	var refusal *kms.Error
	isError := errors.As(callErr, &refusal)
	lockout := isError && strings.HasPrefix(refusal.Message, "The new key policy will not allow you")
	switch {
	case isError && (refusal.Code == kms.AccessDeniedException || lockout):
		require.NoError(t, explainErr)
		require.False(t, e.Allowed(), "the call was refused: %v\n%s", callErr, e)
		require.Equal(t, refusal.Code, e.Error)
		require.Equal(t, refusal.Message, e.Message)
		require.Equal(t, e.Verdict == kms.VerdictExplicitDeny, strings.Contains(refusal.Message, "with an explicit deny in") || e.Reason == "explicit-deny")
	case callErr == nil:
		require.NoError(t, explainErr)
		require.True(t, e.Allowed(), "the call was allowed\n%s", e)
		require.Empty(t, e.Message)
	case explainErr != nil:
		require.Equal(t, callErr.Error(), explainErr.Error())
		return
	default:
		require.True(t, e.Allowed(), "the call failed after it was authorized: %v\n%s", callErr, e)
	}
	require.NotEmpty(t, e.Because)
	require.Equal(t, "anonymous" == e.Reason, strings.HasPrefix(e.Principal, "anonymous"))
	for _, d := range e.Decisions {
		require.Len(t, d.Steps, 7)
		decides := 0
		for _, step := range d.Steps {
			require.NotEmpty(t, step.Because, "%s", step.Step)
			if step.Decides {
				decides++
			}
		}
		require.NotZero(t, decides, "no step decides\n%s", e)
		require.LessOrEqual(t, decides, 2)
	}
}

// TestExplainAgreesWithDecisions explains the decisions of TestDecisions, and makes the calls.
func TestExplainAgreesWithDecisions(t *testing.T) {
	text, err := os.ReadFile(cmp.Or(os.Getenv("DECISIONS"), "testdata/decisions.json"))
	require.NoError(t, err)
	var file decisionsFile
	require.NoError(t, json.Unmarshal(text, &file))
	for _, raw := range file.Cases {
		var c decisionCase
		require.NoError(t, json.Unmarshal(raw, &c))
		t.Run(c.Name, func(t *testing.T) {
			if !slices.ContainsFunc(kms.Operations(), func(op kms.Operation) bool { return op.Name() == c.Request.Operation }) {
				t.Fatalf("there is no operation %s", c.Request.Operation)
			}
			r := newReplay(t, &c)
			defer func() { require.NoError(t, r.svc.Close()) }()
			var e, again *kms.Explanation
			var explainErr error
			r.before = func(ctx context.Context, svc *kms.Service, in any) {
				e, explainErr = svc.Explain(ctx, in)
				again, _ = svc.Explain(ctx, in)
			}
			callErr := r.request()
			requireAgreement(t, e, explainErr, callErr)
			require.Equal(t, e, again, "an explanation changes nothing")
			if explainErr == nil && !slices.Contains([]string{"malformed-policy", "invalid-principal", "policy-too-large", "not-found"}, c.Expect.Reason) {
				require.Equal(t, c.Expect.Reason, e.Reason, "%s", e)
			}
		})
	}
}
