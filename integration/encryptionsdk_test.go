package integration_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/envelope"
	"github.com/pocketkms/kms/integration/messagetest"
	"github.com/pocketkms/kms/internal/testenv"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/bolt"
)

// The AWS Encryption SDK for JavaScript, unchanged, and package envelope decrypt each other's messages, with `kms serve`.
// The SDK also decrypts the files that `kms encrypt` wrote before with a key of the same store.
func TestEncryptionSDKForJavaScript(t *testing.T) {
	testenv.NeedsTool(t, "node", "npm")
	program := buildKMS(t)
	files := encryptFiles(t, program)
	s := serveStore(t, program, rootCredentials, files.store...)
	js := encryptionSDKForJS{start(t, s, "node", filepath.Join(installNode(t, "js"), "encryption.mjs"))}
	messagetest.Exchange(t, newSDKGo(s).Client, js)

	for name, plaintext := range files.plaintexts {
		message, err := os.ReadFile(filepath.Join(files.encrypted, name+".encrypted"))
		require.NoError(t, err)
		for _, key := range []messagetest.WrappingKey{{Kind: messagetest.Discovery}, {Kind: messagetest.KMS, Name: files.keyARN}} {
			got, err := js.Decrypt(t, []messagetest.WrappingKey{key}, message)
			require.NoError(t, err, name)
			require.Equal(t, map[string]string{"path": name, "tenant": "7"}, got.Context)
			require.True(t, bytes.Equal(plaintext, got.Plaintext), name)
		}
	}
}

// encryptedFiles are of a directory that `kms encrypt` has encrypted.
type encryptedFiles struct {
	store      []string // the flags of the store of the key
	keyARN     string
	encrypted  string // a directory
	plaintexts map[string][]byte
}

func encryptFiles(t *testing.T, program string) encryptedFiles {
	dir := t.TempDir()
	store, rootKey := filepath.Join(dir, "store"), filepath.Join(dir, "root.key")
	files := encryptedFiles{
		store:      []string{"--store", store, "--key-file", rootKey},
		encrypted:  filepath.Join(dir, "encrypted"),
		plaintexts: map[string][]byte{"empty": {}, "a letter": []byte("text"), "below/long": bytes.Repeat([]byte("0123456789"), 20_000)},
	}
	run := func(args ...string) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute)
		defer cancel()
		text, err := exec.CommandContext(ctx, program, append(args, files.store...)...).CombinedOutput()
		require.NoError(t, err, "%s", text)
	}
	run("init")
	t.Cleanup(func() { run("check") })
	backend, err := bolt.Open(store)
	require.NoError(t, err)
	svc, err := kms.New(kms.Config{Backend: backend, RootKey: keystore.KeyFile(rootKey)})
	require.NoError(t, err)
	key, err := svc.EnsureKey(t.Context(), "alias/files", nil)
	require.NoError(t, err)
	files.keyARN = key.Arn
	require.NoError(t, svc.Close())

	in := filepath.Join(dir, "in")
	for name, plaintext := range files.plaintexts {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(in, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(in, name), plaintext, 0o600))
	}
	run("encrypt", "--key", "alias/files", "--context", "tenant=7", "--in", in, "--out", files.encrypted)
	return files
}

// encryptionSDKForJS is the AWS Encryption SDK for JavaScript, in a program.
type encryptionSDKForJS struct{ *program }

func (p encryptionSDKForJS) Encrypt(t testing.TB, suite envelope.Suite, keys []messagetest.WrappingKey, pairs map[string]string, plaintext []byte) ([]byte, error) {
	a, err := p.ask(t, told{Operation: "encrypt", Input: map[string]any{
		"suite": suite, "commits": suite.Commits(), "keys": keys, "frameLength": messagetest.FrameLength, "context": pairs, "plaintext": plaintext,
	}})
	if err != nil {
		return nil, err
	}
	return bytesOf(t, a.Output, "message"), nil
}

func (p encryptionSDKForJS) Decrypt(t testing.TB, keys []messagetest.WrappingKey, message []byte) (messagetest.Decrypted, error) {
	a, err := p.ask(t, told{Operation: "decrypt", Input: map[string]any{"keys": keys, "message": message}})
	if err != nil {
		return messagetest.Decrypted{}, err
	}
	pairs := map[string]string{}
	for k, v := range a.Output["context"].(map[string]any) {
		pairs[k] = v.(string)
	}
	return messagetest.Decrypted{Plaintext: bytesOf(t, a.Output, "plaintext"), Suite: envelope.Suite(a.Output["suite"].(float64)), Context: pairs}, nil
}
