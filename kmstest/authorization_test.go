package kmstest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/kmstest"
	"github.com/pocketkms/kms/seed"
)

const aKey = "1234abcd-12ab-34cd-56ef-1234567890ab"

// A sdkError has the methods by which errors of the AWS SDK are known.
type sdkError struct{ code, message string }

func (e sdkError) Error() string     { return e.code + ": " + e.message }
func (e sdkError) ErrorCode() string { return e.code }

func TestRequireAllowedAndRequireDeniedDistinguish(t *testing.T) {
	t.Parallel()
	svc := kmstest.New(t, kmstest.Seed(seed.Key{ID: aKey}))
	encrypt := func(dryRun bool, policies ...string) error {
		alice := kmstest.Principal(t, "arn:aws:iam::111122223333:user/alice", policies...)
		_, err := svc.As(alice).Encrypt(t.Context(), &kms.EncryptInput{KeyId: aKey, Plaintext: []byte("x"), DryRun: dryRun})
		return err
	}
	allow := `{"Statement": {"Effect": "Allow", "Action": "kms:Encrypt", "Resource": "*"}}`
	deny := `{"Statement": {"Effect": "Deny", "Action": "kms:Encrypt", "Resource": "*"}}`
	none, allowed, dry, denied := encrypt(false), encrypt(false, allow), encrypt(true, allow), encrypt(false, allow, deny)
	sdk := fmt.Errorf("wrapped: %w", sdkError{"AccessDeniedException", none.Error()})

	kmstest.RequireAllowed(t, allowed)
	kmstest.RequireAllowed(t, dry)
	kmstest.RequireDenied(t, none, kmstest.NoIdentityPolicy)
	kmstest.RequireDenied(t, sdk, kmstest.NoIdentityPolicy)
	kmstest.RequireDenied(t, denied, kmstest.DeniedByIdentityPolicy)
	kmstest.RequireDenied(t, denied, kmstest.AnyReason)

	disabled := errors.New("DisabledException")
	for name, tt := range map[string]struct {
		want   string
		assert func(testing.TB)
	}{
		"a refusal is not allowed":        {"want the call to be allowed", func(t testing.TB) { kmstest.RequireAllowed(t, none) }},
		"an SDK's refusal is not allowed": {"want the call to be allowed", func(t testing.TB) { kmstest.RequireAllowed(t, sdk) }},
		"a failure is not allowed":        {"got: DisabledException", func(t testing.TB) { kmstest.RequireAllowed(t, disabled) }},
		"a success is not denied":         {"but it was allowed", func(t testing.TB) { kmstest.RequireDenied(t, nil, kmstest.AnyReason) }},
		"a failure is not denied":         {"got: DisabledException", func(t testing.TB) { kmstest.RequireDenied(t, disabled, kmstest.AnyReason) }},
		"a dry run is not denied":         {"DryRunOperationException", func(t testing.TB) { kmstest.RequireDenied(t, dry, kmstest.AnyReason) }},
		"another reason":                  {"want the call to be denied because no resource-based policy allows\ngot: kms: Encrypt: AccessDenied", func(t testing.TB) { kmstest.RequireDenied(t, none, kmstest.NoKeyPolicy) }},
		"an ARN that is none":             {`"alice" is not the ARN of a principal`, func(t testing.TB) { kmstest.Principal(t, "alice") }},
		"a policy that is none":           {"policy 0 of arn:aws:iam::111122223333:user/alice", func(t testing.TB) { kmstest.Principal(t, "arn:aws:iam::111122223333:user/alice", "{}") }},
		"a service that is none":          {`no AWS service is called "s4"; there are s3, `, func(t testing.TB) { kmstest.New(t).ServiceCall("s4") }},
	} {
		t.Run(name, func(t *testing.T) { requireFailure(t, tt.want, tt.assert) })
	}
}

// Every reason occurs in an answer of the service.
func TestReasonsAreThoseOfTheService(t *testing.T) {
	t.Parallel()
	const (
		arn   = "arn:aws:sts::111122223333:assumed-role/app/job"
		allow = `{"Statement": {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}}`
		deny  = `{"Statement": {"Effect": "Deny", "Action": "kms:*", "Resource": "*"}}`
		other = `{"Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}`
	)
	one := func(text string) []kms.Policy { return []kms.Policy{{Document: text}} }
	for reason, tt := range map[kmstest.Reason]struct {
		keyPolicy string
		arn       string
		id        kms.Identity
	}{
		kmstest.NoKeyPolicy:      {keyPolicy: keyPolicy("Allow", "arn:aws:iam::111122223333:user/alice"), id: kms.Identity{Policies: one(allow)}},
		kmstest.NoIdentityPolicy: {id: kms.Identity{Policies: one(other)}},
		kmstest.NoBoundary:       {id: kms.Identity{Policies: one(allow), Boundary: &kms.Policy{Document: other}}},
		kmstest.NoSessionPolicy:  {id: kms.Identity{Policies: one(allow), SessionPolicies: one(other)}},
		kmstest.DeniedByKeyPolicy: {keyPolicy: keyPolicy("Deny", "arn:aws:iam::111122223333:role/app"),
			id: kms.Identity{Policies: one(allow)}},
		kmstest.DeniedByIdentityPolicy: {id: kms.Identity{Policies: one(deny)}},
		kmstest.DeniedByBoundary:       {id: kms.Identity{Policies: one(allow), Boundary: &kms.Policy{Document: deny}}},
		kmstest.DeniedBySessionPolicy:  {id: kms.Identity{Policies: one(allow), SessionPolicies: one(deny)}},
		kmstest.Undisclosed:            {arn: "arn:aws:sts::444455556666:assumed-role/app/job", id: kms.Identity{Policies: one(allow)}},
	} {
		t.Run(string(reason), func(t *testing.T) {
			svc := kmstest.New(t, kmstest.Seed(seed.Key{ID: aKey, Policy: tt.keyPolicy}))
			if tt.arn == "" {
				tt.arn = arn
			}
			caller, err := kmstest.Principal(t, tt.arn).WithIdentity(tt.id)
			require.NoError(t, err)
			_, err = svc.As(caller).DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: "arn:aws:kms:us-east-1:111122223333:key/" + aKey})
			kmstest.RequireDenied(t, err, reason)
		})
	}
}

func keyPolicy(effect, principal string) string {
	return `{"Statement": {"Effect": "` + effect + `", "Principal": {"AWS": "` + principal + `"}, "Action": "kms:*", "Resource": "*"}}`
}

// A key policy for one service admits its calls, and neither calls that do not come by it nor those
// for other resources.
func TestAPolicyForAServiceAdmitsItsCalls(t *testing.T) {
	t.Parallel()
	alice := kmstest.Principal(t, "arn:aws:iam::111122223333:user/alice")
	for _, c := range kmstest.ServiceCalls("eu-west-1", "111122223333") {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			principal := map[string]string{"AWS": alice.ARN()}
			equals := map[string]string{}
			if c.Principal != "" {
				principal = map[string]string{"Service": c.Principal}
			}
			if c.ViaService != "" {
				equals["kms:ViaService"] = c.ViaService
			}
			if c.SourceARN != "" {
				equals["aws:SourceArn"], equals["aws:SourceAccount"] = c.SourceARN, "111122223333"
			}
			for key, value := range c.EncryptionContext {
				equals["kms:EncryptionContext:"+key] = value
			}
			policy, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": map[string]any{
				"Effect": "Allow", "Principal": principal, "Action": "kms:*", "Resource": "*", "Condition": map[string]any{"StringEquals": equals},
			}})
			require.NoError(t, err)
			svc := kmstest.New(t, kmstest.Configure(func(config *kms.Config) { config.Region = "eu-west-1" }),
				kmstest.Seed(seed.Key{ID: aKey, Policy: string(policy)}))
			require.Equal(t, c, svc.ServiceCall(c.Name))
			call, reason := svc.As(c.Caller(alice)), kmstest.NoKeyPolicy
			if c.Principal != "" { // which is in no account
				reason = kmstest.Undisclosed
			}
			require.NotEmpty(t, c.Operations)
			for _, operation := range c.Operations {
				run := func(context map[string]string, by kmstest.ServiceCall) error {
					var err error
					ctx, key := by.Context(t.Context()), "arn:aws:kms:eu-west-1:111122223333:key/"+aKey
					switch operation {
					case "GenerateDataKey":
						_, err = call.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: key, KeySpec: kms.DataKeySpecAES256, EncryptionContext: context})
					case "GenerateDataKeyWithoutPlaintext":
						_, err = call.GenerateDataKeyWithoutPlaintext(ctx,
							&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: key, KeySpec: kms.DataKeySpecAES256, EncryptionContext: context})
					case "Encrypt":
						_, err = call.Encrypt(ctx, &kms.EncryptInput{KeyId: key, Plaintext: []byte("x"), EncryptionContext: context})
					case "Decrypt":
						sealed, err := call.Encrypt(c.Context(t.Context()), &kms.EncryptInput{KeyId: key, Plaintext: []byte("x"), EncryptionContext: c.EncryptionContext})
						require.NoError(t, err)
						_, err = call.Decrypt(ctx, &kms.DecryptInput{KeyId: key, CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: context})
						return err
					case "CreateGrant":
						_, err = call.CreateGrant(ctx, &kms.CreateGrantInput{KeyId: key, GranteePrincipal: "arn:aws:iam::111122223333:user/grantee",
							Operations:  []kms.GrantOperation{kms.GrantOperationDecrypt},
							Constraints: &kms.GrantConstraints{EncryptionContextSubset: context}})
					default:
						t.Fatalf("%s is not tried", operation)
					}
					return err
				}
				kmstest.RequireAllowed(t, run(c.EncryptionContext, c))
				if c.ViaService+c.SourceARN != "" {
					kmstest.RequireDenied(t, run(c.EncryptionContext, kmstest.ServiceCall{}), reason)
				}
				for key := range c.EncryptionContext {
					changed := maps.Clone(c.EncryptionContext)
					changed[key] += "x"
					kmstest.RequireDenied(t, run(changed, c), reason)
				}
			}
		})
	}
}

// The document has a row for each call of a service, and no others.
func TestTheDocumentListsTheServiceCalls(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/authorization.md")
	require.NoError(t, err)
	_, table, ok := strings.Cut(string(text), "| service | `kmstest` |")
	require.True(t, ok)
	table, _, _ = strings.Cut(table, "\n\n")
	var rows []string
	for line := range strings.Lines(table) {
		if !strings.Contains(line, "---") && strings.HasPrefix(line, "| ") {
			rows = append(rows, strings.TrimSuffix(line, "\n"))
		}
	}
	var want []string
	for _, c := range kmstest.ServiceCalls("REGION", "ACCOUNT") {
		caller := "the user or role"
		if c.Principal != "" {
			caller = "`" + c.Principal + "`, for `" + c.SourceARN + "`"
		}
		via := "absent"
		if c.ViaService != "" {
			via = "`" + c.ViaService + "`"
		}
		var pairs []string
		for _, key := range slices.Sorted(maps.Keys(c.EncryptionContext)) {
			pairs = append(pairs, "`"+key+"`: `"+c.EncryptionContext[key]+"`")
		}
		want = append(want, fmt.Sprintf("| %s | `%s` | %s | %s | %s | %s |", c.Service, c.Name, caller, via, strings.Join(pairs, "<br>"), strings.Join(c.Operations, ", ")))
	}
	require.Equal(t, want, rows, "the rows of docs/authorization.md must be:\n%s", strings.Join(want, "\n"))
}
