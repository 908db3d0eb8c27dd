package kms

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/iam"
	"github.com/pocketkms/kms/internal/arn"
)

// PolicyOptions say what [PolicyFromEvents] adds to what it has seen.
type PolicyOptions struct {
	// EncryptionContext limits calls to what their encryption contexts had in common: pairs that were
	// the same in all calls of a principal with a permission must be so, and keys whose values
	// differed must be there.
	EncryptionContext bool

	// Administrators are the ARNs of principals that may manage the key, whether they did or not:
	// everything but to use it for cryptography or to create grants. Without one, and if nobody
	// was seen to call PutKeyPolicy, that needs BypassPolicyLockoutSafetyCheck.
	Administrators []string
}

// administration are the permissions of administrators.
var administration = []string{
	"kms:CancelKeyDeletion", "kms:CreateAlias", "kms:DeleteAlias", "kms:DeleteImportedKeyMaterial", "kms:Describe*", "kms:Disable*", "kms:Enable*",
	"kms:Get*", "kms:ImportKeyMaterial", "kms:List*", "kms:PutKeyPolicy", "kms:ReplicateKey", "kms:RevokeGrant", "kms:RotateKeyOnDemand",
	"kms:ScheduleKeyDeletion", "kms:TagResource", "kms:UntagResource", "kms:UpdateAlias", "kms:UpdateKeyDescription", "kms:UpdatePrimaryRegion",
}

// PolicyFromEvents returns a key policy for the key of that ARN that allows what events say was
// done with it, and no more: each principal the permissions that it used. It is the same for the
// same events in any order, and valid.
//
// Only calls that succeeded count, and so do those that [Observe] let pass. A role session stands
// for its role. What it cannot know is what allowed a call: whoever used the key by a grant is
// allowed by the policy, too. Calls of the root of an account cannot be allowed without leaving it
// to the account: its identity-based policies then decide about the permissions that the root used.
// Read the result before you use it, and see [Service.DiffKeyPolicy].
func PolicyFromEvents(keyARN string, events iter.Seq[*audit.Event], options PolicyOptions) (string, error) {
	if a, ok := arn.Parse(keyARN); !ok || a.Service != "kms" || !strings.HasPrefix(a.Resource, "key/") {
		return "", fmt.Errorf("kms: %.200q is not the ARN of a key", keyARN)
	}
	uses := map[use]*commonContext{}
	for e := range events {
		if e.ErrorCode != "" || e.EventType != audit.APICall {
			continue
		}
		principal, ok := principalOf(e.UserIdentity)
		if !ok {
			continue
		}
		for _, u := range usesOf(e, keyARN) {
			u.principal = principal
			common := uses[u]
			if common == nil {
				common = new(commonContext)
				uses[u] = common
			}
			common.add(contextOf(e, u.permission))
		}
	}
	return policyOf(uses, options)
}

// A use is a permission that a principal used.
type use struct {
	principal  eventPrincipal
	permission string
}

type eventPrincipal struct{ kind, name string } // "AWS" or "Service"

// principalOf returns the principal that a policy would name.
func principalOf(u *audit.UserIdentity) (p eventPrincipal, ok bool) {
	switch {
	case u == nil:
		return p, false
	case u.Type == audit.IdentityAWSService:
		p = eventPrincipal{"Service", u.InvokedBy}
	case u.Type == audit.IdentityAssumedRole && u.SessionContext != nil && u.SessionContext.SessionIssuer != nil:
		p = eventPrincipal{"AWS", u.SessionContext.SessionIssuer.ARN}
	default:
		p = eventPrincipal{"AWS", u.ARN}
	}
	_, err := iam.ParsePrincipalPattern(p.kind, p.name)
	return p, err == nil && p.name != "*"
}

// usesOf returns the permissions for a key that a call used.
func usesOf(e *audit.Event, keyARN string) (list []use) {
	for i, r := range e.Resources {
		if r.ARN != keyARN {
			continue
		}
		permission := "kms:" + e.EventName
		if e.EventName == "ReEncrypt" { // whose resources are the source and the destination
			permission = [...]string{"kms:ReEncryptFrom", "kms:ReEncryptTo"}[min(i, 1)]
		}
		if permission != retirePermission && slices.Contains(allKeyPermissions(), permission) {
			list = append(list, use{permission: permission})
		}
	}
	return list
}

// contextOf returns the encryption context of a call.
func contextOf(e *audit.Event, permission string) map[string]string {
	name := "encryptionContext"
	switch permission {
	case "kms:ReEncryptFrom":
		name = "sourceEncryptionContext"
	case "kms:ReEncryptTo":
		name = "destinationEncryptionContext"
	}
	pairs := map[string]string{}
	if usesContext(permission) {
		for key, value := range e.RequestParameters.Get(name).Object().All() {
			pairs[key] = value.String()
		}
	}
	return pairs
}

// A commonContext is what the encryption contexts of calls have in common. The case of keys does
// not matter to policies.
type commonContext struct {
	begun bool
	pairs map[string]contextPair // by the key with A to Z in lower case, as policies compare it
}

type contextPair struct {
	key, value string
	varies     bool
}

func (c *commonContext) add(context map[string]string) {
	pairs := map[string]contextPair{}
	for _, key := range slices.Sorted(maps.Keys(context)) {
		lower := lowerKey(key)
		if p, twice := pairs[lower]; twice { // a policy would see one of them
			p.varies = true
			pairs[lower] = p
			continue
		}
		pairs[lower] = contextPair{key: key, value: context[key]}
	}
	if !c.begun {
		c.begun, c.pairs = true, pairs
		return
	}
	for lower, p := range c.pairs {
		other, ok := pairs[lower]
		if !ok {
			delete(c.pairs, lower)
			continue
		}
		p.key = min(p.key, other.key)
		p.varies = p.varies || other.varies || p.value != other.value
		c.pairs[lower] = p
	}
}

// conditions returns the Condition element that calls with what c has in common meet.
func (c *commonContext) conditions() map[string]map[string]string {
	element := map[string]map[string]string{}
	set := func(operator, key, value string) {
		if element[operator] == nil {
			element[operator] = map[string]string{}
		}
		element[operator]["kms:EncryptionContext:"+key] = value
	}
	for _, p := range c.pairs {
		switch {
		case p.key == "" || !isPlainText(p.key):
		case p.varies:
			set("Null", p.key, "false")
		default:
			set("StringEquals", p.key, strings.ReplaceAll(p.value, "${", "${$}{")) // not a variable
		}
	}
	return element
}

// isPlainText reports whether s has no control characters. A key with one is left out: nobody could
// read it.
func isPlainText(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' && r < 0xa0 })
}

// A policyStatement is a statement as JSON. Its order is that of the API.
type policyStatement struct {
	Sid       string
	Effect    string
	Principal map[string][]string
	Action    []string
	Resource  string
	Condition map[string]map[string]string `json:",omitempty"`
}

// policyOf writes the policy.
func policyOf(uses map[use]*commonContext, options PolicyOptions) (string, error) {
	var statements []policyStatement
	if len(options.Administrators) > 0 {
		for _, name := range options.Administrators {
			if _, err := iam.ParsePrincipalPattern("AWS", name); err != nil || name == "*" {
				return "", fmt.Errorf("kms: the administrator %.200q is not a principal", name)
			}
		}
		names := slices.Sorted(slices.Values(options.Administrators))
		statements = append(statements, policyStatement{
			Sid: "Administration", Effect: "Allow", Principal: map[string][]string{"AWS": slices.Compact(names)}, Action: administration, Resource: "*",
		})
	}
	// The permissions of a principal with the same conditions, and then the principals with the same
	// of those, are joined.
	type key struct {
		principal  eventPrincipal
		conditions string
	}
	actions, elements := map[key][]string{}, map[string]map[string]map[string]string{}
	for u, common := range uses {
		var element map[string]map[string]string
		if options.EncryptionContext {
			element = common.conditions()
		}
		text, err := json.Marshal(element)
		if err != nil {
			return "", err
		}
		elements[string(text)] = element
		k := key{u.principal, string(text)}
		actions[k] = append(actions[k], u.permission)
	}
	joined := map[string]*policyStatement{}
	for k, list := range actions {
		slices.Sort(list)
		id := fmt.Sprintf("%q %s", list, k.conditions)
		if joined[id] == nil {
			joined[id] = &policyStatement{Effect: "Allow", Principal: map[string][]string{}, Action: list, Resource: "*", Condition: elements[k.conditions]}
		}
		of := joined[id].Principal
		of[k.principal.kind] = append(of[k.principal.kind], k.principal.name)
	}
	used := make([]policyStatement, 0, len(joined))
	for _, id := range slices.Sorted(maps.Keys(joined)) {
		for _, names := range joined[id].Principal {
			slices.Sort(names)
		}
		used = append(used, *joined[id])
	}
	slices.SortStableFunc(used, func(a, b policyStatement) int {
		return cmp.Or(slices.Compare(a.Principal["AWS"], b.Principal["AWS"]), slices.Compare(a.Principal["Service"], b.Principal["Service"]))
	})
	for i := range used {
		used[i].Sid = fmt.Sprintf("Used%d", i+1)
	}
	if statements = append(statements, used...); len(statements) == 0 {
		return "", errors.New("kms: no event is of a call that used the key")
	}
	text, err := marshalPolicy(statements)
	if err != nil {
		return "", err
	}
	text = formatPolicy(text)
	if _, err := parseKeyPolicy(text); err != nil { // above all, it may be too long
		return "", fmt.Errorf("kms: the policy has %d statements and %d bytes: %w", len(statements), len(text), err)
	}
	return text, nil
}

// marshalPolicy returns the policy with escapes for the characters beyond U+00FF, which the API
// refuses.
func marshalPolicy(statements []policyStatement) (string, error) {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(struct {
		Version   string
		Statement []policyStatement
	}{"2012-10-17", statements})
	var latin strings.Builder
	for _, r := range b.String() {
		switch first, second := utf16.EncodeRune(r); {
		case r <= 0xff:
			latin.WriteRune(r)
		case first == utf8.RuneError: // one unit
			fmt.Fprintf(&latin, `\u%04x`, r)
		default:
			fmt.Fprintf(&latin, `\u%04x\u%04x`, first, second)
		}
	}
	return latin.String(), err
}
