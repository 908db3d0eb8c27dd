//go:build unix

package main

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/pocketkms/kms/internal/testenv"
)

// manual returns docs/operations.md with the directories that it names in dir, and its blocks of one
// language.
func manual(t *testing.T, dir, language string) (text string, blocks []string) {
	t.Helper()
	raw, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	text = string(raw)
	for _, path := range []string{"/var/lib/kms", "/var/log/kms", "/var/backups/kms", "/etc/kms", "/run/kms", "/srv/kms", "/usr/local/bin", "/data", "/secrets", "/run/secrets"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, path), 0o700))
		text = regexp.MustCompile(`(^|[\s\[,>="])`+path+`/`).ReplaceAllString(text, "${1}"+filepath.Join(dir, path)+"/")
	}
	for _, block := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, block[1])
	}
	return text, blocks
}

// systemd stands for systemctl: it runs the service of the manual. start returns when it is ready.
const systemd = `
set -eu
systemctl() {
	case "$1 $2" in
	"start kms")
		[ -p "$DIR/url" ] || mkfifo "$DIR/url"
		eval "exec $EXEC_START" --listen 127.0.0.1:0 >"$DIR/url" 2>>"$DIR/log" &
		service=$!
		read -r url <"$DIR/url" ;;
	"stop kms") kill "$service" && wait "$service" ;;
	"reload kms")
		kill -HUP "$service"
		until grep -q "reopened the audit log" "$DIR/log"; do :; done ;;
	*) exit 1 ;;
	esac
}
trap 'kill "$service" 2>/dev/null || :' EXIT
`

// Every command of the manual, in its order, as one script.
func TestTheCommandsOfTheManualWork(t *testing.T) {
	testenv.NeedsTool(t, "openssl")
	dir, err := os.MkdirTemp("/tmp", "kms") // short, because the name of a socket must be
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	_, units := manual(t, dir, "ini")
	require.Len(t, units, 1)
	_, execStart, _ := strings.Cut(units[0], "ExecStart=")
	execStart, _, _ = strings.Cut(execStart, "\n")
	_, blocks := manual(t, dir, "sh")
	writeFiles(t, filepath.Join(dir, "srv/kms/letters"))
	require.Greater(t, len(blocks), 8)

	script := exec.CommandContext(t.Context(), "sh")
	commands := strings.Join(blocks, "\n")
	script.Stdin = strings.NewReader(systemd + commands + "\nsystemctl stop kms\n")
	script.Dir = "../.."
	script.Env = append(script.Environ(), "DIR="+dir, "EXEC_START="+execStart, "PATH="+filepath.Join(dir, "usr/local/bin")+":"+os.Getenv("PATH"))
	output, err := script.CombinedOutput()
	log, _ := os.ReadFile(filepath.Join(dir, "log"))
	require.NoError(t, err, "%s\n%s", output, log)
	require.Equal(t, strings.Count(commands, "systemctl start"), strings.Count(string(log), "msg=serving"))
	require.Contains(t, string(log), "reopened the audit log")
	require.Equal(t, 2, strings.Count(string(log), "wrote a backup"))

	requireRun(t, "check", "--store", filepath.Join(dir, "var/lib/kms/keys"), "--key-file", filepath.Join(dir, "etc/kms/root.key"))
}

// The commands of the recipes for containers, in this process, with directories and addresses
// of this machine.
func TestTheCommandsOfTheContainersOfTheManualWork(t *testing.T) {
	dir := t.TempDir()
	_, recipes := manual(t, dir, "yaml")
	require.Len(t, recipes, 2)
	var compose struct {
		Services struct{ KMS struct{ Command []string } }
		Secrets  map[string]any
	}
	require.NoError(t, yaml.Unmarshal([]byte(recipes[0]), &compose))
	var pod struct {
		Spec struct {
			Replicas int
			Template struct {
				Spec struct {
					Containers []struct{ Args []string }
					Volumes    []struct {
						Secret struct {
							DefaultMode int `yaml:"defaultMode"`
						}
					}
				}
			}
		}
	}
	require.NoError(t, yaml.Unmarshal([]byte(recipes[1]), &pod))
	require.Equal(t, 1, pod.Spec.Replicas)
	require.Equal(t, 0o440, pod.Spec.Template.Spec.Volumes[0].Secret.DefaultMode)
	require.Contains(t, compose.Secrets, "kms-root-key")

	store, key := filepath.Join(dir, "data/keys"), filepath.Join(dir, "run/secrets/kms-root-key")
	requireRun(t, "init", "--store", store, "--key-file", key)
	text, err := os.ReadFile(key)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "secrets/root.key"), text, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "secrets/credentials.yaml"), []byte(credentialsText), 0o600))
	for _, args := range [][]string{compose.Services.KMS.Command, pod.Spec.Template.Spec.Containers[0].Args} {
		require.Equal(t, "serve", args[0])
		i := slices.IndexFunc(args, func(arg string) bool { return strings.HasSuffix(arg, ":8080") })
		host, _, err := net.SplitHostPort(args[i])
		require.NoError(t, err)
		args[i] = net.JoinHostPort(host, "0")
		served := start(t, program{}, args[1:]...)
		response, err := served.client.Get(served.url + "/healthz")
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusOK, response.StatusCode)
		require.Zero(t, served.stop())
	}
}

// The manual names each command, and the messages that it explains are those of the program.
func TestTheManualIsAboutTheProgram(t *testing.T) {
	text, _ := manual(t, t.TempDir(), "sh")
	for _, c := range commands {
		require.True(t, strings.Contains(text, "`kms "+c.name+"`"), c.name)
	}
	var sources bytes.Buffer
	for _, pattern := range []string{"*.go", "../../*.go", "../../keystore/*.go", "../../internal/keydb/*.go", "../../internal/securefile/*.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			source, err := os.ReadFile(name)
			require.NoError(t, err)
			sources.Write(source)
		}
	}
	_, table, ok := strings.Cut(text, "## When a check fails")
	require.True(t, ok)
	messages := regexp.MustCompile("`([a-z][^`]*)`")
	found := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !strings.Contains(cells[1], "`") {
			continue
		}
		for _, m := range messages.FindAllStringSubmatch(cells[1], -1) {
			found++
			if m[1] != "no such file" { // the system's
				require.True(t, strings.Contains(sources.String(), m[1]), "no message has %q", m[1])
			}
		}
	}
	require.Greater(t, found, 12)
}
