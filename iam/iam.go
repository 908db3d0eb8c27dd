// Package iam has the policy language of AWS: it parses and checks policies, compiles them, decides
// requests, and explains its decisions. It knows no service, and stores nothing.
//
// [Parse] compiles a policy once. [Policy.Evaluate] then decides requests, in nanoseconds and usually
// without an allocation:
//
//	policy, err := iam.Parse(text, iam.ResourcePolicy)
//	...
//	decision := policy.Evaluate(&iam.Request{
//		Principal: &alice,
//		Action:    "docs:Read",
//		Resource:  "arn:aws:docs:eu-west-1:111122223333:page/42",
//		Context:   iam.Values{"aws:SourceIp": iam.String("203.0.113.7")},
//	})
//	if !decision.Allowed() { ... }
//
// Evaluation has no errors. Whatever could fail in it fails in Parse, which reports every problem
// of a policy at once, with its line and column: a policy that is in use does what it says, and
// above all its Deny statements do.
//
// A [Decision] is about one policy. To join several, such as the policy of a resource with those of
// its user, is up to the caller, because each service has its own rules for it: a Denied of any of
// them refuses; which of them must be Allowed is the service's choice. [Decision.Match] says
// whether the policy of a resource names a principal itself or only its account, on which most of
// these rules depend.
//
// [Policy.Explain] says for each statement why it applies to a request or not. [Policy.Statements]
// lists what a policy contains, for programs that look for who may do what.
//
// # The language
//
// All elements and condition operators of the versions 2012-10-17 and 2008-10-17 are known. A
// policy without a version is of 2008-10-17, which has no variables.
//
//   - A request may have at most one value for a key ([String], [Int] and so on), or be multivalued
//     ([Strings]). For a multivalued key only operators with ForAllValues or ForAnyValue hold.
//   - If a request has several values for a key that may have one ([Ambiguous]), an Allow applies only
//     if its condition holds for each of them, and a Deny if it holds for any.
//   - If a key is absent, negated operators hold, and so do those with IfExists or ForAllValues. All
//     others do not.
//   - In patterns, * matches any characters and ? one character. An ARN condition compares the six
//     parts of an ARN one by one; Action and Resource are compared as a whole.
//   - A variable is replaced by a value, which has no wildcards. If the key is absent and the variable
//     has no default, or if the key is multivalued or ambiguous, the text with the variable matches nothing.
//   - NotPrincipal excepts a principal only if it lists all that it is: the account and the user, or
//     the account, the role and the session; and never one with a permissions boundary. It needs the
//     effect Deny.
//
// Matching does not backtrack. Its time is linear in the length of the value; only for a variable
// between two stars it grows with the length of the variable's value, too.
package iam
