package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/iam"
)

const explainSummary = `Prints whether the call would be allowed, and what decides. Exits with status 0 if it is, 1 if it
is refused, and 2 if there is no answer. It looks at permissions only, not at the state of the key.
Without --principal, the root of the account calls.`

// explain says whether a call would be allowed, and why.
func (p *program) explain(ctx context.Context, args []string) (err error) {
	defer func() { err = failure(err) }()
	var s askSettings
	flags := newFlags("kms explain")
	s.common(flags)
	s.ofOperation(flags)
	s.ofPrincipal(flags)
	flags.Var(&s.policies, "policy", "`FILE` with an identity-based policy of the principal; may be repeated. Answers count them from 0")
	flags.StringVar(&s.boundary, "boundary", "", "`FILE` with the permissions boundary of the principal")
	flags.Var(&s.sessionPolicies, "session-policy", "`FILE` with a session policy; may be repeated. Answers count them from 0")
	flags.Var(&s.context, "context", "a `KEY=VALUE` of the encryption context; may be repeated")
	flags.StringVar(&s.input, "input", "", "other members of the request, as `JSON`")
	flags.StringVar(&s.sourceIP, "source-ip", "", "the `ADDRESS` that the request comes from")
	flags.StringVar(&s.viaService, "via-service", "", "the `SERVICE` that calls for the principal, such as s3.us-east-1.amazonaws.com")
	if err := s.parse(p, flags, args, explainSummary, "operation"); err != nil {
		return err
	}
	in, err := s.request()
	if err != nil {
		return err
	}
	if _, err := netip.ParseAddr(s.sourceIP); err != nil && s.sourceIP != "" {
		return usageError(fmt.Sprintf("--source-ip: %.100q is not an address", s.sourceIP))
	}
	ctx = audit.ContextWithRequestInfo(ctx, audit.RequestInfo{SourceIPAddress: s.sourceIP, ViaService: s.viaService})
	return p.ask(ctx, &s, func(svc *kms.Service) (fmt.Stringer, bool, error) {
		e, err := svc.Explain(ctx, in)
		if flag := missing(in); err != nil && flag != "" {
			return nil, false, usageError("kms explain needs " + flag + " for " + s.operation)
		}
		if err != nil {
			return nil, false, err
		}
		return e, e.Allowed(), nil
	})
}

// request returns the input of the operation.
func (s *askSettings) request() (any, error) {
	var in any
	for _, op := range kms.Operations() {
		if op.Name() == s.operation {
			in = op.NewInput()
		}
	}
	if in == nil && strings.HasPrefix(s.operation, "ReEncrypt") {
		return nil, usageError("--operation: the operation is ReEncrypt, which needs the permissions ReEncryptFrom and ReEncryptTo")
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

// missing returns the flag with which a call would name its keys and its alias, if it does not. A
// ciphertext or a grant token names a key, too.
func missing(in any) string {
	v := reflect.ValueOf(in).Elem()
	lacks := func(name string) bool {
		f := v.FieldByName(name)
		return f.IsValid() && f.Len() == 0
	}
	names := func(name string) bool { return v.FieldByName(name).IsValid() && !lacks(name) }
	switch {
	case names("CiphertextBlob"), names("GrantToken"):
	case lacks("KeyId"), lacks("SourceKeyId"), lacks("TargetKeyId"):
		return "--key"
	}
	for _, name := range []string{"DestinationKeyId", "AliasName"} {
		if lacks(name) {
			return "--input with " + name
		}
	}
	return ""
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

const whoCanSummary = `Lists who can call an operation on a key, by the key policy and grants, by the policies in the file
of --credentials, and what it cannot know. Exits with status 0, with 1 if a principal can that no
--only names, and with 2 if there is no answer.`

// whoCan lists who can call an operation on a key.
func (p *program) whoCan(ctx context.Context, args []string) (err error) {
	defer func() { err = failure(err) }()
	var s askSettings
	flags := newFlags("kms who-can")
	s.common(flags)
	s.ofOperation(flags)
	flags.Var(&s.only, "only", "the `PRINCIPAL`, as the list shows it, that is expected; may be repeated")
	if err := s.parse(p, flags, args, whoCanSummary, "operation", "key"); err != nil {
		return err
	}
	var candidates []kms.Principal
	if s.credentials != "" {
		file, err := readCredentialsFile(s.credentials)
		if err != nil {
			return err
		}
		if candidates, err = file.all(); err != nil {
			return err
		}
	}
	return p.ask(ctx, &s, func(svc *kms.Service) (fmt.Stringer, bool, error) {
		report, err := svc.WhoCan(ctx, s.key, s.operation, candidates...)
		if err != nil {
			return nil, false, err
		}
		expected := len(s.only) == 0 || !slices.ContainsFunc(report.Allowed, func(a kms.Access) bool {
			return a.Except || !s.expects(a.Principal)
		})
		return report, expected, nil
	})
}

const policyDiffSummary = `Says who gains and who loses what if a new policy replaces that of a key, before it is put. Exits
with status 0 if that is nobody, or only whom --only names; with 1 if it is anybody else, or if the
caller could not change the new policy again; and with 2 if there is no answer. Without --principal,
the caller is the root of the account.`

// policyDiff compares the policy of a key with a new one.
func (p *program) policyDiff(ctx context.Context, args []string) (err error) {
	defer func() { err = failure(err) }()
	var s askSettings
	flags := newFlags("kms policy-diff")
	s.common(flags)
	s.ofPrincipal(flags)
	flags.StringVar(&s.newPolicy, "policy", "", "`FILE` with the new key policy")
	flags.Var(&s.only, "only", "the `PRINCIPAL`, as the answer shows it, that is expected to gain or lose; may be repeated")
	if err := s.parse(p, flags, args, policyDiffSummary, "key", "policy"); err != nil {
		return err
	}
	text, err := readText(s.newPolicy)
	if err != nil {
		return fmt.Errorf("--policy: %w", err)
	}
	return p.ask(ctx, &s, func(svc *kms.Service) (fmt.Stringer, bool, error) {
		d, err := svc.DiffKeyPolicy(ctx, s.key, text)
		_, invalid := errors.AsType[*iam.Error](err)
		switch {
		case invalid || errors.Is(err, kms.MalformedPolicyDocumentException) || errors.Is(err, kms.LimitExceededException):
			return nil, false, inFile("--policy", s.newPolicy, err)
		case err != nil:
			return nil, false, err
		}
		unexpected := slices.ContainsFunc(slices.Concat(d.Gained, d.Lost, d.NewlyDenied, d.NoLongerDenied), func(r kms.PolicyRight) bool {
			return r.Except || !s.expects(r.Principal)
		})
		return d, !unexpected && !d.Lockout, nil
	})
}
