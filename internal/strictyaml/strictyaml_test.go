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
	ID   string            `yaml:"id"`
	Tags map[string]string `yaml:"tags"`
}

// tags is a mapping of n members.
func tags(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "s3cr3t%d: a, ", i)
	}
	return "{" + b.String() + "}"
}

func TestAFileOfTheFormIsRead(t *testing.T) {
	for name, text := range map[string]string{
		"YAML": "version: 1\nkeys:\n- id: a\n- {id: b, tags: {c: d}}\n",
		"JSON": `{"version": 1, "keys": [{"id": "a"}, {"id": "b", "tags": {"c": "d"}}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			var f form
			require.NoError(t, strictyaml.Decode([]byte(text), &f, "the manual"))
			require.Equal(t, form{1, []key{{ID: "a"}, {"b", map[string]string{"c": "d"}}}}, f)
		})
	}
	t.Run("as long as can be", func(t *testing.T) {
		var f form
		text := "keys: [tags: " + tags(strictyaml.MaxMembers) + strings.Repeat(", id: a", strictyaml.MaxEntries-1) + "]"
		require.NoError(t, strictyaml.Decode([]byte(text), &f, "the manual"))
		require.Len(t, f.Keys, strictyaml.MaxEntries)
		require.Len(t, f.Keys[0].Tags, strictyaml.MaxMembers)
	})
}

func TestWhatIsNotOfTheFormIsRefusedWithoutAWordOfIt(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"nothing":                        {"", "the file is empty"},
		"a comment":                      {"# s3cr3t", "the file is empty"},
		"no YAML":                        {"version: 1\n\ts3cr3t", "line 2 is not as the manual describes"},
		"no YAML in the first line":      {"\ts3cr3t", "the file is not as the manual describes"},
		"another document":               {"version: 1\n---\ns3cr3t: 1\n", "the file has more than one document"},
		"another document of no form":    {"version: 1\n---\n*s3cr3t\n", "the file is not as the manual describes"},
		"a list":                         {"- s3cr3t", "line 1 is not as the manual describes"},
		"an unknown member":              {"version: 1\ns3cr3t: 1", "line 2 is not as the manual describes"},
		"a member in other letters":      {"Version: 1", "line 1 is not as the manual describes"},
		"a member twice":                 {"version: 1\nversion: 1", "line 2 is not as the manual describes"},
		"a value of another kind":        {"version: s3cr3t", "line 1 is not as the manual describes"},
		"an unknown anchor":              {"version: *s3cr3t", "the file is not as the manual describes"},
		"a value that reads like a line": {`version: !!int "line 531 s3cr3t"`, "the file is not as the manual describes"},
		"a name that reads like a line":  {"version: 1\n\"line 531 s3cr3t\": 1", "line 2 is not as the manual describes"},
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
