package kms

import (
	"cmp"
	"fmt"

	"github.com/pocketkms/kms/internal/keydb"
)

// Limits are the resource quotas. Calls that would exceed one fail with [LimitExceededException].
// Zero means AWS's default. A limit that is lowered removes nothing.
type Limits struct {
	// KeysPerRegion is the most customer managed keys, in all states, of an account in a Region. The
	// default is 100,000. Processes that share a store may together exceed it by the keys that they
	// create at the same time.
	KeysPerRegion int
	// AliasesPerKey is the most aliases of a key. The default is 50.
	AliasesPerKey int
	// GrantsPerKey is the most grants of a key. The default is 50,000.
	GrantsPerKey int
	// CustomKeyStoresPerRegion is the most custom key stores of an account in a Region. The default
	// is 10.
	CustomKeyStoresPerRegion int
}

// setDefaults replaces what is zero. It returns an error if a limit is negative.
func (l *Limits) setDefaults() error {
	if l.KeysPerRegion < 0 || l.AliasesPerKey < 0 || l.GrantsPerKey < 0 || l.CustomKeyStoresPerRegion < 0 {
		return fmt.Errorf("kms: negative Limits: %+v", *l)
	}
	l.KeysPerRegion = cmp.Or(l.KeysPerRegion, 100_000)
	l.AliasesPerKey = cmp.Or(l.AliasesPerKey, 50)
	l.GrantsPerKey = cmp.Or(l.GrantsPerKey, 50_000)
	l.CustomKeyStoresPerRegion = cmp.Or(l.CustomKeyStoresPerRegion, 10)
	return nil
}

// limitExceeded returns the exception for a resource quota, by its name in the API's words.
func limitExceeded(quota string, limit, usage int) *Error {
	return exception(LimitExceededException, "%s quota for this account in this region is %d, current usage is %d.", quota, limit, usage)
}

// keyLimitError returns err, or the exception if it is that there are too many keys.
func keyLimitError(err error) error {
	if full, ok := err.(*keydb.TooManyKeysError); ok {
		return limitExceeded("Customer managed keys", full.Limit, full.Usage)
	}
	return err
}
