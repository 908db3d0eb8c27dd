package iam_test

import (
	"encoding/json"
	"fmt"
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
			if (strings.EqualFold(r.Action, "kms:Encrypt") || strings.EqualFold(r.Action, "kms:Decrypt")) && r.Context.(*requestContext).tenant == tenant {
				return true
			}
		}
		return false
	}).run(b, hundredConditions(), decrypt("t99"))
}

// The floor of a narrowed policy is its conditions.
func BenchmarkNarrowed100StatementsWithConditions(b *testing.B) {
	p, err := iam.Parse(hundredConditions(), iam.ResourcePolicy)
	if err != nil {
		b.Fatal(err)
	}
	r := decrypt("t99")
	narrow := p.Narrow(r.Principal, r.Action, r.Resource)
	conditions := make([]iam.Condition, 0, 200)
	for _, s := range narrow.Statements() {
		conditions = append(conditions, s.Conditions()...)
	}
	benchtest.Compare(b, func() {
		for i := 0; i < len(conditions); i += 2 {
			sink = conditions[i].Holds(r.Context) && conditions[i+1].Holds(r.Context)
		}
	}, func() { sink = narrow.Evaluate(r).Allowed() })
}

// The floor of parsing is encoding/json, which keeps no positions.
func BenchmarkParse(b *testing.B) {
	for name, text := range map[string]string{"default policy": defaultKeyPolicy, "32 KiB": hundredConditions()} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			benchtest.Compare(b, func() {
				var v any
				if err := json.Unmarshal([]byte(text), &v); err != nil {
					b.Fatal(err)
				}
			}, func() {
				if _, err := iam.Parse(text, iam.ResourcePolicy); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}
