package kmstest

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
)

// Principal returns the principal of an ARN with identity-based policies, for [kms.Service.As]. It fails
// t if the ARN or a policy is not valid. For tags, a boundary or session policies, call
// [kms.Principal.WithIdentity].
//
//	alice := kmstest.Principal(t, "arn:aws:iam::111122223333:user/alice", policy)
//	_, err := svc.As(alice).Encrypt(ctx, in)
//	kmstest.RequireDenied(t, err, kmstest.NoKeyPolicy)
func Principal(t testing.TB, arn string, policies ...string) kms.Principal {
	t.Helper()
	p, err := kms.ParsePrincipal(arn)
	if err != nil {
		t.Fatalf("kmstest: %v", err)
	}
	if len(policies) == 0 {
		return p
	}
	var id kms.Identity
	for _, text := range policies {
		id.Policies = append(id.Policies, kms.Policy{Document: text})
	}
	if p, err = p.WithIdentity(id); err != nil {
		t.Fatalf("kmstest: %v", err)
	}
	return p
}

// A Reason is why a call is refused, in the words of AWS: a part of the exception's message.
type Reason string

const (
	// AnyReason is every refusal.
	AnyReason Reason = ""

	// No policy allows the call.

	NoKeyPolicy      Reason = "because no resource-based policy allows"
	NoIdentityPolicy Reason = "because no identity-based policy allows"
	NoBoundary       Reason = "because no permissions boundary allows"
	NoSessionPolicy  Reason = "because no session policy allows"

	// A Deny applies.

	DeniedByKeyPolicy      Reason = "with an explicit deny in a resource-based policy"
	DeniedByIdentityPolicy Reason = "with an explicit deny in an identity-based policy"
	DeniedByBoundary       Reason = "with an explicit deny in a permissions boundary"
	DeniedBySessionPolicy  Reason = "with an explicit deny in a session policy"

	// Undisclosed: the caller is in another account, or has not named the key, and may not learn
	// whether it exists.
	Undisclosed Reason = "because the resource does not exist in this Region, no resource-based policies allow access, " +
		"or a resource-based policy explicitly denies access"
)

// codeOf returns the code of an error of package kms or of the AWS SDK.
func codeOf(err error) string {
	if coded, ok := errors.AsType[interface {
		error
		ErrorCode() string
	}](err); ok {
		return coded.ErrorCode()
	}
	return ""
}

// RequireAllowed fails t unless err is that of a call that was allowed and succeeded: nil, or the
// DryRunOperationException of a call with DryRun.
func RequireAllowed(t testing.TB, err error) {
	t.Helper()
	if err != nil && codeOf(err) != string(kms.DryRunOperationException) {
		t.Fatalf("want the call to be allowed, got: %v", err)
	}
}

// RequireDenied fails t unless err is an AccessDeniedException, of package kms or of the AWS SDK,
// for that reason.
func RequireDenied(t testing.TB, err error, reason Reason) {
	t.Helper()
	switch {
	case err == nil:
		t.Fatalf("want the call to be denied, but it was allowed")
	case codeOf(err) != string(kms.AccessDeniedException):
		t.Fatalf("want the call to be denied, got: %v", err)
	case !strings.Contains(err.Error(), string(reason)):
		t.Fatalf("want the call to be denied %s\ngot: %v", reason, err)
	}
}

// A ServiceCall is how an AWS service calls KMS, as far as policies and grants can see it, after
// the documentation of AWS. Resource names in it are examples.
//
//	c := svc.ServiceCall("s3")
//	_, err := svc.As(c.Caller(alice)).GenerateDataKey(c.Context(ctx), &kms.GenerateDataKeyInput{
//		KeyId: id, KeySpec: kms.DataKeySpecAES256, EncryptionContext: c.EncryptionContext,
//	})
type ServiceCall struct {
	Name    string // for [Service.ServiceCall]: "s3"
	Service string // the service in the documentation of AWS: "Amazon S3"

	// Principal is the service principal that calls; empty if the service calls with the permissions
	// of a user or role.
	Principal string
	// ViaService is the value of kms:ViaService; empty if policies cannot see the service.
	ViaService string
	// SourceARN is the resource for which a service principal calls (aws:SourceArn).
	SourceARN string

	EncryptionContext map[string]string
	Operations        []string // the operations that it calls with this context
}

// Context returns a context in which calls come by the service.
func (c ServiceCall) Context(ctx context.Context) context.Context {
	info := audit.RequestInfo{ViaService: c.ViaService, SourceARN: c.SourceARN}
	if c.SourceARN != "" {
		info.SourceAccount = strings.Split(c.SourceARN, ":")[4]
	}
	return audit.ContextWithRequestInfo(ctx, info)
}

// Caller returns who makes the calls: the service, or the user or role with whose permissions it
// calls.
func (c ServiceCall) Caller(user kms.Principal) kms.Principal {
	if c.Principal == "" {
		return user
	}
	p, err := kms.ServicePrincipal(c.Principal)
	if err != nil {
		panic(err) // the table below is wrong
	}
	return p
}

// ServiceCall returns how a service calls KMS in the Region and for the account of s. It fails the
// test if the name is not one of [ServiceCalls].
func (s *Service) ServiceCall(name string) ServiceCall {
	s.t.Helper()
	names := []string{}
	for _, c := range ServiceCalls(s.Region(), s.Caller().Account()) {
		if c.Name == name {
			return c
		}
		names = append(names, c.Name)
	}
	s.t.Fatalf("kmstest: no AWS service is called %q; there are %s", name, strings.Join(names, ", "))
	return ServiceCall{}
}

// ServiceCalls returns how AWS services call KMS in a Region for an account. docs/authorization.md
// has them in a table.
func ServiceCalls(region, account string) []ServiceCall {
	resource := func(service, name string) string {
		return "arn:aws:" + service + ":" + region + ":" + account + ":" + name
	}
	via := func(name string) string { return name + "." + region + ".amazonaws.com" }
	return []ServiceCall{
		{
			Name: "s3", Service: "Amazon S3, an object", ViaService: via("s3"),
			EncryptionContext: map[string]string{"aws:s3:arn": "arn:aws:s3:::example-bucket/report.pdf"},
			Operations:        []string{"GenerateDataKey", "Decrypt"},
		},
		{
			Name: "s3-bucket-key", Service: "Amazon S3, with a bucket key", ViaService: via("s3"),
			EncryptionContext: map[string]string{"aws:s3:arn": "arn:aws:s3:::example-bucket"},
			Operations:        []string{"GenerateDataKey", "Decrypt"},
		},
		{
			Name: "ebs", Service: "Amazon EBS", ViaService: via("ec2"),
			EncryptionContext: map[string]string{"aws:ebs:id": "vol-0cfb133e847d28be9"},
			Operations:        []string{"GenerateDataKeyWithoutPlaintext", "CreateGrant", "Decrypt"},
		},
		{
			Name: "rds", Service: "Amazon RDS", ViaService: via("rds"),
			EncryptionContext: map[string]string{"aws:rds:db-id": "db-CQYSMDPBRZ7BPMH7Y3RTDG5QY"},
			Operations:        []string{"GenerateDataKeyWithoutPlaintext", "CreateGrant", "Decrypt"},
		},
		{
			Name: "aurora", Service: "Amazon Aurora", ViaService: via("rds"),
			EncryptionContext: map[string]string{"aws:rds:dbc-id": "cluster-CQYSMDPBRZ7BPMH7Y3RTDG5QY"},
			Operations:        []string{"GenerateDataKeyWithoutPlaintext", "CreateGrant", "Decrypt"},
		},
		{
			Name: "dynamodb", Service: "Amazon DynamoDB", ViaService: via("dynamodb"),
			EncryptionContext: map[string]string{"aws:dynamodb:tableName": "Books", "aws:dynamodb:subscriberId": account},
			Operations:        []string{"GenerateDataKey", "CreateGrant", "Decrypt"},
		},
		{
			Name: "secretsmanager", Service: "AWS Secrets Manager", ViaService: via("secretsmanager"),
			EncryptionContext: map[string]string{
				"SecretARN": resource("secretsmanager", "secret:example-a1b2c3"), "SecretVersionId": "EXAMPLE1-90ab-cdef-fedc-ba987SECRET1",
			},
			Operations: []string{"GenerateDataKey", "Decrypt"},
		},
		{
			Name: "ssm", Service: "Parameter Store of AWS Systems Manager", ViaService: via("ssm"),
			EncryptionContext: map[string]string{"PARAMETER_ARN": resource("ssm", "parameter/example")},
			Operations:        []string{"Encrypt", "Decrypt"},
		},
		{
			Name: "ses", Service: "Amazon SES, mail that it receives", Principal: "ses.amazonaws.com",
			SourceARN: resource("ses", "receipt-rule-set/example-rules:receipt-rule/example-rule"),
			EncryptionContext: map[string]string{
				"aws:ses:source-account": account, "aws:ses:rule-name": "example-rule", "aws:ses:message-id": "d6iitobk75ur44p8kdnnp7g2n800",
			},
			Operations: []string{"GenerateDataKey"},
		},
		{
			Name: "workmail", Service: "Amazon WorkMail", ViaService: via("workmail"),
			EncryptionContext: map[string]string{"aws:workmail:arn": resource("workmail", "organization/m-68755160c4cb4e29a2b2f8fb58f359d7")},
			Operations:        []string{"Encrypt", "Decrypt"},
		},
		{
			Name: "redshift", Service: "Amazon Redshift", ViaService: via("redshift"),
			EncryptionContext: map[string]string{
				"aws:redshift:arn": resource("redshift", "cluster:example"), "aws:redshift:createtime": "20150206T1832Z",
			},
			Operations: []string{"GenerateDataKey", "Decrypt"},
		},
		{
			Name: "emr", Service: "Amazon EMR, client-side encryption of EMRFS",
			EncryptionContext: map[string]string{"kms_cmk_id": resource("kms", "key/0987ab65-43cd-21ef-09ab-87654321cdef")},
			Operations:        []string{"GenerateDataKey", "Decrypt"},
		},
		{
			Name: "cloudtrail", Service: "AWS CloudTrail", Principal: "cloudtrail.amazonaws.com", SourceARN: resource("cloudtrail", "trail/example"),
			EncryptionContext: map[string]string{
				"aws:cloudtrail:arn": resource("cloudtrail", "trail/example"), "aws:s3:arn": "arn:aws:s3:::example-logs/AWSLogs/" + account + "/",
			},
			Operations: []string{"GenerateDataKey"},
		},
		{
			Name: "workspaces", Service: "Amazon WorkSpaces", ViaService: via("workspaces"),
			EncryptionContext: map[string]string{
				"aws:workspaces:sid-directoryid": "[S-1-5-21-277731876-1789304096-451871588-1107]@[d-1234abcd01]", "aws:ebs:id": "vol-1234abcd",
			},
			Operations: []string{"CreateGrant", "GenerateDataKeyWithoutPlaintext", "Decrypt"},
		},
		{
			Name: "elastictranscoder", Service: "Amazon Elastic Transcoder",
			EncryptionContext: map[string]string{"service": "elastictranscoder.amazonaws.com"},
			Operations:        []string{"GenerateDataKey", "Encrypt", "Decrypt"},
		},
	}
}
