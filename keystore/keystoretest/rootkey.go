package keystoretest

import (
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/pocketkms/kms/keystore"
)

// RootKey returns a new random root key for a store in any Backend. Unlike that of a passphrase its
// use takes no time.
func RootKey() keystore.RootKey {
	handle, err := keyset.NewHandle(aead.XAES256GCM192BitNonceKeyTemplate())
	if err != nil {
		panic(err)
	}
	key, err := aead.New(handle)
	if err != nil {
		panic(err)
	}
	return keystore.External("test", key)
}
