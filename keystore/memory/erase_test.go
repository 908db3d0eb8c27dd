package memory

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/keystore"
)

func TestOldValuesAreOverwrittenUnlessAForkHasThem(t *testing.T) {
	ctx := context.Background()
	for name, change := range map[string]func(*Backend) error{
		"by another value": func(b *Backend) error {
			_, err := b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: "a"}}})
			return err
		},
		"by their deletion": func(b *Backend) error {
			_, err := b.Commit(ctx, keystore.Tx{Deletes: []string{"a"}})
			return err
		},
		"by Close": (*Backend).Close,
	} {
		t.Run(name, func(t *testing.T) {
			for forked, after := range map[bool]string{false: "\x00\x00\x00\x00\x00", true: "value"} {
				b := New()
				_, err := b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: "a", Value: []byte("value")}}})
				require.NoError(t, err)
				if forked {
					b.Fork()
				}
				value := b.records.get("a").Value
				require.NoError(t, change(b))
				require.Equal(t, after, string(value))
			}
		})
	}
}
