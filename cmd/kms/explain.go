package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/internal/securefile"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/memory"
)

// errRefused is the answer no, which has been printed: exit status 1.
var errRefused = errors.New("refused")

// An explainError is a failure of kms explain or kms who-can: exit status 2, because 1 is an
// answer.
type explainError struct{ error }

func (e explainError) Unwrap() error { return e.error }

// failure returns err as an explainError if it is not an answer.
func failure(err error) error {
	if err == nil || err == errRefused || errors.Is(err, flag.ErrHelp) {
		return err
	}
	return explainError{err}
}

const maxInputBytes = 1 << 20

// explainSettings are the flags of kms explain and kms who-can.
type explainSettings struct {
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

// common defines the flags that both commands have.
func (s *explainSettings) common(flags *flag.FlagSet) {
	s.define(flags, "look at the store in `FILE`, which no service may have open; it is not changed")
	s.defineWait(flags)
	flags.StringVar(&s.seed, "seed", "", "instead of a store, look at the keys of a seed in `FILE` (docs/seed.md)")
	flags.StringVar(&s.account, "account", "", "the `ACCOUNT` of a caller that is not named, and of seeded keys that name none; without,\nthat of the store, or 111122223333")
	flags.StringVar(&s.region, "region", "", "the `REGION` of the key, and of seeded keys that name none; without, that of the store, or\nus-east-1")
	flags.StringVar(&s.operation, "operation", "", "the `OPERATION`, such as Decrypt")
	flags.StringVar(&s.key, "key", "", "the `KEY`: a key ID, key ARN, alias name or alias ARN")
	defineJSON(flags, &s.json)
}

// parse parses the flags of a command. If help is requested, it prints them and returns
// flag.ErrHelp.
func (s *explainSettings) parse(p *program, flags *flag.FlagSet, args []string, summary string) error {
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
	if s.operation == "" {
		return usageError(command + " needs --operation")
	}
	return nil
}

// open returns the service to ask.
func (p *program) open(ctx context.Context, s *explainSettings) (*kms.Service, error) {
	config := kms.Config{
		Account: s.account, Region: s.region, AllowOtherDefaults: true, // the question may be about another Region
		MustExist: s.store != "", Logger: slog.New(slog.DiscardHandler),
	}
	if s.store != "" {
		if err := s.requireExisting(); err != nil {
			return nil, err
		}
		backend, root, err := s.storeFlag.open(ctx, p)
		if err != nil {
			return nil, err
		}
		config.RootKey = root
		config.Backend, err = inMemory(ctx, backend)
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

// inMemory returns a copy of a backend, so that what is due is not carried out in the store. The
// records stay sealed.
func inMemory(ctx context.Context, from keystore.Backend) (keystore.Backend, error) {
	to := memory.New()
	for after := ""; ; {
		records, err := from.Scan(ctx, "", after, 100)
		if err != nil || len(records) == 0 {
			return to, err
		}
		for _, r := range records {
			if _, err := to.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: r.Key, Value: r.Value}}}); err != nil {
				return to, err
			}
			after = r.Key
		}
	}
}

// caller returns the principal that --principal and the policies are about, and whether there is
// one.
func (s *explainSettings) caller() (p kms.Principal, ok bool, err error) {
	if s.principal == "" {
		if len(s.policies)+len(s.sessionPolicies)+len(s.boundary) > 0 {
			return p, false, usageError("the policies of a principal need --principal")
		}
		return p, false, nil
	}
	if p, err = kms.ParsePrincipal(s.principal); err != nil {
		if p, err = kms.ServicePrincipal(s.principal); err != nil {
			return p, false, usageError(fmt.Sprintf("--principal: %.300q is not the ARN of a principal or the name of a service", s.principal))
		}
	}
	var id kms.Identity
	for _, list := range []struct {
		name  string
		files []string
		to    *[]kms.Policy
	}{{"--policy", s.policies, &id.Policies}, {"--session-policy", s.sessionPolicies, &id.SessionPolicies}} {
		for _, name := range list.files {
			text, err := readText(name)
			if err != nil {
				return p, false, fmt.Errorf("%s: %w", list.name, err)
			}
			*list.to = append(*list.to, kms.Policy{Document: text})
		}
	}
	if s.boundary != "" {
		text, err := readText(s.boundary)
		if err != nil {
			return p, false, fmt.Errorf("--boundary: %w", err)
		}
		id.Boundary = &kms.Policy{Document: text}
	}
	p, err = p.WithIdentity(id)
	return p, true, err
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

const explainSummary = `Prints whether the call would be allowed, and what decides. Exits with status 0 if it is, 1 if it
is refused, and 2 if there is no answer. It looks at permissions only, not at the state of the key.
Without --principal, the root of the account calls.`

// explain says whether a call would be allowed, and why.
func (p *program) explain(ctx context.Context, args []string) (err error) {
	defer func() { err = failure(err) }()
	var s explainSettings
	flags := newFlags("kms explain")
	s.common(flags)
	flags.StringVar(&s.principal, "principal", "", "the `ARN` of the principal that calls, or the name of an AWS service")
	flags.Var(&s.policies, "policy", "`FILE` with an identity-based policy of the principal; may be repeated")
	flags.StringVar(&s.boundary, "boundary", "", "`FILE` with the permissions boundary of the principal")
	flags.Var(&s.sessionPolicies, "session-policy", "`FILE` with a session policy; may be repeated")
	flags.Var(&s.context, "context", "a `KEY=VALUE` of the encryption context; may be repeated")
	flags.StringVar(&s.input, "input", "", "other members of the request, as `JSON`")
	flags.StringVar(&s.sourceIP, "source-ip", "", "the `ADDRESS` that the request comes from")
	flags.StringVar(&s.viaService, "via-service", "", "the `SERVICE` that calls for the principal, such as s3.us-east-1.amazonaws.com")
	if err := s.parse(p, flags, args, explainSummary); err != nil {
		return err
	}
	in, err := s.request()
	if err != nil {
		return err
	}
	caller, named, err := s.caller()
	if err != nil {
		return err
	}
	svc, err := p.open(ctx, &s)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := svc.Close(); closeErr != nil {
			err = closeErr
		}
	}()
	asked := svc
	if named {
		asked = svc.As(caller)
	}
	e, err := asked.Explain(audit.ContextWithRequestInfo(ctx, audit.RequestInfo{SourceIPAddress: s.sourceIP, ViaService: s.viaService}), in)
	if err != nil {
		return err
	}
	if err := p.answer(e, s.json); err != nil {
		return err
	}
	return refusedUnless(e.Allowed())
}

// refusedUnless returns errRefused, or nil if ok is true.
func refusedUnless(ok bool) error {
	if ok {
		return nil
	}
	return errRefused
}

// answer prints an answer.
func (p *program) answer(answer fmt.Stringer, asJSON bool) error {
	text := []byte(answer.String())
	if asJSON {
		var b bytes.Buffer
		encoder := json.NewEncoder(&b)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(answer); err != nil {
			return err
		}
		text = b.Bytes()
	}
	_, err := p.stdout.Write(text)
	return err
}

// request returns the input of the operation.
func (s *explainSettings) request() (any, error) {
	var in any
	for _, op := range kms.Operations() {
		if op.Name() == s.operation {
			in = op.NewInput()
		}
	}
	if in == nil {
		return nil, usageError(fmt.Sprintf("--operation: there is no operation %.40q", s.operation))
	}
	if s.input != "" {
		decoder := json.NewDecoder(strings.NewReader(s.input))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(in); err != nil {
			return nil, usageError(fmt.Sprintf("--input: %v", err))
		}
		if _, err := decoder.Token(); err != io.EOF {
			return nil, usageError("--input: it is more than one JSON value")
		}
	}
	if s.key != "" {
		if !set(in, s.key, "KeyId", "SourceKeyId", "TargetKeyId") {
			return nil, usageError("--key: " + s.operation + " takes no key")
		}
	}
	if len(s.context) > 0 && !set(in, map[string]string(s.context), "EncryptionContext", "SourceEncryptionContext") {
		return nil, usageError("--context: " + s.operation + " has no encryption context")
	}
	return in, nil
}

// set sets the first of the members that the input has.
func set(in, value any, members ...string) bool {
	for _, name := range members {
		if f := reflect.ValueOf(in).Elem().FieldByName(name); f.IsValid() {
			f.Set(reflect.ValueOf(value))
			return true
		}
	}
	return false
}

const whoCanSummary = `Lists who can call an operation on a key, by the key policy and grants, and what it cannot know.
Exits with status 0, with 1 if a principal can that no --only names, and with 2 if there is no answer.`

// whoCan lists who can call an operation on a key.
func (p *program) whoCan(ctx context.Context, args []string) (err error) {
	defer func() { err = failure(err) }()
	var s explainSettings
	flags := newFlags("kms who-can")
	s.common(flags)
	flags.Var(&s.only, "only", "the `PRINCIPAL`, as the list shows it, that is expected; may be repeated")
	switch err := s.parse(p, flags, args, whoCanSummary); {
	case err != nil:
		return err
	case s.key == "":
		return usageError("kms who-can needs --key")
	}
	svc, err := p.open(ctx, &s)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := svc.Close(); closeErr != nil {
			err = closeErr
		}
	}()
	report, err := svc.WhoCan(ctx, s.key, s.operation)
	if err != nil {
		return err
	}
	if err := p.answer(report, s.json); err != nil {
		return err
	}
	return refusedUnless(len(s.only) == 0 || s.expected(report))
}

// expected reports whether --only names all principals of a report.
func (s *explainSettings) expected(report *kms.AccessReport) bool {
	expected := map[string]bool{}
	for _, name := range s.only {
		expected[name] = true
	}
	for _, a := range report.Allowed {
		if !expected[a.Principal] || a.Except {
			return false
		}
	}
	return true
}
