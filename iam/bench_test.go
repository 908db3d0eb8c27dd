package iam_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pocketkms/kms/iam"
)

const defaultKeyPolicy = `{"Version":"2012-10-17","Id":"key-default-1","Statement":[{"Sid":"Enable IAM User Permissions","Effect":"Allow",
	"Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"}]}`

func manyStatements(n int, statement func(i int) string) string {
	list := make([]string, n)
	for i := range list {
		list[i] = statement(i)
	}
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(list, ",") + `]}`
}

func tenStatements() string {
	return manyStatements(10, func(i int) string {
		return fmt.Sprintf(`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:role/r%d"},"Action":["kms:Encrypt","kms:Decrypt","kms:GenerateDataKey*"],"Resource":"*"}`, i)
	})
}

func hundredConditions() string {
	return manyStatements(100, func(i int) string {
		return fmt.Sprintf(`{"Effect":"Allow","Principal":{"AWS":"*"},"Action":["kms:Encrypt","kms:Decrypt"],"Resource":"*",
			"Condition":{"StringEquals":{"kms:EncryptionContext:tenant":"t%d","kms:CallerAccount":"111122223333"}}}`, i)
	})
}

type requestContext struct{ tenant string }

func (c *requestContext) Lookup(key string) iam.Value {
	switch key {
	case "kms:calleraccount":
		return iam.String("111122223333")
	case "kms:encryptioncontext:tenant":
		return iam.String(c.tenant)
	case "aws:username":
		return iam.String("alice")
	}
	return iam.Value{}
}

var role9 = &iam.Principal{
	Type: iam.RoleSession, Account: "111122223333",
	ARN: "arn:aws:sts::111122223333:assumed-role/r9/s", Issuer: "arn:aws:iam::111122223333:role/r9",
}

func BenchmarkEvaluate(b *testing.B) {
	for name, text := range map[string]string{"default": defaultKeyPolicy, "10": tenStatements(), "100 conditions": hundredConditions()} {
		b.Run(name, func(b *testing.B) {
			p, err := iam.Parse(text, iam.ResourcePolicy)
			if err != nil {
				b.Fatal(err)
			}
			r := &iam.Request{Principal: role9, Action: "kms:Decrypt", Resource: "arn:aws:kms:us-east-1:111122223333:key/k", Context: &requestContext{"t99"}}
			b.ReportAllocs()
			for b.Loop() {
				if !p.Evaluate(r).Allowed() {
					b.Fatal("not allowed")
				}
			}
		})
	}
}
