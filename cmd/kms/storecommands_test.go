package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/bolt"
)

// kmsRun runs a command to its end and returns its exit status and what it printed.
func kmsRun(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	p := program{stdin: strings.NewReader(""), stdout: &out, stderr: &errs}
	status = p.run(t.Context(), args)
	return status, out.String(), errs.String()
}

// requireRun requires that a command succeeds, and returns what it printed.
func requireRun(t *testing.T, args ...string) string {
	t.Helper()
	status, stdout, stderr := kmsRun(t, args...)
	require.Zero(t, status, stderr)
	require.Empty(t, stderr)
	return stdout
}

// A place is a directory with a store under a key file.
type place struct{ dir, store, key string }

func newPlace(t *testing.T) place {
	dir := t.TempDir()
	p := place{dir, filepath.Join(dir, "keys"), filepath.Join(dir, "root.key")}
	requireRun(t, "init", "--store", p.store, "--key-file", p.key)
	return p
}

func (p place) path(name string) string { return filepath.Join(p.dir, name) }

// open opens the store.
func (p place) open(t *testing.T) *kms.Service {
	t.Helper()
	svc, err := kms.Open(p.store, keystore.KeyFile(p.key), kms.Config{MustExist: true, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	return svc
}

// addKey creates a key with that alias.
func (p place) addKey(t *testing.T, alias string) {
	t.Helper()
	svc := p.open(t)
	_, err := svc.EnsureKey(t.Context(), alias, nil)
	require.NoError(t, err)
	require.NoError(t, svc.Close())
}

// requireKey requires that the store has a key with that alias, or has not, and no faults.
func (p place) requireKey(t *testing.T, alias string, has bool) {
	t.Helper()
	svc := p.open(t)
	defer svc.Close()
	_, err := svc.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: alias})
	if has {
		require.NoError(t, err)
	} else {
		require.ErrorIs(t, err, kms.NotFoundException)
	}
	for fault := range svc.Check(t.Context(), nil) {
		require.NoError(t, fault)
	}
}

// requireNoLeftovers requires that no temporary file is left.
func (p place) requireNoLeftovers(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(p.dir)
	require.NoError(t, err)
	for _, e := range entries {
		require.False(t, strings.HasPrefix(e.Name(), "."), e.Name())
	}
}

func TestInitCreatesAStoreAndAKeyFile(t *testing.T) {
	dir := t.TempDir()
	store, key := filepath.Join(dir, "keys"), filepath.Join(dir, "root.key")
	stdout := requireRun(t, "init", "--store", store, "--key-file", key, "--account", "123456789012", "--region", "eu-west-1", "--json")
	require.JSONEq(t, `{"store":"`+store+`","account":"123456789012","region":"eu-west-1","rootKey":"`+key+`","createdKeyFile":true}`, stdout)
	for _, path := range []string{store, key} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode())
	}
	svc, err := kms.Open(store, keystore.KeyFile(key), kms.Config{MustExist: true})
	require.NoError(t, err)
	require.Equal(t, "eu-west-1", svc.Region())
	require.Equal(t, "123456789012", svc.Caller().Account())
	require.NoError(t, svc.Close())

	text, err := os.ReadFile(key)
	require.NoError(t, err)
	for _, args := range [][]string{{"--store", store, "--key-file", key}, {"--key-file", key}} {
		status, _, stderr := kmsRun(t, append([]string{"init"}, args...)...)
		require.Equal(t, 1, status)
		require.Regexp(t, "file (already )?exists", stderr)
	}
	other := filepath.Join(dir, "other")
	require.Contains(t, requireRun(t, "init", "--store", other, "--key-file", key, "--json"), `"createdKeyFile":false`)
	again, err := os.ReadFile(key)
	require.NoError(t, err)
	require.Equal(t, text, again)

	lone := filepath.Join(dir, "lone.key")
	requireRun(t, "init", "--key-file", lone)
	require.NoError(t, os.Remove(store))
	requireRun(t, "init", "--store", store, "--key-file", lone)
}

func TestAFailedInitLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	store, key := filepath.Join(dir, "keys"), filepath.Join(dir, "root.key")
	for _, args := range [][]string{
		{"--store", store, "--key-file", key, "--region", "Mars"},
		{"--store", store, "--key-file", filepath.Join(dir, "missing", "root.key")},
		{"--store", filepath.Join(dir, "missing", "keys"), "--key-file", key},
		{"--store", store, "--passphrase-file", file(t, "passphrase", "short")},
	} {
		status, stdout, _ := kmsRun(t, append([]string{"init"}, args...)...)
		require.Equal(t, 1, status, args)
		require.Empty(t, stdout)
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, entries, args)
	}
}

func TestABackupIsRestored(t *testing.T) {
	p := newPlace(t)
	p.addKey(t, "alias/one")
	backup := p.path("backup")
	var report backupReport
	require.NoError(t, json.Unmarshal([]byte(requireRun(t, "backup", "--store", p.store, "--to", backup, "--json")), &report))
	info, err := os.Stat(backup)
	require.NoError(t, err)
	require.Equal(t, backupReport{backup, 6, info.Size()}, report)
	require.Equal(t, fs.FileMode(0o600), info.Mode())
	require.Contains(t, requireRun(t, "check", "--backup", backup), ": 6 records, complete and unchanged")
	require.Contains(t, requireRun(t, "check", "--backup", backup, "--key-file", p.key), ": 6 records, no faults")
	p.addKey(t, "alias/two")

	status, _, stderr := kmsRun(t, "backup", "--store", p.store, "--to", backup)
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "already exists")
	status, _, stderr = kmsRun(t, "restore", "--from", backup, "--store", p.store, "--key-file", p.key)
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "--replace replaces it")
	p.requireKey(t, "alias/two", true)

	stdout := requireRun(t, "restore", "--from", backup, "--store", p.store, "--key-file", p.key, "--replace", "--json")
	require.JSONEq(t, `{"store":"`+p.store+`","backup":"`+backup+`","records":6,"faults":[]}`, stdout)
	p.requireKey(t, "alias/one", true)
	p.requireKey(t, "alias/two", false)
	require.NoError(t, os.Remove(p.store))
	requireRun(t, "restore", "--from", backup, "--store", p.store, "--key-file", p.key)
	p.requireKey(t, "alias/one", true)
	p.requireNoLeftovers(t)
}

func TestABackupGoesThroughPipes(t *testing.T) {
	p := newPlace(t)
	p.addKey(t, "alias/one")
	backup := requireRun(t, "backup", "--store", p.store, "--to", "-")
	require.NoError(t, os.Remove(p.store))
	var out, errs bytes.Buffer
	restoring := program{stdin: strings.NewReader(backup), stdout: &out, stderr: &errs, terminal: true}
	require.Zero(t, restoring.run(t.Context(), []string{"restore", "--from", "-", "--store", p.store, "--key-file", p.key}), errs.String())
	p.requireKey(t, "alias/one", true)
}

// Whatever is wrong with a backup, the store stays what it was.
func TestABadBackupReplacesNothing(t *testing.T) {
	p := newPlace(t)
	p.addKey(t, "alias/one")
	backup := p.path("backup")
	requireRun(t, "backup", "--store", p.store, "--to", backup)
	whole, err := os.ReadFile(backup)
	require.NoError(t, err)
	p.addKey(t, "alias/two")
	store, err := os.ReadFile(p.store)
	require.NoError(t, err)
	other := p.path("other.key")
	requireRun(t, "init", "--key-file", other)
	unsafe := p.path("unsafe.key")
	require.NoError(t, os.WriteFile(unsafe, nil, 0o644))

	refused := func(what, want string, args ...string) {
		t.Helper()
		status, stdout, stderr := kmsRun(t, append([]string{"restore", "--store", p.store, "--replace"}, args...)...)
		require.Equal(t, 1, status, what)
		require.Empty(t, stdout, what)
		require.Contains(t, stderr, want, what)
		now, err := os.ReadFile(p.store)
		require.NoError(t, err)
		require.True(t, bytes.Equal(store, now), what)
		p.requireNoLeftovers(t)
	}
	bad := p.path("bad")
	for at := 0; at < len(whole); at += 4096 / 8 {
		require.NoError(t, os.WriteFile(bad, whole[:at], 0o600))
		refused("cut", "incomplete or damaged", "--from", bad, "--key-file", p.key)
		altered := bytes.Clone(whole)
		altered[rand.N(len(altered))] ^= byte(1 + rand.N(255))
		require.NoError(t, os.WriteFile(bad, altered, 0o600))
		want := "incomplete or damaged"
		if altered[4] > whole[4] {
			want = "newer version"
		}
		refused("altered", want, "--from", bad, "--key-file", p.key)
	}
	require.NoError(t, os.WriteFile(bad, whole[:len(whole)-1], 0o600))
	refused("cut at its end", "--from: "+bad+": keystore: the backup is incomplete or damaged: use another one: it is cut off", "--from", bad, "--key-file", p.key)
	refused("a store instead of a backup", "does not begin as a backup does", "--from", p.store, "--key-file", p.key)
	refused("a missing backup", "no such file", "--from", p.path("missing"), "--key-file", p.key)
	refused("a wrong root key", "--key-file: not the root key of "+backup, "--from", backup, "--key-file", other)
	refused("a root key of another kind", `kind "keyfile", not "argon2id"`, "--from", backup, "--passphrase-file", file(t, "passphrase", "a good passphrase"))
	refused("a missing root key", "no such file", "--from", backup, "--key-file", p.path("missing"))
	refused("an unsafe root key", "mode 0600 or less", "--from", backup, "--key-file", unsafe)
	p.requireKey(t, "alias/two", true)
}

func TestAStoreThatIsOpenIsLeftAlone(t *testing.T) {
	p := newPlace(t)
	p.addKey(t, "alias/one")
	backup := p.path("backup")
	requireRun(t, "backup", "--store", p.store, "--to", backup)
	svc := p.open(t)
	for _, args := range [][]string{
		{"restore", "--from", backup, "--store", p.store, "--key-file", p.key, "--replace"},
		{"backup", "--store", p.store, "--to", p.path("second")},
		{"check", "--store", p.store, "--key-file", p.key},
		{"check", "--store", p.store, "--key-file", p.key, "--wait", "10ms"},
		{"rekey", "--store", p.store, "--key-file", p.key},
	} {
		status, _, stderr := kmsRun(t, args...)
		require.Equal(t, 1, status, args)
		require.Contains(t, stderr, "already open", args)
		if args[0] == "backup" {
			require.Contains(t, stderr, "--admin-socket")
		}
	}
	require.NoError(t, svc.Close())
	p.requireNoLeftovers(t)
	require.NoFileExists(t, p.path("second"))
}

func TestABackupWithFaultsIsRestoredOnlyIfThatIsAskedFor(t *testing.T) {
	p := newPlace(t)
	p.addKey(t, "alias/one")
	editStore(t, p.store, keystore.KeyFile(p.key), keystore.Tx{Deletes: []string{"alias/111122223333/us-east-1/one"}})
	backup := p.path("backup")
	requireRun(t, "backup", "--store", p.store, "--to", backup)
	require.NoError(t, os.Remove(p.store))
	args := []string{"restore", "--from", backup, "--store", p.store, "--key-file", p.key}
	status, stdout, stderr := kmsRun(t, args...)
	require.Equal(t, 1, status)
	require.Contains(t, stdout, "of an alias that does not point to its key")
	require.Contains(t, stderr, "--with-faults")
	require.NoFileExists(t, p.store)
	status, _, _ = kmsRun(t, "check", "--backup", backup, "--key-file", p.key)
	require.Equal(t, 1, status)
	status, stdout, _ = kmsRun(t, "check", "--backup", backup, "--key-file", p.key, "--json")
	require.Equal(t, 1, status)
	require.Contains(t, stdout, `"faults":["keystore: damaged`)
	requireRun(t, append(args, "--with-faults")...)
	require.FileExists(t, p.store)
}

func TestAServedStoreIsBackedUpWhileItIsWritten(t *testing.T) {
	p := newPlace(t)
	socket := p.path("admin")
	// A socket that a killed process has left.
	stale, err := listenAdmin(t.Context(), socket)
	require.NoError(t, err)
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	require.NoError(t, stale.Close())
	served := start(t, program{}, "--store", p.store, "--key-file", p.key, "--must-exist", "--admin-socket", socket)
	info, err := os.Stat(socket)
	require.NoError(t, err)
	require.Equal(t, fs.ModeSocket|0o600, info.Mode())
	_, err = listenAdmin(t.Context(), socket)
	require.ErrorContains(t, err, "address already in use")

	writing, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for writing.Err() == nil {
				if status, _ := served.call(access{}, "CreateKey", `{}`); status != 200 {
					t.Error("status ", status)
					return
				}
			}
		})
	}
	for _, name := range []string{"b1", "b2", "b3"} {
		requireRun(t, "backup", "--admin-socket", socket, "--to", p.path(name))
	}
	stop()
	writers.Wait()
	require.Zero(t, served.stop())
	require.NoFileExists(t, socket)
	for _, name := range []string{"b1", "b2", "b3"} {
		requireRun(t, "check", "--backup", p.path(name), "--key-file", p.key)
		requireRun(t, "restore", "--from", p.path(name), "--store", p.path("restored-"+name), "--key-file", p.key)
	}
	status, _, stderr := kmsRun(t, "backup", "--admin-socket", socket, "--to", p.path("b4"))
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "--admin-socket: ")
	require.NoFileExists(t, p.path("b4"))
	p.requireNoLeftovers(t)
}

func TestAFileThatIsNoSocketIsNotRemoved(t *testing.T) {
	precious := file(t, "precious", "text")
	_, err := listenAdmin(t.Context(), precious)
	require.ErrorContains(t, err, "--admin-socket: ")
	text, err := os.ReadFile(precious)
	require.NoError(t, err)
	require.Equal(t, "text", string(text))
}

func TestABackupThatEndsTooEarlyIsNotTaken(t *testing.T) {
	p := newPlace(t)
	listener, err := listenAdmin(t.Context(), p.path("admin"))
	require.NoError(t, err)
	svc := p.open(t)
	var log bytes.Buffer
	stop := serveAdmin(listener, svc, slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, svc.Close())
	status, _, stderr := kmsRun(t, "backup", "--admin-socket", p.path("admin"), "--to", p.path("backup"))
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "500 Internal Server Error: kms: the service is closed")
	require.NoFileExists(t, p.path("backup"))
	p.requireNoLeftovers(t)
	stop()
	require.Contains(t, log.String(), "a backup failed")
}

func TestRekeyChangesTheRootKey(t *testing.T) {
	p := newPlace(t)
	p.addKey(t, "alias/one")
	old, err := os.ReadFile(p.store)
	require.NoError(t, err)
	passphrase, next := file(t, "passphrase", "a good passphrase\n"), p.path("next.key")

	requireRun(t, "rekey", "--store", p.store, "--key-file", p.key, "--new-passphrase-file", passphrase)
	status, _, stderr := kmsRun(t, "check", "--store", p.store, "--key-file", p.key)
	require.Equal(t, 1, status)
	require.Contains(t, stderr, `--key-file: not the root key of `+p.store+`: the store is sealed under one of kind "argon2id"`)
	requireRun(t, "check", "--store", p.store, "--passphrase-file", passphrase)

	stdout := requireRun(t, "rekey", "--store", p.store, "--passphrase-file", passphrase, "--new-key-file", next, "--keep-seal", "--json")
	require.JSONEq(t, `{"store":"`+p.store+`","rootKey":"`+next+`","createdKeyFile":true,"records":0}`, stdout)
	requireRun(t, "check", "--store", p.store, "--key-file", next)

	stdout = requireRun(t, "rekey", "--store", p.store, "--key-file", next, "--json")
	require.Contains(t, stdout, `"records":6`)
	moved := place{p.dir, p.store, next}
	moved.requireKey(t, "alias/one", true)

	require.NoError(t, os.WriteFile(p.store, old, 0o600))
	p.requireKey(t, "alias/one", true) // an old copy opens with the old root key
}

func TestAnInterruptedRekeyIsResumed(t *testing.T) {
	p := newPlace(t)
	p.addKey(t, "alias/one")
	backend, err := bolt.Open(p.store)
	require.NoError(t, err)
	interrupted, interrupt := context.WithCancel(t.Context())
	store, err := keystore.Open(t.Context(), backend, keystore.KeyFile(p.key))
	require.NoError(t, err)
	require.ErrorIs(t, store.RotateSeal(interrupted, func(int) { interrupt() }), context.Canceled)
	require.NoError(t, store.Close())
	requireRun(t, "rekey", "--store", p.store, "--key-file", p.key)
	p.requireKey(t, "alias/one", true)
}

func TestAFailedRekeyKeepsTheRootKey(t *testing.T) {
	p := newPlace(t)
	other := p.path("other.key")
	requireRun(t, "init", "--key-file", other)
	for want, args := range map[string][]string{
		"--key-file: not the root key of":  {"--key-file", other, "--new-key-file", p.path("next.key")},
		"must have 8 or more":              {"--key-file", p.key, "--new-passphrase-file", file(t, "short", "short")},
		"--new-key-file: ":                 {"--key-file", p.key, "--new-key-file", p.path("missing/next.key")},
		"is not a key file":                {"--key-file", p.key, "--new-key-file", file(t, "text", "text")},
		"no such file":                     {"--key-file", p.path("missing.key"), "--new-key-file", p.path("next.key")},
		"--new-passphrase-file: open /no-": {"--key-file", p.key, "--new-passphrase-file", "/no-such-passphrase"},
	} {
		status, stdout, stderr := kmsRun(t, append([]string{"rekey", "--store", p.store}, args...)...)
		require.Equal(t, 1, status, want)
		require.Contains(t, stderr, want)
		require.Empty(t, stdout)
		requireRun(t, "check", "--store", p.store, "--key-file", p.key)
		require.NoFileExists(t, p.path("next.key"))
	}
}

func TestMistakesInStoreCommandsAreRefused(t *testing.T) {
	for want, args := range map[string][]string{
		"kms init needs --store":                                      {"init"},
		"kms init needs --key-file or --passphrase-file":              {"init", "--store", "s"},
		"--key-file and --passphrase-file exclude each other":         {"check", "--store", "s", "--key-file", "k", "--passphrase-file", "p"},
		"kms backup needs --store or --admin-socket":                  {"backup", "--to", "b"},
		"--store and --admin-socket exclude each other":               {"backup", "--store", "s", "--admin-socket", "a", "--to", "b"},
		"kms backup needs --to":                                       {"backup", "--store", "s"},
		"--to - and --json both use standard output":                  {"backup", "--store", "s", "--to", "-", "--json"},
		"kms restore needs --from":                                    {"restore", "--store", "s", "--key-file", "k"},
		"kms restore needs --store":                                   {"restore", "--from", "b"},
		"the backup and the passphrase cannot both be standard input": {"restore", "--from", "-", "--store", "s", "--passphrase-file", "-"},
		"kms rekey needs --new-key-file or --new-passphrase-file":     {"rekey", "--store", "s", "--key-file", "k", "--keep-seal"},
		"both passphrases cannot be standard input":                   {"rekey", "--store", "s", "--passphrase-file", "-", "--new-passphrase-file", "-"},
		"--new-key-file and --new-passphrase-file exclude":            {"rekey", "--store", "s", "--key-file", "k", "--new-key-file", "k", "--new-passphrase-file", "p"},
		"--store and --backup exclude each other":                     {"check", "--store", "s", "--backup", "b", "--key-file", "k"},
		"kms backup -h lists the flags":                               {"backup", "--force"},
		`kms restore takes only flags, not "b"`:                       {"restore", "b"},
		"--to is empty":                                               {"backup", "--store", "s", "--to", ""},
	} {
		status, stdout, stderr := kmsRun(t, args...)
		require.Equal(t, 2, status, args)
		require.Empty(t, stdout)
		require.Contains(t, stderr, want)
	}
}

func TestEveryCommandPrintsItsHelp(t *testing.T) {
	for _, c := range commands {
		stdout := requireRun(t, c.name, "-h")
		require.True(t, strings.HasPrefix(stdout, "usage: kms "+c.name+" [flags]\n"), stdout)
		require.Contains(t, stdout, "\n  --")
		for line := range strings.Lines(stdout) {
			require.LessOrEqual(t, len(line), 110, line)
		}
	}
	require.Regexp(t, `^\{"version":"\S+","go":"go1\..+"\}\n$`, requireRun(t, "version", "--json"))
}
