// Import brings a key of one's own in the four steps that the AWS KMS documentation describes. Then
// it deletes the key material, and imports it again:
//
//	go run ./examples/import
package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/pocketkms/kms"
)

const secret = "Meet me at the usual place at noon."

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "import:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer) error {
	svc, err := kms.New(kms.Config{})
	if err != nil {
		return err
	}
	defer svc.Close()

	// In earnest this comes from your own HSM or safe, which also keeps a copy: with imported key
	// material, the copy is yours to look after.
	material := make([]byte, 32)
	rand.Read(material)

	fmt.Fprintln(w, "Four steps to a key of your own")
	key, err := createKey(ctx, svc)
	if err != nil {
		return err
	}
	show(w, "1. create", "a key without key material", key.KeyId, "it is "+string(key.KeyState))

	parameters, err := svc.GetParametersForImport(ctx, &kms.GetParametersForImportInput{
		KeyId:             key.KeyId,
		WrappingAlgorithm: kms.AlgorithmRSAESOAEPSHA256,
		WrappingKeySpec:   kms.WrappingKeySpecRSA3072,
	})
	if err != nil {
		return err
	}
	show(w, "2. ask", "for a wrapping key and an import token",
		fmt.Sprintf("RSA_3072, %d bytes; the token has %d bytes", len(parameters.PublicKey), len(parameters.ImportToken)),
		"both are valid until "+parameters.ParametersValidTo.Format(time.DateTime))

	wrapped, err := wrap(parameters.PublicKey, material)
	if err != nil {
		return err
	}
	show(w, "3. wrap", "your 32 bytes, on your side", fmt.Sprintf("%.16x… (%d bytes)", wrapped, len(wrapped)),
		"only the KMS can open it, and only with the token")

	id, err := importMaterial(ctx, svc, key.KeyId, parameters.ImportToken, wrapped)
	if err != nil {
		return err
	}
	show(w, "4. import", "the key material", "material "+id[:16]+"…", "the key is Enabled")

	fmt.Fprintln(w, "\nThe key works like any other")
	sealed, err := svc.Encrypt(ctx, &kms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte(secret)})
	if err != nil {
		return err
	}
	show(w, "encrypt", secret, fmt.Sprintf("%.16x… (%d bytes)", sealed.CiphertextBlob, len(sealed.CiphertextBlob)))
	if err := decrypt(ctx, svc, w, sealed.CiphertextBlob); err != nil {
		return err
	}

	fmt.Fprintln(w, "\nYou can take the key material away, at once")
	if _, err := svc.DeleteImportedKeyMaterial(ctx, &kms.DeleteImportedKeyMaterialInput{KeyId: key.KeyId}); err != nil {
		return err
	}
	show(w, "delete", "the key material", "the key is PendingImport; its ID, policy and aliases stay")
	_, err = svc.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
	if !errors.Is(err, kms.KMSInvalidStateException) {
		return fmt.Errorf("a key without key material was used: %w", err)
	}
	show(w, "refuse", "to decrypt", err.Error())

	fmt.Fprintln(w, "\nAnd only the same key material brings it back")
	other := make([]byte, 32)
	rand.Read(other)
	if wrapped, err = wrap(parameters.PublicKey, other); err != nil {
		return err
	}
	_, err = importMaterial(ctx, svc, key.KeyId, parameters.ImportToken, wrapped)
	if !errors.Is(err, kms.IncorrectKeyMaterialException) {
		return fmt.Errorf("other key material was not refused: %w", err)
	}
	show(w, "refuse", "32 other bytes", string(kms.IncorrectKeyMaterialException))
	if wrapped, err = wrap(parameters.PublicKey, material); err != nil {
		return err
	}
	if _, err = importMaterial(ctx, svc, key.KeyId, parameters.ImportToken, wrapped); err != nil {
		return err
	}
	show(w, "import", "your 32 bytes, wrapped again", "the key is Enabled")
	return decrypt(ctx, svc, w, sealed.CiphertextBlob)
}

// createKey is step 1.
func createKey(ctx context.Context, svc *kms.Service) (*kms.KeyMetadata, error) {
	out, err := svc.CreateKey(ctx, &kms.CreateKeyInput{Description: "material of our own", Origin: kms.OriginExternal})
	if err != nil {
		return nil, err
	}
	return out.KeyMetadata, nil
}

// wrap is step 3, and needs no KMS: only the public key.
func wrap(publicKey, material []byte) ([]byte, error) {
	parsed, err := x509.ParsePKIXPublicKey(publicKey)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("the wrapping key is a %T", parsed)
	}
	return rsa.EncryptOAEP(sha256.New(), rand.Reader, key, material, nil) // RSAES_OAEP_SHA_256
}

// importMaterial is step 4. It returns the ID of the key material.
func importMaterial(ctx context.Context, svc *kms.Service, keyID string, token, wrapped []byte) (string, error) {
	out, err := svc.ImportKeyMaterial(ctx, &kms.ImportKeyMaterialInput{
		KeyId:                keyID,
		ImportToken:          token,
		EncryptedKeyMaterial: wrapped,
		ExpirationModel:      kms.ExpirationModelKeyMaterialDoesNotExpire,
	})
	if err != nil {
		return "", err
	}
	return out.KeyMaterialId, nil
}

func decrypt(ctx context.Context, svc *kms.Service, w io.Writer, ciphertext []byte) error {
	out, err := svc.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: ciphertext})
	if err != nil {
		return err
	}
	if string(out.Plaintext) != secret {
		return errors.New("the decrypted text differs")
	}
	show(w, "decrypt", string(out.Plaintext))
	return nil
}

// show prints a step, and what came of it.
func show(w io.Writer, verb, what string, results ...string) {
	fmt.Fprintf(w, "  %-10s %s\n", verb, what)
	for _, result := range results {
		fmt.Fprintf(w, "  %s%s\n", strings.Repeat(" ", 11), result)
	}
}
