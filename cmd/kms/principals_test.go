package main

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const tenantsText = `version: 1
credentials:
  - {accessKeyId: AKIDALICE, secretAccessKey: ` + longTerm + `, principal: "arn:aws:iam::111122223333:user/staff/alice"}
  - {accessKeyId: ASIAJOB, secretAccessKey: ` + temporary + `, sessionToken: ` + token + `, principal: "arn:aws:sts::111122223333:assumed-role/app/job"}
  - {accessKeyId: AKIDROOT, secretAccessKey: ` + longTerm + `, principal: "arn:aws:iam::111122223333:root"}
principals:
  - arn: arn:aws:iam::111122223333:user/staff/alice
    tags: {team: blue}
    policies:
      - document: |
          {"Version": "2012-10-17", "Statement": {
            "Effect": "Allow", "Action": ["kms:CreateKey", "kms:DescribeKey"], "Resource": "*"
          }}
    boundary:
      document: '{"Statement": {"Effect": "Allow", "Action": "kms:CreateKey", "Resource": "*"}}'
  - arn: arn:aws:iam::111122223333:role/service/app
    tags: {team: red}
    policies:
      - arn: arn:aws:iam::111122223333:policy/app
        document: '{"Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}, {"Effect": "Deny", "Action": "kms:ListKeys", "Resource": "*"}]}'
  - arn: arn:aws:sts::111122223333:assumed-role/app/job
    tags: {task: nightly}
    sessionPolicies:
      - document: '{"Statement": {"Effect": "Allow", "Action": ["kms:CreateKey", "kms:ListKeys"], "Resource": "*"}}'
`

var (
	alice = access{"AKIDALICE", longTerm, ""}
	job   = access{"ASIAJOB", temporary, token}
	root  = access{"AKIDROOT", longTerm, ""}
)

// message returns the message of a refusal, or "" if the call was allowed.
func (i *invocation) message(a access, operation, body string) string {
	i.Helper()
	status, text := i.do(a.request(i.T, i.url, operation, body))
	if status == http.StatusOK {
		return ""
	}
	require.Contains(i, text, `"AccessDeniedException"`)
	_, message, _ := strings.Cut(text, `"Message":"`)
	return strings.TrimSuffix(strings.TrimSpace(message), `"}`)
}

func TestCallersAreDecidedByTheirPolicies(t *testing.T) {
	i := start(t, program{}, "--credentials", file(t, "credentials", tenantsText))
	_, created := i.call(root, "CreateKey", `{}`)
	describe := `{"KeyId": "` + created.KeyMetadata.Arn + `"}`
	for _, tt := range []struct {
		name            string
		by              access
		operation, body string
		want            string // the end of the refusal; "" if the call is allowed
	}{
		{"a user with a policy and a boundary", alice, "CreateKey", `{}`, ""},
		{"a user without the boundary's consent", alice, "DescribeKey", describe, "because no permissions boundary allows the kms:DescribeKey action"},
		{"a user without a policy for it", alice, "ListKeys", `{}`, "because no permissions boundary allows the kms:ListKeys action"},
		{"a session by the policy of its role, which has a path", job, "CreateKey", `{}`, ""},
		{"a session beyond its session policy", job, "DescribeKey", describe, "because no session policy allows the kms:DescribeKey action"},
		{"a session against a Deny of its role", job, "ListKeys", `{}`,
			"with an explicit deny in an identity-based policy: arn:aws:iam::111122223333:policy/app"},
		{"the root, whom nothing limits", root, "ListKeys", `{}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			message := i.message(tt.by, tt.operation, tt.body)
			require.Equal(t, tt.want == "", message == "", message)
			require.True(t, strings.HasSuffix(message, tt.want), message)
		})
	}
}

func TestTagsOfASessionAddToThoseOfItsRole(t *testing.T) {
	byTag := `{"Statement": {"Effect": "Allow", "Action": "kms:CreateKey", "Resource": "*",
		"Condition": {"StringEquals": {"aws:PrincipalTag/team": "red", "aws:PrincipalTag/task": "nightly", "aws:userid": "AROAAPP:job",
		"aws:PrincipalArn": "arn:aws:iam::111122223333:role/team/app"}}}}`
	for name, tt := range map[string]struct{ role, session string }{
		"both":                  {"team: red", "task: nightly"},
		"the session overrides": {"team: blue, task: nightly", "team: red"},
	} {
		t.Run(name, func(t *testing.T) {
			i := start(t, program{}, "--credentials", file(t, "credentials", `version: 1
credentials:
  - {accessKeyId: ASIAJOB, secretAccessKey: `+temporary+`, sessionToken: `+token+`, principal: "arn:aws:sts::111122223333:assumed-role/app/job"}
principals:
  - {arn: "arn:aws:iam::111122223333:role/team/app", uniqueId: AROAAPP, tags: {`+tt.role+`}, policies: [{document: '`+byTag+`'}]}
  - {arn: "arn:aws:sts::111122223333:assumed-role/app/job", tags: {`+tt.session+`}}
`))
			require.Empty(t, i.message(job, "CreateKey", `{}`))
		})
	}
}

func TestTheBoundaryOfARoleLimitsItsSessions(t *testing.T) {
	i := start(t, program{}, "--credentials", file(t, "credentials", `version: 1
credentials:
  - {accessKeyId: ASIAJOB, secretAccessKey: `+temporary+`, sessionToken: `+token+`, principal: "arn:aws:sts::111122223333:assumed-role/app/job"}
principals:
  - arn: arn:aws:iam::111122223333:role/app
    policies: [{document: '{"Statement": {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}}'}]
    boundary: {document: '{"Statement": {"Effect": "Allow", "Action": "kms:CreateKey", "Resource": "*"}}'}
`))
	require.Empty(t, i.message(job, "CreateKey", `{}`))
	require.Contains(t, i.message(job, "ListKeys", `{}`), "no permissions boundary allows")
}

// What is denied to a federated user's user is denied to it, and it may do no more than its
// session.
func TestAFederatedUserHasThePoliciesOfItsUser(t *testing.T) {
	bob := access{"ASIABOB", temporary, token}
	i := start(t, program{}, "--credentials", file(t, "credentials", `version: 1
credentials:
  - {accessKeyId: ASIABOB, secretAccessKey: `+temporary+`, sessionToken: `+token+`, principal: "arn:aws:sts::111122223333:federated-user/bob"}
principals:
  - arn: arn:aws:iam::111122223333:user/broker
    policies: [{document: '{"Statement": [{"Effect": "Allow", "Action": "kms:Create*", "Resource": "*"}]}'}]
  - arn: arn:aws:sts::111122223333:federated-user/bob
    user: arn:aws:iam::111122223333:user/broker
    sessionPolicies: [{document: '{"Statement": [{"Effect": "Allow", "Action": ["kms:CreateKey", "kms:ListKeys"], "Resource": "*"}]}'}]
`))
	require.Empty(t, i.message(bob, "CreateKey", `{}`))
	require.Contains(t, i.message(bob, "ListKeys", `{}`), "no identity-based policy allows")
}

// Policies decide by the connection, whatever headers a client sends.
func TestPoliciesSeeTheFactsOfTheRequest(t *testing.T) {
	with := func(condition string) string {
		return `version: 1
credentials: [{accessKeyId: ASIAJOB, secretAccessKey: ` + temporary + `, sessionToken: ` + token + `, principal: "arn:aws:iam::111122223333:user/alice"}]
principals: [{arn: "arn:aws:iam::111122223333:user/alice", policies: [{document: '{"Statement": {"Effect": "Allow",
  "Action": "kms:CreateKey", "Resource": "*", "Condition": {` + condition + `}}}'}]}]
`
	}
	for name, tt := range map[string]struct {
		condition string
		allowed   bool
	}{
		"its address":                 {`"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}`, true},
		"another address":             {`"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}`, false},
		"no TLS":                      {`"Bool": {"aws:SecureTransport": "false"}`, true},
		"TLS":                         {`"Bool": {"aws:SecureTransport": "true"}`, false},
		"its name":                    {`"StringLike": {"aws:UserAgent": "aws-cli/*"}`, true},
		"no service":                  {`"Null": {"kms:ViaService": "true"}`, true},
		"temporary, without MFA":      {`"Bool": {"aws:MultiFactorAuthPresent": "false"}`, true},
		"multi-factor authentication": {`"Bool": {"aws:MultiFactorAuthPresent": "true"}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			i := start(t, program{}, "--credentials", file(t, "credentials", with(tt.condition)))
			r := job.request(t, i.url, "CreateKey", `{}`)
			r.Header.Set("User-Agent", "aws-cli/2.0")
			r.Header.Set("X-Forwarded-For", "203.0.113.7")
			r.Header.Set("X-Forwarded-Proto", "https")
			status, text := i.do(r)
			require.Equal(t, tt.allowed, status == http.StatusOK, text)
		})
	}
}

func TestSIGHUPReadsTheCredentialsAgain(t *testing.T) {
	hangups := make(chan os.Signal)
	path := file(t, "credentials", tenantsText)
	i := start(t, program{hangups: hangups}, "--credentials", path)
	replace := func(text string) string {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		hangups <- os.Interrupt // any will do
		for line := range i.stderr {
			if strings.Contains(line, "credentials") && !strings.Contains(line, "msg=serving") {
				return line
			}
		}
		return ""
	}
	require.Empty(t, i.message(alice, "CreateKey", `{}`))

	require.Contains(t, replace(strings.Replace(tenantsText, `"Action": "kms:CreateKey"`, `"Action": "kms:TagResource"`, 1)), "read the credentials again")
	require.Contains(t, i.message(alice, "CreateKey", `{}`), "no permissions boundary allows")

	require.Contains(t, replace("version: 1"), "the former ones stay valid")
	require.Contains(t, i.message(alice, "CreateKey", `{}`), "no permissions boundary allows")
	_, created := i.call(job, "CreateKey", `{}`)
	require.NotEmpty(t, created.KeyMetadata.Arn)

	require.Contains(t, replace(credentialsText), "read the credentials again")
	_, refused := i.call(alice, "CreateKey", `{}`)
	require.Equal(t, "UnrecognizedClientException", refused.Type)
}

func TestMalformedPrincipalsAreRefusedWithTheirLine(t *testing.T) {
	const head = `version: 1
credentials:
  - {accessKeyId: A, secretAccessKey: ` + longTerm + `, principal: "arn:aws:iam::111122223333:user/alice"}
principals:
`
	_, err := parseCredentials([]byte(head + "  - arn: arn:aws:iam::111122223333:user/alice\n"))
	require.NoError(t, err)
	const aliceEntry = "  - arn: arn:aws:iam::111122223333:user/alice\n"
	for name, tt := range map[string]struct{ text, want string }{
		"no ARN":            {"  - tags: {a: b}\n", "principals[0] has no arn"},
		"not an ARN":        {"  - arn: " + longTerm + "\n", "line 5: the arn is not that of a user"},
		"a root":            {"  - arn: arn:aws:iam::111122223333:root\n", "line 5: no policy limits the root"},
		"an unknown member": {aliceEntry + "    name: x\n", "line 6: a principal has arn, uniqueId, user, provider, tags, "},
		"twice":             {aliceEntry + aliceEntry, "line 6: the principal is there twice"},
		"unused":            {aliceEntry + "  - arn: arn:aws:iam::111122223333:user/alcie\n", "line 6: no credentials are of this principal"},
		"two roles of a name": {"  - arn: arn:aws:iam::111122223333:role/a/app\n  - arn: arn:aws:iam::111122223333:role/b/app\n",
			"line 6: a role of that name is there already"},
		"a session with a boundary": {"  - arn: arn:aws:sts::111122223333:assumed-role/app/job\n    boundary: {document: '{}'}\n",
			"line 5: a session has sessionPolicies"},
		"a session with policies": {"  - arn: arn:aws:sts::111122223333:assumed-role/app/job\n    policies: [{document: '{}'}]\n",
			"line 5: a session has sessionPolicies"},
		"a federated user of a role": {"  - {arn: \"arn:aws:sts::111122223333:federated-user/bob\",\n     user: \"arn:aws:iam::111122223333:role/app\"}\n  - arn: arn:aws:iam::111122223333:role/app\n",
			"line 6: the user has no entry"},
		"too many session policies": {"  - arn: arn:aws:sts::111122223333:assumed-role/app/job\n    sessionPolicies: [" + strings.Repeat("{document: '{}'}, ", 101) + "]\n",
			"line 5: a principal has at most 100 policies"},
		"a user with session policies":  {aliceEntry + "    sessionPolicies: [{document: '{}'}]\n", "line 5: only a session"},
		"a user with a user":            {aliceEntry + "    user: arn:aws:iam::111122223333:user/bob\n", "line 5: a federated user has a user"},
		"a federated user without user": {"  - arn: arn:aws:sts::111122223333:federated-user/bob\n", "line 5: a federated user has a user"},
		"a federated user of nobody":    {"  - {arn: \"arn:aws:sts::111122223333:federated-user/bob\",\n     user: \"arn:aws:iam::111122223333:user/bob\"}\n", "line 6: the user has no entry"},
		"a policy without a document":   {aliceEntry + "    policies: [{arn: x}]\n", "line 5: a policy has no document"},
		"a policy that is not JSON":     {aliceEntry + "    policies:\n    - document: |\n        " + longTerm + "\n", "line 8: identity-based policy: the document is not JSON"},
		"too many policies":             {aliceEntry + "    policies: [" + strings.Repeat("{document: '{}'}, ", 101) + "]\n", "line 5: a principal has at most 100 policies"},
		"a policy with a principal": {aliceEntry + "    policies:\n    - document: |\n        {\"Statement\": {\n          \"Effect\": \"Allow\",\n          \"Principal\": \"*\",\n" +
			"          \"Action\": \"kms:*\", \"Resource\": \"*\"}}\n", "line 10: identity-based policy: Statement[0].Principal: the policy of an identity has no Principal"},
		"a boundary with two mistakes": {aliceEntry + "    boundary:\n      document: |\n        {\"Statement\": {\n          \"Effect\": \"Permit\",\n          \"Actions\": \"kms:*\", \"Resource\": \"*\"}}\n",
			"line 9: permissions boundary: Statement[0].Effect: the effect is \"Permit\", not Allow or Deny"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseCredentials([]byte(head + tt.text))
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), longTerm[:8])
		})
	}
}
