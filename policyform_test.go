package kms

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	notJSON           = "MalformedPolicyDocumentException: " // AWS KMS says no more
	malformedPolicy   = "MalformedPolicyDocumentException: The policy document is not valid."
	missingField      = "MalformedPolicyDocumentException: Missing required field "
	invalidPrincipals = "MalformedPolicyDocumentException: Policy contains a statement with one or more invalid principals."
	tooPermissive     = "MalformedPolicyDocumentException: OverlyPermissiveCondition: Using the ForAllValues set operator with a single-valued condition key " +
		"matches requests without the specified # or with an unspecified #. To fix, remove ForAllValues."
)

// requireForm requires the error of parseKeyPolicy. An empty want means that the policy is valid.
func requireForm(t *testing.T, want, policy string) {
	t.Helper()
	err := formError(policy)
	if want == "" {
		require.NoError(t, err, policy)
		return
	}
	var e *Error
	require.ErrorAs(t, err, &e, policy)
	require.Equal(t, want, string(e.Code)+": "+e.Message, policy)
}

func formError(policy string) error {
	_, err := parseKeyPolicy(policy)
	return err
}

func TestTheFormOfAPolicyDocument(t *testing.T) {
	const statement = `{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}`
	for policy, want := range map[string]string{
		"":                                  notJSON,
		`{"Statement":` + statement + `}`:   "",
		`{"Statement":[` + statement + `]}`: "",
		`{"Statement":[` + statement + `,` + statement + `]}`:                                       "",
		"\t\r\n {\"Id\" : \"\", \"Version\":\"2012-10-17\",\n\"Statement\":[" + statement + "] }\n": "",
		`{"Version":"2008-10-17","Statement":` + statement + `}`:                                    "",
		`{"\u0053tatement":` + statement + `}`:                                                      "", // the name "Statement" all the same
		`{"Version":"2012-10-18","Statement":` + statement + `}`:                                    malformedPolicy,
		`{"Version":"","Statement":` + statement + `}`:                                              malformedPolicy,
		`{"Version":null,"Statement":` + statement + `}`:                                            malformedPolicy,
		`{"Version":["2012-10-17"],"Statement":` + statement + `}`:                                  malformedPolicy,
		`{"version":"2012-10-17","Statement":` + statement + `}`:                                    malformedPolicy,
		`{"Id":1,"Statement":` + statement + `}`:                                                    malformedPolicy,
		`{"Id":null,"Statement":` + statement + `}`:                                                 malformedPolicy,
		`{"ID":"x","Statement":` + statement + `}`:                                                  malformedPolicy,
		`{"Comment":"x","Statement":` + statement + `}`:                                             malformedPolicy,
		`{"statement":` + statement + `}`:                                                           malformedPolicy,
		`{"Statement":` + statement + `,"Statement":` + statement + `}`:                             malformedPolicy,
		`{"Statement":` + statement + `,"\u0053tatement":` + statement + `}`:                        malformedPolicy,
		`{"Statement":[` + statement + `,{}]}`:                                                      missingField + "Action",
		`{"Statement":[[` + statement + `]]}`:                                                       malformedPolicy,
		`{"Statement":[]}`:                                                                          malformedPolicy,
		`{"Statement":"all"}`:                                                                       malformedPolicy,
		`{"Statement":null}`:                                                                        malformedPolicy,
		`{"Statement":` + statement + `}{}`:                                                         notJSON,
		`{"Statement":` + statement + `,}`:                                                          notJSON,
		`{"Statement":[` + statement + ` ` + statement + `]}`:                                       notJSON,
		`{"Statement":` + statement + `} x`:                                                         notJSON,
		`{"Statement":[`:                                                                            notJSON,
		`allow all`:                                                                                 notJSON,
		`"Statement"`:                                                                               malformedPolicy,
		`{"Statement":[` + statement + `,null]}`:                                                    malformedPolicy,
		`{"Version":2012,"Statement":` + statement + `}`:                                            malformedPolicy,
		`{"Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws::111122223333:role/app"},"Action":"kms:*","Resource":"*"}}`: invalidPrincipals,
		`{}`:                  malformedPolicy,
		`null`:                malformedPolicy,
		`[` + statement + `]`: malformedPolicy,
		` `:                   notJSON,
		`{"Statement":` + strings.Repeat(`[`, 9000) + strings.Repeat(`]`, 9000) + `}`:               malformedPolicy,
		`{"Statement":` + strings.Repeat(`[`, 16000) + strings.Repeat(`]`, 16000) + `}`:             notJSON,
		strings.Repeat(`{"Statement":`, 2500):                                                       notJSON,
		`{"Statement":` + statement + `}` + strings.Repeat(" ", maxPolicyBytes):                     "LimitExceededException: A key policy can have at most 32768 bytes.",
		`{"Statement":` + statement + strings.Repeat(" ", maxPolicyBytes-len(statement)-14) + `}`:   "",
		`{"Statement":` + statement + strings.Repeat(" ", maxPolicyBytes-len(statement)-14+1) + `}`: "LimitExceededException: A key policy can have at most 32768 bytes.",
	} {
		requireForm(t, want, policy)
	}
}

func TestTheFormOfAStatement(t *testing.T) {
	for statement, want := range map[string]string{
		`"Sid":"with spaces","Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"`:    "",
		`"Effect":"Deny","Principal":"*","NotAction":["kms:Get*","*"],"NotResource":["*"]`:        "",
		`"Effect":"Deny","NotPrincipal":{"AWS":"111122223333"},"Action":["kms:*"],"Resource":"*"`: "",
		`"Effect":"Allow","Principal":"*"`:                                                                      missingField + "Action",
		`"Effect":"Allow","Principal":"*","Action":"kms:*"`:                                                     missingField + "Resource",
		`"Effect":"Allow","Principal":"*","NotAction":"kms:*"`:                                                  missingField + "Resource",
		`"Effect":"Allow","Principal":"*","Resource":"*"`:                                                       missingField + "Action",
		`"Effect":"Allow","Principal":"*","NotResource":"*"`:                                                    missingField + "Action",
		`"Effect":"Allow","Principal":"*","Action":[],"Resource":[]`:                                            "",
		`"Effect":"Allow","Principal":{},"Action":"kms:*","Resource":"*"`:                                       "",
		`"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":{}`:                       "",
		`"Sid":1,"Effect":"Allow","Principal":"*"`:                                                              malformedPolicy,
		`"Sid":null,"Effect":"Allow","Principal":"*"`:                                                           malformedPolicy,
		`"SID":"x","Effect":"Allow","Principal":"*"`:                                                            malformedPolicy,
		`"Principal":"*","Action":"kms:*","Resource":"*"`:                                                       malformedPolicy,
		`"Effect":"allow","Principal":"*","Action":"kms:*","Resource":"*"`:                                      malformedPolicy,
		`"Effect":"Permit","Principal":"*","Action":"kms:*","Resource":"*"`:                                     malformedPolicy,
		`"Effect":["Allow"],"Principal":"*","Action":"kms:*","Resource":"*"`:                                    malformedPolicy,
		`"Effect":true,"Principal":"*","Action":"kms:*","Resource":"*"`:                                         malformedPolicy,
		`"Effect":"Allow","Effect":"Deny","Principal":"*"`:                                                      malformedPolicy,
		`"Effect":"Allow","Action":"kms:*","Resource":"*"`:                                                      malformedPolicy,
		`"Effect":"Allow","principal":"*","Action":"kms:*","Resource":"*"`:                                      malformedPolicy,
		`"Effect":"Allow","NotPrincipal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"`:                malformedPolicy,
		`"Effect":"Deny","Principal":"*","NotPrincipal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"`: malformedPolicy,
		`"Effect":"Allow","Principal":"*","Action":"kms:*","NotAction":"kms:*","Resource":"*"`:                  malformedPolicy,
		`"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","NotResource":"*"`:                    malformedPolicy,
		`"Effect":"Allow","Principal":"*","Action":1,"Resource":"*"`:                                            malformedPolicy,
		`"Effect":"Allow","Principal":"*","Action":null,"Resource":"*"`:                                         malformedPolicy,
		`"Effect":"Allow","Principal":"*","Action":["kms:*",null],"Resource":"*"`:                               malformedPolicy,
		`"Effect":"Allow","Principal":"*","Action":[["kms:*"]],"Resource":"*"`:                                  malformedPolicy,
		`"Effect":"Allow","Principal":"*","NotAction":{},"Resource":"*"`:                                        malformedPolicy,
		`"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":{"AWS":"*"}`:                              malformedPolicy,
		`"Effect":"Allow","Principal":"*","Action":"kms:*","NotResource":[false]`:                               malformedPolicy,
		`"Effect":"Allow","Principal":"*","Actions":"kms:*","Resource":"*"`:                                     malformedPolicy,
		`"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":null`:                     malformedPolicy,
		`"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":[]`:                       malformedPolicy,
		`"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":"Bool"`:                   malformedPolicy,
	} {
		requireForm(t, want, `{"Statement":[{`+statement+`}]}`)
	}
}

func TestTheFormOfPrincipals(t *testing.T) {
	for principals, want := range map[string]string{
		`"*"`:                    "",
		`{"AWS":"*"}`:            "",
		`{"AWS":["*"]}`:          "",
		`{"AWS":[]}`:             "",
		`{"AWS":"111122223333"}`: "",
		`{"AWS":"arn:aws:iam::111122223333:root"}`:                                                        "",
		`{"AWS":"arn:aws-cn:iam::111122223333:root"}`:                                                     "",
		`{"AWS":["arn:aws:iam::111122223333:user/path/alice","arn:aws:iam::444455556666:role/path/app"]}`: "",
		`{"AWS":"arn:aws:sts::111122223333:assumed-role/app/session"}`:                                    "",
		`{"AWS":"arn:aws:sts::111122223333:federated-user/bob"}`:                                          "",
		`{"Service":"logs.us-east-1.amazonaws.com"}`:                                                      "",
		`{"Service":["s3.amazonaws.com","sns.amazonaws.com.cn"],"AWS":"111122223333"}`:                    "",
		`{"Federated":"cognito-identity.amazonaws.com"}`:                                                  "",
		`{"Federated":"arn:aws:iam::111122223333:saml-provider/idp"}`:                                     "",
		`{"CanonicalUser":"79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be"}`:            "",

		`""`:                                          invalidPrincipals,
		`"111122223333"`:                              invalidPrincipals,
		`"arn:aws:iam::111122223333:root"`:            invalidPrincipals,
		`{"AWS":""}`:                                  invalidPrincipals,
		`{"AWS":"alice"}`:                             invalidPrincipals,
		`{"AWS":"11112222333"}`:                       invalidPrincipals,
		`{"AWS":"AIDAJQABLZS4A3QDU576Q"}`:             invalidPrincipals,
		`{"AWS":["*","**"]}`:                          invalidPrincipals,
		`{"AWS":"arn:aws::111122223333:role/app"}`:    invalidPrincipals,
		`{"AWS":"arn:aws:iam:111122223333:role/app"}`: invalidPrincipals,
		`{"AWS":"arn:aws:iam:us-east-1:111122223333:role/app"}`:        invalidPrincipals,
		`{"AWS":"arn:aws:iam::1111:role/app"}`:                         invalidPrincipals,
		`{"AWS":"arn:aws:iam::*:root"}`:                                invalidPrincipals,
		`{"AWS":"arn:*:iam::111122223333:root"}`:                       invalidPrincipals,
		`{"AWS":"arn:aws:iam::111122223333:role/*"}`:                   invalidPrincipals,
		`{"AWS":"arn:aws:iam::111122223333:role/ap?"}`:                 invalidPrincipals,
		`{"AWS":"arn:aws:iam::111122223333:role/"}`:                    invalidPrincipals,
		`{"AWS":"arn:aws:iam::111122223333:*"}`:                        invalidPrincipals,
		`{"AWS":"arn:aws:iam::111122223333:group/admins"}`:             invalidPrincipals,
		`{"AWS":"arn:aws:sts::111122223333:assumed-role/app"}`:         invalidPrincipals,
		`{"AWS":"arn:aws:sts::111122223333:assumed-role/app/*"}`:       invalidPrincipals,
		`{"AWS":"arn:aws:kms:us-east-1:111122223333:key/x"}`:           invalidPrincipals,
		`{"AWS":["111122223333","arn:aws:iam::111122223333:group/g"]}`: invalidPrincipals,
		`{"AWS":"111122223333","Service":"*"}`:                         invalidPrincipals,
		`{"Service":"s3"}`:                                             invalidPrincipals,
		`{"Service":"*.amazonaws.com"}`:                                invalidPrincipals,
		`{"Federated":"*"}`:                                            invalidPrincipals,
		`{"CanonicalUser":""}`:                                         invalidPrincipals,

		`null`:                            malformedPolicy,
		`1`:                               malformedPolicy,
		`["*"]`:                           malformedPolicy,
		`{"aws":"*"}`:                     malformedPolicy,
		`{"AWS":null}`:                    malformedPolicy,
		`{"AWS":111122223333}`:            malformedPolicy,
		`{"AWS":[["*"]]}`:                 malformedPolicy,
		`{"AWS":{"AWS":"*"}}`:             malformedPolicy,
		`{"AWS":"*","AWS":"*"}`:           malformedPolicy,
		`{"AWS":"*","Group":"admins"}`:    malformedPolicy,
		`{"AWS":"nobody","Service":null}`: malformedPolicy, // whichever is read first
	} {
		requireForm(t, want, `{"Statement":{"Effect":"Allow","Principal":`+principals+`,"Action":"kms:*","Resource":"*"}}`)
		requireForm(t, want, `{"Statement":{"Effect":"Deny","NotPrincipal":`+principals+`,"Action":"kms:*","Resource":"*"}}`)
	}
}

func TestTheFormOfConditions(t *testing.T) {
	context, tag := strings.ReplaceAll(tooPermissive, "#", "encryption context"), strings.ReplaceAll(tooPermissive, "#", "tag")
	tests := map[string]string{
		`{"StringEquals":{"kms:CallerAccount":"111122223333","kms:ViaService":["s3.us-east-1.amazonaws.com"]}}`: "",
		`{"StringEquals":{"kms:EncryptionContext:App":"x"},"Bool":{"kms:GrantIsForAWSResource":true}}`:          "",
		`{"StringEquals":{}}`:                                                                       "",
		`{"StringEquals":{"aws:PrincipalTag/t":[]}}`:                                                "",
		`{"NumericLessThan":{"kms:X":[1,-1.5e3,"2"]}}`:                                              "",
		`{"Null":{"kms:EncryptionContextKeys":"true"}}`:                                             "",
		`{"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["a","b"],"aws:TagKeys":["a"]}}`: "",
		`{"ForAnyValue:StringEquals":{"kms:EncryptionContext:App":"x","aws:RequestTag/t":"x"}}`:     "",
		`{"ForAllValues:StringEquals":{"kms:EncryptionContext:App":"x"}}`:                           context,
		`{"ForAllValues:StringLikeIfExists":{"KMS:encryptioncontext:App":["x"]}}`:                   context,
		`{"ForAllValues:StringEquals":{"aws:RequestTag/t":"x"}}`:                                    tag,
		`{"ForAllValues:StringEquals":{"kms:EncryptionContext:a":"x"},"Odd":{}}`:                    malformedPolicy, // whichever is read first
		`{"ForAllValues:StringEquals":{"kms:EncryptionContext:a":"x"},"StringEquals":{"b":null}}`:   malformedPolicy,
		`{"NullIfExists":{"kms:X":"true"}}`:                                                         malformedPolicy,
		`{"stringequals":{"kms:X":"x"}}`:                                                            malformedPolicy,
		`{"StringMatches":{"kms:X":"x"}}`:                                                           malformedPolicy,
		`{"":{"kms:X":"x"}}`:                                                                        malformedPolicy,
		`{"IfExists":{"kms:X":"x"}}`:                                                                malformedPolicy,
		`{"StringEqualsIfExistsIfExists":{"kms:X":"x"}}`:                                            malformedPolicy,
		`{"ForSomeValues:StringEquals":{"kms:X":"x"}}`:                                              malformedPolicy,
		`{"forAllValues:StringEquals":{"kms:X":"x"}}`:                                               malformedPolicy,
		`{"ForAllValues:ForAnyValue:StringEquals":{"kms:X":"x"}}`:                                   malformedPolicy,
		`{"ForAllValues:":{"kms:X":"x"}}`:                                                           malformedPolicy,
		`{"StringEquals":{"":"x"}}`:                                                                 malformedPolicy,
		`{"StringEquals":{"kms:X":null}}`:                                                           malformedPolicy,
		`{"StringEquals":{"kms:X":{"a":"b"}}}`:                                                      malformedPolicy,
		`{"StringEquals":{"kms:X":["a",["b"]]}}`:                                                    malformedPolicy,
		`{"StringEquals":{"kms:X":["a",null]}}`:                                                     malformedPolicy,
		`{"StringEquals":{"kms:X":"a","kms:X":"b"}}`:                                                malformedPolicy,
		`{"StringEquals":"kms:X"}`:                                                                  malformedPolicy,
		`{"StringEquals":["kms:X"]}`:                                                                malformedPolicy,
		`{"StringEquals":null}`:                                                                     malformedPolicy,
	}
	valueOf := func(operator string) string {
		switch {
		case strings.HasPrefix(operator, "Numeric"):
			return "1.5"
		case strings.HasPrefix(operator, "Date"):
			return "2026-03-01T12:00:00Z"
		case operator == "Bool":
			return "true"
		case operator == "BinaryEquals":
			return "eA=="
		case strings.HasSuffix(operator, "IpAddress"):
			return "192.0.2.0/24"
		case strings.HasPrefix(operator, "Arn"):
			return "arn:aws:s3:::*"
		}
		return "x"
	}
	for _, operator := range strings.Fields(`StringEquals StringNotEquals StringEqualsIgnoreCase StringNotEqualsIgnoreCase StringLike StringNotLike
		NumericEquals NumericNotEquals NumericLessThan NumericLessThanEquals NumericGreaterThan NumericGreaterThanEquals
		DateEquals DateNotEquals DateLessThan DateLessThanEquals DateGreaterThan DateGreaterThanEquals
		Bool BinaryEquals IpAddress NotIpAddress ArnEquals ArnNotEquals ArnLike ArnNotLike`) {
		for _, prefix := range []string{"", "ForAllValues:", "ForAnyValue:"} {
			for _, suffix := range []string{"", "IfExists"} {
				tests[`{"`+prefix+operator+suffix+`":{"kms:X":"`+valueOf(operator)+`"}}`] = ""
			}
		}
	}
	for condition, want := range tests {
		requireForm(t, want, `{"Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":`+condition+`}}`)
	}
}

func TestPoliciesHaveOneLayout(t *testing.T) {
	for policy, want := range map[string]string{
		`{}`:                                   `{ }`,
		"\t{ }\n":                              `{ }`,
		`{"a":1e999}`:                          "{\n  \"a\" : 1e999\n}",
		`{"a":[],"b":{}}`:                      "{\n  \"a\" : [ ],\n  \"b\" : { }\n}",
		`{"a":["x","y,{}[]:"]}`:                "{\n  \"a\" : [ \"x\", \"y,{}[]:\" ]\n}",
		`{"a":[{"b":true},{"c":null}]}`:        "{\n  \"a\" : [ {\n    \"b\" : true\n  }, {\n    \"c\" : null\n  } ]\n}",
		`{"a" : {"b":{"c":"d"}} }`:             "{\n  \"a\" : {\n    \"b\" : {\n      \"c\" : \"d\"\n    }\n  }\n}",
		`{"\\\"":"\\\\","\u00e9\ud800":"é<&"}`: "{\n  \"\\\\\\\"\" : \"\\\\\\\\\",\n  \"\\u00e9\\ud800\" : \"é<&\"\n}",
		"no JSON {":                            "no JSON {",
	} {
		require.Equal(t, want, formatPolicy(policy))
		require.Equal(t, want, formatPolicy(want))
	}
	for _, policy := range []string{defaultPolicy("111122223333", "us-east-1"), managedKeyPolicy("111122223333", "us-east-1", "s3")} {
		require.Equal(t, policy, formatPolicy(policy))
	}
}

func FuzzParseKeyPolicy(f *testing.F) {
	ours := []string{
		defaultPolicy("111122223333", "us-east-1"), defaultPolicy("444455556666", "us-gov-west-1"), managedKeyPolicy("111122223333", "cn-north-1", "s3"),
	}
	for _, policy := range ours {
		require.NoError(f, formError(policy))
		f.Add(policy)
	}
	f.Add(`{"Statement":{"Effect":"Deny","NotPrincipal":{"AWS":["111122223333"]},"NotAction":"kms:*","NotResource":[]}}`)
	f.Add(`{"Statement":[{"Effect":"Allow","Principal":"*","Condition":{"ForAllValues:StringLike":{"aws:RequestTag/a":[1,true,"x"]}}}]}`)
	f.Add(`{"Statement":[{}],"Statement":[[[null]]]}`)
	f.Fuzz(func(t *testing.T, policy string) {
		err := formError(policy)
		require.Equal(t, err, formError(policy), "one document, one answer")
		formatted := formatPolicy(policy)
		require.Equal(t, formatted, formatPolicy(formatted))
		if err == nil {
			require.JSONEq(t, policy, formatted)
			return
		}
		var e *Error
		require.ErrorAs(t, err, &e)
		require.Contains(t, []ErrorCode{MalformedPolicyDocumentException, LimitExceededException}, e.Code)
		require.Less(t, len(e.Message), 300)
	})
}
