package main

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsapi"
	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/internal/securefile"
	"github.com/pocketkms/kms/internal/strictyaml"
)

const (
	credentialsVersion  = 1
	maxCredentialsBytes = 1 << 20

	// minSecretBytes keeps out secrets that can be guessed: anyone who has seen a signed request
	// can try secrets offline.
	minSecretBytes = 16
)

// A credentialsFile has the form that docs/serve.md describes.
type credentialsFile struct {
	Version     int                `yaml:"version"`
	Credentials []credentialsEntry `yaml:"credentials"`
	Principals  []principalEntry   `yaml:"principals"`
}

type credentialsEntry struct {
	AccessKeyID     strictyaml.Text `yaml:"accessKeyId"`
	SecretAccessKey string          `yaml:"secretAccessKey"`
	SessionToken    string          `yaml:"sessionToken"`
	Principal       string          `yaml:"principal"`
}

// readCredentials reads a file and returns its credentials by access key ID. No error contains a
// secret.
func readCredentials(path string) (map[string]*awsapi.Credentials, error) {
	data, err := securefile.ReadPrivate(path, maxCredentialsBytes)
	if err != nil {
		return nil, fmt.Errorf("--credentials: %w", err)
	}
	defer secret.Clear(data)
	known, err := parseCredentials(data)
	if err != nil {
		return nil, fmt.Errorf("--credentials: %s: %w", path, err)
	}
	return known, nil
}

func parseCredentials(data []byte) (map[string]*awsapi.Credentials, error) {
	var file credentialsFile
	if err := strictyaml.Decode(data, &file, "docs/serve.md"); err != nil {
		return nil, err
	}
	switch {
	case file.Version == 0:
		return nil, errors.New(`the file does not begin with "version: 1"`)
	case file.Version != credentialsVersion:
		return nil, fmt.Errorf("the file has version %d; this program reads version %d", file.Version, credentialsVersion)
	case len(file.Credentials) == 0:
		return nil, errors.New("the file has no credentials")
	}
	principals, err := indexPrincipals(file.Principals)
	if err != nil {
		return nil, err
	}
	known := make(map[string]*awsapi.Credentials, len(file.Credentials))
	for i, e := range file.Credentials {
		c, err := e.credentials(principals)
		if err == nil && known[e.AccessKeyID.Value] != nil {
			err = errors.New("its accessKeyId is there twice")
		}
		if err != nil {
			return nil, fmt.Errorf("%scredentials[%d]: %w", inLine(e.AccessKeyID.Line), i, err)
		}
		known[e.AccessKeyID.Value] = c
	}
	return known, principals.requireUsed()
}

// inLine returns how an error begins that is about a line, if the line is known.
func inLine(line int) string {
	if line == 0 {
		return ""
	}
	return fmt.Sprintf("line %d: ", line)
}

// accessKeyID matches access key IDs as IAM defines them, except that IAM's have at least 16
// characters.
var accessKeyID = regexp.MustCompile(`^\w{1,128}$`)

func (e *credentialsEntry) credentials(principals *principals) (*awsapi.Credentials, error) {
	if !accessKeyID.MatchString(e.AccessKeyID.Value) {
		return nil, errors.New("an accessKeyId has 1 to 128 letters, digits and underscores")
	}
	if len(e.SecretAccessKey) < minSecretBytes {
		return nil, fmt.Errorf("a secretAccessKey has at least %d bytes", minSecretBytes)
	}
	principal, err := kms.ParsePrincipal(e.Principal)
	if err != nil {
		return nil, errors.New("its principal is not the ARN of one, such as arn:aws:iam::111122223333:root")
	}
	if principal, err = principals.withIdentity(principal); err != nil {
		return nil, err
	}
	if e.SessionToken == "" {
		return awsapi.NewCredentials(principal, e.SecretAccessKey)
	}
	return awsapi.NewSessionCredentials(principal, e.SecretAccessKey, e.SessionToken, time.Time{})
}
