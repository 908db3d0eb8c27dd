package envelope

// KMSKey returns a keyring that uses the key with an identifier: key ID, key ARN, alias name or
// alias ARN. It decrypts data keys of that key only, also those that another replica of a
// multi-Region key encrypted. The grant tokens are passed with every call.
//
// An alias is resolved by the KMS with each call: what was encrypted before the alias was moved to
// another key is not decrypted.
func KMSKey(svc KMS, keyID string, grantTokens ...string) Keyring { panic("skeleton") }

// A DiscoveryFilter limits the keys that [KMSDiscovery] uses. The zero value allows every key that
// the caller may use.
type DiscoveryFilter struct {
	// Partition and Accounts are those that keys must belong to. Set both or neither.
	Partition string
	Accounts  []string

	// Region, if set, makes multi-Region keys usable there whichever replica encrypted, and skips
	// other keys of other Regions.
	Region string
}

// KMSDiscovery returns a keyring that decrypts with the keys that messages name. Who can write
// messages then chooses the key, within the filter and the caller's permissions. It cannot encrypt.
func KMSDiscovery(svc KMS, filter DiscoveryFilter, grantTokens ...string) Keyring { panic("skeleton") }
