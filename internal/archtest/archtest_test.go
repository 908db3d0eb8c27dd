// Package archtest_test holds the rules of the house that a compiler does not know: who may import whom, how packages may be
// called, and that what the documents show is so. CONTRIBUTING.md says them in prose.
//
// Every rule is a function from a tree of files to the violations in it. It is run over the repository, where it must find
// none, and over a small tree with a planted violation, which it must find.
package archtest_test

import (
	"bytes"
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

const (
	module     = "github.com/pocketkms/kms"
	repository = "../.."
)

type rule func(t *testing.T, tree fs.FS) (violations []string)

// holds requires that the repository keeps to the rule.
func holds(t *testing.T, r rule) {
	t.Helper()
	require.Empty(t, r(t, os.DirFS(repository)))
}

// sees requires that the rule finds exactly the violations named in a tree of the given files.
func sees(t *testing.T, r rule, files map[string]string, violations ...string) {
	t.Helper()
	tree := fstest.MapFS{}
	for name, text := range files {
		tree[name] = &fstest.MapFile{Data: []byte(text)}
	}
	require.ElementsMatch(t, violations, r(t, tree))
}

// eachText calls f with every text file of the tree, in lexical order.
func eachText(t *testing.T, tree fs.FS, f func(name, text string)) {
	t.Helper()
	require.NoError(t, fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name == ".git" || name == "bin" { // as .gitignore says
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		text, err := fs.ReadFile(tree, name)
		if err == nil && utf8.Valid(text) && !bytes.ContainsRune(text, 0) {
			f(name, string(text))
		}
		return err
	}))
}

// isTestdata says that a file is input of a test, in which anything may stand.
func isTestdata(name string) bool {
	return strings.HasPrefix(name, "testdata/") || strings.Contains(path.Dir(name)+"/", "/testdata/")
}
