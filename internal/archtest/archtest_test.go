// Package archtest_test checks the rules of the repository that the compiler does not: which
// packages a package may import, how packages are named, and that the Go snippets in Markdown files
// work. CONTRIBUTING.md describes the rules.
//
// A rule is a function that returns the violations in a tree of files. It must find none in the
// repository, and every violation in small trees that have some.
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

// requireNone requires that the repository has no violation of the rule.
func requireNone(t *testing.T, r rule) {
	t.Helper()
	require.Empty(t, r(t, os.DirFS(repository)))
}

// requireFound requires that the rule finds exactly these violations in a tree of the given files.
func requireFound(t *testing.T, r rule, files map[string]string, violations ...string) {
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
		if name == ".git" && !d.IsDir() { // in a worktree, it names a path
			return nil
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

// isTestdata reports whether a file is input of a test. Such files are not checked.
func isTestdata(name string) bool {
	return strings.HasPrefix(name, "testdata/") || strings.Contains(path.Dir(name)+"/", "/testdata/")
}
