package kms

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/crypto"
	"github.com/pocketkms/kms/internal/keydb"
)

// The output of a call that could not be recorded is overwritten, and not only discarded.
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
			op := define(description{name: "GenerateDataKey", readOnly: true}, steps[GenerateDataKeyInput, GenerateDataKeyOutput]{
				act: func(*call, *GenerateDataKeyInput) (*GenerateDataKeyOutput, error) { return acted, nil },
			})
			out, err := op.do(t.Context(), svc, &GenerateDataKeyInput{KeyId: "x"})
			require.ErrorIs(t, err, KMSInternalException)
			require.Nil(t, out)
			require.Equal(t, make([]byte, len("plaintext")), plaintext)
			require.Equal(t, make([]byte, len("ciphertext")), ciphertext)
		})
	}
}

func TestAPanicInAnOperationIsAnInternalError(t *testing.T) {
	svc, err := New(Config{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer svc.Close()
	op := define(description{name: "ListKeys"}, steps[ListKeysInput, ListKeysOutput]{
		act: func(*call, *ListKeysInput) (*ListKeysOutput, error) { panic("a defect") },
	})
	out, err := op.do(t.Context(), svc, nil)
	require.Nil(t, out)
	require.EqualError(t, err, "kms: ListKeys: KMSInternalException: The request could not be completed.")
}

// A witness is an AEAD that keeps the plaintexts that it receives and returns, and copies of them.
type witness struct {
	crypto.AEAD
	plaintexts [][]byte
	were       []string
	failure    error // of Seal
}

func (w *witness) see(plaintext []byte) {
	w.plaintexts, w.were = append(w.plaintexts, plaintext), append(w.were, string(plaintext))
}

func (w *witness) Seal(dst, plaintext, associatedData []byte) ([]byte, error) {
	w.see(plaintext)
	if w.failure != nil {
		return nil, w.failure
	}
	return w.AEAD.Seal(dst, plaintext, associatedData)
}

func (w *witness) Open(dst, ciphertext, associatedData []byte) ([]byte, error) {
	plaintext, err := w.AEAD.Open(dst, ciphertext, associatedData)
	w.see(plaintext)
	return plaintext, err
}

// witnessed creates a key whose primitive is a witness.
func witnessed(t *testing.T, svc *Service) (id string, w *witness) {
	t.Helper()
	created, err := svc.CreateKey(t.Context(), nil)
	require.NoError(t, err)
	id = created.KeyMetadata.KeyId
	_, err = svc.Encrypt(t.Context(), &EncryptInput{KeyId: id, Plaintext: []byte("to load it")})
	require.NoError(t, err)
	k, err := svc.core.db.Key(t.Context(), keydb.Ref{Account: "111122223333", Region: "us-east-1", ID: id}, time.Now())
	require.NoError(t, err)
	w = new(witness)
	w.AEAD = k.Current().SwapPrimitive(w).(crypto.AEAD)
	return id, w
}

// requireErased requires that a witness has seen one plaintext, of n bytes, which is erased now.
func requireErased(t *testing.T, w *witness, n int) {
	t.Helper()
	require.Len(t, w.were, 1)
	require.NotEqual(t, string(make([]byte, n)), w.were[0])
	require.Equal(t, make([]byte, n), w.plaintexts[0])
}

func TestAPlaintextThatStaysInTheServiceIsErased(t *testing.T) {
	for name, failure := range map[string]error{"": nil, " that fails": errors.New("no")} {
		t.Run("ReEncrypt"+name, func(t *testing.T) {
			svc, err := New(Config{})
			require.NoError(t, err)
			defer svc.Close()
			from, opened := witnessed(t, svc)
			to, sealed := witnessed(t, svc)
			e, err := svc.Encrypt(t.Context(), &EncryptInput{KeyId: from, Plaintext: []byte("plaintext")})
			require.NoError(t, err)
			opened.plaintexts, opened.were, sealed.failure = nil, nil, failure
			_, err = svc.ReEncrypt(t.Context(), &ReEncryptInput{CiphertextBlob: e.CiphertextBlob, DestinationKeyId: to})
			require.Equal(t, failure == nil, err == nil, "%v", err)
			require.Equal(t, []string{"plaintext"}, opened.were)
			require.Equal(t, opened.were, sealed.were)
			requireErased(t, opened, len("plaintext"))
			requireErased(t, sealed, len("plaintext"))
		})
		t.Run("GenerateDataKeyWithoutPlaintext"+name, func(t *testing.T) {
			svc, err := New(Config{})
			require.NoError(t, err)
			defer svc.Close()
			id, w := witnessed(t, svc)
			w.failure = failure
			_, err = svc.GenerateDataKeyWithoutPlaintext(t.Context(), &GenerateDataKeyWithoutPlaintextInput{KeyId: id, KeySpec: DataKeySpecAES256})
			require.Equal(t, failure == nil, err == nil, "%v", err)
			requireErased(t, w, 32)
		})
	}
}
