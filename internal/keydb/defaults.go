package keydb

import (
	"context"
	"errors"

	"github.com/pocketkms/kms/keystore"
)

const defaultsName = "defaults"

// Defaults are the account and the Region that a service uses unless it is told otherwise. The
// store keeps them, because with others a service finds none of its keys.
type Defaults struct {
	Account string `json:"account"`
	Region  string `json:"region"`
}

// ReadDefaults returns the defaults that a store keeps, or nil if it has none.
func ReadDefaults(ctx context.Context, store *keystore.Store) (*Defaults, error) {
	record, err := store.Get(ctx, defaultsName)
	if errors.Is(err, keystore.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return decodeRecord[Defaults](record)
}

// KeepDefaults stores d in a store that has no defaults, and returns those that it keeps: another
// process may have been faster.
func KeepDefaults(ctx context.Context, store *keystore.Store, d Defaults) (*Defaults, error) {
	_, err := store.Commit(ctx, keystore.Tx{
		Expect: []keystore.Expectation{{Key: defaultsName}},
		Puts:   []keystore.Put{{Key: defaultsName, Value: encodeRecord(d)}},
	})
	if errors.Is(err, keystore.ErrConflict) {
		return ReadDefaults(ctx, store)
	}
	if err != nil {
		return nil, err
	}
	return &d, nil
}
