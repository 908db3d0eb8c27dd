package kms_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
)

// A trail is a sink that keeps its events, or fails.
type trail struct {
	mu     sync.Mutex
	events []*audit.Event
	fail   func(*audit.Event) error
}

func (s *trail) Record(_ context.Context, e *audit.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail(e); err != nil {
			return err
		}
	}
	s.events = append(s.events, e)
	return nil
}

// take returns the events and removes them.
func (s *trail) take() []*audit.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	events := s.events
	s.events = nil
	return events
}

func (s *trail) failWith(fail func(*audit.Event) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fail
}

// auditedOperation runs test for each operation, with a valid input and a new fixture whose calls
// are recorded.
func auditedOperation(t *testing.T, test func(t *testing.T, f *fixture, s *trail, op kms.Operation, in any), settings ...func(*kms.Config)) {
	for _, op := range kms.Operations() {
		t.Run(op.Name(), func(t *testing.T) {
			s := new(trail)
			f := newFixture(t, append(settings, func(c *kms.Config) { c.Audit = s })...)
			f.prepare(t, op.Name())
			s.take()
			test(t, f, s, op, f.example(t, op.Name()))
		})
	}
}

var (
	uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	// mutators are the operations whose events are not readOnly in CloudTrail.
	mutators = []string{
		"CancelKeyDeletion", "ConnectCustomKeyStore", "CreateAlias", "CreateCustomKeyStore", "CreateGrant", "CreateKey",
		"DeleteAlias", "DeleteCustomKeyStore", "DeleteImportedKeyMaterial", "DisableKey", "DisableKeyRotation",
		"DisconnectCustomKeyStore", "EnableKey", "EnableKeyRotation", "ImportKeyMaterial", "PutKeyPolicy", "ReplicateKey",
		"RetireGrant", "RevokeGrant", "RotateKeyOnDemand", "ScheduleKeyDeletion", "TagResource", "UntagResource",
		"UpdateAlias", "UpdateCustomKeyStore", "UpdateKeyDescription", "UpdatePrimaryRegion",
	}
)

func apiEvents(events []*audit.Event) []*audit.Event {
	return slices.DeleteFunc(events, func(e *audit.Event) bool { return e.EventType != audit.APICall })
}

func resources(arns ...string) []audit.Resource {
	var list []audit.Resource
	for _, arn := range arns {
		list = append(list, audit.Resource{AccountID: "111122223333", Type: "AWS::KMS::Key", ARN: arn})
	}
	return list
}

// aliasARNOf returns the ARN of the alias that the input names.
func aliasARNOf(t *testing.T, in any) string {
	t.Helper()
	name := reflect.ValueOf(in).Elem().FieldByName("AliasName").String()
	require.NotEmpty(t, name)
	return "arn:aws:kms:us-east-1:111122223333:" + name
}

func TestEveryCallIsOneEvent(t *testing.T) {
	const alice = "arn:aws:iam::111122223333:user/path/alice"
	auditedOperation(t, func(t *testing.T, f *fixture, s *trail, op kms.Operation, in any) {
		refused := f.svc.As(principal(t, alice))
		_, denied := op.Invoke(t.Context(), refused, in)
		_, misplaced := op.Invoke(t.Context(), f.svc.In("No Region"), in)
		_, err := op.Invoke(t.Context(), f.svc, in)
		require.NoError(t, err)

		events := apiEvents(s.take())
		if op.Name() == "ReplicateKey" || op.Name() == "UpdatePrimaryRegion" { // one more in the replica's Region
			require.Equal(t, replicaRegion, events[len(events)-1].AWSRegion)
			events = events[:len(events)-1]
		}
		require.Len(t, events, 3)
		ids := map[audit.UUID]bool{}
		for i, want := range []struct {
			code, region string
			err          error
			caller       audit.UserIdentity
		}{
			{"AccessDenied", "us-east-1", denied, audit.UserIdentity{Type: audit.IdentityIAMUser, PrincipalID: "alice", ARN: alice, AccountID: "111122223333", UserName: "alice"}},
			{"ValidationException", "No Region", misplaced, audit.UserIdentity{Type: audit.IdentityRoot, PrincipalID: "111122223333", ARN: f.svc.Caller().ARN(), AccountID: "111122223333"}},
			{"", "us-east-1", nil, audit.UserIdentity{Type: audit.IdentityRoot, PrincipalID: "111122223333", ARN: f.svc.Caller().ARN(), AccountID: "111122223333"}},
		} {
			e := events[i]
			require.Equal(t, op.Name(), e.EventName)
			require.Equal(t, want.code, e.ErrorCode)
			if want.err != nil {
				var exception *kms.Error
				require.ErrorAs(t, want.err, &exception)
				require.Equal(t, exception.Message, e.ErrorMessage)
				require.Zero(t, e.ResponseElements)
				require.Zero(t, e.AdditionalEventData)
			} else {
				require.Empty(t, e.ErrorMessage)
			}
			require.Equal(t, &want.caller, e.UserIdentity)
			require.Equal(t, want.region, e.AWSRegion)
			require.Equal(t, f.clock.Now(), e.EventTime)
			require.Equal(t, "111122223333", e.RecipientAccountID)
			require.Equal(t, !slices.Contains(mutators, op.Name()), e.ReadOnly)
			for _, id := range []audit.UUID{e.RequestID, e.EventID} {
				require.Regexp(t, uuid, id)
				require.False(t, ids[id], "an ID is used once")
				ids[id] = true
			}
			if e.ReadOnly {
				require.Zero(t, e.ResponseElements)
			}
		}
		done := events[2]
		switch op.Name() {
		case "ListAliases", "ListKeys", "ListRetirableGrants", "GenerateRandom", "ConnectCustomKeyStore", "CreateCustomKeyStore", "DeleteCustomKeyStore",
			"DescribeCustomKeyStores", "DisconnectCustomKeyStore", "UpdateCustomKeyStore":
			require.Empty(t, done.Resources)
		case "ReEncrypt":
			require.Equal(t, resources(f.symmetric.Arn, f.other.Arn), done.Resources)
		case "UpdateAlias":
			require.Equal(t, resources(f.symmetric.Arn, f.other.Arn, aliasARNOf(t, in)), done.Resources)
		case "CreateAlias", "DeleteAlias":
			require.Equal(t, resources(f.subject(op.Name()).Arn, aliasARNOf(t, in)), done.Resources)
		case "CreateKey":
			require.Len(t, done.Resources, 1)
		default:
			require.Equal(t, resources(f.subject(op.Name()).Arn), done.Resources)
		}
		if slices.Contains(mutators, op.Name()) && op.Name() != "CreateKey" && !strings.Contains(op.Name(), "CustomKeyStore") {
			key := f.subject(op.Name())
			if op.Name() == "UpdateAlias" {
				key = f.other
			}
			require.Equal(t, key.Arn, done.ResponseElements.Get("keyId").String())
		}
		_, err = json.Marshal(done)
		require.NoError(t, err)
	})
}

func TestNilInputsDryRunsAndInvalidInputsAreRecorded(t *testing.T) {
	s := new(trail)
	f := newFixture(t, func(c *kms.Config) { c.Audit = s })
	s.take()
	_, _ = f.svc.Encrypt(t.Context(), nil)
	_, _ = f.svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: f.symmetric.KeyId, Plaintext: []byte("x"), DryRun: true})
	_, _ = f.svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: []byte("x")})
	_, _ = f.svc.As(kms.Principal{}).ListKeys(t.Context(), nil)
	events := s.take()
	var codes []string
	for _, e := range events {
		codes = append(codes, e.EventName+" "+e.ErrorCode)
	}
	require.Equal(t, []string{"Encrypt ValidationException", "Encrypt DryRunOperationException", "Decrypt InvalidCiphertextException", "ListKeys AccessDenied"}, codes)
	require.Equal(t, map[string]any{"encryptionAlgorithm": "SYMMETRIC_DEFAULT"}, events[0].RequestParameters.Map())
	require.Equal(t, true, events[1].RequestParameters.Get("dryRun").Any())
	require.Equal(t, &audit.UserIdentity{Type: "Unknown"}, events[3].UserIdentity)
	require.Zero(t, events[3].RequestParameters)
}

// normalized returns the JSON of an event, with names for the values that differ between runs.
func (f *fixture) normalized(t *testing.T, e *audit.Event) string {
	t.Helper()
	require.Regexp(t, uuid, e.EventID)
	text, err := json.MarshalIndent(e, "", "  ")
	require.NoError(t, err)
	return strings.NewReplacer(
		e.RequestID.String()+`"`, `REQUEST"`, e.EventID.String(), "EVENT",
		f.symmetric.KeyId, "KEY", f.other.KeyId, "OTHER", f.symmetric.CurrentKeyMaterialId, "MATERIAL", f.other.CurrentKeyMaterialId, "OTHER-MATERIAL",
	).Replace(string(text))
}

const eventHead = `{
  "eventVersion": "1.11",
  "userIdentity": {
    "type": "Root",
    "principalId": "111122223333",
    "arn": "arn:aws:iam::111122223333:root",
    "accountId": "111122223333"
  },
  "eventTime": "2026-03-01T12:00:00Z",
  "eventSource": "kms.amazonaws.com",
  "eventName": `

const eventSource = `,
  "awsRegion": "us-east-1",
  "sourceIPAddress": "AWS Internal",
  "userAgent": "AWS Internal",
`

const eventTail = `,
  "eventType": "AwsApiCall",
  "managementEvent": true,
  "recipientAccountId": "111122223333",
  "eventCategory": "Management"
}`

func resourceJSON(names ...string) string {
	var list []string
	for _, name := range names {
		list = append(list, `    {
      "accountId": "111122223333",
      "type": "AWS::KMS::Key",
      "ARN": "arn:aws:kms:us-east-1:111122223333:key/`+name+`"
    }`)
	}
	return `  "resources": [
` + strings.Join(list, ",\n") + `
  ]`
}

func TestEventsHaveTheFormOfCloudTrail(t *testing.T) {
	for name, tt := range map[string]struct {
		in   func(f *fixture) any
		want string
	}{
		"Encrypt": {
			func(f *fixture) any {
				return &kms.EncryptInput{KeyId: fixtureAlias, Plaintext: []byte("x"), EncryptionContext: someContext}
			},
			eventHead + `"Encrypt"` + eventSource + `  "requestParameters": {
    "encryptionAlgorithm": "SYMMETRIC_DEFAULT",
    "encryptionContext": {
      "purpose": "test",
      "tenant": "7"
    },
    "keyId": "alias/fixture"
  },
  "responseElements": null,
  "additionalEventData": {
    "keyMaterialId": "MATERIAL"
  },
  "requestID": "REQUEST",
  "eventID": "EVENT",
  "readOnly": true,
` + resourceJSON("KEY") + eventTail,
		},
		"Decrypt": {
			func(f *fixture) any { return &kms.DecryptInput{CiphertextBlob: f.ciphertext} },
			eventHead + `"Decrypt"` + eventSource + `  "requestParameters": {
    "encryptionAlgorithm": "SYMMETRIC_DEFAULT"
  },
  "responseElements": null,
  "additionalEventData": {
    "keyMaterialId": "MATERIAL"
  },
  "requestID": "REQUEST",
  "eventID": "EVENT",
  "readOnly": true,
` + resourceJSON("KEY") + eventTail,
		},
		"ReEncrypt": {
			func(f *fixture) any {
				return &kms.ReEncryptInput{CiphertextBlob: f.ciphertext, DestinationKeyId: f.other.KeyId, DestinationEncryptionContext: map[string]string{"level": "3A"}}
			},
			eventHead + `"ReEncrypt"` + eventSource + `  "requestParameters": {
    "destinationEncryptionAlgorithm": "SYMMETRIC_DEFAULT",
    "destinationEncryptionContext": {
      "level": "3A"
    },
    "destinationKeyId": "OTHER",
    "sourceEncryptionAlgorithm": "SYMMETRIC_DEFAULT"
  },
  "responseElements": null,
  "additionalEventData": {
    "destinationKeyMaterialId": "OTHER-MATERIAL",
    "sourceKeyMaterialId": "MATERIAL"
  },
  "requestID": "REQUEST",
  "eventID": "EVENT",
  "readOnly": true,
` + resourceJSON("KEY", "OTHER") + eventTail,
		},
		"GenerateDataKey": {
			func(f *fixture) any {
				return &kms.GenerateDataKeyInput{KeyId: f.symmetric.KeyId, NumberOfBytes: new(int32(7))}
			},
			eventHead + `"GenerateDataKey"` + eventSource + `  "requestParameters": {
    "keyId": "KEY",
    "numberOfBytes": 7
  },
  "responseElements": null,
  "additionalEventData": {
    "keyMaterialId": "MATERIAL"
  },
  "requestID": "REQUEST",
  "eventID": "EVENT",
  "readOnly": true,
` + resourceJSON("KEY") + eventTail,
		},
		"ScheduleKeyDeletion": {
			func(f *fixture) any {
				return &kms.ScheduleKeyDeletionInput{KeyId: f.symmetric.KeyId, PendingWindowInDays: new(int32(10))}
			},
			eventHead + `"ScheduleKeyDeletion"` + eventSource + `  "requestParameters": {
    "keyId": "KEY",
    "pendingWindowInDays": 10
  },
  "responseElements": {
    "deletionDate": "2026-03-11T12:00:00Z",
    "keyId": "arn:aws:kms:us-east-1:111122223333:key/KEY",
    "keyState": "PendingDeletion",
    "pendingWindowInDays": 10
  },
  "requestID": "REQUEST",
  "eventID": "EVENT",
  "readOnly": false,
` + resourceJSON("KEY") + eventTail,
		},
		"CreateKey": {
			func(f *fixture) any { return &kms.CreateKeyInput{Tags: []kms.Tag{{TagKey: "aws:k"}}} },
			eventHead + `"CreateKey"` + eventSource + `  "errorCode": "TagException",
  "errorMessage": "Tags beginning with aws: are reserved",
  "requestParameters": {
    "bypassPolicyLockoutSafetyCheck": false,
    "customerMasterKeySpec": "SYMMETRIC_DEFAULT",
    "description": "",
    "keySpec": "SYMMETRIC_DEFAULT",
    "keyUsage": "ENCRYPT_DECRYPT",
    "origin": "AWS_KMS",
    "tags": [
      {
        "tagKey": "aws:k",
        "tagValue": ""
      }
    ]
  },
  "responseElements": null,
  "requestID": "REQUEST",
  "eventID": "EVENT",
  "readOnly": false,
  "resources": []` + eventTail,
		},
		"TagResource": {
			func(f *fixture) any {
				return &kms.TagResourceInput{KeyId: f.symmetric.KeyId, Tags: []kms.Tag{{TagKey: "k"}}}
			},
			eventHead + `"TagResource"` + eventSource + `  "requestParameters": {
    "keyId": "KEY",
    "tags": [
      {
        "tagKey": "k",
        "tagValue": ""
      }
    ]
  },
  "responseElements": {
    "keyId": "arn:aws:kms:us-east-1:111122223333:key/KEY"
  },
  "requestID": "REQUEST",
  "eventID": "EVENT",
  "readOnly": false,
` + resourceJSON("KEY") + eventTail,
		},
		"DescribeKey": {
			func(f *fixture) any { return &kms.DescribeKeyInput{KeyId: "alias/none"} },
			eventHead + `"DescribeKey"` + eventSource + `  "errorCode": "NotFoundException",
  "errorMessage": "Alias arn:aws:kms:us-east-1:111122223333:alias/none is not found.",
  "requestParameters": {
    "keyId": "alias/none"
  },
  "responseElements": null,
  "requestID": "REQUEST",
  "eventID": "EVENT",
  "readOnly": true,
  "resources": []` + eventTail,
		},
		"GenerateRandom": {
			func(f *fixture) any { return &kms.GenerateRandomInput{} },
			eventHead + `"GenerateRandom"` + eventSource + `  "errorCode": "ValidationException",
  "errorMessage": "NumberOfBytes is required.",
  "requestParameters": null,
  "responseElements": null,
  "requestID": "REQUEST",
  "eventID": "EVENT",
  "readOnly": true,
  "resources": []` + eventTail,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := new(trail)
			f := newFixture(t, func(c *kms.Config) { c.Audit = s })
			s.take()
			_, _ = f.invoke(t, name, tt.in(f))
			events := s.take()
			require.Len(t, events, 1)
			require.Equal(t, tt.want, f.normalized(t, events[0]))
		})
	}
}

// A borrower is a sink that borrows events, and keeps only their JSON.
type borrower struct{ lines []string }

func (s *borrower) BorrowsEvents() bool { return true }

func (s *borrower) Record(_ context.Context, e *audit.Event) error {
	s.lines = append(s.lines, string(must(json.Marshal(e))))
	return nil
}

// The memory of events that one sink borrows is used again: events of other calls must not show in
// it, and it must not be that of the events that another sink keeps.
func TestEventsDoNotShareMemoryThatASinkBorrows(t *testing.T) {
	ctx := context.Background()
	kept, borrowed := new(trail), new(borrower)
	clock := func() time.Time { return time.Unix(1_900_000_000, 0) }
	keeps, _ := newService(t, func(c *kms.Config) { c.Audit, c.Clock = kept, clock })
	borrows, _ := newService(t, func(c *kms.Config) { c.Audit, c.Clock = borrowed, clock })
	var keys [2]string
	for i, svc := range []*kms.Service{keeps, borrows} {
		keys[i] = must(svc.CreateKey(ctx, nil)).KeyMetadata.KeyId
	}
	calls := func(n int) []func(svc *kms.Service, keyID string) error {
		long := map[string]string{"n": strings.Repeat("x", 1000*n)}
		return []func(*kms.Service, string) error{
			func(svc *kms.Service, keyID string) error {
				_, err := svc.Encrypt(ctx, &kms.EncryptInput{KeyId: keyID, Plaintext: []byte("text"), EncryptionContext: long})
				return err
			},
			func(svc *kms.Service, keyID string) error {
				_, err := svc.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: fmt.Sprint("alias/", n), TargetKeyId: keyID})
				return err
			},
			func(svc *kms.Service, _ string) error {
				_, err := svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: "alias/none"})
				return err
			},
			func(svc *kms.Service, _ string) error {
				_, err := svc.GenerateRandom(ctx, &kms.GenerateRandomInput{NumberOfBytes: new(int32(8))})
				return err
			},
		}
	}
	for n := range 5 {
		for _, call := range calls(n) {
			require.Equal(t, call(borrows, keys[1]) == nil, call(keeps, keys[0]) == nil)
		}
	}
	identifiers := regexp.MustCompile(`"(requestID|eventID|currentKeyMaterialId|keyMaterialId)":"[^"]*"`)
	events := kept.take()
	require.Len(t, borrowed.lines, len(events))
	for i, e := range events {
		line := strings.ReplaceAll(string(must(json.Marshal(e))), keys[0], keys[1])
		require.Equal(t, identifiers.ReplaceAllString(borrowed.lines[i], ""), identifiers.ReplaceAllString(line, ""))
	}
}

func TestACallThatCannotBeRecordedFails(t *testing.T) {
	full := errors.New("disk full")
	auditedOperation(t, func(t *testing.T, f *fixture, s *trail, op kms.Operation, in any) {
		s.failWith(func(*audit.Event) error { return full })
		out, err := op.Invoke(t.Context(), f.svc, in)
		require.Nil(t, out)
		requireError(t, err, kms.KMSInternalException, "The request could not be completed: the call could not be recorded: disk full")
		require.ErrorIs(t, err, full)
	})
}

func TestACallThatNeedNotBeRecordedSucceeds(t *testing.T) {
	auditedOperation(t, func(t *testing.T, f *fixture, s *trail, op kms.Operation, in any) {
		s.failWith(func(*audit.Event) error { return errors.New("disk full") })
		out, err := op.Invoke(t.Context(), f.svc, in)
		require.NoError(t, err)
		require.NotNil(t, out)
	}, func(c *kms.Config) { c.AuditBestEffort = true })
}

// A sink that uses a KMS returns exceptions of that KMS.
func TestAnExceptionOfTheSinkIsNotOneOfTheCall(t *testing.T) {
	auditedOperation(t, func(t *testing.T, f *fixture, s *trail, op kms.Operation, in any) {
		for _, cause := range []error{&kms.Error{Code: kms.DisabledException, Message: "theirs"}, context.DeadlineExceeded, kms.ErrClosed, kms.AlreadyExistsException} {
			s.failWith(func(*audit.Event) error { return cause })
			_, err := op.Invoke(t.Context(), f.svc, nilOf(op))
			var e *kms.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, kms.KMSInternalException, e.Code)
			require.Equal(t, op.Name(), e.Operation)
			var code kms.ErrorCode
			require.False(t, errors.As(err, &code))
		}
	})
}

// nilOf returns a nil input of the operation's type, for calls that fail at once.
func nilOf(op kms.Operation) any { return reflect.Zero(reflect.TypeOf(op.NewInput())).Interface() }

func TestAPanicOfTheSinkFailsTheCall(t *testing.T) {
	canary := "canary-" + rand.Text()
	for _, bestEffort := range []bool{false, true} {
		var log bytes.Buffer
		auditedOperation(t, func(t *testing.T, f *fixture, s *trail, op kms.Operation, in any) {
			s.failWith(func(*audit.Event) error { panic(canary) })
			out, err := op.Invoke(t.Context(), f.svc, in)
			s.failWith(nil)
			if bestEffort {
				require.NoError(t, err)
				require.NotNil(t, out)
			} else {
				require.Nil(t, out)
				require.ErrorIs(t, err, kms.KMSInternalException)
				require.NotContains(t, err.Error(), canary)
			}
			// The service goes on.
			_, err = f.svc.ListKeys(t.Context(), nil)
			require.NoError(t, err)
		}, func(c *kms.Config) {
			c.AuditBestEffort = bestEffort
			c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		})
		require.Contains(t, log.String(), "an operation panicked")
		require.NotContains(t, log.String(), canary)
	}
}

func TestAPanicInAnOperationIsRecordedAsItsFailure(t *testing.T) {
	var events []*audit.Event
	svc, _ := newService(t, func(c *kms.Config) {
		c.Logger = slog.New(slog.DiscardHandler)
		c.Audit = audit.SinkFunc(func(_ context.Context, e *audit.Event) error { events = append(events, e); return nil })
		c.Intercept = func(context.Context, kms.Call, func(context.Context) (any, error)) (any, error) {
			panic("a defect")
		}
	})
	out, err := svc.ListKeys(t.Context(), nil)
	require.Nil(t, out)
	requireError(t, err, kms.KMSInternalException, "The request could not be completed.")
	require.Len(t, events, 1)
	require.Equal(t, "ListKeys", events[0].EventName)
	require.Equal(t, "KMSInternalException", events[0].ErrorCode)
}

// secretsIn returns the end of every byte string of v, an input or output. The beginning of a
// ciphertext names its key, which is not secret.
func secretsIn(v any) [][]byte {
	var found [][]byte
	s := reflect.ValueOf(v).Elem()
	for i := range s.NumField() {
		if b, ok := s.Field(i).Interface().([]byte); ok && len(b) >= 16 {
			found = append(found, b[len(b)-16:])
		}
	}
	return found
}

// requireNoSecret requires that text contains no secret, in any encoding or as a list of numbers.
func requireNoSecret(t *testing.T, text string, secrets [][]byte) {
	t.Helper()
	for _, s := range secrets {
		list := strings.Trim(fmt.Sprint(s), "[]")
		forms := []string{string(s), hex.EncodeToString(s), list, strings.ReplaceAll(list, " ", ","),
			strings.Trim(fmt.Sprintf("%#v", s)[len("[]byte"):], "{}")}
		for i := range 3 { // wherever the secret begins, base64 is in step with one of these
			forms = append(forms, base64.StdEncoding.EncodeToString(s[i:i+12]))
		}
		for _, form := range forms {
			if strings.Contains(text, form) {
				t.Fatalf("a secret is in %.300s", strings.ReplaceAll(text, form, "<SECRET>"))
			}
		}
	}
}

// No byte string of an input or output, and no grant token, is in any event,
// log line or error, whether the call succeeds or fails.
func TestNoCallRevealsASecret(t *testing.T) {
	var log bytes.Buffer
	auditedOperation(t, func(t *testing.T, f *fixture, s *trail, op kms.Operation, in any) {
		var secrets [][]byte
		var failures []error
		invoke := func(svc *kms.Service, in any) {
			t.Helper()
			secrets = append(secrets, secretsIn(in)...)
			out, err := op.Invoke(t.Context(), svc, in)
			if err != nil {
				failures = append(failures, err)
			} else {
				secrets = append(secrets, secretsIn(out)...)
			}
		}
		canaries := func() any { // each byte string and token is one of a kind
			in := f.example(t, op.Name())
			v := reflect.ValueOf(in).Elem()
			for i := range v.NumField() {
				switch name := v.Type().Field(i).Name; {
				case v.Field(i).Type() == reflect.TypeFor[[]byte]():
					canary := make([]byte, 48)
					rand.Read(canary)
					v.Field(i).SetBytes([]byte(hex.EncodeToString(canary)))
				case name == "GrantTokens":
					token := rand.Text()
					secrets = append(secrets, []byte(token))
					v.Field(i).Set(reflect.ValueOf([]string{token}))
				case name == "Recipient":
					canary := []byte(rand.Text())
					secrets = append(secrets, canary)
					v.Field(i).Set(reflect.ValueOf(&kms.RecipientInfo{AttestationDocument: canary}))
				}
			}
			return in
		}
		invoke(f.svc, canaries())
		withoutToken := canaries()
		for _, name := range []string{"GrantTokens", "Recipient"} {
			if member := reflect.ValueOf(withoutToken).Elem().FieldByName(name); member.IsValid() {
				member.SetZero()
			}
		}
		invoke(f.svc, withoutToken)
		invoke(f.svc.As(principal(t, "arn:aws:iam::111122223333:user/alice")), withoutToken)
		long := canaries() // too long, all of them
		v := reflect.ValueOf(long).Elem()
		for i := range v.NumField() {
			switch name := v.Type().Field(i).Name; {
			case v.Field(i).Type() == reflect.TypeFor[[]byte]():
				v.Field(i).SetBytes(bytes.Repeat(v.Field(i).Bytes(), 100))
			case name == "GrantTokens":
				token := rand.Text()
				secrets = append(secrets, []byte(token))
				v.Field(i).Set(reflect.ValueOf([]string{strings.Repeat(token, 400), "", token}))
			}
		}
		invoke(f.svc, long)
		s.failWith(func(*audit.Event) error { return errors.New("disk full") })
		invoke(f.svc, f.example(t, op.Name()))
		s.failWith(func(*audit.Event) error { panic("no") })
		invoke(f.svc, f.example(t, op.Name()))
		s.failWith(nil)
		if op.Name() != "DeleteAlias" && op.Name() != "CreateAlias" {
			invoke(f.svc, f.example(t, op.Name()))
		}

		for _, e := range s.take() {
			text, err := json.Marshal(e)
			require.NoError(t, err)
			requireNoSecret(t, string(text), secrets)
			require.NoError(t, audit.Slog(slog.New(slog.NewJSONHandler(&log, nil))).Record(t.Context(), e))
		}
		requireNoSecret(t, log.String(), secrets)
		for _, err := range failures {
			requireNoSecret(t, fmt.Sprintf("%v %+v %#v %q", err, err, err, errors.Unwrap(err)), secrets)
		}
	}, func(c *kms.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	require.NotEmpty(t, log.String())
}

// The event must not have what the error of the call hides from the caller.
func TestARefusedCallOnAForeignKeyNamesNoKey(t *testing.T) {
	s := new(trail)
	f := newFixture(t, func(c *kms.Config) { c.Audit = s })
	there := f.svc.As(rootOf(t, foreignAccount))
	s.take()
	_, err := there.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: "arn:aws:kms:us-east-1:111122223333:" + fixtureAlias})
	require.ErrorIs(t, err, kms.AccessDeniedException)
	_, err = there.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: f.ciphertext})
	require.ErrorIs(t, err, kms.AccessDeniedException)
	events := s.take()
	require.Len(t, events, 2)
	for _, e := range events {
		require.Equal(t, foreignAccount, e.RecipientAccountID)
		require.Empty(t, e.Resources)
	}
}

// A sink that returns the error of its context records the event all the same.
func TestACanceledCallIsRecorded(t *testing.T) {
	s := new(trail)
	ctx, cancel := context.WithCancel(t.Context())
	svc, _ := newService(t, func(c *kms.Config) {
		c.Audit = audit.SinkFunc(func(ctx context.Context, e *audit.Event) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return s.Record(ctx, e)
		})
		c.Intercept = func(ctx context.Context, call kms.Call, next func(context.Context) (any, error)) (any, error) {
			out, err := next(ctx)
			if call.Operation.Name() == "CreateKey" {
				cancel()
			}
			return out, err
		}
	})
	_, err := svc.CreateKey(audit.ContextWithRequestInfo(ctx, audit.RequestInfo{UserAgent: "agent"}), nil)
	require.NoError(t, err)
	events := s.take()
	require.Len(t, events, 1)
	require.Equal(t, "agent", events[0].UserAgent)
}

func TestAFailedCallNamesNoKeyMaterial(t *testing.T) {
	s := new(trail)
	f := newFixture(t, func(c *kms.Config) { c.Audit = s })
	s.take()
	_, err := f.svc.ReEncrypt(t.Context(), &kms.ReEncryptInput{ // which decrypts before it fails
		CiphertextBlob: f.ciphertext, DestinationKeyId: f.other.KeyId, DestinationEncryptionContext: manyPairs(2000)})
	require.ErrorIs(t, err, kms.ValidationException)
	events := s.take()
	require.Len(t, events, 1)
	require.Zero(t, events[0].AdditionalEventData)
	require.Equal(t, "ValidationException", events[0].ErrorCode)
}

// A call that fails before it uses its encryption context records it all the same, whatever an earlier
// call in the same memory has used.
func TestAFailedCallRecordsItsEncryptionContext(t *testing.T) {
	s := new(trail)
	f := newFixture(t, func(c *kms.Config) { c.Audit = s })
	for range 20 { // which memory a call gets is up to sync.Pool
		_, err := f.svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: f.symmetric.KeyId, Plaintext: []byte("x"), EncryptionContext: map[string]string{"tenant": "8"}})
		require.NoError(t, err)
		s.take()
		_, err = f.svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: "alias/none", Plaintext: []byte("x"), EncryptionContext: someContext})
		require.ErrorIs(t, err, kms.NotFoundException)
		require.Equal(t, map[string]any{"purpose": "test", "tenant": "7"}, s.take()[0].RequestParameters.Get("encryptionContext").Any())
	}
}

func TestAnEventHasTheIdentityOfEveryKindOfPrincipal(t *testing.T) {
	s := new(trail)
	svc, _ := newService(t, func(c *kms.Config) { c.Audit = s })
	const account = "111122223333"
	for arn, want := range map[string]audit.UserIdentity{
		"arn:aws:iam::111122223333:root":            {Type: "Root", PrincipalID: account},
		"arn:aws:iam::111122223333:user/path/alice": {Type: "IAMUser", PrincipalID: "alice", UserName: "alice"},
		"arn:aws:iam::111122223333:role/path/app":   {Type: "Role", PrincipalID: "app"},
		"arn:aws:sts::111122223333:assumed-role/app/session": {Type: "AssumedRole", PrincipalID: "app:session",
			SessionContext: &audit.SessionContext{SessionIssuer: &audit.SessionIssuer{
				Type: "Role", PrincipalID: "app", ARN: "arn:aws:iam::111122223333:role/app", AccountID: account, UserName: "app"}}},
		"arn:aws:sts::111122223333:federated-user/bob": {Type: "FederatedUser", PrincipalID: account + ":bob"},
	} {
		want.ARN, want.AccountID = arn, account
		view := svc.As(principal(t, arn))
		_, _ = view.ListKeys(t.Context(), nil)
		_, _ = view.ListKeys(audit.ContextWithRequestInfo(t.Context(), audit.RequestInfo{AccessKeyID: "AKIAEXAMPLE"}), nil)
		_, _ = view.In("eu-west-1").ListKeys(t.Context(), nil)
		events := s.take()
		require.Len(t, events, 3)
		require.Equal(t, &want, events[0].UserIdentity)
		require.Equal(t, &want, events[2].UserIdentity, "another Region's view has the same caller")
		want.AccessKeyID = "AKIAEXAMPLE"
		require.Equal(t, &want, events[1].UserIdentity)
	}
}

func TestAnEventHasTheRequestInfo(t *testing.T) {
	s := new(trail)
	svc, _ := newService(t, func(c *kms.Config) { c.Audit = s })
	info := audit.RequestInfo{
		ID:              audit.UUID{1, 2, 3},
		SourceIPAddress: "192.0.2.7",
		UserAgent:       "agent",
		AccessKeyID:     "AKIAEXAMPLE",
		TLS: &audit.TLSDetails{TLSVersion: "TLSv1.3", CipherSuite: "TLS_AES_128_GCM_SHA256",
			ClientProvidedHostHeader: "kms.example", KeyExchange: "X25519MLKEM768"},
	}
	_, err := svc.ListKeys(audit.ContextWithRequestInfo(t.Context(), info), nil)
	require.NoError(t, err)
	e := s.take()[0]
	require.Equal(t, info, audit.RequestInfo{ID: e.RequestID, SourceIPAddress: e.SourceIPAddress, UserAgent: e.UserAgent,
		AccessKeyID: e.UserIdentity.AccessKeyID, TLS: e.TLSDetails})
	text, err := json.Marshal(e)
	require.NoError(t, err)
	require.Contains(t, string(text), `"requestID":"01020300-0000-0000-0000-000000000000"`)
	require.Contains(t, string(text), `"tlsDetails":{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_128_GCM_SHA256",`+
		`"clientProvidedHostHeader":"kms.example","keyExchange":"X25519MLKEM768"}`)
}

// inflate sets every string of v to text, and fills every list and map of v with n entries.
func inflate(v reflect.Value, text string, n int) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		inflate(v.Elem(), text, n)
	case reflect.Struct:
		for i := range v.NumField() {
			if field := v.Field(i); field.CanSet() {
				inflate(field, text, n)
			}
		}
	case reflect.Slice:
		if v.Type() != reflect.TypeFor[[]byte]() {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				inflate(v.Index(i), text, n)
			}
		}
	case reflect.Map:
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprint(i, text)] = text
		}
		v.Set(reflect.ValueOf(m))
	}
}

// Callers cannot fill a log with large events.
func TestTheSizeOfAnEventIsBounded(t *testing.T) {
	const failedBytes = 160 << 10 // the parameters and everything else
	auditedOperation(t, func(t *testing.T, f *fixture, s *trail, op kms.Operation, _ any) {
		long := "arn:aws:iam::111122223333:user/" + strings.Repeat(`"`, 2000)
		caller := f.svc.As(principal(t, long)).In(strings.Repeat("\x01", 5000))
		for name, size := range map[string]struct {
			text string
			n    int
		}{
			"one long text":            {strings.Repeat("<", 1_040_000), 1},
			"escapes":                  {strings.Repeat("\x00", 100_000), 1},
			"escapes just below":       {strings.Repeat("\x00", 16_000), 1},
			"text that is not UTF-8":   {strings.Repeat("\xff", 30_000), 1},
			"many short entries":       {"", 50_000},
			"many entries":             {strings.Repeat("\u2028", 10), 3_000},
			"one of everything":        {"x", 1},
			"a policy as long as they": {strings.Repeat("\n", 32_768), 1},
		} {
			in := op.NewInput()
			inflate(reflect.ValueOf(in).Elem(), size.text, size.n)
			ctx := audit.ContextWithRequestInfo(t.Context(), audit.RequestInfo{UserAgent: size.text, SourceIPAddress: size.text, AccessKeyID: size.text,
				TLS: &audit.TLSDetails{TLSVersion: size.text, CipherSuite: size.text, ClientProvidedHostHeader: size.text, KeyExchange: size.text}})
			for _, svc := range []*kms.Service{f.svc, caller} {
				_, _ = op.Invoke(ctx, svc, in)
				for _, e := range s.take() {
					text, err := json.Marshal(e)
					require.NoError(t, err)
					require.Less(t, len(text), audit.MaxEventBytes, name)
					if e.ErrorCode != "" {
						require.Less(t, len(text), failedBytes, name)
					}
				}
			}
		}
	})
}

func TestParametersThatAreTooLongAreOmitted(t *testing.T) {
	s := new(trail)
	svc, _ := newService(t, func(c *kms.Config) { c.Audit = s })
	_, err := svc.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: strings.Repeat("<", 1_040_000)})
	require.ErrorIs(t, err, kms.ValidationException)
	e := s.take()[0]
	require.Equal(t, map[string]any{"omitted": true, "originalSize": int64(1_040_009), "reason": "requestParameters too large"},
		e.RequestParameters.Map())
	require.LessOrEqual(t, len(e.ErrorMessage), 1024)
}

// No successful change is so large that its parameters are omitted from the event.
func TestTheParametersOfTheLargestCallsThatSucceedAreRecorded(t *testing.T) {
	s := new(trail)
	svc, _ := newService(t, func(c *kms.Config) { c.Audit = s })
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}]}`
	policy += strings.Repeat("\n", 32_768-len(policy))
	in := &kms.CreateKeyInput{Policy: policy, Description: strings.Repeat("\x01", 8192)}
	for i := range 50 {
		in.Tags = append(in.Tags, kms.Tag{TagKey: fmt.Sprintf("%02d", i) + strings.Repeat("é", 126), TagValue: strings.Repeat("é", 256)})
	}
	out, err := svc.CreateKey(t.Context(), in)
	require.NoError(t, err)
	e := s.take()[0]
	require.Equal(t, policy, e.RequestParameters.Get("policy").String())
	require.Equal(t, in.Description, e.ResponseElements.Get("keyMetadata", "description").String())
	require.Equal(t, out.KeyMetadata.Arn, e.ResponseElements.Get("keyMetadata", "arn").String())
}
