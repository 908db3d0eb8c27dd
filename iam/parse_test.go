package iam_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/iam"
)

// problems returns what is wrong with a policy, each as "Kind Element path@line:column".
func problems(t *testing.T, text string, kind iam.Kind) (all []string) {
	t.Helper()
	p, err := iam.Parse(text, kind)
	if err == nil {
		require.NotNil(t, p)
		return nil
	}
	require.Nil(t, p)
	var e *iam.Error
	require.True(t, errors.As(err, &e))
	for _, p := range e.Problems {
		require.NotEmpty(t, p.Message)
		require.Less(t, len(p.String()), 1000)
		require.NotContains(t, p.String(), "\n")
		all = append(all, fmt.Sprintf("%s %s %s@%d:%d", p.Kind, p.Element, p.Path, p.Line, p.Column))
	}
	require.Contains(t, err.Error(), e.Problems[0].String())
	require.LessOrEqual(t, len(all), 100)
	return all
}

func TestEveryProblemIsReportedWithItsPlace(t *testing.T) {
	const policy = `{
  "Version": "2012-10-18",
  "Comment": "x",
  "Statement": [
    {
      "Effect": "allow", "Principal": {"AWS": ["111122223333", "grün", "alice"], "Group": "g"},
      "Action": ["kms:*", "Decrypt", 1], "NotAction": "kms:*", "Resource": "key"
    },
    {"Effect": "Allow", "NotPrincipal": "*", "Action": "kms:*", "Action": "kms:*",
      "Condition": {
        "StringEqual": {"aws:username": "a"},
        "DateLessThan": {"aws:CurrentTime": ["2026-06-01", "soon"]},
        "Null": {"aws:username": null}
    }},
    "all"
  ]
}`
	require.Equal(t, []string{
		"InvalidValue Version Version@2:14",
		"UnknownElement  Comment@3:3",
		"InvalidValue Effect Statement[0].Effect@6:17",
		"InvalidPrincipal Principal Statement[0].Principal.AWS[1]@6:64",
		"InvalidPrincipal Principal Statement[0].Principal.AWS[2]@6:72",
		"UnknownElement Principal Statement[0].Principal.Group@6:82",
		"InvalidValue Action Statement[0].Action[1]@7:27",
		"WrongType Action Statement[0].Action[2]@7:38",
		"ConflictingElements Action Statement[0]@7:42",
		"InvalidValue Resource Statement[0].Resource@7:76",
		"MissingElement Resource Statement[1]@9:5",
		"ConflictingElements NotPrincipal Statement[1]@9:25",
		"DuplicateElement Statement Statement[1].Action@9:65",
		"UnknownOperator Condition Statement[1].Condition.StringEqual@11:9",
		`InvalidValue Condition Statement[1].Condition.DateLessThan["aws:CurrentTime"][1]@12:60`,
		`WrongType Condition Statement[1].Condition.Null["aws:username"]@13:34`,
		"WrongType Statement Statement[2]@15:5",
	}, problems(t, policy, iam.ResourcePolicy))
}

func TestTheFormOfAPolicy(t *testing.T) {
	const s = `{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}`
	for text, want := range map[string]string{
		`{"Statement":` + s + `}`:             "",
		`{"Statement":[` + s + `,` + s + `]}`: "",
		"\t\r\n {\"Id\" : \"\", \"Version\":\"2012-10-17\",\n\"Statement\":[" + s + "] }\n": "",
		`{"\u0053tatement":` + s + `}`:                       "",
		`{"Version":"","Statement":` + s + `}`:               "InvalidValue Version Version@1:12",
		`{"Version":null,"Statement":` + s + `}`:             "WrongType Version Version@1:12",
		`{"Version":2012,"Statement":` + s + `}`:             "WrongType Version Version@1:12",
		`{"version":"2012-10-17","Statement":` + s + `}`:     "UnknownElement  version@1:2",
		`{"Id":1,"Statement":` + s + `}`:                     "WrongType Id Id@1:7",
		`{"Statement":` + s + `,"\u0053tatement":` + s + `}`: "DuplicateElement  Statement@1:81",
		`{"Statement":[[]]}`:                                 "WrongType Statement Statement[0]@1:15",
		`{"Statement":[]}`:                                   "MissingElement Statement Statement@1:14",
		`{"Statement":null}`:                                 "WrongType Statement Statement[0]@1:14",
		`{}`:                                                 "MissingElement Statement @1:1",
		`[]`:                                                 "WrongType  @1:1",
		`null`:                                               "WrongType  @1:1",
		`{"Statement":` + s + `}{}`:                          "NotJSON  @1:81",
		`{"Statement":` + s + `,}`:                           "NotJSON  @1:81",
		`{"Statement":[` + s + ` ` + s + `]}`:                "NotJSON  @1:82",
		`{"Statement":[`:                                     "NotJSON  @1:15",
		`{"Statement"`:                                       "NotJSON  @1:13",
		`{"Statement`:                                        "NotJSON  @1:12",
		`{Statement:1}`:                                      "NotJSON  @1:2",
		`{"a":1 "b":2}`:                                      "NotJSON  @1:8",
		``:                                                   "NotJSON  @1:1",
		"\ufeff{}":                                           "NotJSON  @1:1",
		`allow all`:                                          "NotJSON  @1:1",
		`{"Id":"` + "a\x01" + `"}`:                           "NotJSON  @1:9",
		`{"Id":"` + "gr\xfcn" + `"}`:                         "NotJSON  @1:10",
		`{"Id":"\x41"}`:                                      "NotJSON  @1:8",
		`{"Id":"\ud800"}`:                                    "NotJSON  @1:14",
		`{"Id":"\ud800\u0041"}`:                              "NotJSON  @1:14",
		`{"Id":"\udc00\ud800"}`:                              "NotJSON  @1:14",
		`{"Id":"\ud800\u004`:                                 "NotJSON  @1:14",
		`{"Id":"\u004`:                                       "NotJSON  @1:8",
		`{"Id":"\u00g0"}`:                                    "NotJSON  @1:8",
		`{"Id":"\u+123"}`:                                    "NotJSON  @1:8",
		`{"Id":01}`:                                          "NotJSON  @1:8",
		`{"Id":1.}`:                                          "NotJSON  @1:9",
		`{"Id":1e}`:                                          "NotJSON  @1:9",
		`{"Id":-}`:                                           "NotJSON  @1:8",
		`{"Id":tru}`:                                         "NotJSON  @1:7",
		`{"Id":"\ud83d\ude00é\/\"\\\b\f\n\r\t","Statement":` + s + `}`: "",
		strings.Repeat(`{"Statement":`, 17):                            "TooLarge  @1:209",
		strings.Repeat(`[`, 100000):                                    "TooLarge  @1:17",
		strings.Repeat(` `, iam.MaxBytes+1):                            "TooLarge  @1:1",
		`{"Statement":[` + strings.Repeat("1,", 20000) + `1]}`:         "TooLarge  @1:40011",
		`{"Statement":[` + strings.Repeat("{},", 1000) + `{}]}`:        "TooLarge Statement Statement@1:14",
	} {
		got := strings.Join(problems(t, text, iam.ResourcePolicy), ", ")
		require.Equal(t, want, got, "%.200q", text)
	}
}

func TestTheFormOfAStatement(t *testing.T) {
	for statement, want := range map[string]string{
		`"Sid":"with spaces","Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"`:                          "",
		`"Effect":"Deny","Principal":"*","NotAction":["kms:Get*","*"],"NotResource":["*"]`:                              "",
		`"Effect":"Deny","NotPrincipal":{"AWS":"111122223333"},"Action":["kms:*"],"Resource":"*"`:                       "",
		`"Effect":"Allow","Principal":{},"Action":[],"Resource":[],"Condition":{}`:                                      "",
		`"Effect":"Allow","Principal":"*"`:                                                                              "MissingElement Action, MissingElement Resource",
		`"Effect":"Allow"`:                                                                                              "MissingElement Principal, MissingElement Action, MissingElement Resource",
		`"Sid":1,"Effect":"Allow","Principal":"*","Action":"a:*","Resource":"*"`:                                        "WrongType Sid",
		`"Principal":"*","Action":"kms:*","Resource":"*"`:                                                               "MissingElement Effect",
		`"Effect":["Allow"],"Principal":"*","Action":"kms:*","Resource":"*"`:                                            "WrongType Effect",
		`"Effect":"Allow","principal":"*","Action":"kms:*","Resource":"*"`:                                              "MissingElement Principal, UnknownElement Statement",
		`"Effect":"Allow","NotPrincipal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"`:                        "ConflictingElements NotPrincipal",
		`"Effect":"Deny","Principal":"*","NotPrincipal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"`:         "ConflictingElements Principal",
		`"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","NotResource":"*"`:                            "ConflictingElements Resource",
		`"Effect":"Allow","Principal":"*","Action":null,"Resource":{"AWS":"*"}`:                                         "WrongType Action, WrongType Resource",
		`"Effect":"Allow","Principal":["*"],"Action":"kms:*","Resource":"*"`:                                            "WrongType Principal",
		`"Effect":"Allow","Principal":"111122223333","Action":"kms:*","Resource":"*"`:                                   "InvalidPrincipal Principal",
		`"Effect":"Allow","Principal":{"AWS":[["*"],1]},"Action":"kms:*","Resource":"*"`:                                "WrongType Principal, WrongType Principal",
		`"Effect":"Allow","Principal":{"AWS":"*","AWS":"*"},"Action":"kms:*","Resource":"*"`:                            "DuplicateElement Principal",
		`"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":null`:                             "WrongType Condition",
		`"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"Bool":[]}`:                      "WrongType Condition",
		`"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"Bool":{"a":"true","a":"true"}}`: "DuplicateElement Condition",
	} {
		text := `{"Version":"2012-10-17","Statement":[{` + statement + `}]}`
		var got []string
		for _, p := range problems(t, text, iam.ResourcePolicy) {
			got = append(got, strings.Join(strings.Fields(p)[:2], " "))
		}
		require.Equal(t, want, strings.Join(got, ", "), statement)
	}
}

func TestValuesThatCanMatchNothingAreRefused(t *testing.T) {
	invalid := func(element string, kind iam.ProblemKind, statement string) {
		t.Helper()
		_, err := iam.Parse(`{"Version":"2012-10-17","Statement":{"Effect":"Deny",`+statement+`}}`, iam.IdentityPolicy)
		var e *iam.Error
		require.ErrorAs(t, err, &e, statement)
		require.Len(t, e.Problems, 1, statement)
		require.Equal(t, kind, e.Problems[0].Kind, statement)
		require.Equal(t, element, e.Problems[0].Element, statement)
		require.Zero(t, e.Problems[0].Statement)
	}
	for _, action := range []string{"", "Decrypt", "kms:", ":Decrypt", "kms:a:b", " kms:Decrypt", "kms:Decrypt\n", "kms:Encr\u00ffpt", "kms:${aws:username}", "?"} {
		invalid("Action", iam.InvalidValue, fmt.Sprintf(`"Action":%q,"Resource":"*"`, action))
		invalid("NotAction", iam.InvalidValue, fmt.Sprintf(`"NotAction":[%q],"Resource":"*"`, action))
	}
	for _, resource := range []string{"", "key/1", "?", " *", "Arn:aws:kms:*", "arn:aws:kms:${aws:username", "arn:${}", "arn:${aws:a 'b'}", "arn:${aws:a, b}", "arn:${aws:a, 'b}", "${a*}"} {
		invalid("Resource", iam.InvalidValue, fmt.Sprintf(`"Action":"*","Resource":[%q]`, resource))
	}
	for operator, values := range map[string][]string{
		"NumericEquals": {`""`, `"one"`, `true`, `"1,5"`, `"0x10"`, `"Inf"`, `1e999`, `"` + strings.Repeat("9", 500) + `"`, `"${aws:number}"`, `"1_000"`, `"0.` + strings.Repeat("0", 400) + `"`},
		"DateLessThan":  {`""`, `"soon"`, `true`, `"2026-13-01"`, `"2026-02-30"`, `"2026-06-15T25:00:00Z"`, `"20260615T120000Z"`, `"2026-06-15 12:00"`, `"99999999999999999999"`, `"1."`, `"1.5e9"`, `"2026-6-1"`, `"-"`, `"+1"`, `"2026-06-15T12:00:00,5Z"`, `"2026-06-15T1:00:00Z"`, `"2026-06-15T12:00:00.` + strings.Repeat("0", 64) + `Z"`},
		"Bool":          {`""`, `"yes"`, `1`, `"${aws:b}"`},
		"Null":          {`""`, `"yes"`, `0`},
		"BinaryEquals":  {`"?"`, `"aGk"`, `"a"`},
		"IpAddress":     {`""`, `"10.0.0.0/33"`, `"10.0.0/8"`, `"010.0.0.1"`, `"::/129"`, `"10.0.0.0/"`, `"10.0.0.0/-1"`, `"10.0.0.0/08"`, `"10.0.0.0/255.0.0.0"`, `"fe80::1%eth0"`, `"fe80::%eth0/10"`, `"host"`, `"10.0.0.1:80"`, `" 10.0.0.1"`},
		"ArnLike":       {`""`, `"*"`, `"arn:aws:iam"`, `"urn:aws:iam::111122223333:root"`, `"${aws:arn}*"`, `"arn:aws:iam::${aws:a:root"`},
		"StringEquals":  {`"${"`, `"${}"`, `"${aws:username"`, `"${ }"`, `"${a${b}}"`, `"` + strings.Repeat("${a:b}", 17) + `"`},
		"StringLike":    {`"${*"`, `"*` + strings.Repeat("?", 65) + `*"`},
	} {
		for _, value := range values {
			invalid("Condition", iam.InvalidValue, fmt.Sprintf(`"Action":"*","Resource":"*","Condition":{%q:{"aws:x":%s}}`, operator, value))
		}
	}
	invalid("Condition", iam.InvalidValue, `"Action":"*","Resource":"*","Condition":{"StringEquals":{"":"a"}}`)
	for _, operator := range []string{"", "stringEquals", "StringEqualsIfExistsIfExists", "ForAllValues:", "ForAllValues:ForAnyValue:StringEquals", "ForAllValue:StringEquals",
		"NullIfExists", "ForAllValues:Null", "ForAnyValue:Null", "IfExists", "StringEquals:ForAllValues", "IpAddressNot", "BinaryNotEquals"} {
		invalid("Condition", iam.UnknownOperator, fmt.Sprintf(`"Action":"*","Resource":"*","Condition":{%q:{"aws:x":"true"}}`, operator))
	}
}

func TestThePolicyOfAnIdentity(t *testing.T) {
	for _, kind := range []iam.Kind{iam.IdentityPolicy, iam.SessionPolicy, iam.PermissionsBoundary} {
		require.Equal(t, []string{
			"InvalidValue Sid Statement[0].Sid@1:22",
			"ForbiddenElement Principal Statement[0].Principal@1:35",
			"ForbiddenElement NotPrincipal Statement[1].NotPrincipal@1:103",
			"DuplicateElement Sid Statement[3].Sid@1:249",
		}, problems(t, `{"Statement":[{"Sid":"with space","Principal":"*","Effect":"Allow","Action":"kms:*","Resource":"*"},`+
			`{ "NotPrincipal":"*","Sid":"","Effect":"Allow","Action":"kms:*","Resource":"*"},`+
			`{"Sid":"A","Effect":"Allow","Action":"kms:*","Resource":"*"},{"Sid":"A","Effect":"Deny","Action":"kms:*","Resource":"*"}]}`, kind), kind)
		require.NotEmpty(t, kind.String())
	}
}

func TestProblemsAreLimited(t *testing.T) {
	got := problems(t, `{"Statement":[`+strings.TrimSuffix(strings.Repeat("{},", 900), ",")+`]}`, iam.ResourcePolicy)
	require.Len(t, got, 100)
	_, err := iam.Parse(`{"Statement":{"`+strings.Repeat("x\\n", 20000)+`":1}}`, iam.ResourcePolicy)
	require.Error(t, err)
	require.Less(t, len(err.Error()), 5000)
	require.Equal(t, "InvalidPrincipal", iam.InvalidPrincipal.String())
	require.Equal(t, "ProblemKind(99)", iam.ProblemKind(99).String())
}
