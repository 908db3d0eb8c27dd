package envelope

// An encryptionContext is the complete encryption context of a message.
type encryptionContext struct {
	pairs   map[string]string // with the pair of the signature's key
	encoded []byte
}
