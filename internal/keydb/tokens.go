package keydb

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pocketkms/kms/crypto"
	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/keystore"
)

// An import token holds what the service needs to unwrap key material, so that it stores nothing
// for a token. It is sealed twice. The outer key is that of the store, and says until when the
// token is valid. The inner keys are replaced once a day, and are deleted with the last token that
// needs them: from then on nobody can open the token, and with it recorded material, not even with
// the store.
//
//	token:         version 1, outer ciphertext
//	outer content: when the token expires (8 bytes), when the inner key was created (8), inner ciphertext
//	record:        outer key (32 bytes), up to two inner keys, the newest first: when it was created (8), key (32)
//
// Times are milliseconds since 1970, big endian.
const (
	tokenVersion   = 1
	tokenKeyBytes  = 32
	innerKeyBytes  = 8 + tokenKeyBytes
	maxInnerKeys   = 2
	outerDataBytes = 8 + 8

	// TokenLife is how long an import token is valid, and how long an inner key seals new ones.
	TokenLife = 24 * time.Hour
)

// ErrTokenExpired is returned for an import token that was valid once.
var ErrTokenExpired = errors.New("keydb: import token is expired")

// tokenKeys are the keys that seal import tokens. All processes that share the store have the same.
type tokenKeys struct {
	outer crypto.AEAD
	inner []innerKey // newest first
}

type innerKey struct {
	created int64 // in milliseconds
	crypto.AEAD
}

// seals reports whether k seals the tokens of now.
func (k *innerKey) seals(now time.Time) bool {
	return now.UnixMilli()-k.created < TokenLife.Milliseconds()
}

// opens reports whether a token that k has sealed can be valid at now.
func (k *innerKey) opens(now time.Time) bool {
	return now.UnixMilli()-k.created < 2*TokenLife.Milliseconds()
}

// SealToken seals content in an import token for the key at ref, which is valid for TokenLife from
// now.
func (db *DB) SealToken(ctx context.Context, ref Ref, content []byte, now time.Time) ([]byte, error) {
	keys := db.tokenKeys.Load()
	err := retry(ctx, func() (err error) {
		if keys == nil || len(keys.inner) == 0 || !keys.inner[0].seals(now) {
			keys, err = db.updateTokenKeys(ctx, now, true)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	newest := keys.inner[0]
	outer := binary.BigEndian.AppendUint64(nil, uint64(now.Add(TokenLife).UnixMilli()))
	outer = binary.BigEndian.AppendUint64(outer, uint64(newest.created))
	if outer, err = newest.Seal(outer, content, ref.tokenData("inner")); err != nil {
		return nil, err
	}
	return keys.outer.Seal([]byte{tokenVersion}, outer, ref.tokenData("outer"))
}

// OpenToken returns the content of an import token for the key at ref. It returns crypto.ErrDecrypt
// if this store has not sealed it for that key, and ErrTokenExpired if it has, but too long ago.
// The caller owns the content, and erases it.
func (db *DB) OpenToken(ctx context.Context, ref Ref, token []byte, now time.Time) ([]byte, error) {
	keys, err := db.tokenKeys.Load(), error(nil)
	if keys == nil {
		keys, err = db.loadTokenKeys(ctx)
	}
	if err != nil {
		return nil, err
	}
	if keys == nil || len(token) == 0 || token[0] != tokenVersion {
		return nil, crypto.ErrDecrypt
	}
	outer, err := keys.outer.Open(nil, token[1:], ref.tokenData("outer"))
	if err != nil {
		return nil, err
	}
	if len(outer) < outerDataBytes {
		return nil, crypto.ErrDecrypt
	}
	expires, created := int64(binary.BigEndian.Uint64(outer)), int64(binary.BigEndian.Uint64(outer[8:]))
	if now.UnixMilli() >= expires {
		return nil, ErrTokenExpired
	}
	inner := keys.find(created)
	if inner == nil { // of another process, which has renewed the keys since they were loaded
		if keys, err = db.loadTokenKeys(ctx); err != nil {
			return nil, err
		}
		if keys != nil {
			inner = keys.find(created)
		}
		if inner == nil { // the clock was set back: its key is deleted
			return nil, ErrTokenExpired
		}
	}
	return inner.Open(nil, outer[outerDataBytes:], ref.tokenData("inner"))
}

func (k *tokenKeys) find(created int64) *innerKey {
	for i := range k.inner {
		if k.inner[i].created == created {
			return &k.inner[i]
		}
	}
	return nil
}

// tokenData is what a layer of a token is bound to.
func (r Ref) tokenData(layer string) []byte {
	return []byte("pocketkms import token 1 " + layer + "\n" + r.path())
}

// loadTokenKeys returns the keys in the store, or nil if there are none yet.
func (db *DB) loadTokenKeys(ctx context.Context) (*tokenKeys, error) {
	r, err := db.store.Get(ctx, tokenKeysName)
	if errors.Is(err, keystore.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer secret.Clear(r.Value)
	return db.useTokenKeys(r)
}

// useTokenKeys keeps the keys of a record for later calls, and returns them.
func (db *DB) useTokenKeys(r keystore.Record) (*tokenKeys, error) {
	keys, err := db.parseTokenKeys(r)
	if err != nil {
		return nil, err
	}
	db.tokenKeys.Store(keys)
	return keys, nil
}

func (db *DB) parseTokenKeys(r keystore.Record) (*tokenKeys, error) {
	body, err := recordBody(r)
	if err != nil {
		return nil, err
	}
	n := (len(body) - tokenKeyBytes) / innerKeyBytes
	if n < 0 || n > maxInnerKeys || len(body) != tokenKeyBytes+n*innerKeyBytes {
		return nil, fmt.Errorf("%w: record %s holds no keys", keystore.ErrCorrupt, r.Key)
	}
	parse := func(key []byte) (crypto.AEAD, error) {
		k, err := crypto.XAES256GCM(db.config.Clock).Parse(key)
		if err != nil {
			return nil, err
		}
		return k.(crypto.AEAD), nil
	}
	keys := new(tokenKeys)
	if keys.outer, err = parse(body[:tokenKeyBytes]); err != nil {
		return nil, err
	}
	for body = body[tokenKeyBytes:]; len(body) > 0; body = body[innerKeyBytes:] {
		key, err := parse(body[8:innerKeyBytes])
		if err != nil {
			return nil, err
		}
		keys.inner = append(keys.inner, innerKey{int64(binary.BigEndian.Uint64(body)), key})
	}
	return keys, nil
}

// updateTokenKeys deletes the inner keys that no valid token needs any more and, with seal, stores
// a new one if there is none that seals the tokens of now. It returns the keys in the store, or nil
// if there are none.
func (db *DB) updateTokenKeys(ctx context.Context, now time.Time, seal bool) (*tokenKeys, error) {
	r, err := db.store.Get(ctx, tokenKeysName)
	switch {
	case errors.Is(err, keystore.ErrNotFound) && !seal:
		return nil, nil
	case errors.Is(err, keystore.ErrNotFound):
		r = keystore.Record{Key: tokenKeysName, Value: make([]byte, 1+tokenKeyBytes)}
		r.Value[0] = recordVersion
		rand.Read(r.Value[1:])
	case err != nil:
		return nil, err
	}
	defer secret.Clear(r.Value)
	keys, err := db.useTokenKeys(r)
	if err != nil {
		return nil, err
	}
	kept := slices.IndexFunc(keys.inner, func(k innerKey) bool { return !k.opens(now) })
	if kept < 0 {
		kept = len(keys.inner)
	}
	add := seal && (kept == 0 || !keys.inner[0].seals(now))
	if !add && kept == len(keys.inner) {
		return keys, nil
	}
	value := make([]byte, 0, len(r.Value)+innerKeyBytes)
	value = append(value, r.Value[:1+tokenKeyBytes]...)
	if add {
		kept = min(kept, maxInnerKeys-1)
		value = binary.BigEndian.AppendUint64(value, uint64(now.UnixMilli()))
		value = value[:len(value)+tokenKeyBytes]
		rand.Read(value[len(value)-tokenKeyBytes:])
	}
	value = append(value, r.Value[1+tokenKeyBytes:][:kept*innerKeyBytes]...)
	defer secret.Clear(value)
	_, err = db.store.Commit(ctx, keystore.Tx{
		Expect: []keystore.Expectation{{Key: r.Key, Revision: r.Revision}},
		Puts:   []keystore.Put{{Key: r.Key, Value: value}},
		Scrub:  r.Revision != 0,
	})
	if err = db.acceptUnscrubbed(err); err != nil {
		return nil, err
	}
	return db.useTokenKeys(keystore.Record{Key: r.Key, Value: value})
}

// dropTokenKeys deletes the inner keys that no valid token needs any more.
func (db *DB) dropTokenKeys(ctx context.Context) error {
	_, err := db.updateTokenKeys(ctx, db.config.Clock(), false)
	if errors.Is(err, ErrConflict) { // another process was faster
		return nil
	}
	return err
}
