package envelope

import (
	"errors"
	"fmt"
	"io"
)

// The reasons why a message or a call is refused, for errors.Is. Errors of the KMS and of the
// caller's readers and writers are passed through, wrapped.
var (
	// ErrNotMessage: the bytes are not a message of this format, or of a version or algorithm suite
	// that does not exist. They may be the base64 text of a message.
	ErrNotMessage = errors.New("envelope: not a message of the AWS Encryption SDK")

	// ErrTruncated: the input ends before the message does. It is also what an altered length field
	// looks like. It wraps [io.ErrUnexpectedEOF].
	ErrTruncated = fmt.Errorf("envelope: truncated message: %w", io.ErrUnexpectedEOF)

	// ErrAltered: the message does not verify. It was altered, it is damaged, or a pair of the
	// encryption context that was given is not the message's.
	ErrAltered = errors.New("envelope: the message was altered, or has another encryption context")

	// ErrContext: the encryption context is refused: a pair differs from the message's, a required
	// key is missing, or a pair cannot be part of a message.
	ErrContext = errors.New("envelope: encryption context refused")

	// ErrNoKey: no keyring decrypts any of the encrypted data keys. It comes with the errors of all
	// that were tried.
	ErrNoKey = errors.New("envelope: no keyring decrypts a data key of the message")

	// ErrCommitment: the message's algorithm suite does not commit to the data key, which
	// [RequireEncryptRequireDecrypt] refuses.
	ErrCommitment = errors.New("envelope: the algorithm suite does not commit to its key")

	// ErrSigned: the message has a signature, and the call cannot wait for it.
	ErrSigned = errors.New("envelope: signed message")

	// ErrLimit: the message exceeds a limit of the options.
	ErrLimit = errors.New("envelope: limit exceeded")
)
