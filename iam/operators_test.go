package iam_test

import (
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/iam"
)

// parse parses a valid policy.
func parse(t testing.TB, text string, kind iam.Kind) *iam.Policy {
	t.Helper()
	p, err := iam.Parse(text, kind)
	require.NoError(t, err, text)
	return p
}

// holds reports whether the condition of an Allow holds. It requires that a Deny and Explain agree.
func holds(t *testing.T, version, condition string, values iam.Context) bool {
	t.Helper()
	const statement = `{"Version":%q,"Statement":{"Effect":%q,"Action":"*","Resource":"*","Condition":%s}}`
	request := &iam.Request{Action: "kms:Decrypt", Resource: "*", Context: values}
	allow := parse(t, fmt.Sprintf(statement, version, "Allow", condition), iam.IdentityPolicy)
	deny := parse(t, fmt.Sprintf(statement, version, "Deny", condition), iam.IdentityPolicy)
	allowed := allow.Evaluate(request).Allowed()
	require.Equal(t, allowed, deny.Evaluate(request).Denied(), condition)
	for _, p := range []*iam.Policy{allow, deny} {
		e := p.Explain(request)
		require.Equal(t, p.Evaluate(request), e.Decision)
		require.Equal(t, allowed, e.Statements[0].Applies)
		for _, c := range e.Statements[0].Conditions {
			require.Equal(t, allowed, c.Holds, "there is one condition")
		}
	}
	return allowed
}

const key = "aws:username"

// absent has no key.
var absent = iam.Values{}

func TestOperators(t *testing.T) {
	day := time.Date(2026, 6, 15, 12, 0, 0, 0, time.UTC)
	text, ip := iam.String, func(s string) iam.Value { return iam.IP(netip.MustParseAddr(s)) }
	for _, tt := range []struct {
		operator, expected string
		seen               iam.Value
		want               bool
	}{
		{"StringEquals", `"alice"`, text("alice"), true},
		{"StringEquals", `"alice"`, text("Alice"), false},
		{"StringEquals", `"alice"`, text(""), false},
		{"StringEquals", `""`, text(""), true},
		{"StringEquals", `"al*"`, text("alice"), false},
		{"StringEquals", `"al*"`, text("al*"), true},
		{"StringEquals", `["bob","alice"]`, text("alice"), true},
		{"StringEquals", `["bob","carol"]`, text("alice"), false},
		{"StringEquals", `[]`, text("alice"), false},
		{"StringEquals", `14`, text("14"), true},
		{"StringEquals", `14`, iam.Int(14), true},
		{"StringEquals", `"1.5"`, iam.Float(1.5), true},
		{"StringEquals", `true`, iam.Bool(true), true},
		{"StringEquals", `false`, iam.Bool(true), false},
		{"StringEquals", `"2026-06-15T12:00:00Z"`, iam.Time(day), true},
		{"StringEquals", `"192.0.2.1"`, ip("192.0.2.1"), true},
		{"StringEquals", `"2001:db8::1"`, ip("2001:db8::1"), true},
		{"StringEquals", `"aGk="`, iam.Binary([]byte("hi")), true},
		{"StringNotEquals", `"alice"`, text("Alice"), true},
		{"StringNotEquals", `"alice"`, text("alice"), false},
		{"StringNotEquals", `["bob","alice"]`, text("alice"), false},
		{"StringNotEquals", `["bob","carol"]`, text("alice"), true},
		{"StringNotEquals", `[]`, text("alice"), true},
		{"StringEqualsIgnoreCase", `"alice"`, text("ALICE"), true},
		{"StringEqualsIgnoreCase", `"größe"`, text("GRÖSSE"), false},
		{"StringEqualsIgnoreCase", `"grün"`, text("GRÜN"), true},
		{"StringEqualsIgnoreCase", `"alice"`, text("alic"), false},
		{"StringEqualsIgnoreCase", `["a","b","c","d","e","f","g","h","i","j","k","l","alice"]`, text("ALICE"), true},
		{"StringEquals", `["a","b","c","d","e","f","g","h","i","j","k","l","alice"]`, text("alice"), true},
		{"StringEquals", `["a","b","c","d","e","f","g","h","i","j","k","l","alice"]`, text("Alice"), false},
		{"StringNotEqualsIgnoreCase", `"alice"`, text("ALICE"), false},
		{"StringNotEqualsIgnoreCase", `"alice"`, text("bob"), true},
		{"StringLike", `"al*"`, text("alice"), true},
		{"StringLike", `"al*"`, text("Alice"), false},
		{"StringLike", `"a?ice"`, text("alice"), true},
		{"StringLike", `"a?ice"`, text("aice"), false},
		{"StringLike", `"gr?n"`, text("grün"), true},
		{"StringLike", `"*"`, text(""), true},
		{"StringLike", `"?"`, text(""), false},
		{"StringLike", `["b*","*e"]`, text("alice"), true},
		{"StringNotLike", `"al*"`, text("alice"), false},
		{"StringNotLike", `["b*","c*"]`, text("alice"), true},

		{"NumericEquals", `14`, iam.Int(14), true},
		{"NumericEquals", `"14"`, text("14"), true},
		{"NumericEquals", `"14.0"`, text("14"), true},
		{"NumericEquals", `1.4e1`, iam.Int(14), true},
		{"NumericEquals", `14`, iam.Int(15), false},
		{"NumericEquals", `"9007199254740993"`, text("9007199254740992"), false},
		{"NumericEquals", `1.5`, iam.Float(1.5), true},
		{"NumericEquals", `"0"`, text("zero"), false},
		{"NumericEquals", `"0"`, text(""), false},
		{"NumericEquals", `"1"`, iam.Bool(true), false},
		{"NumericEquals", `"0"`, text("NaN"), false},
		{"NumericEquals", `"16"`, text("0x10"), false},
		{"NumericEquals", `1781524800`, iam.Time(day), true},
		{"NumericNotEquals", `14`, iam.Int(15), true},
		{"NumericNotEquals", `14`, iam.Int(14), false},
		{"NumericNotEquals", `14`, text("many"), true},
		{"NumericNotEquals", `[14,15]`, iam.Int(15), false},
		{"NumericLessThan", `14`, iam.Int(13), true},
		{"NumericLessThan", `14`, iam.Int(14), false},
		{"NumericLessThan", `14`, text("1e400"), false},
		{"NumericLessThan", `14`, text("-1e400"), false},
		{"NumericLessThan", `["-5","14"]`, iam.Int(13), true},
		{"NumericLessThan", `14`, iam.Float(math.NaN()), false},
		{"NumericLessThan", `14`, iam.Float(math.Inf(-1)), true},
		{"DateLessThan", `"2026-06-15"`, iam.Float(math.Inf(-1)), false},
		{"DateLessThan", `"2026-06-15"`, iam.Float(math.NaN()), false},
		{"NumericLessThanEquals", `14`, iam.Int(14), true},
		{"NumericLessThanEquals", `"1800000000.0"`, iam.Int(1800000000), true},
		{"NumericLessThanEquals", `"1800000000.0"`, iam.Int(1800000001), false},
		{"NumericGreaterThan", `-3`, iam.Int(-2), true},
		{"NumericGreaterThan", `-3`, iam.Int(-3), false},
		{"NumericGreaterThanEquals", `-3`, iam.Int(-3), true},
		{"NumericGreaterThanEquals", `-3`, iam.Float(-3.5), false},

		{"DateEquals", `"2026-06-15T12:00:00Z"`, iam.Time(day), true},
		{"DateEquals", `"2026-06-15T14:00:00+02:00"`, iam.Time(day), true},
		{"DateEquals", `"2026-06-15T14:00+0200"`, iam.Time(day), true},
		{"DateEquals", `"2026-06-15T12:00:00.5Z"`, iam.Time(day), false},
		{"DateEquals", `"2026-06-15"`, text("2026-06-15T00:00:00Z"), true},
		{"DateEquals", `1781524800`, iam.Time(day), true},
		{"DateEquals", `"1781524800.0"`, text("2026-06-15T12:00:00Z"), true},
		{"DateEquals", `"2026-06-15T12:00:00Z"`, text("1781524800"), true},
		{"DateEquals", `"2026-06-15T12:00:00Z"`, iam.Int(1781524800), true},
		{"DateEquals", `"2026-06-15T12:00:00.5Z"`, iam.Float(1781524800.5), true},
		{"DateEquals", `"2026-06-15"`, text("soon"), false},
		{"DateEquals", `"2026-06-15"`, text("2026-02-30"), false},
		{"DateEquals", `"1970-01-01"`, iam.Bool(false), false},
		{"DateEquals", `"-0.5"`, iam.Float(-0.5), true},
		{"DateNotEquals", `"2026-06-15"`, iam.Time(day), true},
		{"DateNotEquals", `"2026-06-15"`, text("soon"), true},
		{"DateNotEquals", `"2026-06-15T12:00:00Z"`, iam.Time(day), false},
		{"DateLessThan", `"2026-06-30T00:00:00Z"`, iam.Time(day), true},
		{"DateLessThan", `"2026-06-15T12:00:00Z"`, iam.Time(day), false},
		{"DateLessThan", `"2026-06-30T00:00:00Z"`, text("soon"), false},
		{"DateLessThanEquals", `"2026-06-15T12:00:00Z"`, iam.Time(day), true},
		{"DateGreaterThan", `"2026-06-01T00:00:00Z"`, iam.Time(day), true},
		{"DateGreaterThan", `"2026-06-15T12:00:00Z"`, iam.Time(day.Add(time.Nanosecond)), true},
		{"DateGreaterThan", `"2026-06-15T12:00:00Z"`, iam.Time(day), false},
		{"DateGreaterThanEquals", `"2026-06-15T12:00:00Z"`, iam.Time(day), true},

		{"Bool", `"true"`, text("true"), true},
		{"Bool", `true`, iam.Bool(true), true},
		{"Bool", `"TRUE"`, text("True"), true},
		{"Bool", `"true"`, text("yes"), false},
		{"Bool", `"false"`, text("yes"), true},
		{"Bool", `"false"`, text("1"), true},
		{"Bool", `"false"`, text(""), true},
		{"Bool", `"false"`, iam.Bool(true), false},
		{"Bool", `["true","false"]`, iam.Bool(true), true},

		{"BinaryEquals", `"aGk="`, text("aGk="), true},
		{"BinaryEquals", `"aGk="`, iam.Binary([]byte("hi")), true},
		{"BinaryEquals", `"aGk="`, text("aGk"), false},
		{"BinaryEquals", `"aGk="`, text("aGl="), false}, // the same bytes, loosely decoded
		{"BinaryEquals", `"aGk="`, text("hi"), false},

		{"IpAddress", `"203.0.113.0/24"`, ip("203.0.113.77"), true},
		{"IpAddress", `"203.0.113.99/24"`, text("203.0.113.77"), true},
		{"IpAddress", `"203.0.113.0/24"`, text("203.0.114.1"), false},
		{"IpAddress", `"203.0.113.77"`, text("203.0.113.77"), true},
		{"IpAddress", `"203.0.113.77/32"`, ip("203.0.113.78"), false},
		{"IpAddress", `"0.0.0.0/0"`, ip("203.0.113.78"), true},
		{"IpAddress", `"0.0.0.0/0"`, ip("2001:db8::1"), false},
		{"IpAddress", `"::/0"`, ip("203.0.113.78"), false},
		{"IpAddress", `"2001:DB8::/32"`, text("2001:db8:1::1"), true},
		{"IpAddress", `"2001:db8::/32"`, text("2001:db9::1"), false},
		{"IpAddress", `"fe80::/10"`, text("fe80::1%eth0"), true},
		{"IpAddress", `"203.0.113.0/24"`, text("::ffff:203.0.113.77"), true},
		{"IpAddress", `"::ffff:203.0.113.0/120"`, text("203.0.113.77"), true},
		{"IpAddress", `"::ffff:0.0.0.0/90"`, ip("::fffe:1.2.3.4"), true},
		{"IpAddress", `"::ffff:0.0.0.0/90"`, ip("1.2.3.4"), false},
		{"IpAddress", `"::/0"`, text("a host"), false},
		{"IpAddress", `"203.0.113.0/24"`, text("203.0.113.077"), false},
		{"IpAddress", `"203.0.113.0/24"`, text("a host"), false},
		{"IpAddress", `"0.0.0.1"`, iam.Int(1), false},
		{"NotIpAddress", `["192.0.2.0/24","203.0.113.0/24"]`, text("198.51.100.9"), true},
		{"NotIpAddress", `["192.0.2.0/24","203.0.113.0/24"]`, text("203.0.113.9"), false},
		{"NotIpAddress", `"192.0.2.0/24"`, text("a host"), true},

		{"ArnEquals", `"arn:aws:iam::111122223333:role/app"`, text("arn:aws:iam::111122223333:role/app"), true},
		{"ArnEquals", `"arn:aws:iam::*:role/a??"`, text("arn:aws:iam::111122223333:role/app"), true},
		{"ArnEquals", `"arn:aws:iam::111122223333:role/*"`, text("arn:aws:iam::111122223333:role/a/b:c"), true},
		{"ArnEquals", `"arn:aws:*:111122223333:role/app:x"`, text("arn:aws:iam::111122223333:role/app:x"), false},
		{"ArnEquals", `"arn:aws:*::*:role/app"`, text("arn:aws:iam:::111122223333:role/app"), false},
		{"ArnLike", `"arn:*:*:*:*:*"`, text("arn:aws:iam::111122223333:root"), true},
		{"ArnLike", `"arn:*:*:*:*:*"`, text("not an ARN"), false},
		{"ArnLike", `"*:*:*:*:*:*"`, text("urn:a:b:c:d:e"), false},
		{"ArnLike", `"arn:AWS:iam::*:root"`, text("arn:aws:iam::111122223333:root"), false},
		{"ArnNotEquals", `"arn:aws:iam::111122223333:role/app"`, text("arn:aws:iam::111122223333:role/app"), false},
		{"ArnNotEquals", `"arn:aws:iam::111122223333:role/app"`, text("not an ARN"), true},
		{"ArnNotLike", `["arn:aws:iam::*:role/app","arn:aws:iam::*:user/*"]`, text("arn:aws:iam::111122223333:user/alice"), false},
		{"ArnNotLike", `["arn:aws:iam::*:role/app"]`, text("arn:aws:iam::111122223333:user/alice"), true},

		{"Null", `"true"`, text("alice"), false},
		{"Null", `"false"`, text("alice"), true},
		{"Null", `false`, text(""), true}, // an empty value is present
		{"Null", `true`, iam.Value{}, true},
		{"Null", `["true","false"]`, iam.Value{}, true},
		{"Null", `[]`, iam.Value{}, false},
		{"Null", `"false"`, iam.Strings([]string{"a", "b"}), true},
		{"Null", `"true"`, iam.Strings(nil), true},
		{"Null", `"true"`, iam.IP(netip.Addr{}), true},
	} {
		condition := fmt.Sprintf(`{%q:{%q:%s}}`, tt.operator, key, tt.expected)
		require.Equal(t, tt.want, holds(t, "2012-10-17", condition, iam.Values{key: tt.seen}), "%s %+v", condition, tt.seen)
	}
}

// valid has a value for each operator, and a request value for which the operator holds.
var valid = map[string][2]string{
	"StringEquals": {"a", "a"}, "StringNotEquals": {"a", "b"},
	"StringEqualsIgnoreCase": {"a", "A"}, "StringNotEqualsIgnoreCase": {"a", "b"},
	"StringLike": {"a*", "ab"}, "StringNotLike": {"a*", "b"},
	"NumericEquals": {"1", "1"}, "NumericNotEquals": {"1", "2"},
	"NumericLessThan": {"1", "0"}, "NumericLessThanEquals": {"1", "1"},
	"NumericGreaterThan": {"1", "2"}, "NumericGreaterThanEquals": {"1", "1"},
	"DateEquals": {"2026-01-01", "2026-01-01"}, "DateNotEquals": {"2026-01-01", "2026-01-02"},
	"DateLessThan": {"2026-01-01", "2025-01-01"}, "DateLessThanEquals": {"2026-01-01", "2026-01-01"},
	"DateGreaterThan": {"2026-01-01", "2027-01-01"}, "DateGreaterThanEquals": {"2026-01-01", "2026-01-01"},
	"Bool": {"true", "true"}, "BinaryEquals": {"aGk=", "aGk="},
	"IpAddress": {"10.0.0.0/8", "10.1.1.1"}, "NotIpAddress": {"10.0.0.0/8", "11.1.1.1"},
	"ArnEquals": {"arn:a:b:c:d:e", "arn:a:b:c:d:e"}, "ArnNotEquals": {"arn:a:b:c:d:e", "arn:a:b:c:d:f"},
	"ArnLike": {"arn:a:b:c:d:*", "arn:a:b:c:d:e"}, "ArnNotLike": {"arn:a:b:c:d:e*", "arn:a:b:c:d:f"},
}

var negated = map[string]bool{
	"StringNotEquals": true, "StringNotEqualsIgnoreCase": true, "StringNotLike": true, "NumericNotEquals": true,
	"DateNotEquals": true, "NotIpAddress": true, "ArnNotEquals": true, "ArnNotLike": true,
}

func TestEveryOperatorWithEveryPrefixAndSuffix(t *testing.T) {
	require.Len(t, valid, 26)
	for operator, pair := range valid {
		expected, value := pair[0], pair[1]
		condition := func(prefix, suffix string) string {
			return fmt.Sprintf(`{%q:{%q:%q}}`, prefix+operator+suffix, key, expected)
		}
		one := iam.Values{key: iam.String(value)}
		list := iam.Values{key: iam.Strings([]string{value})}
		// A value for which the operator does not hold.
		other := expected
		switch {
		case operator == "StringNotLike", operator == "ArnNotLike":
			other = expected[:len(expected)-1]
		case operator == "NotIpAddress":
			other = "10.9.9.9"
		case !negated[operator] && operator != "NumericLessThan" && operator != "NumericGreaterThan" && operator != "DateLessThan" && operator != "DateGreaterThan":
			other = "none"
		}
		mixed := iam.Values{key: iam.Strings([]string{value, other})}
		none := iam.Values{key: iam.Strings([]string{other, other})}

		for _, suffix := range []string{"", "IfExists"} {
			absentHolds := negated[operator] || suffix != ""
			require.True(t, holds(t, "2012-10-17", condition("", suffix), one), operator+suffix)
			require.Equal(t, absentHolds, holds(t, "2012-10-17", condition("", suffix), absent), operator+suffix)
			require.Equal(t, absentHolds, holds(t, "2012-10-17", condition("", suffix), nil), operator+suffix)
			// Without a prefix, no operator holds for a multivalued key that is present.
			require.False(t, holds(t, "2012-10-17", condition("", suffix), list), operator+suffix)
			require.False(t, holds(t, "2012-10-17", condition("", suffix), mixed), operator+suffix)
			require.False(t, holds(t, "2012-10-17", condition("", suffix), none), operator+suffix)

			all, anyOf := condition("ForAllValues:", suffix), condition("ForAnyValue:", suffix)
			require.True(t, holds(t, "2012-10-17", all, one), all)
			require.True(t, holds(t, "2012-10-17", all, list), all)
			require.False(t, holds(t, "2012-10-17", all, mixed), all)
			require.False(t, holds(t, "2012-10-17", all, none), all)
			require.True(t, holds(t, "2012-10-17", all, absent), all)
			require.True(t, holds(t, "2012-10-17", all, iam.Values{key: iam.Strings(nil)}), all)

			require.True(t, holds(t, "2012-10-17", anyOf, one), anyOf)
			require.True(t, holds(t, "2012-10-17", anyOf, list), anyOf)
			require.True(t, holds(t, "2012-10-17", anyOf, mixed), anyOf)
			require.False(t, holds(t, "2012-10-17", anyOf, none), anyOf)
			require.Equal(t, suffix != "", holds(t, "2012-10-17", anyOf, absent), anyOf)
			require.Equal(t, suffix != "", holds(t, "2012-10-17", anyOf, iam.Values{key: iam.Strings(nil)}), anyOf)
		}
	}
}

func TestVariables(t *testing.T) {
	values := iam.Values{
		"aws:username":          iam.String("alice"),
		"aws:PrincipalTag/team": iam.String("b*e"),
		"aws:empty":             iam.String(""),
		"aws:list":              iam.Strings([]string{"alice"}),
		"aws:number":            iam.Int(7),
		"aws:arn":               iam.String("arn:aws:iam::111122223333:user/alice"),
	}
	for _, tt := range []struct {
		version, operator, expected, seen string
		want                              bool
	}{
		{"2012-10-17", "StringEquals", "${aws:username}", "alice", true},
		{"2012-10-17", "StringEquals", "${AWS:UserName}", "alice", true},
		{"2012-10-17", "StringEquals", "x-${aws:username}-${aws:number}", "x-alice-7", true},
		{"2012-10-17", "StringEquals", "${aws:username}", "${aws:username}", false},
		{"2008-10-17", "StringEquals", "${aws:username}", "${aws:username}", true},
		{"2008-10-17", "StringEquals", "${aws:username}", "alice", false},
		{"2008-10-17", "StringEquals", "${", "${", true}, // without variables, nothing is one
		{"2012-10-17", "StringEquals", "$", "$", true},
		{"2012-10-17", "StringEquals", "{$aws}", "{$aws}", true},
		{"2012-10-17", "StringEquals", "${aws:missing}", "", false},
		{"2012-10-17", "StringNotEquals", "${aws:missing}", "alice", true},
		{"2012-10-17", "StringEquals", "${aws:missing, 'anonymous'}", "anonymous", true},
		{"2012-10-17", "StringEquals", "${aws:missing,'a, }*?b'}", "a, }*?b", true},
		{"2012-10-17", "StringEquals", "${aws:missing, ''}", "", true},
		{"2012-10-17", "StringEquals", "${aws:username, 'anonymous'}", "alice", true},
		{"2012-10-17", "StringEquals", "${aws:empty, 'anonymous'}", "", true},
		{"2012-10-17", "StringEquals", "${aws:list}", "alice", false},
		{"2012-10-17", "StringEquals", "${aws:list}", "", false},
		{"2012-10-17", "StringEquals", "${aws:list, 'anonymous'}", "anonymous", false},
		{"2012-10-17", "StringNotEquals", "${aws:list, 'anonymous'}", "anonymous", true},
		{"2012-10-17", "StringLike", "${aws:username}*", "alice's", true},
		{"2012-10-17", "StringLike", "*${aws:username}*", "for alice only", true},
		{"2012-10-17", "StringLike", "*${aws:username}?*", "for alice", false},
		{"2012-10-17", "StringLike", "*${aws:username}?*", "alic alice!", true},
		{"2012-10-17", "StringLike", "${aws:PrincipalTag/team}", "bxe", false}, // a value has no wildcards
		{"2012-10-17", "StringLike", "${aws:PrincipalTag/team}", "b*e", true},
		{"2012-10-17", "StringLike", "${aws:missing, 'b*e'}", "bxe", false},
		{"2012-10-17", "StringLike", "a${*}", "a*", true},
		{"2012-10-17", "StringLike", "a${*}", "ab", false},
		{"2012-10-17", "StringLike", "a${?}*", "a?b", true},
		{"2012-10-17", "StringLike", "a${?}*", "abb", false},
		{"2012-10-17", "StringEquals", "${$}{aws:username}", "${aws:username}", true},
		{"2008-10-17", "StringLike", "a${*}", "a${bc}", true}, // the star is a wildcard
		{"2012-10-17", "StringEqualsIgnoreCase", "${aws:username}!", "ALICE!", true},
		{"2012-10-17", "StringEqualsIgnoreCase", "${aws:missing}", "", false},
		{"2012-10-17", "ArnLike", "${aws:arn}", "arn:aws:iam::111122223333:user/alice", true},
		{"2012-10-17", "ArnLike", "${aws:arn}", "arn:aws:iam::111122223333:user/bob", false},
		{"2012-10-17", "ArnLike", "${aws:missing}", "arn:aws:iam::111122223333:user/bob", false},
		{"2012-10-17", "ArnNotLike", "${aws:missing}", "arn:aws:iam::111122223333:user/bob", true},
		{"2012-10-17", "ArnLike", "arn:aws:iam::*:user/${aws:username}", "arn:aws:iam::111122223333:user/alice", true},
		{"2012-10-17", "ArnLike", "arn:aws:iam::${aws:missing, '111122223333'}:user/*", "arn:aws:iam::111122223333:user/alice", true},
	} {
		condition := fmt.Sprintf(`{%q:{"aws:value":%q}}`, tt.operator, tt.expected)
		values["aws:value"] = iam.String(tt.seen)
		require.Equal(t, tt.want, holds(t, tt.version, condition, values), "%s %s %q", tt.version, condition, tt.seen)
	}
}

// Of several values, each is taken for the one by which the request would be refused.
func TestAnAmbiguousValueRefuses(t *testing.T) {
	values := iam.Values{"a:x": iam.Ambiguous("red", "blue", "red"), "a:one": iam.Ambiguous("red", "red"), "a:none": iam.Ambiguous()}
	for condition, want := range map[string]struct{ allows, denies bool }{
		`{"StringEquals":{"a:x":"red"}}`:                         {false, true},
		`{"StringEquals":{"a:x":["red","blue"]}}`:                {true, true},
		`{"StringEquals":{"a:x":"green"}}`:                       {false, false},
		`{"StringEqualsIfExists":{"a:x":"blue"}}`:                {false, true},
		`{"StringNotEquals":{"a:x":"red"}}`:                      {false, true},
		`{"StringNotEquals":{"a:x":"green"}}`:                    {true, true},
		`{"StringNotEquals":{"a:x":["red","blue"]}}`:             {false, false},
		`{"StringLike":{"a:x":"*e*"}}`:                           {true, true},
		`{"ForAnyValue:StringEquals":{"a:x":"red"}}`:             {false, true},
		`{"ForAllValues:StringEquals":{"a:x":"red"}}`:            {false, true},
		`{"Null":{"a:x":"true"}}`:                                {false, false},
		`{"Null":{"a:x":"false"}}`:                               {true, true},
		`{"StringEquals":{"a:one":"${a:x}"}}`:                    {false, false},
		`{"StringEquals":{"a:one":"${a:x, 'red'}"}}`:             {false, false},
		`{"StringLike":{"a:one":"*${a:x}"}}`:                     {false, false},
		`{"StringEquals":{"a:one":"red"}}`:                       {true, true},
		`{"Null":{"a:none":"true"},"StringLike":{"a:x":"?*e*"}}`: {true, true},
	} {
		for effect, applies := range map[string]bool{"Allow": want.allows, "Deny": want.denies} {
			p := parse(t, `{"Version":"2012-10-17","Statement":{"Condition":`+condition+`,"Effect":"`+effect+`","Action":"*","Resource":"*"}}`, iam.IdentityPolicy)
			e := p.Explain(&iam.Request{Action: "a:b", Resource: "*", Context: values})
			require.Equal(t, applies, e.Decision.Outcome() != iam.NoMatch, "%s %s", effect, condition)
			require.Equal(t, applies, e.Statements[0].Applies)
		}
	}
	require.Equal(t, []string{"blue", "red"}, values["a:x"].Texts())
	require.False(t, values["a:x"].Multivalued())
	require.Equal(t, iam.String("red"), values["a:one"])
}

func TestConditionsAreJoinedByAnd(t *testing.T) {
	values := iam.Values{"a:x": iam.String("1"), "A:Y": iam.String("2")}
	request := &iam.Request{Action: "a:b", Resource: "*", Context: values}
	for condition, want := range map[string]bool{
		`{}`:                                     true,
		`{"StringEquals":{}}`:                    true,
		`{"StringEquals":{"a:X":"1","a:y":"2"}}`: true,
		`{"StringEquals":{"a:X":"1","a:y":"3"}}`: false,
		`{"StringEquals":{"a:X":"1"},"NumericLessThan":{"a:y":"2"}}`:            false,
		`{"StringEquals":{"a:X":"1"},"NumericLessThanEquals":{"a:y":"2"}}`:      true,
		`{"StringLike":{"a:X":"1*","A:X":"*1"}}`:                                true,
		`{"StringLike":{"a:X":"1*","A:X":"*2"}}`:                                false,
		`{"StringEquals":{"a:X":"1"},"ForAnyValue:StringEquals":{"a:X":["2"]}}`: false,
	} {
		p := parse(t, `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":`+condition+`}}`, iam.IdentityPolicy)
		require.Equal(t, want, p.Evaluate(request).Allowed(), condition)
	}
}

// The case of the letters A to Z in a key does not matter, and that of all others does.
func TestValuesAreFoundAsPoliciesNameThem(t *testing.T) {
	values := iam.Values{"aws:SourceIp": iam.String("1"), "app:Ä": iam.String("2"), "app:ſ": iam.String("3")}
	for key, there := range map[string]bool{"aws:sourceip": true, "AWS:SOURCEIP": true, "aws:sourceipx": false, "app:Ä": true, "app:ä": false, "app:s": false} {
		require.Equal(t, there, values.Lookup(key).Present(), key)
	}
}
