package iam_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/iam"
)

var fuzzSeeds = []string{
	defaultKeyPolicy, mixed, tenStatements(),
	`{"Version":"2012-10-17","Statement":{"Effect":"Deny","NotAction":["a:*","b:?"],"Resource":"arn:a:b:${aws:username, 'x'}:*","Condition":{
		"ArnLike":{"a:x":["arn:a:b:c:d:*","${a:y}"]},"NumericLessThanEquals":{"a:x":[1,"-2.5e3"]},"DateGreaterThan":{"a:x":["2026-01-01","1781524800.5"]},
		"ForAnyValue:StringNotLikeIfExists":{"a:y":["*${a:x}?*","${*}"]},"NotIpAddress":{"a:x":["10.0.0.0/8","::1"]},"Null":{"a:z":true},
		"BinaryEquals":{"a:x":"aGk="},"StringEqualsIgnoreCase":{"a:x":"\u00fc\ud83d\ude00${a:y}"},"Bool":{"a:x":"False"}}}}`,
	`{"Statement":[{"Effect":"Allow","Principal":{"AWS":["*","AROAJQABLZS4A3QDU576Q:s"],"Federated":"x","CanonicalUser":"y"},"Action":[],"NotResource":"*"}]}`,
	`{"Statement":[{"Effect":"Allow","Effect":"Deny","Principal":"x","Action":1,"NotAction":null,"Condition":{"Foo":{},"Bool":{"":"x"}}},[]],"X":{}}`,
	`[[[[[[[[[[[[[[[[[[`, `{"Id":"\ud800"}`, "{\"Id\":\"\xff\"}", `{"a":01}`,
}

func FuzzParse(f *testing.F) {
	for _, text := range fuzzSeeds {
		f.Add(text, uint8(0))
		f.Add(text, uint8(1))
	}
	f.Fuzz(func(t *testing.T, text string, kind uint8) {
		p, err := iam.Parse(text, iam.Kind(kind%4))
		if err != nil {
			var e *iam.Error
			require.True(t, errors.As(err, &e))
			require.NotEmpty(t, e.Problems)
			require.LessOrEqual(t, len(e.Problems), 100)
			lines := strings.Count(text, "\n") + 1
			for _, problem := range e.Problems {
				require.NotZero(t, problem.Kind)
				require.True(t, problem.Line >= 1 && problem.Line <= lines && problem.Column >= 1)
				require.NotContains(t, problem.String(), "\n")
				require.Less(t, len(problem.String()), 1200)
				if problem.Kind != iam.NotJSON && problem.Kind != iam.TooLarge {
					require.True(t, json.Valid([]byte(text)))
				}
			}
			return
		}
		require.True(t, json.Valid([]byte(text)))
		again, err := iam.Parse(text, iam.Kind(kind%4))
		require.NoError(t, err)
		require.Equal(t, p, again)
		for i, s := range p.Statements() {
			require.Equal(t, i, s.Index())
			require.Contains(t, []iam.Effect{iam.Allow, iam.Deny}, s.Effect())
		}
		for _, who := range everyone {
			requireConsistent(t, p, &iam.Request{Principal: who, Action: "a:b", Resource: "arn:a:b:c:d:e", Context: iam.Values{"a:x": iam.String("x")}})
		}
	})
}

func FuzzEvaluate(f *testing.F) {
	for _, text := range fuzzSeeds[:5] {
		f.Add(text, "kms:Decrypt", "arn:aws:kms:r:1:key/1", "arn:a:b:c:d:e", "x,y")
		f.Add(text, "a:b", "arn:a:b:x:y", "10.1.2.3", "")
		f.Add(text, "", "*", "2026-06-15T12:00:00Z", "\xff,*")
	}
	f.Fuzz(func(t *testing.T, text, action, resource, value, list string) {
		p, err := iam.Parse(text, iam.IdentityPolicy)
		if err != nil {
			if p, err = iam.Parse(text, iam.ResourcePolicy); err != nil {
				return
			}
		}
		for _, key := range []iam.Value{iam.String(value), iam.Strings(strings.Split(list, ",")), iam.Int(int64(len(value))), iam.Bool(value == ""), iam.Ambiguous(value, list), {}} {
			requireConsistent(t, p, &iam.Request{
				Principal: session, Action: action, Resource: resource,
				Context: iam.Values{"a:x": key, "a:y": iam.String(list), "aws:username": iam.String(value), "a:z": iam.Strings(strings.Split(value, ","))},
			})
		}
	})
}
