package keydb

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/keystore"
)

// The records of the custom key stores, and their names:
//
//	customstore/ACCOUNT/REGION/STOREID                a StoreRecord
//	customstoresecret/ACCOUNT/REGION/STOREID          the password or the access key of its device
//	customstorekey/ACCOUNT/REGION/STOREID/DEVICEKEY   index: the KMS key of a key of the device
//	customstores/ACCOUNT/REGION                       a directory: the names of all stores
const (
	storePrefix       = "customstore/"
	storeSecretPrefix = "customstoresecret/"
	storeKeyPrefix    = "customstorekey/"
	directoryPrefix   = "customstores/"
)

// The types and connection states of custom key stores, and the origins of their keys, by their
// names in the API.
const (
	cloudHSM      = "AWS_CLOUDHSM"
	externalStore = "EXTERNAL_KEY_STORE"

	Connected    = "CONNECTED"
	Connecting   = "CONNECTING"
	Disconnected = "DISCONNECTED"
	failed       = "FAILED"
)

// A StoreRef says where a custom key store is: its account and Region, and its ID.
type StoreRef struct {
	Account, Region, ID string
}

func (r StoreRef) path() string                 { return r.Account + "/" + r.Region + "/" + r.ID }
func (r StoreRef) recordName() string           { return storePrefix + r.path() }
func (r StoreRef) secretName() string           { return storeSecretPrefix + r.path() }
func (r StoreRef) keysName() string             { return storeKeyPrefix + r.path() + "/" }
func (r StoreRef) keyName(device string) string { return r.keysName() + device }

func directoryName(account, region string) string { return directoryPrefix + account + "/" + region }

// parseStoreRef is the inverse of path.
func parseStoreRef(path string) (StoreRef, bool) {
	parts := strings.Split(path, "/")
	if len(parts) != 3 || !arn.IsAccount(parts[0]) || !arn.IsRegion(parts[1]) || parts[2] == "" {
		return StoreRef{}, false
	}
	return StoreRef{parts[0], parts[1], parts[2]}, true
}

// A StoreRecord is what is stored of a custom key store, except the secret. Texts are those of the
// API.
type StoreRecord struct {
	Name      string    `json:"name"`
	Type      string    `json:"type"`
	Created   time.Time `json:"created"`
	State     string    `json:"state"`
	ErrorCode string    `json:"errorCode,omitempty"` // why the connection failed
	Attempts  int       `json:"attempts,omitempty"`  // to connect, ever

	Cluster     string `json:"cluster,omitempty"`
	TrustAnchor string `json:"trustAnchor,omitempty"`

	Connectivity string `json:"connectivity,omitempty"`
	Endpoint     string `json:"endpoint,omitempty"`
	Path         string `json:"path,omitempty"`
	Service      string `json:"service,omitempty"`
	ServiceOwner string `json:"serviceOwner,omitempty"`
	AccessKeyID  string `json:"accessKeyID,omitempty"`
}

// A directory has the ID of each custom key store of an account and Region, by its name. What must
// differ between stores is compared, and their number counted, on condition that it does not
// change.
type directory struct {
	IDs map[string]string `json:"ids"`
}

// External reports whether the keys are in an external key manager, and not in an HSM.
func (r *StoreRecord) External() bool { return r.Type == externalStore }

// DeviceName returns the name of the device in Config.Devices.
func (r *StoreRecord) DeviceName() string { return r.Cluster + r.Endpoint + r.Path }

// user returns whom the device knows: the user of AWS KMS in a CloudHSM cluster, or an access key.
func (r *StoreRecord) user() string { return cmp.Or(r.AccessKeyID, "kmsuser") }

// A Store is an immutable snapshot of a custom key store.
type Store struct {
	StoreRef
	*StoreRecord

	revision keystore.Revision
}

// associatedData returns what a device authenticates with the encrypted part of a ciphertext: of an
// external key manager the encryption context; of an HSM, which may take little, a hash that has
// the beginning of the ciphertext in it, too.
func (s *Store) associatedData(beginning, encryptionContext []byte) []byte {
	if s.External() {
		return bytes.Clone(encryptionContext)
	}
	sum := sha256.Sum256(slices.Concat(beginning, encryptionContext))
	return sum[:]
}

// Store returns the custom key store at ref, or nil if it does not exist. It is not cached: what
// other processes change is seen at once.
func (db *DB) Store(ctx context.Context, ref StoreRef) (*Store, error) {
	record, revision, err := readRecord[StoreRecord](ctx, db, ref.recordName())
	if record == nil || err != nil {
		return nil, err
	}
	return &Store{ref, record, revision}, nil
}

// StoreSecret returns the secret of s. The caller destroys it.
func (db *DB) StoreSecret(ctx context.Context, s *Store) (*secret.Bytes, error) {
	r, err := db.store.Get(ctx, s.secretName())
	if err != nil {
		if errors.Is(err, keystore.ErrNotFound) {
			return nil, ErrConflict // the store was deleted
		}
		return nil, err
	}
	body, err := recordBody(r)
	if err != nil {
		return nil, err
	}
	return secret.New(body), nil
}

// Stores are the custom key stores of an account and Region, by name.
type Stores struct {
	account, region string
	ids             map[string]string
	revision        keystore.Revision
}

// Stores returns the custom key stores of an account and Region. Creating a store is based on them,
// and so is a change of what must be unique.
func (db *DB) Stores(ctx context.Context, account, region string) (*Stores, error) {
	record, revision, err := readRecord[directory](ctx, db, directoryName(account, region))
	if err != nil {
		return nil, err
	}
	all := &Stores{account: account, region: region, ids: map[string]string{}, revision: revision}
	if record != nil {
		maps.Copy(all.ids, record.IDs)
	}
	return all, nil
}

// Len returns the number of stores.
func (all *Stores) Len() int { return len(all.ids) }

// Named returns the store of that name.
func (all *Stores) Named(name string) (ref StoreRef, ok bool) {
	id, ok := all.ids[name]
	return StoreRef{all.account, all.region, id}, ok
}

// Sorted yields the stores by ID. If one was deleted since all was read, the error is ErrConflict.
func (db *DB) Sorted(ctx context.Context, all *Stores) iter.Seq2[*Store, error] {
	return func(yield func(*Store, error) bool) {
		for _, id := range slices.Sorted(maps.Values(all.ids)) {
			s, err := db.Store(ctx, StoreRef{all.account, all.region, id})
			if s == nil && err == nil {
				err = ErrConflict
			}
			if !yield(s, err) || err != nil {
				return
			}
		}
	}
}

// change adds to tx a change of the directory: change is applied to a copy.
func (all *Stores) change(tx *keystore.Tx, change func(ids map[string]string)) {
	ids := maps.Clone(all.ids)
	change(ids)
	name := directoryName(all.account, all.region)
	tx.Expect = append(tx.Expect, keystore.Expectation{Key: name, Revision: all.revision})
	if len(ids) == 0 {
		tx.Deletes = append(tx.Deletes, name)
		return
	}
	tx.Puts = append(tx.Puts, keystore.Put{Key: name, Value: encodeRecord(directory{ids})})
}

func (r StoreRef) putSecret(tx *keystore.Tx, password []byte) {
	tx.Puts = append(tx.Puts, keystore.Put{Key: r.secretName(), Value: append([]byte{recordVersion}, password...)})
}

// CreateStore stores a new custom key store, with the password or the access key of its device.
func (db *DB) CreateStore(ctx context.Context, all *Stores, ref StoreRef, record *StoreRecord, password []byte) error {
	var tx keystore.Tx
	defer func() { clearPuts(tx.Puts) }()
	all.change(&tx, func(ids map[string]string) { ids[record.Name] = ref.ID })
	tx.Expect = append(tx.Expect, keystore.Expectation{Key: ref.recordName()})
	tx.Puts = append(tx.Puts, keystore.Put{Key: ref.recordName(), Value: encodeRecord(record)})
	ref.putSecret(&tx, password)
	_, err := db.store.Commit(ctx, tx)
	return err
}

// UpdateStore stores record as the next state of s. A password replaces the present one, which is
// erased; nil leaves it.
func (db *DB) UpdateStore(ctx context.Context, all *Stores, s *Store, record *StoreRecord, password []byte) error {
	var tx keystore.Tx
	defer func() { clearPuts(tx.Puts) }()
	all.change(&tx, func(ids map[string]string) {
		delete(ids, s.Name)
		ids[record.Name] = s.ID
	})
	s.put(&tx, record)
	if password != nil {
		tx.Scrub = true
		s.putSecret(&tx, password)
	}
	return db.commitScrubbed(ctx, tx)
}

// put adds to tx that record is the next state of s.
func (s *Store) put(tx *keystore.Tx, record *StoreRecord) {
	tx.Expect = append(tx.Expect, keystore.Expectation{Key: s.recordName(), Revision: s.revision})
	tx.Puts = append(tx.Puts, keystore.Put{Key: s.recordName(), Value: encodeRecord(record)})
}

func (db *DB) commitScrubbed(ctx context.Context, tx keystore.Tx) error {
	_, err := db.store.Commit(ctx, tx)
	if errors.Is(err, keystore.ErrNotScrubbed) { // done all the same
		db.config.Logger.Warn("kms: traces of a former password of a custom key store may be left until the next deletion or start", "error", err)
		err = nil
	}
	return err
}

// DeleteStore deletes s, which must have no keys.
func (db *DB) DeleteStore(ctx context.Context, all *Stores, s *Store) error {
	tx := keystore.Tx{
		Expect:  []keystore.Expectation{{Key: s.recordName(), Revision: s.revision}},
		Deletes: []string{s.recordName(), s.secretName()},
		Scrub:   true,
	}
	all.change(&tx, func(ids map[string]string) { delete(ids, s.Name) })
	return db.commitScrubbed(ctx, tx)
}

// HasKeys reports whether s has keys, in whatever state. A key can be created in a connected store
// only: as long as s is as it is now, a store that is not gets none.
func (db *DB) HasKeys(ctx context.Context, s *Store) (bool, error) {
	for _, err := range db.names(ctx, s.keysName(), "", 1) {
		return err == nil, err
	}
	return false, nil
}

// HasDeviceKey reports whether a key of the device of s is that of a KMS key in s.
func (db *DB) HasDeviceKey(ctx context.Context, s *Store, key string) (bool, error) {
	return db.exists(ctx, s.keyName(key))
}

// A storeKey is the value of a record customstorekey/.
type storeKey struct {
	Key string `json:"key"` // the ID of the KMS key
}

// inStore adds to tx that a new key is in s, which must not change meanwhile: a store that is to be
// deleted is disconnected first.
func (s *Store) inStore(tx *keystore.Tx, ref Ref, record *Record) {
	name := s.keyName(record.DeviceKey)
	tx.Expect = append(tx.Expect, keystore.Expectation{Key: s.recordName(), Revision: s.revision}, keystore.Expectation{Key: name})
	tx.Puts = append(tx.Puts, keystore.Put{Key: name, Value: encodeRecord(storeKey{ref.ID})})
}

// CreateInStore is Create for a key of a custom key store. In an HSM it makes the key that record
// does not name, and deletes it again if the KMS key cannot be stored.
func (db *DB) CreateInStore(ctx context.Context, s *Store, ref Ref, record *Record, options CreateOptions, call DeviceCall) (*Key, error) {
	call.KeyARN = ref.ARN()
	options.store = s
	record.CustomKeyStore = s.ID
	if s.External() {
		return db.Create(ctx, ref, record, options)
	}
	var err error
	if record.DeviceKey, err = db.createDeviceKey(ctx, s, call); err != nil {
		return nil, err
	}
	k, err := db.Create(ctx, ref, record, options)
	if err != nil {
		db.dropOrphan(context.WithoutCancel(ctx), s, ref, record.DeviceKey, call)
	}
	return k, err
}

// dropOrphan deletes a key of an HSM, unless the KMS key is stored after all, or that is not known.
func (db *DB) dropOrphan(ctx context.Context, s *Store, ref Ref, key string, call DeviceCall) {
	stored, err := db.exists(ctx, ref.recordName())
	if err == nil && !stored {
		err = db.deleteDeviceKey(ctx, s, key, call)
	}
	if err != nil {
		db.config.Logger.Warn("kms: a key that is not used may be left in a device", "custom key store", s.ID, "key", key, "error", err)
	}
}

// inCurrentStore returns k with its custom key store, as that is now, and its state by that.
func (db *DB) inCurrentStore(ctx context.Context, k *Key) (*Key, error) {
	ref := StoreRef{k.Account, k.Region, k.Record.CustomKeyStore}
	s, err := db.Store(ctx, ref)
	if err != nil {
		return nil, err
	}
	if s == nil {
		if err := db.RequireCurrent(ctx, k); err != nil { // both were deleted
			return nil, err
		}
		return nil, fmt.Errorf("%w: record %s does not exist, but the store has a key", keystore.ErrCorrupt, ref.recordName())
	}
	now := *k
	now.Store = s
	if s.State != Connected && k.State != PendingDeletion {
		now.State = Unavailable
	}
	return &now, nil
}

// Connect begins to connect s. The attempt is made in the background, by this process or, if this
// one ends before, by the next.
func (db *DB) Connect(ctx context.Context, s *Store) error {
	if s.State == Disconnected {
		record := *s.StoreRecord
		record.State = Connecting
		record.Attempts++
		var tx keystore.Tx
		s.put(&tx, &record)
		if _, err := db.store.Commit(ctx, tx); err != nil {
			return err
		}
	}
	select {
	case db.connects <- struct{}{}:
	default: // the work in the background is about to look
	}
	return nil
}

// Disconnect disconnects s, which takes effect at once. It also ends an attempt to connect.
func (db *DB) Disconnect(ctx context.Context, s *Store) error {
	record := *s.StoreRecord
	record.State, record.ErrorCode = Disconnected, ""
	var tx keystore.Tx
	s.put(&tx, &record)
	_, err := db.store.Commit(ctx, tx)
	return err
}

// connectStores calls connectPending whenever a connection begins. The sweep calls it at the start,
// for the attempts that a process left when it ended, and once a minute.
func (db *DB) connectStores(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-db.connects:
		}
		if err := db.guard("connect", func() error { return db.connectPending(ctx) }); err != nil && ctx.Err() == nil {
			db.config.Logger.Warn("kms: custom key stores are not connected yet", "error", err)
		}
	}
}

// connectPending begins an attempt for each store that has none under way.
func (db *DB) connectPending(ctx context.Context) error {
	for name, err := range db.names(ctx, storePrefix, "", sweepBatch) {
		if err != nil {
			return err
		}
		ref, ok := parseStoreRef(strings.TrimPrefix(name, storePrefix))
		if !ok {
			continue // Check reports it
		}
		s, err := db.Store(ctx, ref)
		switch {
		case errors.Is(err, keystore.ErrCorrupt):
			continue
		case err != nil:
			return err
		case s == nil || s.State != Connecting:
			continue
		}
		type attempt struct {
			StoreRef
			number int
		}
		under := attempt{s.StoreRef, s.Attempts}
		if _, busy := db.attempts.LoadOrStore(under, true); busy {
			continue
		}
		db.workers.Go(func() { // no device waits for another
			defer db.attempts.Delete(under)
			err := db.guard("connect", func() error { return db.attempt(ctx, s) })
			if err != nil && ctx.Err() == nil {
				db.config.Logger.Warn("kms: a custom key store is not connected yet", "custom key store", s.ID, "error", err)
			}
		})
	}
	return nil
}

// attempt tries to connect s and stores what became of it, unless s has been disconnected
// meanwhile.
func (db *DB) attempt(ctx context.Context, s *Store) error {
	code, err := db.connectionError(ctx, s)
	if err != nil {
		return err
	}
	attempt := s.Attempts
	return retry(ctx, func() error {
		s, err := db.Store(ctx, s.StoreRef)
		if err != nil || s == nil || s.State != Connecting || s.Attempts != attempt {
			return err
		}
		record := *s.StoreRecord
		if record.State = Connected; code != "" {
			record.State, record.ErrorCode = failed, code
		}
		var tx keystore.Tx
		s.put(&tx, &record)
		_, err = db.store.Commit(ctx, tx)
		return err
	})
}

// connectionError returns the ConnectionErrorCode of an attempt to connect s, empty if it succeeds.
func (db *DB) connectionError(ctx context.Context, s *Store) (code string, err error) {
	password, err := db.StoreSecret(ctx, s)
	if err != nil {
		return "", err
	}
	defer password.Destroy()
	health, err := db.DeviceHealth(ctx, s, password.Expose(), DeviceCall{Operation: "ConnectCustomKeyStore"})
	var failure *DeviceError
	switch {
	case errors.As(err, &failure):
		return failure.ConnectionErrorCode(), nil
	case err != nil:
		return "", err
	case s.External():
	case health.HSMs < 1:
		return "INSUFFICIENT_CLOUDHSM_HSMS", nil
	case !s.HasTrustAnchor(health):
		return notListed.hsmConnection, nil
	}
	return "", nil
}

// HasTrustAnchor reports whether the trust anchor of s is that of a device, if the device tells.
func (r *StoreRecord) HasTrustAnchor(h DeviceHealth) bool {
	return h.TrustAnchor == "" || strings.TrimSpace(h.TrustAnchor) == strings.TrimSpace(r.TrustAnchor)
}

// checkStore checks a record of a custom key store against those that it belongs to.
func (db *DB) checkStore(ctx context.Context, r keystore.Record, kind, path string, wrong func(string, ...any) error) error {
	if kind == "customstores" {
		return db.checkDirectory(ctx, r, path, wrong)
	}
	device := ""
	if kind == "customstorekey" {
		end := strings.LastIndexByte(path, '/')
		path, device = path[:max(end, 0)], path[end+1:]
	}
	ref, ok := parseStoreRef(path)
	if !ok {
		return wrong("has no possible name")
	}
	s, err := db.Store(ctx, ref)
	if err != nil {
		return err
	}
	if s == nil {
		return wrong("is of a custom key store that does not exist")
	}
	switch kind {
	case "customstore":
		all, err := db.Stores(ctx, ref.Account, ref.Region)
		if err != nil {
			return err
		}
		if all.ids[s.Name] != ref.ID {
			return wrong("is of a custom key store that is not in the directory")
		}
		if ok, err := db.exists(ctx, ref.secretName()); err != nil || !ok {
			return errors.Join(err, wrong("is of a custom key store without a secret"))
		}
		if s.External() != (s.Cluster == "") || s.External() != (s.Endpoint != "") {
			return wrong("is of no possible custom key store")
		}
	case "customstorekey":
		entry, err := decodeRecord[storeKey](r)
		if err != nil {
			return err
		}
		key := Ref{ref.Account, ref.Region, entry.Key}
		record, _, err := readRecord[Record](ctx, db, key.recordName())
		if err != nil {
			return err
		}
		if record == nil || record.CustomKeyStore != ref.ID || record.DeviceKey != device {
			return wrong("is of a key that is not in the custom key store")
		}
	}
	return nil
}

func (db *DB) checkDirectory(ctx context.Context, r keystore.Record, path string, wrong func(string, ...any) error) error {
	entries, err := decodeRecord[directory](r)
	if err != nil {
		return err
	}
	for name, id := range entries.IDs {
		ref, ok := parseStoreRef(path + "/" + id)
		if !ok {
			return wrong("names no possible custom key store")
		}
		s, err := db.Store(ctx, ref)
		if err != nil {
			return err
		}
		if s == nil || s.Name != name {
			return wrong("has the name of a custom key store that does not have it")
		}
	}
	return nil
}

// checkInStore checks the record of a key against the index of its custom key store.
func (db *DB) checkInStore(ctx context.Context, ref Ref, record *Record, wrong func(string, ...any) error) error {
	if record.CustomKeyStore == "" || record.Destroying {
		return nil
	}
	store := StoreRef{ref.Account, ref.Region, record.CustomKeyStore}
	entry, _, err := readRecord[storeKey](ctx, db, store.keyName(record.DeviceKey))
	if err != nil {
		return err
	}
	if entry == nil || entry.Key != ref.ID {
		return wrong("is of a key that is not in the index of its custom key store")
	}
	return nil
}

// destroyInDevice deletes the keys of HSMs that KMS keys to be destroyed have there, as far as that
// is possible, and returns by key what the event of the deletion says of it. It returns ErrConflict
// if the deletion of a key was canceled by another process.
func (db *DB) destroyInDevice(ctx context.Context, keys []*Key) (events map[Ref]map[string]any, err error) {
	for i, k := range keys {
		if k.Record.Origin != cloudHSM {
			continue
		}
		if !k.Record.Destroying { // as in destroyPart
			if k, err = db.Update(ctx, k, func(r *Record) { r.Destroying = true }); err != nil {
				return nil, err
			}
			keys[i] = k
		}
		s, err := db.Store(ctx, StoreRef{k.Account, k.Region, k.Record.CustomKeyStore})
		if err != nil {
			return nil, err
		}
		if s == nil { // a part of the key was destroyed before
			continue
		}
		status := "SUCCESS"
		if s.State != Connected || db.deleteDeviceKey(ctx, s, k.Record.DeviceKey, DeviceCall{Operation: "DeleteKey", KeyARN: k.ARN}) != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			status = "FAILURE"
			db.config.Logger.Warn("kms: a deleted key stays in the device of its custom key store", "custom key store", s.ID, "key", k.Record.DeviceKey)
		}
		if events == nil {
			events = map[Ref]map[string]any{}
		}
		backing := `[{"keyHandle":"1","backingKeyId":"` + k.Record.DeviceKey + `"`
		events[k.Ref] = map[string]any{
			"customKeyStoreId":          s.ID,
			"clusterId":                 s.Cluster,
			"backingKeys":               backing + `}]`,
			"backingKeysDeletionStatus": backing + `,"deletionStatus":"` + status + `"}]`,
		}
	}
	return events, nil
}
