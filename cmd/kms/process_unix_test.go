//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A child is the command in its own process.
type child struct {
	*exec.Cmd
	invocation
	stdout, stderr *bufio.Reader
}

func startChild(t *testing.T, binary string, args ...string) *child {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	c := &child{Cmd: exec.CommandContext(ctx, binary, append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)}
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	log, err := c.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	c.stdout, c.stderr = bufio.NewReader(out), bufio.NewReader(log)
	line, err := c.stdout.ReadString('\n')
	require.NoError(t, err)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c.invocation = invocation{T: t, url: strings.TrimSuffix(line, "\n"), client: &http.Client{Transport: transport}}
	return c
}

// end sends a signal and returns the exit status, the rest of the standard output, and the log.
func (c *child) end(signal syscall.Signal) (int, string, string) {
	c.Helper()
	require.NoError(c, c.Process.Signal(signal))
	rest, err := io.ReadAll(c.stdout)
	require.NoError(c, err)
	log, err := io.ReadAll(c.stderr)
	require.NoError(c, err)
	_ = c.Wait() // returns an error unless the status is 0
	return c.ProcessState.ExitCode(), string(rest), string(log)
}

func TestAnAuditPipeThatNobodyReadsIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	status, stdout, stderr := run(t, "", "serve", "--listen", "127.0.0.1:0", "--audit", path)
	require.Equal(t, 1, status)
	require.Empty(t, stdout)
	require.Equal(t, "kms: --audit: "+path+" is a named pipe that nobody reads: start its reader first\n", stderr)
}

func TestCallsFailIfTheAuditPipeLosesItsReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	reader, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	require.NoError(t, err)
	i := start(t, program{}, "--audit", path)
	status, _ := i.call(access{}, "CreateKey", `{}`)
	require.Equal(t, http.StatusOK, status)
	require.NoError(t, reader.Close())
	status, _ = i.call(access{}, "CreateKey", `{}`)
	require.Equal(t, http.StatusInternalServerError, status)
}

// buildForImage runs the command that builds the program of the image, and returns its path. The
// program is for this machine, with cgo and without -trimpath, because the others would compile most of
// the standard library again.
func buildForImage(t *testing.T) string {
	text, err := os.ReadFile("../../Dockerfile")
	require.NoError(t, err)
	build, image, ok := strings.Cut(string(text), "\nFROM scratch\n")
	require.True(t, ok)
	require.Equal(t, "COPY --from=build /kms /kms\nUSER 65532:65532\nENTRYPOINT [\"/kms\"]\n", image)
	require.NotContains(t, string(text), "\nENV ")
	program := regexp.MustCompile(`(?m)^ARG PROGRAM=(.+)$`).FindStringSubmatch(build)
	require.NotNil(t, program)
	_, command, ok := strings.Cut(build, "\nRUN ")
	require.True(t, ok)
	for _, flag := range []string{"CGO_ENABLED=0 ", "-trimpath "} {
		require.Contains(t, command, flag)
		command = strings.Replace(command, flag, "", 1)
	}
	root := t.TempDir()
	command = strings.NewReplacer("/go/bin", root+"/bin", " /kms", " "+root+"/kms").Replace(command)

	modules, err := exec.CommandContext(t.Context(), "go", "env", "GOMODCACHE").Output()
	require.NoError(t, err)
	sh := exec.CommandContext(t.Context(), "sh", "-ec", command)
	sh.Dir = "../.."
	sh.Env = append(os.Environ(), "GOPATH="+root, "GOBIN=", "GOWORK=", "GOMODCACHE="+strings.TrimSpace(string(modules)),
		"TARGETARCH="+runtime.GOARCH, "PROGRAM="+program[1])
	output, err := sh.CombinedOutput()
	require.NoError(t, err, "%s", output)
	return filepath.Join(root, "kms")
}

func TestTheProgram(t *testing.T) {
	binary := buildForImage(t)

	t.Run("needs no cgo", func(t *testing.T) { // whose absence would compile half the standard library again
		const cgo = "{{if not .Standard}}{{range .CgoFiles}}{{$.ImportPath}}/{{.}}\n{{end}}{{end}}"
		list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", cgo, ".")
		list.Env = append(list.Environ(), "CGO_ENABLED=1")
		output, err := list.CombinedOutput()
		require.NoError(t, err, "%s", output)
		require.Empty(t, strings.TrimSpace(string(output)))
	})

	t.Run("keeps its keys from one start to the next", func(t *testing.T) {
		args := []string{"--store", filepath.Join(t.TempDir(), "keys"), "--passphrase-file", file(t, "passphrase", "correct horse")}
		keyID := ""
		for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
			c := startChild(t, binary, args...)
			if keyID == "" {
				_, created := c.call(access{}, "CreateKey", `{}`)
				keyID = created.KeyMetadata.KeyId
			}
			_, found := c.call(access{"any", "any", ""}, "DescribeKey", `{"KeyId":"`+keyID+`"}`) // of a Region with no such key
			require.Equal(t, "NotFoundException", found.Type)
			_, found = c.call(access{}, "DescribeKey", `{"KeyId":"`+keyID+`"}`)
			require.Equal(t, keyID, found.KeyMetadata.KeyId)

			status, rest, log := c.end(signal)
			require.Zero(t, status, log)
			require.Empty(t, rest)
			require.Contains(t, log, "received signal: "+signal.String())
			require.NotContains(t, log, "correct horse")
		}
	})

	t.Run("ends at once at a second signal", func(t *testing.T) {
		c := startChild(t, binary)
		unfinished(t, c.url)
		require.NoError(t, c.Process.Signal(syscall.SIGTERM))
		var err error
		for line := ""; !strings.Contains(line, "stopping"); {
			line, err = c.stderr.ReadString('\n')
			require.NoError(t, err)
		}
		c.end(syscall.SIGTERM)
		require.Equal(t, syscall.SIGTERM, c.ProcessState.Sys().(syscall.WaitStatus).Signal())
	})

	t.Run("refuses to be open to other machines", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		refused := exec.CommandContext(ctx, binary, "serve", "--listen", "0.0.0.0:0")
		var stdout, stderr bytes.Buffer
		refused.Stdout, refused.Stderr = &stdout, &stderr
		require.Error(t, refused.Run())
		require.Equal(t, 2, refused.ProcessState.ExitCode())
		require.Empty(t, stdout.String())
		require.Contains(t, stderr.String(), "open to other machines")
	})
}
