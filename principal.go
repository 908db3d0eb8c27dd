package kms

import (
	"fmt"
	"strings"

	"github.com/pocketkms/kms/internal/arn"
)

// A Principal is the identity that makes a call, named by an ARN: the root of an account, an IAM
// user, a role, a session of a role, or a federated user. The zero value is anonymous: every
// operation is denied.
type Principal struct {
	arn     string
	account string
	kind    principalKind
}

type principalKind int8

const (
	principalAnonymous principalKind = iota
	principalRoot
	principalUser
	principalRole
	principalAssumedRole
	principalFederatedUser
)

// maxPrincipalBytes is the maximum length of a principal's ARN in the API.
const maxPrincipalBytes = 2048

// ParsePrincipal parses the ARN of a principal, in one of these forms:
//
//	arn:aws:iam::111122223333:root
//	arn:aws:iam::111122223333:user/path/alice
//	arn:aws:iam::111122223333:role/path/app
//	arn:aws:sts::111122223333:assumed-role/app/session
//	arn:aws:sts::111122223333:federated-user/bob
func ParsePrincipal(text string) (Principal, error) {
	fail := func() (Principal, error) {
		return Principal{}, fmt.Errorf("kms: %.100q is not the ARN of a principal", text)
	}
	a, ok := arn.Parse(text)
	if !ok || len(text) > maxPrincipalBytes || !arn.IsRegion(a.Partition) || a.Region != "" || !arn.IsAccount(a.Account) {
		return fail()
	}
	p := Principal{arn: text, account: a.Account}
	kind, name, _ := strings.Cut(a.Resource, "/")
	switch {
	case a.Service == "iam" && a.Resource == "root":
		p.kind = principalRoot
	case a.Service == "iam" && kind == "user":
		p.kind = principalUser
	case a.Service == "iam" && kind == "role":
		p.kind = principalRole
	case a.Service == "sts" && kind == "assumed-role" && strings.Count(name, "/") == 1:
		p.kind = principalAssumedRole
	case a.Service == "sts" && kind == "federated-user":
		p.kind = principalFederatedUser
	default:
		return fail()
	}
	unfit := func(c rune) bool { return c <= ' ' || c > '~' || c == '*' || c == '?' }
	if p.kind != principalRoot && (name == "" || strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") || strings.ContainsFunc(name, unfit)) {
		return fail()
	}
	return p, nil
}

// ARN returns the principal's ARN. It is empty for the anonymous principal.
func (p Principal) ARN() string { return p.arn }

// Partition returns the partition of the principal, usually "aws". It is empty for the anonymous
// principal.
func (p Principal) Partition() string {
	_, rest, _ := strings.Cut(p.arn, ":")
	partition, _, _ := strings.Cut(rest, ":")
	return partition
}

// Account returns the principal's account, 12 digits. It is empty for the anonymous principal.
func (p Principal) Account() string { return p.account }

// String returns the principal's ARN.
func (p Principal) String() string { return p.arn }

// rootOf returns the root of an account.
func rootOf(partition, account string) Principal {
	return Principal{arn: arn.Root(partition, account), account: account, kind: principalRoot}
}
