package integration_test

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// serve starts `kms serve` with the credentials of a root.
func serve(t *testing.T) server { return serveFor(t, rootCredentials) }

const rootCredentials = "version: 1\ncredentials:\n" +
	"  - accessKeyId: " + accessKeyID + "\n    secretAccessKey: " + secretAccessKey + "\n    principal: arn:aws:iam::111122223333:root\n"

// serveFor starts `kms serve` as its users do, with a file of credentials, and stops it after the test.
func serveFor(t *testing.T, file string) server { return serveStore(t, buildKMS(t), file) }

// serveStore is serveFor with a program and with flags that say where its keys are.
func serveStore(t *testing.T, program, file string, flags ...string) server {
	credentials := filepath.Join(t.TempDir(), "credentials.yaml")
	require.NoError(t, os.WriteFile(credentials, []byte(file), 0o600))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 8*time.Minute)
	flags = append([]string{"serve", "--listen", "127.0.0.1:0", "--region", region, "--credentials", credentials}, flags...)
	command := exec.CommandContext(ctx, program, flags...)
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
