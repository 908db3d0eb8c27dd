package audit_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/pocketkms/kms/audit"
)

// Every event goes to standard output as a line of JSON; refusals and failures also go to the
// program's log.
func ExampleTee() {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	sink := audit.Tee(audit.JSONLines(os.Stdout), audit.Slog(log))

	// A service does this. It is given the sink, here with an event too short for a real one.
	err := sink.Record(context.Background(), &audit.Event{EventName: "Encrypt", EventType: audit.APICall})
	fmt.Println(err)
	// Output:
	// {"eventVersion":"1.11","userIdentity":{},"eventTime":"0001-01-01T00:00:00Z","eventSource":"kms.amazonaws.com","eventName":"Encrypt","awsRegion":"","sourceIPAddress":"","userAgent":"","requestParameters":null,"responseElements":null,"eventID":"","readOnly":false,"resources":[],"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"","eventCategory":"Management"}
	// <nil>
}
