package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
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
	file, err := readCredentialsFile(path)
	if err != nil {
		return nil, err
	}
	return file.known, nil
}

// A readFile is what a credentials file says.
type readFile struct {
	known      map[string]*awsapi.Credentials // by access key ID
	principals *principals
	callers    []kms.Principal // of the credentials, with what the file says about them
}

func readCredentialsFile(path string) (*readFile, error) {
	data, err := securefile.ReadPrivate(path, maxCredentialsBytes)
	if err != nil {
		return nil, fmt.Errorf("--credentials: %w", err)
	}
	defer secret.Clear(data)
	file, err := parseCredentials(data)
	if err != nil {
		return nil, fmt.Errorf("--credentials: %s: %w", path, err)
	}
	return file, nil
}

func parseCredentials(data []byte) (*readFile, error) {
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
	read := &readFile{known: make(map[string]*awsapi.Credentials, len(file.Credentials)), principals: principals}
	for i, e := range file.Credentials {
		caller, c, err := e.credentials(principals)
		if err == nil && read.known[e.AccessKeyID.Value] != nil {
			err = errors.New("its accessKeyId is there twice")
		}
		if err != nil {
			return nil, fmt.Errorf("%scredentials[%d]: %w", inLine(e.AccessKeyID.Line), i, err)
		}
		read.known[e.AccessKeyID.Value] = c
		read.callers = append(read.callers, caller)
	}
	if err := principals.requireUsed(); err != nil {
		return nil, err
	}
	return read, nil
}

// names reports whether credentials are of a principal, or an entry is about it or its role.
func (f *readFile) names(p kms.Principal) bool {
	return f.principals.byARN[p.ARN()] != nil || kindOf(p) == roleSession && f.principals.roles[roleName(p.ARN())] != nil ||
		slices.ContainsFunc(f.callers, func(caller kms.Principal) bool { return caller.ARN() == p.ARN() })
}

// all returns all principals in the file, with what it says about them, each once.
func (f *readFile) all() ([]kms.Principal, error) {
	list := slices.Clone(f.callers)
	for _, p := range f.principals.all {
		named, err := kms.ParsePrincipal(p.entry.ARN.Value)
		if err != nil {
			return nil, err
		}
		if named, err = f.principals.withIdentity(named); err != nil {
			return nil, err
		}
		list = append(list, named)
	}
	slices.SortStableFunc(list, func(a, b kms.Principal) int { return strings.Compare(a.ARN(), b.ARN()) })
	return slices.CompactFunc(list, func(a, b kms.Principal) bool { return a.ARN() == b.ARN() }), nil
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

func (e *credentialsEntry) credentials(principals *principals) (caller kms.Principal, c *awsapi.Credentials, err error) {
	if !accessKeyID.MatchString(e.AccessKeyID.Value) {
		return caller, nil, errors.New("an accessKeyId has 1 to 128 letters, digits and underscores")
	}
	if len(e.SecretAccessKey) < minSecretBytes {
		return caller, nil, fmt.Errorf("a secretAccessKey has at least %d bytes", minSecretBytes)
	}
	if caller, err = kms.ParsePrincipal(e.Principal); err != nil {
		return caller, nil, errors.New("its principal is not the ARN of one, such as arn:aws:iam::111122223333:root")
	}
	if caller, err = principals.withIdentity(caller); err != nil {
		return caller, nil, err
	}
	if e.SessionToken == "" {
		c, err = awsapi.NewCredentials(caller, e.SecretAccessKey)
	} else {
		c, err = awsapi.NewSessionCredentials(caller, e.SecretAccessKey, e.SessionToken, time.Time{})
	}
	return caller, c, err
}
