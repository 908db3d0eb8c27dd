package kms

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/audit"
)

// What a call that could not be recorded would have answered is erased, not
// only withheld.
func TestTheOutputOfAnUnrecordedCallIsErased(t *testing.T) {
	for name, sink := range map[string]audit.SinkFunc{
		"the sink fails":  func(context.Context, *audit.Event) error { return errors.New("disk full") },
		"the sink panics": func(context.Context, *audit.Event) error { panic("no") },
	} {
		t.Run(name, func(t *testing.T) {
			svc, err := New(Config{Audit: sink, Logger: slog.New(slog.DiscardHandler)})
			require.NoError(t, err)
			defer svc.Close()
			acted := &GenerateDataKeyOutput{Plaintext: []byte("plaintext"), CiphertextBlob: []byte("ciphertext")}
			plaintext, ciphertext := acted.Plaintext, acted.CiphertextBlob
			op := define(operation[GenerateDataKeyInput, GenerateDataKeyOutput]{
				description: description{name: "GenerateDataKey", readOnly: true},
				act:         func(*call, *GenerateDataKeyInput) (*GenerateDataKeyOutput, error) { return acted, nil },
			})
			out, err := op.do(t.Context(), svc, &GenerateDataKeyInput{KeyId: "x"})
			require.ErrorIs(t, err, KMSInternalException)
			require.Nil(t, out)
			require.Equal(t, make([]byte, len("plaintext")), plaintext)
			require.Equal(t, make([]byte, len("ciphertext")), ciphertext)
		})
	}
}

func TestAPanicInAnOperationIsItsOwnDefect(t *testing.T) {
	svc, err := New(Config{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer svc.Close()
	op := define(operation[ListKeysInput, ListKeysOutput]{
		description: description{name: "ListKeys"},
		act:         func(*call, *ListKeysInput) (*ListKeysOutput, error) { panic("a defect") },
	})
	out, err := op.do(t.Context(), svc, nil)
	require.Nil(t, out)
	require.EqualError(t, err, "kms: ListKeys: KMSInternalException: The request could not be completed.")
}
