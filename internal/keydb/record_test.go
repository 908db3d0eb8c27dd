package keydb

import (
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/keystore"
)

// The stored form of records: docs/store.md describes it, and what is written here never changes
// from the first release on. New members may join a record if their absence means what it always
// meant.
func TestTheStoredFormOfRecordsDoesNotChange(t *testing.T) {
	at := func(text string) time.Time {
		v, err := time.Parse(time.RFC3339, text)
		require.NoError(t, err)
		return v
	}
	full := &Record{
		Spec: "SYMMETRIC_DEFAULT", Usage: "ENCRYPT_DECRYPT", Origin: "AWS_KMS", Manager: "CUSTOMER",
		Created: at("2026-03-01T12:00:00Z"), Description: "é", Disabled: true, MultiRegion: true, Policy: "{}",
		Tags:         []Tag{{"a", "b"}},
		DeletionDate: new(at("2026-04-01T12:00:00Z")), Destroying: true,
		Materials: []MaterialRecord{
			{ID: "00"},
			{ID: "11", Rotated: new(at("2026-03-02T12:00:00Z")), RotationType: "ON_DEMAND"},
		},
		Rotation:          &Rotation{PeriodInDays: 90, Next: at("2026-06-01T12:00:00Z")},
		OnDemandRotations: 1,
	}
	requireGolden(t, full, `{"spec":"SYMMETRIC_DEFAULT","usage":"ENCRYPT_DECRYPT","origin":"AWS_KMS","manager":"CUSTOMER",`+
		`"created":"2026-03-01T12:00:00Z","description":"é","disabled":true,"multiRegion":true,"policy":"{}",`+
		`"tags":[{"key":"a","value":"b"}],"deletionDate":"2026-04-01T12:00:00Z","destroying":true,`+
		`"materials":[{"id":"00"},{"id":"11","rotated":"2026-03-02T12:00:00Z","rotationType":"ON_DEMAND"}],`+
		`"rotation":{"periodInDays":90,"next":"2026-06-01T12:00:00Z"},"onDemandRotations":1}`)
	requireGolden(t, &Record{
		Spec: "HMAC_256", Usage: "GENERATE_VERIFY_MAC", Origin: "AWS_KMS", Manager: "AWS", Created: at("2026-03-01T12:00:00Z"),
	}, `{"spec":"HMAC_256","usage":"GENERATE_VERIFY_MAC","origin":"AWS_KMS","manager":"AWS","created":"2026-03-01T12:00:00Z","policy":""}`)
	requireGolden(t, &aliasRecord{Key: "k", Created: at("2026-03-01T12:00:00Z"), Updated: at("2026-03-02T12:00:00Z")},
		`{"key":"k","created":"2026-03-01T12:00:00Z","updated":"2026-03-02T12:00:00Z"}`)
	requireGolden(t, &Use{Operation: "Sign", Time: at("2026-03-01T12:00:00Z"), RequestID: [16]byte{1}, EventID: [16]byte{2}},
		`{"operation":"Sign","time":"2026-03-01T12:00:00Z","requestID":[1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"eventID":[2,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]}`)
}

func requireGolden[T any](t *testing.T, record *T, text string) {
	t.Helper()
	value := append([]byte{2}, text...)
	require.Equal(t, string(value), string(encodeRecord(record)))
	read, err := decodeRecord[T](keystore.Record{Key: "golden", Value: value})
	require.NoError(t, err)
	require.Equal(t, record, read)
}

func TestDecodeRecordRefusesWhatEncodeRecordDoesNotWrite(t *testing.T) {
	for value, want := range map[string]error{
		"":                         keystore.ErrCorrupt,
		"\x02":                     keystore.ErrCorrupt,
		"\x00{}":                   keystore.ErrCorrupt,
		"\x01{}":                   keystore.ErrCorrupt,
		"\x03{}":                   keystore.ErrNewerVersion,
		"{}":                       keystore.ErrNewerVersion,
		"\x02{\"unknown\":1}":      keystore.ErrCorrupt,
		"\x02{}{}":                 keystore.ErrCorrupt,
		"\x02[]":                   keystore.ErrCorrupt,
		"\x02{\"created\":\"x\"}":  keystore.ErrCorrupt,
		"\x02{\"materials\":\"\"}": keystore.ErrCorrupt,
	} {
		_, err := decodeRecord[Record](keystore.Record{Key: "k", Value: []byte(value)})
		require.ErrorIs(t, err, want, value)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	for _, record := range []any{Record{}, Record{Spec: "SYMMETRIC_DEFAULT", Tags: []Tag{{"k", "v"}}, Materials: []MaterialRecord{{ID: "x"}}}, aliasRecord{Key: "k"}, Use{}} {
		f.Add(encodeRecord(record))
	}
	for _, s := range []string{"", "\x02", "\x03{}", "\x02null", "\x02[]", "\x02{}{}", "\x02{} ", "\x02{\"unknown\":1}", "\x02{\"materials\":[],\"shared\":{\"replicas\":[]}}", "\x02{\"created\":\"never\"}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		r := keystore.Record{Key: "key/111122223333/us-east-1/k", Value: value}
		requireStable[Record](t, r)
		requireStable[aliasRecord](t, r)
		requireStable[Use](t, r)
	})
}

// requireStable requires that a record that can be read is the same once it is written and read
// again. An empty list is the same as none.
func requireStable[T any](t *testing.T, r keystore.Record) {
	record, err := decodeRecord[T](r)
	if err != nil {
		require.Nil(t, record)
		return
	}
	again, err := decodeRecord[T](keystore.Record{Key: r.Key, Value: encodeRecord(record)})
	require.NoError(t, err)
	dropEmptyLists(reflect.ValueOf(record))
	require.Equal(t, record, again)
}

func dropEmptyLists(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			dropEmptyLists(v.Elem())
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			if field.CanSet() {
				dropEmptyLists(field)
			}
		}
	case reflect.Map:
		if v.Len() == 0 {
			v.SetZero()
		}
	case reflect.Slice:
		if v.Len() == 0 {
			v.SetZero()
		}
		for i := range v.Len() {
			dropEmptyLists(v.Index(i))
		}
	}
}

func TestNamesAreParsedAsTheyAreWritten(t *testing.T) {
	ref := Ref{"111122223333", "us-east-1", "1234abcd-12ab-34cd-56ef-1234567890ab"}
	parsed, ok := parseKeyName(ref.recordName())
	require.True(t, ok)
	require.Equal(t, ref, parsed)
	at, parsed, ok := parseDueName(ref.dueName(hour(0)))
	require.True(t, ok)
	require.Equal(t, ref, parsed)
	require.Equal(t, dueTime(hour(0)), at)
	alias := AliasRef{"111122223333", "us-east-1", "alias/a/b"}
	parsedAlias, ok := parseAliasName(alias.recordName())
	require.True(t, ok)
	require.Equal(t, alias, parsedAlias)
	for _, name := range []string{"", "key/", "key/1/us-east-1/x", "key/111122223333/US/1234abcd-12ab-34cd-56ef-1234567890ab", "alias/111122223333/us-east-1/x",
		"key/111122223333/us-east-1/1234abcd-12ab-34cd-56ef-1234567890ab/x", "key/111122223333/us-east-1/1234ABCD-12ab-34cd-56ef-1234567890ab"} {
		_, ok := parseKeyName(name)
		require.False(t, ok, name)
	}
	for _, name := range []string{"", "alias/", "alias/111122223333/us-east-1/", "alias/111122223333/us-east-1/a b", "key/111122223333/us-east-1/x"} {
		_, ok := parseAliasName(name)
		require.False(t, ok, name)
	}
	for _, name := range []string{"due/", "due/000000000000", "due/0/" + ref.path(), "due/000000000000/" + ref.path() + "/x"} {
		_, _, ok := parseDueName(name)
		require.False(t, ok, name)
	}
}
