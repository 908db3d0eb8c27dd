package integration_test

import (
	"path/filepath"
	"testing"

	"github.com/pocketkms/kms/envelope"
	"github.com/pocketkms/kms/integration/messagetest"
	"github.com/pocketkms/kms/internal/testenv"
)

// The AWS Encryption SDK for JavaScript, unchanged, and package envelope decrypt each other's messages, with `kms serve`.
func TestEncryptionSDKForJavaScript(t *testing.T) {
	testenv.NeedsTool(t, "node", "npm")
	s := serve(t)
	p := start(t, s, "node", filepath.Join(installNode(t, "js"), "encryption.mjs"))
	messagetest.Exchange(t, newSDKGo(s).Client, encryptionSDKForJS{p})
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
