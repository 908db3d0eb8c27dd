package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/iam"
	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/internal/securefile"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/memory"
)

// errRefused is the answer no, which has been printed: exit status 1.
var errRefused = errors.New("refused")

// A noAnswer is a failure of a command that answers a question: exit status 2, because 1 is an
// answer.
type noAnswer struct{ error }

func (e noAnswer) Unwrap() error { return e.error }

// failure returns err as a noAnswer if it is not an answer.
func failure(err error) error {
	if err == nil || err == errRefused || errors.Is(err, flag.ErrHelp) {
		return err
	}
	return noAnswer{err}
}

const maxInputBytes = 1 << 20

// askSettings are the flags of the commands that answer questions about a store.
type askSettings struct {
	settings
	principal       string
	operation, key  string
	input           string
	context         pairs
	policies        texts
	sessionPolicies texts
	boundary        string
	sourceIP        string
	viaService      string
	only            texts
	newPolicy       string
	json            bool
}

// texts is the value of a flag that may be repeated.
type texts []string

func (t *texts) String() string { return strings.Join(*t, ",") }

func (t *texts) Set(text string) error {
	if text == "" {
		return errors.New("it is empty")
	}
	*t = append(*t, text)
	return nil
}

// pairs is the value of a flag that may be repeated, KEY=VALUE.
type pairs map[string]string

func (p *pairs) String() string { return strings.Join(slices.Sorted(maps.Keys(*p)), ",") }

func (p *pairs) Set(text string) error {
	key, value, ok := strings.Cut(text, "=")
	if !ok || key == "" {
		return errors.New("not KEY=VALUE")
	}
	if *p == nil {
		*p = pairs{}
	}
	(*p)[key] = value
	return nil
}

// common defines the flags that all these commands have.
func (s *askSettings) common(flags *flag.FlagSet) {
	s.define(flags, "look at the store in `FILE`, which no service may have open; it is not changed")
	s.defineWait(flags)
	flags.StringVar(&s.seed, "seed", "", "instead of a store, look at the keys of a seed in `FILE` (docs/seed.md)")
	flags.StringVar(&s.account, "account", "", "the `ACCOUNT` of a caller that is not named, and of seeded keys that name none; without,\nthat of the store, or 111122223333")
	flags.StringVar(&s.region, "region", "", "the `REGION` of the key, and of seeded keys that name none; without, that of the ARN, that of the\nstore, or us-east-1")
	flags.StringVar(&s.credentials, "credentials", "", "take the policies of principals from `FILE`, in the form that kms serve reads (docs/serve.md)")
	flags.StringVar(&s.key, "key", "", "the `KEY`: a key ID, key ARN, alias name or alias ARN")
	defineJSON(flags, &s.json)
}

// ofOperation defines the flag that says which operation the question is about.
func (s *askSettings) ofOperation(flags *flag.FlagSet) {
	flags.StringVar(&s.operation, "operation", "", "the `OPERATION`, such as Decrypt, or kms:Decrypt as policies have it")
}

// ofPrincipal defines the flag that says who asks.
func (s *askSettings) ofPrincipal(flags *flag.FlagSet) {
	flags.StringVar(&s.principal, "principal", "", "the `ARN` of the principal that calls, or the name of an AWS service")
}

// parse parses the flags of a command, of which some are needed. If help is requested, it prints
// them and returns flag.ErrHelp.
func (s *askSettings) parse(p *program, flags *flag.FlagSet, args []string, summary string, needed ...string) error {
	command := flags.Name()
	if err := p.parseFlags(flags, args, summary); err != nil {
		return err
	}
	switch {
	case (s.store == "") == (s.seed == ""):
		return usageError(command + " needs --store or --seed")
	case s.store == "" && s.root.isSet():
		return usageError(s.root.String() + " needs --store")
	}
	if err := s.root.check(command, s.store != ""); err != nil {
		return err
	}
	for _, name := range needed {
		if flags.Lookup(name).Value.String() == "" {
			return usageError(command + " needs --" + name)
		}
	}
	s.operation = strings.TrimPrefix(s.operation, "kms:")
	return nil
}

// openToAsk returns the service to ask.
func (p *program) openToAsk(ctx context.Context, s *askSettings) (*kms.Service, error) {
	config := kms.Config{
		Account: s.account, Region: s.region, AllowOtherDefaults: true, // the question may be about another Region
		MustExist: s.store != "", Logger: slog.New(slog.DiscardHandler),
	}
	if s.store != "" {
		if err := s.requireExisting(); err != nil {
			return nil, err
		}
		backend, root, err := s.open(ctx, p)
		if err != nil {
			return nil, err
		}
		config.RootKey, config.Backend = root, memory.New()
		err = keystore.Copy(ctx, config.Backend, backend) // so that what is due is not carried out in the store
		if err = errors.Join(err, backend.Close()); err != nil {
			return nil, err
		}
	}
	svc, err := kms.New(config)
	if err != nil {
		if config.Backend != nil {
			err = errors.Join(err, config.Backend.Close())
		}
		return nil, s.root.explain(s.store, err)
	}
	if s.seed != "" {
		if err := loadSeed(ctx, svc, s.seed); err != nil {
			return nil, errors.Join(err, svc.Close())
		}
	}
	return svc, nil
}

// caller returns the principal that --principal names, with its policies, and whether there is one.
func (s *askSettings) caller() (p kms.Principal, ok bool, err error) {
	own := len(s.policies)+len(s.sessionPolicies)+len(s.boundary) > 0
	switch {
	case s.principal == "" && own:
		return p, false, usageError("the policies of a principal need --principal")
	case s.credentials != "" && own:
		return p, false, usageError("--credentials has the policies of the principal: it excludes --policy, --boundary and --session-policy")
	case s.principal == "":
		return p, false, nil
	}
	if p, err = kms.ParsePrincipal(s.principal); err != nil {
		if p, err = kms.ServicePrincipal(s.principal); err != nil {
			return p, false, usageError(fmt.Sprintf("--principal: %.300q is not the ARN of a principal or the name of a service", s.principal))
		}
	}
	if s.credentials == "" || p.Account() == "" { // a service is in no such file
		p, err = s.withPolicies(p)
		return p, true, err
	}
	file, err := readCredentialsFile(s.credentials)
	if err != nil {
		return p, false, err
	}
	if !file.names(p) { // it may be misspelled, and then the answer would be wrong
		return p, false, fmt.Errorf("--credentials: %s does not name %s", s.credentials, p)
	}
	p, err = file.principals.withIdentity(p)
	return p, true, err
}

// withPolicies returns p with the policies in the files of the flags.
func (s *askSettings) withPolicies(p kms.Principal) (kms.Principal, error) {
	var id kms.Identity
	var boundary texts
	if s.boundary != "" {
		boundary = texts{s.boundary}
	}
	for _, list := range []struct {
		flag  string
		kind  iam.Kind
		files texts
		add   func(kms.Policy)
	}{
		{"--policy", iam.IdentityPolicy, s.policies, func(policy kms.Policy) { id.Policies = append(id.Policies, policy) }},
		{"--boundary", iam.PermissionsBoundary, boundary, func(policy kms.Policy) { id.Boundary = &policy }},
		{"--session-policy", iam.SessionPolicy, s.sessionPolicies, func(policy kms.Policy) { id.SessionPolicies = append(id.SessionPolicies, policy) }},
	} {
		for _, name := range list.files {
			text, err := readText(name)
			if err != nil {
				return p, fmt.Errorf("%s: %w", list.flag, err)
			}
			compiled, err := iam.Parse(text, list.kind)
			if err != nil {
				return p, inFile(list.flag, name, err)
			}
			list.add(kms.Policy{Compiled: compiled})
		}
	}
	return p.WithIdentity(id)
}

// inFile returns an error about a policy with the name of its file, and a line for each problem of
// the policy.
func inFile(flag, name string, err error) error {
	if refused, ok := errors.AsType[*kms.Error](err); ok {
		return fmt.Errorf("%s: %s: %s: %s", flag, name, refused.Code, refused.Message)
	}
	invalid, ok := errors.AsType[*iam.Error](err)
	if !ok {
		return fmt.Errorf("%s: %s: %w", flag, name, err)
	}
	var lines []string
	for _, problem := range invalid.Problems {
		lines = append(lines, fmt.Sprintf("%s: %s:%v", flag, name, problem))
	}
	return errors.New(strings.Join(lines, "\n"))
}

// expects reports whether one of --only names a principal, as the answer or the policy has it.
func (s *askSettings) expects(principal string) bool {
	return slices.ContainsFunc(s.only, func(only string) bool { return plainName(only) == plainName(principal) })
}

// plainName returns a name that is the same for all names of a principal.
func plainName(principal string) string {
	principal = strings.TrimPrefix(principal, "account ")
	if principal == "everyone" {
		return "*"
	}
	if p, err := iam.ParsePrincipalPattern("AWS", principal); err == nil && p.IsAccount() {
		return p.Account()
	}
	return principal
}

func readText(name string) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := securefile.Read(file, name, maxInputBytes)
	return string(text), err
}

// ask asks the service of s a question, and prints the answer. It returns errRefused if f says that
// the answer is no.
func (p *program) ask(ctx context.Context, s *askSettings, f func(*kms.Service) (answer fmt.Stringer, yes bool, err error)) (err error) {
	caller, named, err := s.caller()
	if err != nil {
		return err
	}
	svc, err := p.openToAsk(ctx, s)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := svc.Close(); closeErr != nil {
			err = closeErr
		}
	}()
	asked := svc
	if key, ok := arn.Parse(s.key); ok && s.region == "" { // it says where the key is
		asked = svc.In(key.Region)
	}
	if named {
		asked = asked.As(caller)
	}
	answer, yes, err := f(asked)
	if err != nil {
		return err
	}
	if err := p.report(s.json, answer, "%s", strings.TrimSuffix(answer.String(), "\n")); err != nil {
		return err
	}
	if !yes {
		return errRefused
	}
	return nil
}
