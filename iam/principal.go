package iam

import (
	"fmt"
	"strings"
)

// A Principal is who makes a request. The zero Principal is anonymous: only policies for everyone
// name it. A policy names a principal by what is in the fields, which the caller must have
// authenticated.
type Principal struct {
	Type PrincipalType

	// ARN names the principal: arn:aws:iam::111122223333:user/alice, or the ARN of a role session.
	// Of a service it is the name, logs.us-east-1.amazonaws.com.
	ARN string

	// Account has 12 digits. A service has none.
	Account string

	// Issuer is the ARN of the role of a role session, with its path, which the session's own ARN does
	// not have. Of a federated user it is the IAM user who asked for the session.
	Issuer string

	// ID is the unique ID if there is one: AIDA... of a user, AROA... of a role, AROA...:session of a
	// role session.
	ID string

	// Provider is the identity provider behind a role session, as in a policy's "Federated", if there
	// is one.
	Provider string

	// CanonicalUser is the account's canonical user ID, as in a policy's "CanonicalUser", if it is
	// known.
	CanonicalUser string

	// HasBoundary reports whether the principal has a permissions boundary: then no NotPrincipal
	// excepts it, whomever it lists.
	HasBoundary bool
}

// A PrincipalType says what a Principal is.
type PrincipalType uint8

const (
	Anonymous     PrincipalType = iota
	AccountRoot                 // the root user of an account
	User                        // an IAM user
	Role                        // a role itself
	RoleSession                 // a session of a role
	FederatedUser               // a user session of the Security Token Service
	Service                     // an AWS service
)

// ParsePrincipal returns the principal that an ARN or a service's name stands for. The role of a
// role session is taken to have no path; if it has one, set Issuer.
func ParsePrincipal(name string) (Principal, error) {
	if isService(name) {
		return Principal{Type: Service, ARN: name}, nil
	}
	p, err := ParsePrincipalPattern("AWS", name)
	who := Principal{ARN: name, Account: p.account}
	switch {
	case err != nil:
	case p.form == accountForm && strings.HasPrefix(name, "arn:"):
		who.Type = AccountRoot
		return who, nil
	case p.form == userForm:
		who.Type = User
		return who, nil
	case p.form == roleForm:
		who.Type = Role
		return who, nil
	case p.form == sessionForm:
		_, path, _ := strings.Cut(name, "/")
		role, _, _ := strings.Cut(path, "/")
		who.Type, who.Issuer = RoleSession, p.partition+"iam::"+p.account+":role/"+role
		return who, nil
	case p.form == federatedForm:
		who.Type = FederatedUser
		return who, nil
	}
	return Principal{}, fmt.Errorf("iam: %.100q does not name a principal", name)
}

// A Match says how a policy names a principal. What an Allow is worth depends on it; a greater Match
// is worth more.
type Match uint8

const (
	// Unmatched: not at all.
	Unmatched Match = iota
	// ByAccount: by its account. An Allow of a resource's policy leaves it to the account which of its
	// principals may use the resource; only the root user needs no more.
	ByAccount
	// ByIssuer: a session by its role or user, or a role itself. What limits these limits the Allow.
	ByIssuer
	// ByWildcard: by "*", which is everyone, and so the principal itself.
	ByWildcard
	// ByIdentity: by itself: the user, the session, the service. A policy of an identity names
	// whomever it is attached to in this way.
	ByIdentity
)

// String returns the name of the constant.
func (m Match) String() string {
	names := [...]string{"Unmatched", "ByAccount", "ByIssuer", "ByWildcard", "ByIdentity"}
	if int(m) < len(names) {
		return names[m]
	}
	return fmt.Sprintf("Match(%d)", uint8(m))
}

// A PrincipalPattern is one entry of a Principal or NotPrincipal element.
type PrincipalPattern struct {
	kind, text string
	form       principalForm
	account    string
	partition  string // "arn:aws:", if the text is an ARN
}

type principalForm uint8

const (
	anyoneForm    principalForm = iota + 1
	accountForm                 // 111122223333 or arn:aws:iam::111122223333:root
	userForm                    // arn:aws:iam::111122223333:user/path/name
	roleForm                    // arn:aws:iam::111122223333:role/path/name
	sessionForm                 // arn:aws:sts::111122223333:assumed-role/role/session
	federatedForm               // arn:aws:sts::111122223333:federated-user/name
	uniqueIDForm                // AIDA...
	serviceForm
	providerForm
	canonicalForm
)

// ParsePrincipalPattern parses an entry of a Principal element: kind is "AWS", "Service",
// "Federated" or "CanonicalUser". It checks the form; whether the principal exists, it cannot know.
func ParsePrincipalPattern(kind, text string) (PrincipalPattern, error) {
	p := PrincipalPattern{kind: kind, text: text}
	switch {
	case len(text) > maxPrincipalBytes:
	case kind == "AWS":
		p.form = p.parseAWS()
	case kind == "Service" && isService(text):
		p.form = serviceForm
	case kind == "Federated" && isPlain(text):
		p.form = providerForm
	case kind == "CanonicalUser" && isPlain(text):
		p.form = canonicalForm
	}
	if p.form == 0 {
		return PrincipalPattern{}, fmt.Errorf("iam: %.100q is not a principal of the kind %.100q", text, kind)
	}
	return p, nil
}

const maxPrincipalBytes = 2048

// parseAWS sets the account and the partition. It returns 0 if the text has no valid form.
func (p *PrincipalPattern) parseAWS() principalForm {
	if p.text == "*" {
		return anyoneForm
	}
	if isAccount(p.text) {
		p.account = p.text
		return accountForm
	}
	if isUniqueID(p.text) {
		return uniqueIDForm
	}
	arn, ok := splitARN(p.text)
	if !ok || arn[0] != "arn" || arn[1] == "" || arn[3] != "" || !isAccount(arn[4]) || strings.Trim(arn[1], "abcdefghijklmnopqrstuvwxyz-0123456789") != "" {
		return 0
	}
	p.account, p.partition = arn[4], p.text[:len("arn:")+len(arn[1])+1]
	service, kind, name := arn[2], arn[5], ""
	kind, name, _ = strings.Cut(kind, "/")
	if service == "iam" && arn[5] == "root" {
		return accountForm
	}
	if !isPlain(name) || strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") {
		return 0
	}
	switch {
	case service == "iam" && kind == "user":
		return userForm
	case service == "iam" && kind == "role":
		return roleForm
	case service == "sts" && kind == "assumed-role" && strings.Count(name, "/") == 1:
		return sessionForm
	case service == "sts" && kind == "federated-user":
		return federatedForm
	}
	return 0
}

// Kind returns "AWS", "Service", "Federated" or "CanonicalUser".
func (p PrincipalPattern) Kind() string { return p.kind }

// String returns the entry as it is in the policy.
func (p PrincipalPattern) String() string { return p.text }

// Account returns the account that the entry is or that its principal belongs to. It is empty if
// the entry does not say.
func (p PrincipalPattern) Account() string { return p.account }

// IsAnyone reports whether the entry is "*".
func (p PrincipalPattern) IsAnyone() bool { return p.form == anyoneForm }

// IsAccount reports whether the entry is an account, by its number or the ARN of its root.
func (p PrincipalPattern) IsAccount() bool { return p.form == accountForm }

// IsUniqueID reports whether the entry is a unique ID, as AWS prints it in place of a deleted user
// or role.
func (p PrincipalPattern) IsUniqueID() bool { return p.form == uniqueIDForm }

// Match returns how the entry names a principal.
func (p *PrincipalPattern) Match(who *Principal) Match {
	if p.form == anyoneForm {
		return ByWildcard
	}
	if who == nil {
		return Unmatched
	}
	switch p.form { // a text is not empty, so that it equals no field that is not set
	case accountForm:
		if who.Account == p.account && strings.HasPrefix(who.ARN, p.partition) {
			return ByAccount
		}
	case roleForm:
		if who.Issuer == p.text || who.ARN == p.text {
			return ByIssuer
		}
	case userForm, sessionForm, federatedForm, serviceForm:
		switch p.text {
		case who.ARN:
			return ByIdentity
		case who.Issuer:
			return ByIssuer
		}
	case uniqueIDForm:
		switch role, _, isSession := strings.Cut(who.ID, ":"); {
		case who.ID == p.text && who.Type != Role:
			return ByIdentity
		case who.ID == p.text, isSession && role == p.text:
			return ByIssuer
		}
	case providerForm:
		if who.Provider == p.text {
			return ByIdentity
		}
	case canonicalForm:
		if who.CanonicalUser == p.text {
			return ByAccount
		}
	}
	return Unmatched
}

// principals are the entries of a Principal element.
type principals []PrincipalPattern

// spare reports whether a NotPrincipal element excepts a principal: only if all that it is are in
// the list, which is the account and the user, or the account, the role and the session; and not if
// it has a permissions boundary.
func (list principals) spare(who *Principal) bool {
	if who != nil && who.HasBoundary {
		return false
	}
	var matched [ByIdentity + 1]bool
	for i := range list {
		matched[list[i].Match(who)] = true
	}
	switch {
	case matched[ByWildcard]:
		return true
	case who == nil:
		return false
	}
	switch who.Type {
	case AccountRoot:
		return matched[ByAccount]
	case User, FederatedUser:
		return matched[ByAccount] && matched[ByIdentity]
	case Role:
		return matched[ByAccount] && matched[ByIssuer]
	case RoleSession:
		return matched[ByAccount] && matched[ByIssuer] && matched[ByIdentity]
	case Service:
		return matched[ByIdentity]
	}
	return false
}

func isAccount(s string) bool {
	return len(s) == 12 && strings.Trim(s, "0123456789") == ""
}

// isUniqueID reports whether s is a unique ID of a user or a role, or of a session of a role.
func isUniqueID(s string) bool {
	id, session, isSession := strings.Cut(s, ":")
	if isSession && (!strings.HasPrefix(s, "AROA") || !isPlain(session)) {
		return false
	}
	return len(id) >= 16 && len(id) <= 128 && (strings.HasPrefix(id, "AIDA") || strings.HasPrefix(id, "AROA")) &&
		strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == ""
}

// isService reports whether s has the form of a service's name, as in "Service".
func isService(s string) bool {
	return len(s) <= 255 && strings.Contains(s, ".") && !strings.Contains(s, ":") && isPlain(s)
}

// isPlain reports whether s has only printable ASCII characters, at least one, and no wildcards.
func isPlain(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '*' || r == '?' })
}

// splitARN splits an ARN at its first five colons.
func splitARN(s string) (parts [6]string, ok bool) {
	for i := range 5 {
		if parts[i], s, ok = strings.Cut(s, ":"); !ok {
			return parts, false
		}
	}
	parts[5] = s
	return parts, true
}
