package keydb

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/keystore"
)

// The records and their names. docs/store.md has the table.
//
//	key/ACCOUNT/REGION/KEYID                a Record
//	material/ACCOUNT/REGION/KEYID/MATERIAL  one key material
//	alias/ACCOUNT/REGION/NAME               an aliasRecord; NAME is without "alias/"
//	aliasof/ACCOUNT/REGION/KEYID/NAME       index: the alias points to the key
//	lastuse/ACCOUNT/REGION/KEYID            a Use
//	due/TIME/ACCOUNT/REGION/KEYID           index: the key, or some of its material, is to be deleted at TIME;
//	                                        0: it is to be looked at
//	shared/ACCOUNT/KEYID                    a sharedRecord
//	sharedmaterial/ACCOUNT/KEYID/MATERIAL   one key material of related multi-Region keys
//	event/TIME/N/EVENTID                    an audit.Event that the sink does not have yet
//	defaults                                the Defaults
//	tokenkeys                               the keys that seal import tokens
//	keyevent/TIME/N/EVENTID                 an audit.KeyEvent that has not been received yet
//	keycount/ACCOUNT/REGION/XX              a keyCount: how many keys have IDs that begin with XX
//
// Names can be read by whoever has the store; values are sealed.
const (
	keyPrefix      = "key/"
	materialPrefix = "material/"
	aliasPrefix    = "alias/"
	aliasOfPrefix  = "aliasof/"
	lastUsePrefix  = "lastuse/"
	duePrefix      = "due/"
	eventPrefix    = "event/"
	tokenKeysName  = "tokenkeys"

	sharedPrefix         = "shared/"
	sharedMaterialPrefix = "sharedmaterial/"
	keyEventPrefix       = "keyevent/"
)

// A Ref says where a key is: its account and Region, and its key ID.
type Ref struct {
	Account, Region, ID string
}

// ARN returns the key's ARN.
func (r Ref) ARN() string { return arn.Key(r.Account, r.Region, r.ID) }

func (r Ref) cacheKey() cacheKey { return cacheKey(r) }
func (r Ref) path() string       { return r.Account + "/" + r.Region + "/" + r.ID }

func (r Ref) recordName() string            { return keyPrefix + r.path() }
func (r Ref) lastUseName() string           { return lastUsePrefix + r.path() }
func (r Ref) materialsName() string         { return materialPrefix + r.path() + "/" }
func (r Ref) materialName(id string) string { return r.materialsName() + id }
func (r Ref) aliasesName() string           { return aliasOfPrefix + r.path() + "/" }
func (r Ref) aliasName(alias string) string {
	return r.aliasesName() + strings.TrimPrefix(alias, arn.AliasPrefix)
}
func (r Ref) dueName(at time.Time) string    { return duePrefix + dueTime(at) + "/" + r.path() }
func keysName(account, region string) string { return keyPrefix + account + "/" + region + "/" }
func dueTime(at time.Time) string            { return fmt.Sprintf("%012d", max(at.Unix(), 0)) } // byte order is time order

// parseRef is the inverse of path.
func parseRef(path string) (Ref, bool) {
	parts := strings.Split(path, "/")
	if len(parts) != 3 || !arn.IsAccount(parts[0]) || !arn.IsRegion(parts[1]) || !arn.IsKeyID(parts[2]) {
		return Ref{}, false
	}
	return Ref{parts[0], parts[1], parts[2]}, true
}

// parseKeyName is the inverse of recordName.
func parseKeyName(name string) (Ref, bool) {
	path, ok := strings.CutPrefix(name, keyPrefix)
	if !ok {
		return Ref{}, false
	}
	return parseRef(path)
}

// parseDueName is the inverse of dueName. at is the text of the time.
func parseDueName(name string) (at string, ref Ref, ok bool) {
	at, path, _ := strings.Cut(strings.TrimPrefix(name, duePrefix), "/")
	ref, ok = parseRef(path)
	return at, ref, ok && len(at) == len(dueTime(time.Time{}))
}

// An AliasRef says where an alias is: its account and Region, and its name, which begins with
// "alias/".
type AliasRef struct {
	Account, Region, Name string
}

// ARN returns the alias's ARN.
func (r AliasRef) ARN() string { return arn.Alias(r.Account, r.Region, r.Name) }

func (r AliasRef) cacheKey() cacheKey { return cacheKey{r.Account, r.Region, r.Name} }

func (r AliasRef) recordName() string {
	return aliasesName(r.Account, r.Region) + strings.TrimPrefix(r.Name, arn.AliasPrefix)
}

func aliasesName(account, region string) string { return aliasPrefix + account + "/" + region + "/" }

// parseAliasName is the inverse of recordName.
func parseAliasName(name string) (AliasRef, bool) {
	path, ok := strings.CutPrefix(name, aliasPrefix)
	parts := strings.SplitN(path, "/", 3)
	if !ok || len(parts) != 3 || !arn.IsAccount(parts[0]) || !arn.IsRegion(parts[1]) || !arn.IsAlias(arn.AliasPrefix+parts[2]) {
		return AliasRef{}, false
	}
	return AliasRef{parts[0], parts[1], arn.AliasPrefix + parts[2]}, true
}

// A Record is what is stored of a key, except its materials, aliases and last use. The key's
// account, Region and ID are in the record's name, to which the seal binds it. Texts are those of
// the API. A Record in a [Key] must not be changed.
//
// What a multi-Region key has in common with the related keys in other Regions, Materials,
// Rotation, OnDemandRotations and Shared, is stored once for all of them, in a sharedRecord.
type Record struct {
	Spec              string           `json:"spec"`
	Usage             string           `json:"usage"`
	Origin            string           `json:"origin"`
	Manager           string           `json:"manager"`
	Created           time.Time        `json:"created"`
	Description       string           `json:"description,omitempty"`
	Disabled          bool             `json:"disabled,omitempty"`
	MultiRegion       bool             `json:"multiRegion,omitempty"`
	Policy            string           `json:"policy"`
	Tags              []Tag            `json:"tags,omitempty"`              // sorted by key
	DeletionDate      *time.Time       `json:"deletionDate,omitempty"`      // while pending deletion
	DeletionWindow    int32            `json:"deletionWindow,omitempty"`    // in days; while pending replica deletion
	Creating          *time.Time       `json:"creating,omitempty"`          // until when a replica is being created
	Destroying        bool             `json:"destroying,omitempty"`        // some of the key may be deleted already
	Materials         []MaterialRecord `json:"materials,omitempty"`         // oldest first; the last is current
	Staged            *MaterialRecord  `json:"staged,omitempty"`            // imported; current after the next rotation
	Rotation          *Rotation        `json:"rotation,omitempty"`          // while automatic rotation is enabled
	OnDemandRotations int              `json:"onDemandRotations,omitempty"` // ever made
	Grants            int              `json:"grants,omitempty"`            // how many there are now
	CustomKeyStore    string           `json:"customKeyStore,omitempty"`    // the ID of the store that the key is in
	DeviceKey         string           `json:"deviceKey,omitempty"`         // the name of the key in the device of that store
	Shared            *Shared          `json:"-"`                           // of a multi-Region key

	// Of a multi-Region key whose material is imported. In a snapshot, Materials and Staged have what
	// Imported has in the store, and Dropped what is not among them any more.
	Imported       []ImportedCopy `json:"imported,omitempty"`
	Dropped        []ImportedCopy `json:"-"`
	PrimaryValidTo *time.Time     `json:"primaryValidTo,omitempty"` // when the replica was created: the expiry of the primary
}

// A Tag is a tag of a key.
type Tag struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// A MaterialRecord is what is stored of a key material beside its bytes.
type MaterialRecord struct {
	ID           string     `json:"id"`                     // 64 hexadecimal digits
	Rotated      *time.Time `json:"rotated,omitempty"`      // when it became current; nil for the first
	RotationType string     `json:"rotationType,omitempty"` // of the API

	// Of imported material only.
	Absent      bool       `json:"absent,omitempty"`      // its bytes were deleted; they can be imported again
	ValidTo     *time.Time `json:"validTo,omitempty"`     // when its bytes are deleted; nil: never, or already
	Description string     `json:"description,omitempty"` // given by the caller
}

// A Rotation is the schedule of automatic rotation.
type Rotation struct {
	PeriodInDays int32     `json:"periodInDays"`
	Next         time.Time `json:"next"`
}

// An aliasRecord is what is stored of an alias.
type aliasRecord struct {
	Key     string    `json:"key"` // the ID of the key that it points to
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
}

// recordVersion is the first byte of every record. A change that an older reader must not miss
// raises it.
const recordVersion = 2

// clone returns a copy that can be changed without changing r.
func (r *Record) clone() *Record {
	c := *r
	c.Tags = slices.Clone(r.Tags)
	c.Materials = slices.Clone(r.Materials)
	if r.Rotation != nil {
		c.Rotation = new(*r.Rotation)
	}
	if r.Staged != nil {
		c.Staged = new(*r.Staged)
	}
	if r.Shared != nil {
		c.Shared = r.Shared.clone()
	}
	return &c
}

// encodeRecord returns the stored form of a record.
func encodeRecord(record any) []byte {
	text, err := json.Marshal(record)
	if err != nil { // our own structs of strings, numbers and times
		panic(fmt.Sprintf("keydb: a %T cannot be encoded", record))
	}
	return append([]byte{recordVersion}, text...)
}

// index is the stored form of a record of which only the name matters.
var index = encodeRecord(struct{}{})

// recordBody returns what follows the version byte of a record.
func recordBody(r keystore.Record) ([]byte, error) {
	switch {
	case len(r.Value) == 0:
		return nil, fmt.Errorf("%w: record %s is empty", keystore.ErrCorrupt, r.Key)
	case r.Value[0] < recordVersion:
		return nil, fmt.Errorf("%w: record %s has version %d, of a development version of this package that is not supported",
			keystore.ErrCorrupt, r.Key, r.Value[0])
	case r.Value[0] > recordVersion:
		return nil, fmt.Errorf("%w: record %s has version %d", keystore.ErrNewerVersion, r.Key, r.Value[0])
	}
	return r.Value[1:], nil
}

// readRecord reads a record of the store. It returns nil if it does not exist.
func readRecord[T any](ctx context.Context, db *DB, name string) (*T, keystore.Revision, error) {
	r, err := db.store.Get(ctx, name)
	if errors.Is(err, keystore.ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	record, err := decodeRecord[T](r)
	return record, r.Revision, err
}

// decodeRecord is the inverse of encodeRecord. It refuses members that it does not know: they would
// be lost when the record is written back.
func decodeRecord[T any](r keystore.Record) (*T, error) {
	body, err := recordBody(r)
	if err != nil {
		return nil, err
	}
	record := new(T)
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(record); err != nil {
		return nil, fmt.Errorf("%w: record %s cannot be decoded", keystore.ErrCorrupt, r.Key)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: record %s has trailing bytes", keystore.ErrCorrupt, r.Key)
	}
	return record, nil
}

// clearPuts erases the key material and the secrets among what was stored.
func clearPuts(puts []keystore.Put) {
	for _, p := range puts {
		switch {
		case strings.HasPrefix(p.Key, materialPrefix), strings.HasPrefix(p.Key, sharedMaterialPrefix),
			strings.HasPrefix(p.Key, storeSecretPrefix), p.Key == tokenKeysName:
			secret.Clear(p.Value)
		}
	}
}
