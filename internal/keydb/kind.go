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
	}
	return OtherKind
}
