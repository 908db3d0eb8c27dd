package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/audit"
)

func TestSlogLevelDistinguishesSuccessRefusalAndFailure(t *testing.T) {
	for code, want := range map[string]string{
		"":                           "INFO",
		"AccessDenied":               "WARN",
		"NotFoundException":          "WARN",
		"DisabledException":          "WARN",
		"KMSInternalException":       "ERROR",
		"DependencyTimeoutException": "ERROR",
		"KeyUnavailableException":    "ERROR",
	} {
		t.Run("code "+code, func(t *testing.T) {
			var buf bytes.Buffer
			e := allowed()
			e.ErrorCode = code

			require.NoError(t, audit.Slog(slog.New(slog.NewJSONHandler(&buf, nil))).Record(t.Context(), e))

			var got struct{ Level string }
			require.NoError(t, json.Unmarshal(buf.Bytes(), &got))
			require.Equal(t, want, got.Level)
		})
	}
}

func TestSlogPrintsTheEventAsGroups(t *testing.T) {
	for _, tt := range []struct {
		event *audit.Event
		want  string
	}{
		{allowed(), `time=2026-01-31T23:59:59.000Z level=INFO msg="KMS Encrypt"` +
			` eventID=5b1de0f2-7c07-4a9e-9a53-2f6f4c7a1b02 requestID=0c1f4e6e-8b7a-4d53-a6f0-0d7f3b0f9a01` +
			` eventType=AwsApiCall eventName=Encrypt` +
			` userIdentity.type=AssumedRole userIdentity.principalId=AROAEXAMPLEROLE:payments-7` +
			` userIdentity.arn=arn:aws:sts::111122223333:assumed-role/payments/payments-7` +
			` userIdentity.accountId=111122223333 userIdentity.accessKeyId=ASIAEXAMPLE` +
			` userIdentity.sessionContext.sessionIssuer.type=Role` +
			` userIdentity.sessionContext.sessionIssuer.principalId=AROAEXAMPLEROLE` +
			` userIdentity.sessionContext.sessionIssuer.arn=arn:aws:iam::111122223333:role/payments` +
			` userIdentity.sessionContext.sessionIssuer.accountId=111122223333` +
			` userIdentity.sessionContext.sessionIssuer.userName=payments` +
			` userIdentity.sessionContext.attributes.creationDate=2026-01-31T22:00:00.000Z` +
			` userIdentity.sessionContext.attributes.mfaAuthenticated=false` +
			` awsRegion=eu-central-1 recipientAccountId=111122223333 sourceIPAddress=192.0.2.7 userAgent="example/1.0 <go>"` +
			` readOnly=true` +
			` resources.0.accountId=111122223333 resources.0.type=AWS::KMS::Key resources.0.ARN=` + keyARN +
			` requestParameters.encryptionAlgorithm=SYMMETRIC_DEFAULT` +
			` requestParameters.encryptionContext.purpose=card requestParameters.encryptionContext.tenant=7` +
			` requestParameters.keyId=alias/payments additionalEventData.keyMaterialId=9f3c`},
		{refused(), `time=2026-02-01T00:00:00.000Z level=WARN msg="KMS GenerateRandom"` +
			` eventID=5b1de0f2-7c07-4a9e-9a53-2f6f4c7a1b04 requestID=0c1f4e6e-8b7a-4d53-a6f0-0d7f3b0f9a03` +
			` sharedEventID=5b1de0f2-7c07-4a9e-9a53-2f6f4c7a1b05` +
			` eventType=AwsApiCall eventName=GenerateRandom errorCode=AccessDenied` +
			` errorMessage="User: arn:aws:iam::444455556666:user/mallory is not authorized to perform: kms:GenerateRandom"` +
			` userIdentity.type=IAMUser userIdentity.principalId=AIDAEXAMPLEUSER` +
			` userIdentity.arn=arn:aws:iam::444455556666:user/mallory userIdentity.accountId=444455556666` +
			` userIdentity.userName=mallory` +
			` awsRegion=eu-central-1 recipientAccountId=444455556666 sourceIPAddress=192.0.2.9 userAgent=example/1.0` +
			` readOnly=true`},
		{rotated(), `time=2026-02-01T12:00:00.000Z level=INFO msg="KMS RotateKey"` +
			` eventID=5b1de0f2-7c07-4a9e-9a53-2f6f4c7a1b06 eventType=AwsServiceEvent eventName=RotateKey` +
			` userIdentity.accountId=111122223333 userIdentity.invokedBy="AWS Internal"` +
			` awsRegion=eu-central-1 recipientAccountId=111122223333 sourceIPAddress="AWS Internal" userAgent="AWS Internal"` +
			` readOnly=false` +
			` resources.0.accountId=111122223333 resources.0.type=AWS::KMS::Key resources.0.ARN=` + keyARN +
			` serviceEventDetails.currentKeyMaterialId=a07d serviceEventDetails.keyId=1234abcd-12ab-34cd-56ef-1234567890ab` +
			` serviceEventDetails.keyOrigin=AWS_KMS serviceEventDetails.previousKeyMaterialId=9f3c` +
			` serviceEventDetails.rotationType=AUTOMATIC`},
	} {
		t.Run(tt.event.EventName, func(t *testing.T) {
			var buf bytes.Buffer

			require.NoError(t, audit.Slog(slog.New(slog.NewTextHandler(&buf, nil))).Record(t.Context(), tt.event))

			require.Equal(t, tt.want+"\n", buf.String())
		})
	}
}

func TestSlogPrintsEveryValueTheSameForEveryHandler(t *testing.T) {
	e := &audit.Event{RequestParameters: audit.ObjectOf(map[string]any{
		"bool":    true,
		"context": map[string]string{"b": "2", "a": "1"},
		"empty":   map[string]any{},
		"list":    []string{"Encrypt", "Decrypt"},
		"lists":   []any{map[string]any{"tagKey": "k"}, []any{}, nil},
		"none":    nil,
		"number":  7,
		"real":    1.5,
		"time":    time.Date(2026, 3, 1, 15, 4, 5, 0, time.UTC),
		"wrong":   make(chan int),
	})}
	var buf bytes.Buffer

	require.NoError(t, audit.Slog(slog.New(slog.NewTextHandler(&buf, nil))).Record(t.Context(), e))

	_, parameters, _ := strings.Cut(buf.String(), " requestParameters.")
	require.Equal(t, `bool=true requestParameters.context.a=1 requestParameters.context.b=2`+
		` requestParameters.list.0=Encrypt requestParameters.list.1=Decrypt`+
		` requestParameters.lists.0.tagKey=k requestParameters.lists.2=null requestParameters.none=null`+
		` requestParameters.number=7 requestParameters.real=1.5 requestParameters.time=2026-03-01T15:04:05.000Z`+
		` requestParameters.wrong="!ERROR: a chan int"`+"\n", parameters)
}

// broken is a handler that cannot write.
type broken struct {
	slog.Handler
	err error
}

func (b broken) Handle(context.Context, slog.Record) error { return b.err }

func TestSlogReturnsTheHandlersError(t *testing.T) {
	err := errors.New("disk full")
	log := slog.New(broken{slog.DiscardHandler, err})

	require.NoError(t, audit.Slog(log).Record(t.Context(), allowed()), "the handler is not enabled")
	log = slog.New(broken{slog.NewTextHandler(nil, nil), err})
	require.ErrorIs(t, audit.Slog(log).Record(t.Context(), allowed()), err)
}

func TestSlogDropsWhatIsBelowTheLevel(t *testing.T) {
	var buf bytes.Buffer
	sink := audit.Slog(slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{Level: slog.LevelWarn})))

	require.NoError(t, sink.Record(t.Context(), allowed()))
	require.Empty(t, buf.String())
	require.NoError(t, sink.Record(t.Context(), refused()))
	require.NotEmpty(t, buf.String())
}
