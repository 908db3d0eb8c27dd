package kms

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/pocketkms/kms/internal/arn"
)

var (
	errMalformedPolicy   = exception(MalformedPolicyDocumentException, "The policy document is not valid.")
	errInvalidPrincipals = exception(MalformedPolicyDocumentException, "Policy contains a statement with one or more invalid principals.")
)

// validatePolicy returns an error if policy does not have the form of a key policy: the grammar of
// IAM policies, with a principal in each statement. It does not check whether the principals exist,
// what the policy allows, or whom it locks out. An empty policy means that none was given.
//
// A list of actions, resources or principals may be empty, as in AWS KMS: the statement then has no
// effect.
func validatePolicy(policy string) error {
	if policy == "" {
		return nil
	}
	if len(policy) > maxPolicyBytes {
		return exception(LimitExceededException, "A key policy can have at most %d bytes.", maxPolicyBytes)
	}
	if !json.Valid([]byte(policy)) { // false also for two values and for one that is nested too deep
		return exception(MalformedPolicyDocumentException, "")
	}
	document, ok := decodePolicy(policy)
	if !ok || !hasOnly(document, "Version", "Id", "Statement") || !optional(document, "Id", isString) || !optional(document, "Version", isPolicyVersion) {
		return errMalformedPolicy
	}
	statements, ok := document["Statement"].([]any)
	if !ok {
		statements = []any{document["Statement"]} // a single statement need not be in a list
	}
	if len(statements) == 0 {
		return errMalformedPolicy
	}
	for _, s := range statements {
		if err := validateStatement(s); err != nil {
			return err
		}
	}
	return nil
}

// decodePolicy decodes a JSON object. No object in it may have a duplicate name: parsers differ on
// which of the two counts.
func decodePolicy(policy string) (map[string]any, bool) {
	d := json.NewDecoder(strings.NewReader(policy))
	d.UseNumber() // a number may be of any size
	v, err := decodeValue(d)
	document, ok := v.(map[string]any)
	return document, ok && err == nil
}

var errDuplicateName = errors.New("duplicate name in a JSON object")

func decodeValue(d *json.Decoder) (any, error) {
	token, err := d.Token()
	switch token {
	case json.Delim('{'):
		object := make(map[string]any)
		for d.More() {
			token, err := d.Token()
			name, _ := token.(string)
			if _, twice := object[name]; twice && err == nil {
				err = errDuplicateName
			}
			if err != nil {
				return nil, err
			}
			if object[name], err = decodeValue(d); err != nil {
				return nil, err
			}
		}
		_, err = d.Token()
		return object, err
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, err := decodeValue(d)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = d.Token()
		return list, err
	}
	return token, err
}

// formatPolicy returns policy in the API's layout: each member of an object on a line of its own.
// It changes only white space. If policy is not JSON, it is returned unchanged.
func formatPolicy(policy string) string {
	var compact, out bytes.Buffer
	if json.Compact(&compact, []byte(policy)) != nil {
		return policy
	}
	text, newline := compact.Bytes(), "\n" // newline includes the indentation
	var open []byte                        // the brackets around text[i]
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch c {
		case '{', '[':
			open = append(open, c)
			out.WriteByte(c)
			if c == '{' && text[i+1] != '}' {
				newline += "  "
				out.WriteString(newline)
			} else {
				out.WriteByte(' ')
			}
		case '}', ']':
			bracket := open[len(open)-1]
			open = open[:len(open)-1]
			switch {
			case text[i-1] == bracket: // empty
			case c == '}':
				newline = newline[:len(newline)-2]
				out.WriteString(newline)
			default:
				out.WriteByte(' ')
			}
			out.WriteByte(c)
		case ',':
			out.WriteByte(c)
			if open[len(open)-1] == '{' {
				out.WriteString(newline)
			} else {
				out.WriteByte(' ')
			}
		case ':':
			out.WriteString(" : ")
		case '"':
			end := i + 1
			for ; text[end] != '"'; end++ {
				if text[end] == '\\' {
					end++
				}
			}
			out.Write(text[i : end+1])
			i = end
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}

func validateStatement(v any) error {
	s, ok := v.(map[string]any)
	if !ok || !hasOnly(s, "Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition") ||
		!optional(s, "Sid", isString) ||
		!exclusive(s, "Action", "NotAction", isStringOrStrings) ||
		!exclusive(s, "Resource", "NotResource", isStringOrStrings) {
		return errMalformedPolicy
	}
	for _, name := range []string{"Action", "Resource"} {
		_, named := s[name]
		if _, excepted := s["Not"+name]; !named && !excepted {
			return exception(MalformedPolicyDocumentException, "Missing required field %s", name)
		}
	}
	effect := s["Effect"]
	principal, named := s["Principal"]
	notPrincipal, excepted := s["NotPrincipal"]
	switch {
	case effect != "Allow" && effect != "Deny",
		named == excepted,
		excepted && effect == "Allow": // would allow everyone except a few
		return errMalformedPolicy
	case excepted:
		principal = notPrincipal
	}
	if err := validatePrincipals(principal); err != nil {
		return err
	}
	if condition, ok := s["Condition"]; ok {
		return validateCondition(condition)
	}
	return nil
}

// principalForms has, for each kind of principal, a function that reports whether a name of that
// kind is well-formed.
var principalForms = map[string]func(string) bool{
	"AWS": func(s string) bool {
		_, err := ParsePrincipal(s)
		return s == "*" || arn.IsAccount(s) || err == nil
	},
	"Service":       func(s string) bool { return strings.Contains(s, ".") && isPlain(s) },
	"Federated":     isPlain,
	"CanonicalUser": isPlain,
}

// isPlain reports whether s is not empty and has no wildcards and no white space.
func isPlain(s string) bool { return s != "" && !strings.ContainsAny(s, "*? \t\r\n") }

func validatePrincipals(v any) error {
	if name, ok := v.(string); ok {
		if name != "*" {
			return errInvalidPrincipals
		}
		return nil
	}
	kinds, ok := v.(map[string]any)
	if !ok || !hasOnly(kinds, slices.Collect(maps.Keys(principalForms))...) {
		return errMalformedPolicy
	}
	var err error
	for kind, v := range kinds {
		names, ok := asList(v, isString)
		if !ok {
			return errMalformedPolicy
		}
		if slices.ContainsFunc(names, func(name any) bool { return !principalForms[kind](name.(string)) }) {
			err = errInvalidPrincipals
		}
	}
	return err
}

// conditionOperators are the condition operators to which IfExists can be added. The only other one
// is Null.
var conditionOperators = []string{
	"StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "StringLike", "StringNotLike",
	"NumericEquals", "NumericNotEquals", "NumericLessThan", "NumericLessThanEquals", "NumericGreaterThan", "NumericGreaterThanEquals",
	"DateEquals", "DateNotEquals", "DateLessThan", "DateLessThanEquals", "DateGreaterThan", "DateGreaterThanEquals",
	"Bool", "BinaryEquals", "IpAddress", "NotIpAddress", "ArnEquals", "ArnNotEquals", "ArnLike", "ArnNotLike",
}

func validateCondition(v any) error {
	operators, ok := v.(map[string]any)
	if !ok {
		return errMalformedPolicy
	}
	var overlyPermissive error
	for _, operator := range slices.Sorted(maps.Keys(operators)) {
		keys, ok := operators[operator].(map[string]any)
		name, forAll := strings.CutPrefix(operator, "ForAllValues:")
		if !forAll {
			name = strings.TrimPrefix(operator, "ForAnyValue:")
		}
		if !ok || name != "Null" && !slices.Contains(conditionOperators, strings.TrimSuffix(name, "IfExists")) {
			return errMalformedPolicy
		}
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			if _, ok := asList(keys[key], isScalar); !ok || key == "" {
				return errMalformedPolicy
			}
			if single := singleValued(key); forAll && single != "" && overlyPermissive == nil {
				overlyPermissive = exception(MalformedPolicyDocumentException, "OverlyPermissiveCondition: Using the ForAllValues set operator with a single-valued "+
					"condition key matches requests without the specified %[1]s or with an unspecified %[1]s. To fix, remove ForAllValues.", single)
			}
		}
	}
	return overlyPermissive
}

// singleValued returns what a condition key refers to, if AWS KMS knows that a request has at most
// one value for the key, and otherwise "". For such a key, ForAllValues is also true if the request
// has no value.
func singleValued(key string) string {
	key = strings.ToLower(key)
	switch {
	case strings.HasPrefix(key, "kms:encryptioncontext:"):
		return "encryption context"
	case strings.HasPrefix(key, "aws:requesttag/"):
		return "tag"
	}
	return ""
}

// hasOnly reports whether an object has no names other than these.
func hasOnly(object map[string]any, names ...string) bool {
	for name := range object {
		if !slices.Contains(names, name) {
			return false
		}
	}
	return true
}

// optional reports whether an element of an object is absent or has the given form.
func optional(object map[string]any, name string, form func(any) bool) bool {
	v, ok := object[name]
	return !ok || form(v)
}

// exclusive is optional for an element and its negation, of which at most one may be present.
func exclusive(object map[string]any, name, negation string, form func(any) bool) bool {
	_, both := object[name]
	if both {
		_, both = object[negation]
	}
	return !both && optional(object, name, form) && optional(object, negation, form)
}

// asList returns the elements of v, or v itself as the only element if it is not a list. It reports
// whether all of them have the given form.
func asList(v any, form func(any) bool) ([]any, bool) {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	return list, !slices.ContainsFunc(list, func(v any) bool { return !form(v) })
}

func isString(v any) bool { _, ok := v.(string); return ok }

func isStringOrStrings(v any) bool { _, ok := asList(v, isString); return ok }

func isPolicyVersion(v any) bool { return v == "2012-10-17" || v == "2008-10-17" }

// isScalar reports whether v is a string, a number or a boolean.
func isScalar(v any) bool {
	switch v.(type) {
	case string, json.Number, bool:
		return true
	}
	return false
}
