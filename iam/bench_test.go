package iam_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pocketkms/kms/iam"
	"github.com/pocketkms/kms/internal/benchtest"
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

// A floor is what a program would do that has the policy built in.
type floor func(r *iam.Request) bool

func (f floor) run(b *testing.B, text string, r *iam.Request) {
	p, err := iam.Parse(text, iam.ResourcePolicy)
	if err != nil {
		b.Fatal(err)
	}
	if !p.Evaluate(r).Allowed() || !f(r) {
		b.Fatal("not allowed")
	}
	benchtest.Compare(b, func() { sink = f(r) }, func() { sink = p.Evaluate(r).Allowed() })
}

var sink bool

func decrypt(tenant string) *iam.Request {
	return &iam.Request{
		Principal: role9, Action: "kms:Decrypt", Resource: "arn:aws:kms:us-east-1:111122223333:key/k",
		Context: &requestContext{tenant},
	}
}

func BenchmarkDefaultPolicy(b *testing.B) {
	floor(func(r *iam.Request) bool {
		return len(r.Action) > 4 && strings.EqualFold(r.Action[:4], "kms:") && r.Principal.Account == "111122223333" &&
			strings.HasPrefix(r.Principal.ARN, "arn:aws:")
	}).run(b, defaultKeyPolicy, decrypt(""))
}

func Benchmark10Statements(b *testing.B) {
	roles := make([]string, 10)
	for i := range roles {
		roles[i] = fmt.Sprintf("arn:aws:iam::111122223333:role/r%d", i)
	}
	floor(func(r *iam.Request) bool {
		for _, role := range roles {
			if (strings.EqualFold(r.Action, "kms:Encrypt") || strings.EqualFold(r.Action, "kms:Decrypt")) && r.Principal.Issuer == role {
				return true
			}
		}
		return false
	}).run(b, tenStatements(), decrypt(""))
}

func Benchmark100StatementsWithConditions(b *testing.B) {
	tenants := make([]string, 100)
	for i := range tenants {
		tenants[i] = fmt.Sprintf("t%d", i)
	}
	floor(func(r *iam.Request) bool {
		for _, tenant := range tenants {
			if strings.EqualFold(r.Action, "kms:Encrypt") || strings.EqualFold(r.Action, "kms:Decrypt") {
				v, account := r.Context.Lookup("kms:encryptioncontext:tenant"), r.Context.Lookup("kms:calleraccount")
				if slices.Equal(v.Texts(), []string{tenant}) && account.Present() {
					return true
				}
			}
		}
		return false
	}).run(b, hundredConditions(), decrypt("t99"))
}
