package iam_test

import (
	"errors"
	"fmt"

	"github.com/pocketkms/kms/iam"
)

// A service of documents lets its users read their own pages, from the office only.
func Example() {
	policy, err := iam.Parse(`{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "OwnPages",
      "Effect": "Allow",
      "Principal": {"AWS": "*"},
      "Action": "docs:Read*",
      "Resource": "arn:aws:docs:eu-west-1:111122223333:page/${aws:username}/*"
    },
    {
      "Sid": "OfficeOnly",
      "Effect": "Deny",
      "Principal": "*",
      "Action": "*",
      "Resource": "*",
      "Condition": {"NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"}}
    }
  ]
}`, iam.ResourcePolicy)
	if err != nil {
		fmt.Println(err)
		return
	}
	alice, err := iam.ParsePrincipal("arn:aws:iam::111122223333:user/alice")
	if err != nil {
		fmt.Println(err)
		return
	}
	read := func(page, ip string) {
		request := &iam.Request{
			Principal: &alice,
			Action:    "docs:ReadPage",
			Resource:  "arn:aws:docs:eu-west-1:111122223333:page/" + page,
			Context:   iam.Values{"aws:username": iam.String("alice"), "aws:SourceIp": iam.String(ip)},
		}
		fmt.Println(page, "from", ip, policy.Evaluate(request).Outcome())
		fmt.Print(policy.Explain(request))
	}
	read("alice/diary", "203.0.113.7")
	read("bob/diary", "203.0.113.7")
	read("alice/diary", "198.51.100.9")
	// Output:
	// alice/diary from 203.0.113.7 Allowed
	// allowed by statement 0
	//   statement 0 "OwnPages" at 4:5 (Allow): applies
	//   statement 1 "OfficeOnly" at 11:5 (Deny): NotIpAddress aws:SourceIp: expected "203.0.113.0/24", seen "203.0.113.7"
	// bob/diary from 203.0.113.7 NoMatch
	// no statement applies
	//   statement 0 "OwnPages" at 4:5 (Allow): another resource
	//   statement 1 "OfficeOnly" at 11:5 (Deny): NotIpAddress aws:SourceIp: expected "203.0.113.0/24", seen "203.0.113.7"
	// alice/diary from 198.51.100.9 Denied
	// denied by statement 1
	//   statement 0 "OwnPages" at 4:5 (Allow): applies
	//   statement 1 "OfficeOnly" at 11:5 (Deny): applies
}

// Every problem of a policy is reported, with its place.
func ExampleParse_problems() {
	_, err := iam.Parse(`{
  "Version": "2012-10-17",
  "Statement": {
    "Effect": "Deny",
    "Principal": {"AWS": "alice"},
    "Action": "docs:*",
    "Condition": {"DateLessThan": {"aws:CurrentTime": "tomorrow"}}
  }
}`, iam.ResourcePolicy)
	fmt.Println(err)

	var invalid *iam.Error
	if errors.As(err, &invalid) {
		for _, p := range invalid.Problems {
			fmt.Println(p.Kind, p.Element)
		}
	}
	// Output:
	// iam: the policy is not valid
	// 3:16: Statement[0]: Resource is missing
	// 5:26: Statement[0].Principal.AWS: "alice" is not a principal of the kind AWS
	// 7:55: Statement[0].Condition.DateLessThan["aws:CurrentTime"]: "tomorrow": not a date in ISO 8601 or in seconds since 1970
	// MissingElement Resource
	// InvalidPrincipal Principal
	// InvalidValue Condition
}

// The policy of a resource often leaves it to an account who of its users may use the resource.
// Then a policy of the user must allow it, too.
func ExampleDecision_AllowedBy() {
	policy, err := iam.Parse(`{"Statement": [
  {"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "docs:*", "Resource": "*"},
  {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:role/editor"}, "Action": "docs:Write", "Resource": "*"}
]}`, iam.ResourcePolicy)
	if err != nil {
		fmt.Println(err)
		return
	}
	editor, err := iam.ParsePrincipal("arn:aws:sts::111122223333:assumed-role/editor/alice")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, action := range []string{"docs:Read", "docs:Write"} {
		decision := policy.Evaluate(&iam.Request{Principal: &editor, Action: action, Resource: "*"})
		_, delegated := decision.AllowedBy(iam.ByAccount)
		fmt.Println(action, decision.Match(), delegated)
	}
	// Output:
	// docs:Read ByAccount true
	// docs:Write ByIssuer true
}
