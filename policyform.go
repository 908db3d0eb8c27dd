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

// validatePolicy refuses what does not have the form of a key policy: the
// grammar of IAM's policies, each statement with a principal. It does not ask
// whether the principals exist, what the policy allows, or whom it locks out.
// Empty means that none was given.
//
// A list may be empty: AWS KMS accepts what then has no effect. Statements without actions or
// resources, which it refuses since August 2025, may be among the stored ones.
func validatePolicy(policy string) error {
	if policy == "" {
		return nil
	}
	if len(policy) > maxPolicyBytes {
		return exception(LimitExceededException, "A key policy can have at most %d bytes.", maxPolicyBytes)
	}
	if !json.Valid([]byte(policy)) { // nor are two values, or one that is nested too deep
		return exception(MalformedPolicyDocumentException, "")
	}
	document, ok := decodePolicy(policy)
	if !ok || !hasOnly(document, "Version", "Id", "Statement") || !maybe(document, "Id", isString) || !maybe(document, "Version", isPolicyVersion) {
		return errMalformedPolicy
	}
	statements, ok := document["Statement"].([]any)
	if !ok {
		statements = []any{document["Statement"]} // one need not be in a list
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

// decodePolicy reads one JSON object. No name may stand twice in it or in an
// object within: readers differ on which of the two counts.
func decodePolicy(policy string) (map[string]any, bool) {
	d := json.NewDecoder(strings.NewReader(policy))
	d.UseNumber() // a number may be of any size
	v, err := decodeValue(d)
	document, ok := v.(map[string]any)
	return document, ok && err == nil
}

var errNameTwice = errors.New("a name stands twice in an object")

func decodeValue(d *json.Decoder) (any, error) {
	token, err := d.Token()
	switch token {
	case json.Delim('{'):
		object := make(map[string]any)
		for d.More() {
			token, err := d.Token()
			name, _ := token.(string)
			if _, twice := object[name]; twice && err == nil {
				err = errNameTwice
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

// formatPolicy returns a policy in the layout in which the API returns all of them: each member of an
// object on a line of its own. It changes nothing but white space. What is not JSON is returned as it
// is.
func formatPolicy(policy string) string {
	var compact, out bytes.Buffer
	if json.Compact(&compact, []byte(policy)) != nil {
		return policy
	}
	text, newline := compact.Bytes(), "\n" // and the indentation
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
			case text[i-1] == bracket: // nothing is in it
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
		!maybe(s, "Sid", isString) ||
		!either(s, "Action", "NotAction", isStringOrStrings) ||
		!either(s, "Resource", "NotResource", isStringOrStrings) {
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
		excepted && effect == "Allow": // it would let in the whole world but a few
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

// principalForms are the kinds of principals that a statement can name.
var principalForms = map[string]func(string) bool{
	"AWS": func(s string) bool {
		_, err := ParsePrincipal(s)
		return s == "*" || arn.IsAccount(s) || err == nil
	},
	"Service":       func(s string) bool { return strings.Contains(s, ".") && isPlain(s) },
	"Federated":     isPlain,
	"CanonicalUser": isPlain,
}

// isPlain tells whether s can name one thing: it is there, without wildcards.
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
		names, ok := listOf(v, isString)
		if !ok {
			return errMalformedPolicy
		}
		if slices.ContainsFunc(names, func(name any) bool { return !principalForms[kind](name.(string)) }) {
			err = errInvalidPrincipals
		}
	}
	return err
}

// conditionOperators are those that take IfExists; Null is the other one.
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
	var tooMuch error
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
			if _, ok := listOf(keys[key], isScalar); !ok || key == "" {
				return errMalformedPolicy
			}
			if single := singleValued(key); forAll && single != "" && tooMuch == nil {
				tooMuch = exception(MalformedPolicyDocumentException, "OverlyPermissiveCondition: Using the ForAllValues set operator with a single-valued "+
					"condition key matches requests without the specified %[1]s or with an unspecified %[1]s. To fix, remove ForAllValues.", single)
			}
		}
	}
	return tooMuch
}

// singleValued tells what a condition key asks about if AWS KMS knows that a
// request has one value of it at most. For one without, ForAllValues holds.
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

// hasOnly tells whether all of an object's names are among those.
func hasOnly(object map[string]any, names ...string) bool {
	for name := range object {
		if !slices.Contains(names, name) {
			return false
		}
	}
	return true
}

// maybe tells whether an object has no such element, or one of that form.
func maybe(object map[string]any, name string, form func(any) bool) bool {
	v, ok := object[name]
	return !ok || form(v)
}

// either is maybe for an element and its negation, which exclude each other.
func either(object map[string]any, name, negation string, form func(any) bool) bool {
	_, both := object[name]
	if both {
		_, both = object[negation]
	}
	return !both && maybe(object, name, form) && maybe(object, negation, form)
}

// listOf returns the elements of a list, or the one that v is without a list,
// and whether all are of that form.
func listOf(v any, form func(any) bool) ([]any, bool) {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	return list, !slices.ContainsFunc(list, func(v any) bool { return !form(v) })
}

func isString(v any) bool { _, ok := v.(string); return ok }

func isStringOrStrings(v any) bool { _, ok := listOf(v, isString); return ok }

func isPolicyVersion(v any) bool { return v == "2012-10-17" || v == "2008-10-17" }

// isScalar tells whether v is a string, a number or a boolean.
func isScalar(v any) bool {
	switch v.(type) {
	case string, json.Number, bool:
		return true
	}
	return false
}
