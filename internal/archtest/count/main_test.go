package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCountOfARealRun(t *testing.T) {
	const (
		passes = `func TestPasses(t *testing.T) { t.Log("quiet"); t.Run("a", func(*testing.T) {}) }`
		fails  = `func TestFails(t *testing.T) { t.Error("loud") }`
		skips  = `func TestSkips(t *testing.T) { t.Skip("lazy") }`
		exits  = `func TestExits(*testing.T) { println("gone"); os.Exit(3) }`
		panics = `func TestPanics(*testing.T) { panic("lost") }`
	)
	for _, tt := range []struct {
		name      string
		tests     []string
		line      string
		shows     string
		allPassed bool
	}{
		{"tests that pass", []string{passes}, "2 passed, 0 failed, 0 skipped", "ok  \tx", true},
		{"a test that fails", []string{passes, fails}, "2 passed, 1 failed, 0 skipped", "loud", false},
		{"a test that is skipped", []string{passes, skips}, "2 passed, 0 failed, 1 skipped", "lazy", false},
		{"a test that ends the process", []string{passes, exits}, "2 passed, 1 failed, 0 skipped", "gone", false},
		{"a test that panics", []string{passes, panics}, "2 passed, 1 failed, 0 skipped", "lost", false},
		{"tests that do not build", []string{"func TestX(*testing.T) { undefined() }"}, "0 passed, 1 failed, 0 skipped",
			"undefined: undefined", false},
		{"no tests", nil, "0 passed, 0 failed, 0 skipped", "no tests to run", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			source := "package x\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\nvar _ = os.Exit\nvar _ *testing.T\n\n" + strings.Join(tt.tests, "\n")
			require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module x\n"), 0o600))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "x_test.go"), []byte(source), 0o600))
			command := exec.CommandContext(t.Context(), "go", "test", "-json", ".")
			command.Dir = dir
			stream, _ := command.Output() // it fails if tests fail
			var out bytes.Buffer

			allPassed := count(bytes.NewReader(stream), &out)

			require.True(t, strings.HasSuffix(out.String(), "\n"+tt.line+"\n"), out.String())
			require.Contains(t, out.String(), tt.shows)
			require.NotContains(t, out.String(), "quiet")
			require.Equal(t, tt.allPassed, allPassed)
		})
	}
}

func TestCountOfNothingOrNonsenseFails(t *testing.T) {
	require.False(t, count(strings.NewReader(""), &bytes.Buffer{}))
	require.False(t, count(strings.NewReader("ok x 0.1s\n"), &bytes.Buffer{}))
}
