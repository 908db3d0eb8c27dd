package kms_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
)

// BenchmarkAuthorize measures Encrypt with policies of several sizes and forms: what authorization
// costs is the difference to the first. BenchmarkDecision has the decision only.
func BenchmarkAuthorize(b *testing.B) {
	app := principal(b, "arn:aws:sts::111122223333:assumed-role/app/session")
	withPolicy := func(document string) kms.Principal {
		return must(app.WithIdentity(kms.Identity{Policies: []kms.Policy{{Document: document}}}))
	}
	for _, bench := range []struct {
		name   string
		policy string // of the key
		caller kms.Principal
		grants int
	}{
		{"default policy, root", "", rootOf(b, "111122223333"), 0},
		{"default policy, identity policy", "", withPolicy(allowAll), 0},
		{"10 statements", statements(10, false), app, 0},
		{"100 statements with conditions", statements(100, true), app, 0},
		{"32 KiB", statements(115, true), app, 0},
		{"10 grants", "", app, 10},
		{"50000 grants", "", app, 50_000},
	} {
		b.Run(bench.name, func(b *testing.B) {
			svc, id := benchService(b, nil)
			createGrants(svc, id, bench.grants)
			if bench.policy != "" {
				must(svc.PutKeyPolicy(context.Background(), &kms.PutKeyPolicyInput{KeyId: id, Policy: bench.policy}))
			}
			in := &kms.EncryptInput{KeyId: id, Plaintext: benchPlaintext, EncryptionContext: benchContext}
			view := svc.As(bench.caller)
			ctx := audit.ContextWithRequestInfo(context.Background(), audit.RequestInfo{SourceIPAddress: "192.0.2.7"})
			must(view.Encrypt(ctx, in))
			b.ReportAllocs()
			for b.Loop() {
				must(view.Encrypt(ctx, in))
			}
		})
	}
}

// createGrants creates n grants of a key, one of them to the role app.
func createGrants(svc *kms.Service, keyID string, n int) {
	for i := range n {
		grantee := fmt.Sprintf("arn:aws:iam::111122223333:role/other%d", i)
		if i == n/2 {
			grantee = "arn:aws:iam::111122223333:role/app"
		}
		must(svc.CreateGrant(context.Background(), &kms.CreateGrantInput{KeyId: keyID, GranteePrincipal: grantee, Operations: []kms.GrantOperation{kms.GrantOperationEncrypt}}))
	}
}

// BenchmarkCreateGrant creates and revokes a grant of a key that has many.
func BenchmarkCreateGrant(b *testing.B) {
	for _, n := range []int{10, 49_999} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			ctx := context.Background()
			svc, id := benchService(b, nil)
			createGrants(svc, id, n)
			in := &kms.CreateGrantInput{KeyId: id, GranteePrincipal: "arn:aws:iam::111122223333:role/app", Operations: []kms.GrantOperation{kms.GrantOperationDecrypt}}
			b.ReportAllocs()
			for b.Loop() {
				out := must(svc.CreateGrant(ctx, in))
				must(svc.RevokeGrant(ctx, &kms.RevokeGrantInput{KeyId: id, GrantId: out.GrantId}))
			}
		})
	}
}

// statements returns a key policy of n statements, of which the last allows the role app to
// encrypt.
func statements(n int, conditions bool) string {
	var list []map[string]any
	for i := range n {
		s := map[string]any{
			"Sid": fmt.Sprint("Statement ", i), "Effect": "Allow", "Resource": "*",
			"Principal": map[string]any{"AWS": "arn:aws:iam::111122223333:role/app"},
			"Action":    []string{"kms:Encrypt", "kms:GenerateDataKey*"},
		}
		if conditions {
			tenant := fmt.Sprint("tenant-", i)
			if i == n-1 {
				tenant = "4711"
			}
			s["Condition"] = map[string]any{
				"StringEquals": map[string]any{"kms:EncryptionContext:tenant": tenant},
				"IpAddress":    map[string]any{"aws:SourceIp": "192.0.2.0/24"},
			}
		} else if i < n-1 {
			s["Principal"] = map[string]any{"AWS": fmt.Sprintf("arn:aws:iam::111122223333:role/other%d", i)}
		}
		list = append(list, s)
	}
	list[0]["Principal"] = map[string]any{"AWS": "111122223333"}
	list[0]["Action"] = "kms:*"
	delete(list[0], "Condition")
	return string(must(json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": list})))
}

func TestThePoliciesOfTheBenchmarksFitTheAPI(t *testing.T) {
	require.Less(t, len(statements(115, true)), 32768)
	require.Greater(t, len(statements(115, true)), 30000)
	require.Equal(t, 9, strings.Count(statements(10, false), "role/"))
}
