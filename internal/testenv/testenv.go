// Package testenv is for tests that need programs that a machine may not have.
package testenv

import (
	"os"
	"os/exec"
	"testing"
)

// NeedsTool skips the test if one of the programs is not on this machine. In CI, which installs all
// of them, the test fails instead.
func NeedsTool(t testing.TB, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			Missing(t, program)
		}
	}
}

// Missing skips a test that needs what, or fails it in CI.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not on this machine", what)
	}
	t.Skipf("%s is not on this machine", what)
}
