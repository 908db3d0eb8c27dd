package kms_test

import (
	"bytes"
	"io"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/keystoretest"
	"github.com/pocketkms/kms/keystore/memory"
)

func TestAStoreKeepsItsAccountAndRegion(t *testing.T) {
	path, root := filepath.Join(t.TempDir(), "store"), keystoretest.RootKey()
	open := func(config kms.Config) (*kms.Service, error) {
		config.Logger = slog.New(slog.DiscardHandler)
		return kms.Open(path, root, config)
	}
	svc, err := open(kms.Config{Account: "123456789012", Region: "eu-west-1"})
	require.NoError(t, err)
	key, err := svc.EnsureKey(t.Context(), "alias/app", nil)
	require.NoError(t, err)
	require.Contains(t, key.Arn, "arn:aws:kms:eu-west-1:123456789012:key/")
	require.NoError(t, svc.Close())

	for _, same := range []kms.Config{
		{}, {Account: "123456789012"}, {Region: "eu-west-1"}, {Account: "123456789012", Region: "eu-west-1"}, {AllowOtherDefaults: true},
	} {
		svc, err := open(same)
		require.NoError(t, err)
		found, err := svc.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: "alias/app"})
		require.NoError(t, err)
		require.Equal(t, key.Arn, found.KeyMetadata.Arn)
		for fault := range svc.Check(t.Context(), nil) {
			require.NoError(t, fault)
		}
		require.NoError(t, svc.Close())
	}
	for _, other := range []kms.Config{{Account: "111122223333"}, {Region: "us-east-1"}, {Account: "111122223333", Region: "eu-west-1"}} {
		_, err := open(other)
		require.ErrorIs(t, err, kms.ErrOtherDefaults)
		require.ErrorContains(t, err, "created for account 123456789012 in eu-west-1")
		other.AllowOtherDefaults = true
		svc, err := open(other)
		require.NoError(t, err)
		_, err = svc.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: "alias/app"})
		require.ErrorIs(t, err, kms.NotFoundException)
		require.NoError(t, svc.Close())
	}
	svc, err = open(kms.Config{})
	require.NoError(t, err)
	require.Equal(t, "eu-west-1", svc.Region(), "another default is not kept")
	require.NoError(t, svc.Close())
}

func TestANewStoreIsLogged(t *testing.T) {
	path, root := filepath.Join(t.TempDir(), "store"), keystoretest.RootKey()
	for _, want := range []string{"created a new key store\" account=111122223333 region=us-east-1", ""} {
		var log bytes.Buffer
		svc, err := kms.Open(path, root, kms.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		require.NoError(t, err)
		require.NoError(t, svc.Close())
		require.Contains(t, log.String(), want)
		require.Equal(t, want == "", log.Len() == 0)
	}
	var log bytes.Buffer
	svc, err := kms.New(kms.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	require.NoError(t, svc.Close())
	require.Empty(t, log.String(), "in memory every store is new")
}

func TestAServiceThatWasNotMadeIsAnError(t *testing.T) {
	for _, svc := range []*kms.Service{nil, new(kms.Service), (*kms.Service)(nil).In("eu-west-1"), new(kms.Service).As(kms.Principal{})} {
		_, err := svc.ListKeys(t.Context(), nil)
		require.ErrorIs(t, err, kms.KMSInternalException)
		for name, err := range map[string]error{
			"Close": svc.Close(), "Flush": svc.Flush(t.Context()), "Ping": svc.Ping(t.Context()), "Backup": svc.Backup(t.Context(), io.Discard),
		} {
			require.ErrorContains(t, err, "was not made by New or Open", name)
		}
	}
}

// A backup of a service in use has what was acknowledged before, and the last uses of keys.
func TestABackupOfAServiceIsRestored(t *testing.T) {
	for name, path := range map[string]string{"memory": "", "file": filepath.Join(t.TempDir(), "store")} {
		t.Run(name, func(t *testing.T) {
			root := keystore.Key(bytes.Repeat([]byte{7}, 32))
			config := kms.Config{Logger: slog.New(slog.DiscardHandler)}
			var svc *kms.Service
			var err error
			if path == "" {
				config.RootKey = root
				svc, err = kms.New(config)
			} else {
				svc, err = kms.Open(path, root, config)
			}
			require.NoError(t, err)
			key, err := svc.EnsureKey(t.Context(), "alias/app", nil)
			require.NoError(t, err)
			sealed, err := svc.Encrypt(t.Context(), &kms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("a secret")})
			require.NoError(t, err)
			var backup bytes.Buffer
			require.NoError(t, svc.Backup(t.Context(), &backup))
			_, err = svc.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: key.KeyId})
			require.NoError(t, err)
			require.NoError(t, svc.Close())
			require.ErrorIs(t, svc.Backup(t.Context(), &backup), kms.ErrClosed)

			restored := memory.New()
			require.NoError(t, keystore.Restore(t.Context(), restored, &backup, nil))
			for fault := range kms.CheckStore(t.Context(), kms.Config{Backend: restored, RootKey: root}, nil) {
				require.NoError(t, fault)
			}
			config.Backend, config.RootKey, config.MustExist = restored, root, true
			svc, err = kms.New(config)
			require.NoError(t, err)
			defer svc.Close()
			used, err := svc.GetKeyLastUsage(t.Context(), &kms.GetKeyLastUsageInput{KeyId: key.KeyId})
			require.NoError(t, err)
			require.Equal(t, kms.KeyLastUsageTrackingOperation("Encrypt"), used.KeyLastUsage.Operation)
			opened, err := svc.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
			require.NoError(t, err)
			require.Equal(t, "a secret", string(opened.Plaintext))
		})
	}
}
