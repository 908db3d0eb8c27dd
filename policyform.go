package kms

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/pocketkms/kms/iam"
)

var (
	errMalformedPolicy   = exception(MalformedPolicyDocumentException, "The policy document is not valid.")
	errInvalidPrincipals = exception(MalformedPolicyDocumentException, "Policy contains a statement with one or more invalid principals.")
)

// parseKeyPolicy compiles a key policy. Its errors are the API's, which say less than those of iam.
func parseKeyPolicy(text string) (*iam.Policy, error) {
	if len(text) > maxPolicyBytes {
		return nil, exception(LimitExceededException, "A key policy can have at most %d bytes.", maxPolicyBytes)
	}
	if !json.Valid([]byte(text)) { // false also for two values and for one that is nested too deep
		return nil, exception(MalformedPolicyDocumentException, "")
	}
	policy, err := iam.Parse(text, iam.ResourcePolicy)
	if err != nil {
		return nil, policyError(err)
	}
	for _, s := range policy.Statements() {
		entries, _ := s.Principals()
		if slices.ContainsFunc(entries, iam.PrincipalPattern.IsUniqueID) { // of a user or a role that was deleted
			return nil, errInvalidPrincipals
		}
		if err := requireSafeConditions(s); err != nil {
			return nil, err
		}
	}
	return policy, nil
}

// policyError returns the API's exception for the problems of a policy: for the document as a
// whole, or for the first statement that has any.
func policyError(err error) error {
	var invalid *iam.Error
	if !errors.As(err, &invalid) {
		return errMalformedPolicy
	}
	first := -1
	for _, p := range invalid.Problems {
		if p.Statement < 0 || p.Kind == iam.DuplicateElement {
			return errMalformedPolicy
		}
		if first < 0 || p.Statement < first {
			first = p.Statement
		}
	}
	missing, principals := "", false
	var other bool
	for _, p := range invalid.Problems {
		switch {
		case p.Statement != first:
		case p.Kind == iam.MissingElement && (p.Element == "Action" || p.Element == "Resource"):
			if missing == "" || p.Element == "Action" {
				missing = p.Element
			}
		case p.Kind == iam.InvalidPrincipal:
			principals = true
		case p.Element == "Condition", p.Kind == iam.MissingElement:
		case isShape(p):
			return errMalformedPolicy
		default:
			other = true
		}
	}
	switch {
	case missing != "":
		return exception(MalformedPolicyDocumentException, "Missing required field %s", missing)
	case principals && !other:
		return errInvalidPrincipals
	}
	return errMalformedPolicy
}

// isShape reports whether a problem is one that the API finds before it misses an element.
func isShape(p iam.Problem) bool {
	switch p.Element {
	case "Effect", "Principal", "NotPrincipal":
		return false
	}
	return true
}

// requireSafeConditions refuses ForAllValues for a key of which the API knows that a request has at
// most one value: the condition would also hold for a request without any.
func requireSafeConditions(s iam.Statement) error {
	for _, c := range s.Conditions() {
		if single := singleValued(c.Key()); c.ForAllValues() && single != "" {
			return exception(MalformedPolicyDocumentException, "OverlyPermissiveCondition: Using the ForAllValues set operator with a single-valued "+
				"condition key matches requests without the specified %[1]s or with an unspecified %[1]s. To fix, remove ForAllValues.", single)
		}
	}
	return nil
}

// singleValued returns what a condition key refers to, if the API knows that a request has at most
// one value for the key, and otherwise "".
func singleValued(key string) string {
	key = lowerKey(key)
	switch {
	case strings.HasPrefix(key, "kms:encryptioncontext:"):
		return "encryption context"
	case strings.HasPrefix(key, "aws:requesttag/"):
		return "tag"
	}
	return ""
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
