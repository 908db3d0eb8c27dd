package iam

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// plainMatch is a second implementation of wildcards: it tries everything.
func plainMatch(pattern, text []rune) bool {
	if len(pattern) == 0 {
		return len(text) == 0
	}
	switch pattern[0] {
	case '*':
		return plainMatch(pattern[1:], text) || len(text) > 0 && plainMatch(pattern, text[1:])
	case '?':
		return len(text) > 0 && plainMatch(pattern[1:], text[1:])
	}
	return len(text) > 0 && pattern[0] == text[0] && plainMatch(pattern[1:], text[1:])
}

func randomText(r *rand.Rand, alphabet []rune, length int) string {
	text := make([]rune, r.IntN(length+1))
	for i := range text {
		text[i] = alphabet[r.IntN(len(alphabet))]
	}
	return string(text)
}

func TestWildcardsMatchAsAPlainImplementationDoes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	matches := 0
	for range 50000 {
		wild := randomText(r, []rune("ab*?ü世*"), 10)
		text := randomText(r, []rune("abü世"), 12)
		p, err := compilePattern(wild, wildcards)
		require.NoError(t, err)
		want := plainMatch([]rune(wild), []rune(text))
		got, resolved := p.match(text, nil)
		require.Equal(t, want, got, "%q %q", wild, text)
		require.True(t, resolved)
		if want {
			matches++
		}
		// Without case, as actions are compared.
		p, err = compilePattern(wild, wildcards|ignoreCase)
		require.NoError(t, err)
		got, _ = p.match(strings.ToUpper(strings.ReplaceAll(text, "ü", "b")), nil)
		require.Equal(t, plainMatch([]rune(wild), []rune(strings.ReplaceAll(text, "ü", "b"))), got, "%q %q", wild, text)
	}
	require.Greater(t, matches, 5000, "the test must see matches")
}

// A variable matches its value, whatever characters that has.
func TestVariablesMatchAsTheirEscapedValueDoes(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	matches := 0
	for range 30000 {
		value := randomText(r, []rune("ab*?"), 3)
		escaped := strings.NewReplacer("*", "\ue000", "?", "\ue001") // stands for the character itself
		wild := randomText(r, []rune("ab*?vv"), 8)
		text := randomText(r, []rune("ab*?"), 10)
		p, err := compilePattern(strings.ReplaceAll(wild, "v", "${a:v}"), wildcards|variables)
		require.NoError(t, err)
		want := plainMatch([]rune(strings.ReplaceAll(wild, "v", escaped.Replace(value))), []rune(escaped.Replace(text)))
		got, resolved := p.match(text, &keys{context: Values{"a:v": String(value)}})
		require.Equal(t, want, got, "%q %q %q", wild, value, text)
		require.True(t, resolved)
		if want {
			matches++
		}
		if strings.Contains(wild, "v") {
			got, resolved = p.match(text, nil)
			require.False(t, got)
			require.False(t, resolved)
		}
	}
	require.Greater(t, matches, 1500)
}

// A byte that is not valid UTF-8 is one character, and equals nothing in a pattern.
func TestTextThatIsNotUTF8(t *testing.T) {
	for _, tt := range []struct {
		pattern, text string
		want          bool
	}{
		{"?", "\xff", true}, {"?", "\xff\xff", false}, {"??", "\xff\xff", true},
		{"*?", "\xe4\xb8", true}, {"??*", "\xe4\xb8", true}, {"???*", "\xe4\xb8", false},
		{"*??", "\xe4\xb8", true}, {"*???", "\xe4\xb8", false}, {"*?*?*", "\xe4\xb8", true},
		{"\ufffd", "\xff", false}, {"*\ufffd?*", "a\xffb", false}, {"*\ufffd?*", "a\ufffdb", true},
		{"*a?b*", "\xffa\xffb", true}, {"*a?b*", "a\xff\xffb", false}, {"*é*", "\xc3\xc3\xa9", true},
	} {
		p, err := compilePattern(tt.pattern, wildcards)
		require.NoError(t, err)
		got, _ := p.match(tt.text, nil)
		require.Equal(t, tt.want, got, "%q %q", tt.pattern, tt.text)
	}
}

func TestOnlyLettersIgnoreCase(t *testing.T) {
	p, err := compilePattern("kms:[`{@_-Ü", ignoreCase)
	require.NoError(t, err)
	for text, want := range map[string]bool{
		"KMS:[`{@_-Ü": true, "kms:{`{@_-Ü": false, "kms:[@{@_-Ü": false, "kms:[`[@_-Ü": false, "kms:[`{`_-Ü": false, "kms:[`{@_-ü": false,
		"\x0bms:[`{@_-Ü": false, "kms\x1a[`{@_-Ü": false, "KMS:[`{@\x7f-Ü": false,
	} {
		got, _ := p.match(text, nil)
		require.Equal(t, want, got, text)
	}
}

func TestASearchIgnoresTheCaseOfLettersOnlyIfTold(t *testing.T) {
	for _, tt := range []struct {
		syntax        syntax
		pattern, text string
		want          bool
	}{
		{wildcards | ignoreCase, "*?z*", "aZ", true},
		{wildcards | ignoreCase, "*?Z*", "az", true},
		{wildcards | ignoreCase, "*?A*", "xa", true},
		{wildcards | ignoreCase, "*?[*", "x{", false},
		{wildcards, "*?z*", "aZ", false},
		{wildcards, "*?A*", "xa", false},
		{wildcards, "*?a*", "xa", true},
	} {
		p, err := compilePattern(tt.pattern, tt.syntax)
		require.NoError(t, err)
		got, _ := p.match(tt.text, nil)
		require.Equal(t, tt.want, got, "%q %q", tt.pattern, tt.text)
	}
}

// Only the last character decides. An implementation that tries again would not come to an end.
func TestPatternsThatMakeOthersBacktrack(t *testing.T) {
	text := strings.Repeat("a", 100000)
	for _, wild := range []string{
		strings.Repeat("*a", 5000) + "b",
		strings.Repeat("a*", 5000) + "b",
		strings.Repeat("*?", 5000) + "b",
		strings.Repeat("*a?", 5000) + "b",
		"*" + strings.Repeat("a?", 32) + "*" + strings.Repeat("?a", 32) + "*b",
		"*" + strings.Repeat("a", 50000) + "b*",
		strings.Repeat("?", 100000) + "?",
		strings.Repeat("*", 100000) + "b",
	} {
		for _, s := range []syntax{wildcards, wildcards | ignoreCase} {
			p, err := compilePattern(wild, s)
			if err != nil {
				require.Equal(t, wildcards|ignoreCase, s, "only a long part without case is refused")
				require.Contains(t, err.Error(), "more than 64 characters")
				continue
			}
			for range 20 {
				got, _ := p.match(text, nil)
				require.False(t, got)
				got, _ = p.match(text+"b", nil)
				require.True(t, got, "%.20q", wild)
			}
		}
	}
}

func TestCompilingIsBounded(t *testing.T) {
	_, err := compilePattern("*"+strings.Repeat("?", maxSearchable)+"*", wildcards)
	require.NoError(t, err)
	_, err = compilePattern("*"+strings.Repeat("?", maxSearchable+1)+"*", wildcards)
	require.Error(t, err)
	_, err = compilePattern("*${a:b}"+strings.Repeat("?", maxSearchable)+"*", wildcards|variables)
	require.NoError(t, err)
	_, err = compilePattern("*${a:b}"+strings.Repeat("?", maxSearchable+1)+"*", wildcards|variables)
	require.Error(t, err)
	_, err = compilePattern(strings.Repeat("${a:b}", maxVariables), variables)
	require.NoError(t, err)
	_, err = compilePattern(strings.Repeat("${a:b}", maxVariables+1), variables)
	require.Error(t, err)
}

func TestVariableSyntax(t *testing.T) {
	for text, want := range map[string]varRef{
		"${aws:UserName}":           {key: "aws:username", text: "${aws:UserName}"},
		"${ aws:a }rest":            {key: "aws:a", text: "${ aws:a }"},
		"${aws:PrincipalTag/Größe}": {key: "aws:principaltag/größe", text: "${aws:PrincipalTag/Größe}"},
		"${aws:a, 'b'}rest":         {key: "aws:a", text: "${aws:a, 'b'}", fallback: "b", hasFallback: true},
		"${aws:a,'b}, ${*}' }":      {key: "aws:a", text: "${aws:a,'b}, ${*}' }", fallback: "b}, ${*}", hasFallback: true},
		"${*}":                      {fallback: "*"},
		"${?}":                      {fallback: "?"},
		"${$}":                      {fallback: "$"},
	} {
		got, length, err := parseVariable(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
		if want.key != "" {
			require.Equal(t, len(want.text), length)
		}
	}
	for _, text := range []string{"${", "${}", "${a", "${a,}", "${a,'b'", "${a,'b}", "${a,\"b\"}", "${a,'b' c}", "${**}", "${*a}", "${'a'}", "${a${b}}", "${, 'b'}"} {
		_, _, err := parseVariable(text)
		require.Error(t, err, text)
		require.Less(t, len(fmt.Sprint(err)), 300)
	}
}
