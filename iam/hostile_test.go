package iam_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/iam"
)

func TestEvaluateDoesNotAllocate(t *testing.T) {
	const conditions = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["*","arn:aws:iam::111122223333:role/r9"]},
		"Action":["kms:Encrypt","kms:*crypt","s3:*t*"],"Resource":["arn:aws:kms:*:111122223333:key/*","arn:aws:kms:us-east-1:*:alias/${aws:username}/*"],"Condition":{
		"StringEquals":{"a:text":["${aws:username}","x"],"kms:CallerAccount":"111122223333"},"StringLike":{"a:text":["*${aws:username}?*","*b?*","x*"]},
		"StringEqualsIgnoreCase":{"a:text":"X"},"NumericLessThan":{"a:number":10},"DateGreaterThan":{"a:time":"2020-01-01T00:00:00Z"},
		"Bool":{"a:bool":"true"},"IpAddress":{"a:ip":["10.0.0.0/8","2001:db8::/32"]},"ArnLike":{"a:arn":"arn:aws:iam::*:role/${a:text}*"},
		"ForAllValues:StringLike":{"a:list":["a*","b?"]},"ForAnyValue:StringEquals":{"a:list":["1","2","3","4","5","6","7","8","9","10","11","12","13","ab"]},
		"Null":{"a:none":"true"},"BinaryEquals":{"a:binary":"aGk="}}}]}`
	for name, tt := range map[string]struct {
		policy  string
		context iam.Context
	}{
		"default":        {defaultKeyPolicy, nil},
		"10 statements":  {tenStatements(), nil},
		"100 conditions": {hundredConditions(), &requestContext{"t99"}},
		"every operator": {conditions, iam.Values{
			"a:text": iam.String("x"), "aws:username": iam.String("alice"), "kms:calleraccount": iam.String("111122223333"),
			"a:number": iam.String("9.5"), "a:time": iam.String("2026-01-01T00:00:00Z"), "a:bool": iam.Bool(true), "a:ip": iam.String("2001:db8::1"),
			"a:arn": iam.String("arn:aws:iam::111122223333:role/xyz"), "a:list": iam.Strings([]string{"ab", "bc"}),
			"a:binary": iam.Binary([]byte("hi")), "a:none": {},
		}},
	} {
		p := parse(t, tt.policy, iam.ResourcePolicy)
		r := &iam.Request{Principal: role9, Action: "kms:Decrypt", Resource: "arn:aws:kms:us-east-1:111122223333:key/k", Context: tt.context}
		require.True(t, p.Evaluate(r).Allowed(), "%s: %v", name, p.Explain(r))
		require.Zero(t, testing.AllocsPerRun(100, func() { p.Evaluate(r) }), name)
	}
}

// A policy of 128 KiB of anything is refused or decided at once. The test would not end otherwise.
func TestHostilePolicies(t *testing.T) {
	const head = `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":`
	long := strings.Repeat("a", 8192)
	for name, text := range map[string]string{
		"stars":          head + `"` + strings.Repeat("*", 100<<10) + `"}}`,
		"stars, letters": head + `"arn:` + strings.Repeat("*a", 50<<10) + `b"}}`,
		"many patterns":  head + `["arn:*` + strings.Repeat(`a?*b","arn:*`, 9000) + `"]}}`,
		"question marks": head + `["arn:` + strings.Repeat(`*`+strings.Repeat("a?", 32)+`*b","arn:`, 1500) + `"]}}`,
		"variables":      head + `["arn:` + strings.Repeat(`*${a:b}?*","arn:`, 5000) + `"]}}`,
		"conditions":     head + `"*","Condition":{"StringLike":{"a:b":["` + strings.Repeat(`*a?a*b","`, 9000) + `"]}}}}`,
		"equals":         head + `"*","Condition":{"ForAnyValue:StringEquals":{"a:c":["` + strings.Repeat(`aa","`, 18000) + `"]}}}}`,
		"keys":           head + `"*","Condition":{"StringEquals":{"a` + strings.Repeat(`":"","a`, 12000) + `":""}}}}`,
		"deep":           head + strings.Repeat(`[`, 100<<10),
		"objects":        strings.Repeat(`{"Statement":`, 9000),
		"numbers":        head + `"*","Condition":{"NumericEquals":{"a:b":` + strings.Repeat("9", 100<<10) + `}}}}`,
		"date":           head + `"*","Condition":{"DateEquals":{"a:b":` + strings.Repeat("9", 100<<10) + `}}}}`,
		"escapes":        head + `"` + strings.Repeat(`\u002a`, 20000) + `"}}`,
		"line ends":      strings.Repeat("\n", 100<<10) + "{",
	} {
		p, err := iam.Parse(text, iam.IdentityPolicy)
		if err != nil {
			require.Less(t, len(err.Error()), 100*400, name)
			continue
		}
		list := make([]string, 10000)
		for i := range list {
			list[i] = fmt.Sprint("value", i)
		}
		p.Evaluate(&iam.Request{Action: "a:b", Resource: "arn:" + long, Context: iam.Values{"a:b": iam.String(long), "a:c": iam.Strings(list)}})
		require.NotEmpty(t, p.Explain(&iam.Request{Resource: long, Context: iam.Values{"a:b": iam.String(long)}}).String(), name)
	}
}

func TestAPolicyIsUsedByManyGoroutines(t *testing.T) {
	p := parse(t, hundredConditions(), iam.ResourcePolicy)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 100 {
				r := decrypt(fmt.Sprintf("t%d", (i*13+j)%100))
				d := p.Evaluate(r)
				if d.Statement() != (i*13+j)%100 || p.Explain(r).Decision != d || len(p.Statements()) != 100 || p.Narrow(role9, r.Action, "*").Evaluate(r) != d {
					panic("another decision")
				}
			}
		})
	}
	all.Wait()
}

func TestParsingTwiceGivesTheSame(t *testing.T) {
	for _, text := range []string{hundredConditions(), defaultKeyPolicy, `{"Statement":[{"a":1,"b":2,"c":[]}]}`} {
		p, err := iam.Parse(text, iam.ResourcePolicy)
		for range 20 {
			again, err2 := iam.Parse(text, iam.ResourcePolicy)
			require.Equal(t, p, again)
			require.Equal(t, err, err2)
		}
	}
}

func TestTheZeroPolicyAndTheZeroRequest(t *testing.T) {
	var p iam.Policy
	require.Equal(t, iam.NoMatch, p.Evaluate(&iam.Request{}).Outcome())
	require.Empty(t, p.Statements())
	require.Equal(t, "no statement applies\n", p.Explain(&iam.Request{}).String())
	d := parse(t, defaultKeyPolicy, iam.ResourcePolicy).Evaluate(&iam.Request{})
	require.Equal(t, iam.Decision{}, d)
	require.Equal(t, iam.Unmatched, d.Match())
	require.Equal(t, -1, d.Statement())
	for m := range iam.Match(200) {
		_, ok := d.AllowedBy(m)
		require.False(t, ok)
	}
}
