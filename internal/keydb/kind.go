package keydb

import "strings"

// A Kind says what a record is about.
type Kind int8

// The kinds of records that package kmstest distinguishes.
const (
	OtherKind  Kind = iota
	KeyKind         // a Record
	SharedKind      // what the keys of a multi-Region key have in common
	AliasKind       // an alias, or its entry in the index of its key
	GrantKind       // a GrantRecord, or its entry in an index
)

// KindOf returns the kind of the record of that name. The Backend of package kmstest, which delays
// when changes become visible, is the only code outside of this package that sees names.
func KindOf(name string) Kind {
	switch {
	case strings.HasPrefix(name, keyPrefix):
		return KeyKind
	case strings.HasPrefix(name, sharedPrefix):
		return SharedKind
	case strings.HasPrefix(name, aliasPrefix), strings.HasPrefix(name, aliasOfPrefix):
		return AliasKind
	case strings.HasPrefix(name, grantPrefix), strings.HasPrefix(name, granteePrefix),
		strings.HasPrefix(name, grantNamePrefix), strings.HasPrefix(name, retirablePrefix):
		return GrantKind
	}
	return OtherKind
}
