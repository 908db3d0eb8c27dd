package integration_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// serve starts `kms serve` with the credentials of a root.
func serve(t *testing.T) server {
	return serveFor(t, fmt.Sprintf("version: 1\ncredentials:\n"+
		"  - accessKeyId: %s\n    secretAccessKey: %s\n    principal: arn:aws:iam::111122223333:root\n", accessKeyID, secretAccessKey))
}

// serveFor starts `kms serve` as its users do, with a file of credentials, and stops it after the test.
func serveFor(t *testing.T, file string) server {
	dir := t.TempDir()
	program, credentials := filepath.Join(dir, "kms"), filepath.Join(dir, "credentials.yaml")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 8*time.Minute)
	text, err := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/pocketkms/kms/cmd/kms").CombinedOutput()
	require.NoError(t, err, "%s", text)
	require.NoError(t, os.WriteFile(credentials, []byte(file), 0o600))

	command := exec.CommandContext(ctx, program, "serve", "--listen", "127.0.0.1:0", "--region", region, "--credentials", credentials)
	var log bytes.Buffer
	command.Stderr = &log
	command.WaitDelay = 10 * time.Second
	stdout, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	t.Cleanup(func() {
		defer cancel()
		require.NoError(t, command.Process.Signal(os.Interrupt))
		require.NoError(t, command.Wait(), "%s", &log)
	})
	url, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	return server{url: strings.TrimSpace(url), secret: secretAccessKey}
}
