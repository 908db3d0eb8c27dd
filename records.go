package kms

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

	"github.com/pocketkms/kms/keystore"
)

// What is stored, and under which name. docs/store.md has the table.
//
//	key/ACCOUNT/REGION/KEYID                a keyRecord
//	material/ACCOUNT/REGION/KEYID/MATERIAL  one key material
//	alias/ACCOUNT/REGION/NAME               an aliasRecord; NAME without "alias/"
//	aliasof/ACCOUNT/REGION/KEYID/NAME       that the alias points to the key
//	usage/ACCOUNT/REGION/KEYID              a usageRecord
//	due/TIME/ACCOUNT/REGION/KEYID           that the key is to be deleted at TIME
//	event/TIME/N/EVENTID                    an audit.Event that the sink has not taken yet
//
// Names are visible to whoever steals the store; values are sealed.

// A keyRef says where a key lives.
type keyRef struct {
	account, region, id string
}

func (r keyRef) place() place { return place{r.account, r.region, r.id} }

func (r keyRef) path() string { return r.account + "/" + r.region + "/" + r.id }

func (r keyRef) recordName() string    { return "key/" + r.path() }
func (r keyRef) usageName() string     { return "usage/" + r.path() }
func (r keyRef) materialsName() string { return "material/" + r.path() + "/" }
func (r keyRef) materialName(materialID string) string {
	return r.materialsName() + materialID
}
func (r keyRef) aliasesName() string { return "aliasof/" + r.path() + "/" }
func (r keyRef) aliasName(alias string) string {
	return r.aliasesName() + strings.TrimPrefix(alias, aliasPrefix)
}
func (r keyRef) dueName(at time.Time) string {
	return "due/" + dueTime(at) + "/" + r.path()
}

// dueTime prints a time so that byte order is time order.
func dueTime(at time.Time) string { return fmt.Sprintf("%012d", max(at.Unix(), 0)) }

func keysOf(account, region string) string { return "key/" + account + "/" + region + "/" }

// parseKeyName is the inverse of recordName.
func parseKeyName(name string) (keyRef, bool) {
	parts := strings.Split(name, "/")
	if len(parts) != 4 || parts[0] != "key" {
		return keyRef{}, false
	}
	return keyRef{parts[1], parts[2], parts[3]}, true
}

// parseDueName is the inverse of dueName, without its time.
func parseDueName(name string) (keyRef, bool) {
	parts := strings.Split(name, "/")
	if len(parts) != 5 || parts[0] != "due" {
		return keyRef{}, false
	}
	return keyRef{parts[2], parts[3], parts[4]}, true
}

// An aliasRef says where an alias lives; its name has the prefix "alias/".
type aliasRef struct {
	account, region, name string
}

func (r aliasRef) place() place { return place(r) }

func (r aliasRef) recordName() string {
	return aliasesOf(r.account, r.region) + strings.TrimPrefix(r.name, aliasPrefix)
}

func aliasesOf(account, region string) string { return "alias/" + account + "/" + region + "/" }

func parseAliasName(name string) (aliasRef, bool) {
	parts := strings.SplitN(name, "/", 4)
	if len(parts) != 4 || parts[0] != "alias" {
		return aliasRef{}, false
	}
	return aliasRef{parts[1], parts[2], aliasPrefix + parts[3]}, true
}

// A keyRecord is all that is stored of a key but its materials, its aliases and
// its last usage. Where the key lives is in the record's name, to which the seal
// binds it.
type keyRecord struct {
	Spec              KeySpec        `json:"spec"`
	Usage             KeyUsageType   `json:"usage"`
	Origin            OriginType     `json:"origin"`
	Manager           KeyManagerType `json:"manager"`
	Created           time.Time      `json:"created"`
	Description       string         `json:"description,omitempty"`
	Disabled          bool           `json:"disabled,omitempty"`
	MultiRegion       bool           `json:"multiRegion,omitempty"`
	Policy            string         `json:"policy"`
	Tags              []Tag          `json:"tags,omitempty"`              // by key, ascending
	DeletionDate      *time.Time     `json:"deletionDate,omitempty"`      // while pending deletion
	Ending            bool           `json:"ending,omitempty"`            // its destruction has begun: there is no way back
	Materials         []keyMaterial  `json:"materials,omitempty"`         // oldest first; the last is current
	Rotation          *keyRotation   `json:"rotation,omitempty"`          // while automatic rotation is on
	OnDemandRotations int            `json:"onDemandRotations,omitempty"` // ever made
}

// A keyMaterial is what is known of one material besides its bytes.
type keyMaterial struct {
	ID       string       `json:"id"`
	Rotated  *time.Time   `json:"rotated,omitempty"` // when it became current; absent for the first
	Rotation RotationType `json:"rotation,omitempty"`
}

type keyRotation struct {
	PeriodInDays int32     `json:"periodInDays"`
	Next         time.Time `json:"next"`
}

// An aliasRecord is what is stored of an alias.
type aliasRecord struct {
	Key     string    `json:"key"` // the ID of the key that it names
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
}

// A usageRecord is the last successful cryptographic operation under a key.
type usageRecord struct {
	Operation KeyLastUsageTrackingOperation `json:"operation"`
	Time      time.Time                     `json:"time"`
	RequestID [16]byte                      `json:"requestID"`
	EventID   [16]byte                      `json:"eventID"`
}

// recordVersion is the first byte of every record. A change that an older
// reader must not overlook raises it.
const recordVersion = 1

// clone returns a copy that can be changed without harm to the original.
func (r *keyRecord) clone() *keyRecord {
	c := *r
	c.Tags = slices.Clone(r.Tags)
	c.Materials = slices.Clone(r.Materials)
	if r.Rotation != nil {
		c.Rotation = new(*r.Rotation)
	}
	return &c
}

// encodeRecord gives record the form in which it is stored.
func encodeRecord(record any) []byte {
	text, err := json.Marshal(record)
	if err != nil { // our own structures of strings, numbers and times
		panic(fmt.Sprintf("kms: a record cannot be encoded: %T", record))
	}
	return append([]byte{recordVersion}, text...)
}

// recordBody returns what follows the version byte of a record.
func recordBody(r keystore.Record) ([]byte, error) {
	switch {
	case len(r.Value) == 0:
		return nil, fmt.Errorf("%w: record %s is empty", keystore.ErrCorrupt, r.Key)
	case r.Value[0] != recordVersion:
		return nil, fmt.Errorf("%w: record %s has version %d", keystore.ErrNewerVersion, r.Key, r.Value[0])
	}
	return r.Value[1:], nil
}

// readRecord reads the record of that name from the store; nil if there is none.
func readRecord[T any](ctx context.Context, c *core, name string) (*T, keystore.Revision, error) {
	r, err := c.store.Get(ctx, name)
	if errors.Is(err, keystore.ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	record, err := decodeRecord[T](r)
	return record, r.Revision, err
}

// decodeRecord reads what encodeRecord made. It refuses members that it does
// not know: to write the record back without them would lose them.
func decodeRecord[T any](r keystore.Record) (*T, error) {
	body, err := recordBody(r)
	if err != nil {
		return nil, err
	}
	record := new(T)
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(record); err != nil {
		return nil, fmt.Errorf("%w: record %s cannot be read", keystore.ErrCorrupt, r.Key)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: record %s has trailing bytes", keystore.ErrCorrupt, r.Key)
	}
	return record, nil
}
