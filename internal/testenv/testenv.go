// Package testenv is for tests against programs that a machine may lack.
package testenv

import (
	"os"
	"os/exec"
	"testing"
)

// NeedsTool has the test skipped if one of the programs is not on this machine. In
// the gate, which installs them all, the test fails then.
func NeedsTool(t testing.TB, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			Missing(t, program)
		}
	}
}

// Missing ends a test that found out for itself what is missing.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not on this machine", what)
	}
	t.Skipf("%s is not on this machine", what)
}
