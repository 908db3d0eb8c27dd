package strictyaml_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/strictyaml"
)

type form struct {
	Version int   `yaml:"version"`
	Keys    []key `yaml:"keys"`
}

type key struct {
	ID    string            `yaml:"id"`
	Tags  map[string]string `yaml:"tags"`
	Names []string          `yaml:"names"`
	Box   *box              `yaml:"box"`
}

type box struct {
	Open bool `yaml:"open"`
}

// tags returns a mapping of n members.
func tags(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "s3cr3t%d: a, ", i)
	}
	return "{" + b.String() + "}"
}

func TestWellFormedFilesAreRead(t *testing.T) {
	for name, text := range map[string]string{
		"YAML": "version: 1\nkeys:\n- id: a\n- {id: b, tags: {c: d}}\n",
		"JSON": `{"version": 1, "keys": [{"id": "a"}, {"id": "b", "tags": {"c": "d"}}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			var f form
			require.NoError(t, strictyaml.Decode([]byte(text), &f, "the manual"))
			require.Equal(t, form{1, []key{{ID: "a"}, {ID: "b", Tags: map[string]string{"c": "d"}}}}, f)
		})
	}
	t.Run("with YAML's anchors and merges", func(t *testing.T) {
		var f form
		text := "version: 1\nkeys:\n- &a {id: 012, names: &n [x], tags: null, box: {open: yes}}\n- {<<: *a}\n- {<<: {names: *n}}\n- {tags: {<<: {c: 1}}}\n"
		require.NoError(t, strictyaml.Decode([]byte(text), &f, "the manual"))
		one := key{ID: "012", Names: []string{"x"}, Box: &box{true}}
		require.Equal(t, []key{one, one, {Names: []string{"x"}}, {Tags: map[string]string{"c": "1"}}}, f.Keys)
	})
	t.Run("at the limits", func(t *testing.T) {
		var f form
		text := "keys: [tags: " + tags(strictyaml.MaxMembers) + strings.Repeat(", id: a", strictyaml.MaxEntries-1) + "]"
		require.NoError(t, strictyaml.Decode([]byte(text), &f, "the manual"))
		require.Len(t, f.Keys, strictyaml.MaxEntries)
		require.Len(t, f.Keys[0].Tags, strictyaml.MaxMembers)
	})
}

func TestMalformedFilesAreRefusedWithoutQuotingThem(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"nothing":                        {"", "the file is empty"},
		"a comment":                      {"# s3cr3t", "the file is empty"},
		"not YAML":                       {"version: 1\n\ts3cr3t", "line 2 is not as the manual describes"},
		"not YAML in the first line":     {"\ts3cr3t", "the file is not as the manual describes"},
		"another document":               {"version: 1\n---\ns3cr3t: 1\n", "the file has more than one document"},
		"another malformed document":     {"version: 1\n---\n*s3cr3t\n", "the file is not as the manual describes"},
		"a list":                         {"- s3cr3t", "line 1: a mapping is wanted"},
		"an unknown member":              {"version: 1\ns3cr3t: 1", "line 2: the file has version, keys and nothing else"},
		"a member in another case":       {"Version: 1", "line 1: the file has version, keys and nothing else"},
		"a member without a name":        {"version: 1\n? [s3cr3t]\n: 1", "line 2: the file has version, keys and nothing else"},
		"an unknown member of an entry":  {"keys:\n- id: a\n  s3cr3t: a", "line 3: a key has id, tags, names, box and nothing else"},
		"an unknown member of a member":  {"keys:\n- box: {s3cr3t: a}", "line 2: box has open and nothing else"},
		"an unknown member in an alias":  {"keys:\n- tags: &a {s3cr3t: a}\n- box: *a", "line 2 is not as the manual describes"},
		"a member twice":                 {"version: 1\nversion: 1", "line 2: a member is there twice"},
		"a tag twice":                    {"keys:\n- tags:\n    s3cr3t: a\n    s3cr3t: b", "line 4: a member is there twice"},
		"a value of another kind":        {"version: s3cr3t", "line 1: a whole number is wanted"},
		"a fraction":                     {"version: 1.5", "line 1: a whole number is wanted"},
		"a number too large":             {"version: 1234567890123456789012", "line 1: a whole number is wanted"},
		"text for a list":                {"keys:\n- names: s3cr3t", "line 2: a list is wanted"},
		"a mapping for a list":           {"keys: {id: s3cr3t}", "line 1: a list is wanted"},
		"text for a mapping":             {"keys:\n- id: a\n  box: s3cr3t", "line 3: a mapping is wanted"},
		"text for an entry":              {"keys:\n- id: a\n- s3cr3t", "line 3: a mapping is wanted"},
		"a list for text":                {"keys: [id: [s3cr3t]]", "line 1: text is wanted"},
		"a mapping for a tag":            {"keys: [tags: {s3cr3t: {}}]", "line 1: text is wanted"},
		"a list for true or false":       {"keys: [box: {open: [s3cr3t]}]", "line 1: true or false is wanted"},
		"text for true or false":         {"keys: [box: {open: s3cr3t}]", "line 1 is not as the manual describes"},
		"an unknown anchor":              {"version: *s3cr3t", "the file is not as the manual describes"},
		"a value that reads like a line": {`version: !!int "line 531 s3cr3t"`, "the file is not as the manual describes"},
		"a name that reads like a line":  {"version: 1\n\"line 531 s3cr3t\": 1", "line 2: the file has version, keys and nothing else"},
		"an empty entry":                 {"keys:\n- id: s3cr3t\n-\n", "line 3: an entry of a list is empty"},
		"a null entry":                   {"keys: [{id: s3cr3t}, null]", "line 1: an entry of a list is empty"},
		"a list too long":                {"keys: [" + strings.Repeat("{id: s3cr3t},", strictyaml.MaxEntries+1) + "]", "line 1: a list has at most 10000 entries"},
		"a mapping too long":             {"keys:\n- tags: " + tags(strictyaml.MaxMembers+1), "line 2: a mapping has at most 64 members"},
		"a file full of aliases":         {"keys:\n- &a {tags: " + tags(strictyaml.MaxMembers) + "}\n" + strings.Repeat("- *a\n", strictyaml.MaxEntries-1), "the file is not as the manual describes"},
	} {
		t.Run(name, func(t *testing.T) {
			require.EqualError(t, strictyaml.Decode([]byte(tt.text), new(form), "the manual"), tt.want)
		})
	}
}

func TestATextKnowsItsLine(t *testing.T) {
	type page struct {
		Title strictyaml.Text `yaml:"title"`
		Body  strictyaml.Text `yaml:"body"`
		Notes strictyaml.Text `yaml:"notes"`
	}
	var p page
	require.NoError(t, strictyaml.Decode([]byte("title: a\nbody: | # as it is\n  one\n\n  three\n"), &p, "the manual"))
	require.Equal(t, "a", p.Title.Value)
	require.Equal(t, 1, p.Title.LineOf(1))
	require.Equal(t, "one\n\nthree\n", p.Body.Value)
	require.Equal(t, 2, p.Body.Line)
	require.Equal(t, []int{3, 5}, []int{p.Body.LineOf(1), p.Body.LineOf(3)})
	require.Zero(t, p.Notes.Line, "it is not there")

	var folded page
	require.NoError(t, strictyaml.Decode([]byte("title: &a >\n  one\n  two\n\nbody: *a\n"), &folded, "the manual"))
	require.Equal(t, "one two\n", folded.Body.Value)
	require.Equal(t, 1, folded.Body.LineOf(2), "a folded text does not keep its lines")

	for text, want := range map[string]string{
		"title: [s3cr3t]":     "line 1: text is wanted",
		"title: {value: a}":   "line 1: text is wanted",
		"title: a\ntitle: b":  "line 2: a member is there twice",
		"title: !!int s3cr3t": "the file is not as the manual describes",
	} {
		err := strictyaml.Decode([]byte(text), new(page), "the manual")
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "s3cr")
	}
}

func TestLineOf(t *testing.T) {
	text := []byte("version: 1\nkeys:\n- id: a\n  box: &b\n    open: yes\n- id: b\n  box: *b\n- {id: c,\n  names: [x,\n   y]}\n")
	require.NoError(t, strictyaml.Decode(text, new(form), "the manual"))
	for _, tt := range []struct {
		path []any
		line int
	}{
		{nil, 1}, {[]any{"keys"}, 2}, {[]any{"keys", 0}, 3}, {[]any{"keys", 0, "box"}, 4}, {[]any{"keys", 0, "box", "open"}, 5},
		{[]any{"keys", 1, "box", "open"}, 7}, {[]any{"keys", 1, "names", 0}, 6}, {[]any{"keys", 2, "names"}, 9},
		{[]any{"keys", 2, "names", 1}, 10}, {[]any{"keys", 3}, 2}, {[]any{0}, 1}, {[]any{"version", "x"}, 1},
	} {
		require.Equal(t, tt.line, strictyaml.LineOf(text, tt.path...), "%v", tt.path)
	}
	require.Zero(t, strictyaml.LineOf([]byte("\t"), "keys"))
	require.Zero(t, strictyaml.LineOf(nil, "keys"))
}
