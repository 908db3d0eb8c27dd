package integration_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/testenv"
)

// The tests among the examples in other languages test a month and a year of key life with `kms serve --test`.
func TestTheExamplesInOtherLanguagesPass(t *testing.T) {
	testenv.NeedsTool(t, "node", "npm", "python3")
	if err := exec.Command("python3", "-c", "import boto3").Run(); err != nil {
		testenv.Missing(t, "boto3")
	}
	program := buildKMS(t)
	for language, tt := range map[string]struct {
		directory func(*testing.T) string
		command   []string
		passed    string
	}{
		"JavaScript": {func(t *testing.T) string { return installNode(t, "../examples/testing-node") }, []string{"npm", "test"}, "# pass 3"},
		"Python":     {func(*testing.T) string { return "../examples/testing-python" }, []string{"python3", "-B", "-m", "unittest", "-v"}, "Ran 3 tests"},
	} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			command := exec.CommandContext(ctx, tt.command[0], tt.command[1:]...)
			command.Dir = tt.directory(t)
			command.Env = append(os.Environ(), "KMS="+program)
			command.WaitDelay = 10 * time.Second
			text, err := command.CombinedOutput()
			require.NoError(t, err, "%s", text)
			require.Contains(t, string(text), tt.passed)
			t.Logf("%s", text)
		})
	}
}

// buildKMS builds the command, and returns its path.
func buildKMS(t *testing.T) string {
	program := filepath.Join(t.TempDir(), "kms")
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	text, err := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/pocketkms/kms/cmd/kms").CombinedOutput()
	require.NoError(t, err, "%s", text)
	return program
}
