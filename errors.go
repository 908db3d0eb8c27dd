package kms

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	multierror "github.com/hashicorp/go-multierror"

	"github.com/pocketkms/kms/internal/keydb"
	"github.com/pocketkms/kms/internal/testhook"
)

// An ErrorCode is the name of an exception of the API. It is an error itself, so that errors.Is
// reports whether an error is that exception:
//
//	if errors.Is(err, kms.NotFoundException) { ... }
type ErrorCode string

// The exceptions of the API that this package returns, by their names in the AWS SDKs.
const (
	AccessDeniedException            ErrorCode = "AccessDeniedException"
	AlreadyExistsException           ErrorCode = "AlreadyExistsException"
	ConflictException                ErrorCode = "ConflictException"
	CustomKeyStoreNotFoundException  ErrorCode = "CustomKeyStoreNotFoundException"
	DependencyTimeoutException       ErrorCode = "DependencyTimeoutException"
	DisabledException                ErrorCode = "DisabledException"
	DryRunOperationException         ErrorCode = "DryRunOperationException"
	ExpiredImportTokenException      ErrorCode = "ExpiredImportTokenException"
	IncorrectKeyException            ErrorCode = "IncorrectKeyException"
	IncorrectKeyMaterialException    ErrorCode = "IncorrectKeyMaterialException"
	InvalidAliasNameException        ErrorCode = "InvalidAliasNameException"
	InvalidArnException              ErrorCode = "InvalidArnException"
	InvalidCiphertextException       ErrorCode = "InvalidCiphertextException"
	InvalidGrantIdException          ErrorCode = "InvalidGrantIdException"
	InvalidGrantTokenException       ErrorCode = "InvalidGrantTokenException"
	InvalidImportTokenException      ErrorCode = "InvalidImportTokenException"
	InvalidKeyUsageException         ErrorCode = "InvalidKeyUsageException"
	InvalidMarkerException           ErrorCode = "InvalidMarkerException"
	KMSInternalException             ErrorCode = "KMSInternalException"
	KMSInvalidMacException           ErrorCode = "KMSInvalidMacException"
	KMSInvalidSignatureException     ErrorCode = "KMSInvalidSignatureException"
	KMSInvalidStateException         ErrorCode = "KMSInvalidStateException"
	KeyUnavailableException          ErrorCode = "KeyUnavailableException"
	LimitExceededException           ErrorCode = "LimitExceededException"
	MalformedPolicyDocumentException ErrorCode = "MalformedPolicyDocumentException"
	NotFoundException                ErrorCode = "NotFoundException"
	TagException                     ErrorCode = "TagException"
	ThrottlingException              ErrorCode = "ThrottlingException"
	UnsupportedOperationException    ErrorCode = "UnsupportedOperationException"
	ValidationException              ErrorCode = "ValidationException"
)

// The exceptions of custom key stores.
const (
	CloudHsmClusterInUseException                           ErrorCode = "CloudHsmClusterInUseException"
	CloudHsmClusterInvalidConfigurationException            ErrorCode = "CloudHsmClusterInvalidConfigurationException"
	CloudHsmClusterNotActiveException                       ErrorCode = "CloudHsmClusterNotActiveException"
	CloudHsmClusterNotFoundException                        ErrorCode = "CloudHsmClusterNotFoundException"
	CloudHsmClusterNotRelatedException                      ErrorCode = "CloudHsmClusterNotRelatedException"
	CustomKeyStoreHasCMKsException                          ErrorCode = "CustomKeyStoreHasCMKsException"
	CustomKeyStoreInvalidStateException                     ErrorCode = "CustomKeyStoreInvalidStateException"
	CustomKeyStoreNameInUseException                        ErrorCode = "CustomKeyStoreNameInUseException"
	IncorrectTrustAnchorException                           ErrorCode = "IncorrectTrustAnchorException"
	XksKeyAlreadyInUseException                             ErrorCode = "XksKeyAlreadyInUseException"
	XksKeyInvalidConfigurationException                     ErrorCode = "XksKeyInvalidConfigurationException"
	XksKeyNotFoundException                                 ErrorCode = "XksKeyNotFoundException"
	XksProxyIncorrectAuthenticationCredentialException      ErrorCode = "XksProxyIncorrectAuthenticationCredentialException"
	XksProxyInvalidConfigurationException                   ErrorCode = "XksProxyInvalidConfigurationException"
	XksProxyInvalidResponseException                        ErrorCode = "XksProxyInvalidResponseException"
	XksProxyUriEndpointInUseException                       ErrorCode = "XksProxyUriEndpointInUseException"
	XksProxyUriInUseException                               ErrorCode = "XksProxyUriInUseException"
	XksProxyUriUnreachableException                         ErrorCode = "XksProxyUriUnreachableException"
	XksProxyVpcEndpointServiceInUseException                ErrorCode = "XksProxyVpcEndpointServiceInUseException"
	XksProxyVpcEndpointServiceInvalidConfigurationException ErrorCode = "XksProxyVpcEndpointServiceInvalidConfigurationException"
	XksProxyVpcEndpointServiceNotFoundException             ErrorCode = "XksProxyVpcEndpointServiceNotFoundException"
)

// Error returns the exception's name.
func (c ErrorCode) Error() string { return string(c) }

// An Error is an exception of the API. Operations return no other errors, except those of the
// context and [ErrClosed].
//
// Its text never holds a plaintext, a ciphertext, a key or a passphrase. It may repeat other
// members of the input, up to a limit.
type Error struct {
	Code      ErrorCode
	Message   string // in the API's words; some exceptions have none
	Operation string // the API operation that failed: "Encrypt"

	cause error
}

// ErrOtherDefaults is returned by [New] and [Open] for a store that was created for another account
// or Region than that of the Config.
var ErrOtherDefaults = errors.New("kms: the key store is of another account or Region")

// ErrClosed is returned by every call after [Service.Close].
var ErrClosed = errors.New("kms: the service is closed")

// The reasons for an [InvalidCiphertextException], for errors.Is. Only Go code learns them: the API
// does not distinguish them, so responses over HTTP and audit events do not have them.
var (
	// ErrNotCiphertext: the bytes do not have the form of a ciphertext of this service. They may be
	// the base64 text of one, or a ciphertext of another KMS.
	ErrNotCiphertext = errors.New("kms: not a ciphertext of this service")
	// ErrUnknownKeyMaterial: the ciphertext names a key material that its key does not have.
	ErrUnknownKeyMaterial = errors.New("kms: the key has no such key material")
	// ErrContextOrAltered: the encryption context is not the one given to Encrypt, or the
	// ciphertext was altered. The two cannot be distinguished. With an asymmetric key: the
	// ciphertext is of another key or algorithm, or was altered.
	ErrContextOrAltered = errors.New("kms: another encryption context, or an altered ciphertext")
	// ErrNotKeyMaterial: what was imported and unwrapped is not key material for the key's spec.
	ErrNotKeyMaterial = errors.New("kms: not key material for the key's spec")
)

// Error formats e as "kms: Operation: Code: Message", without the parts that are empty.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("kms: ")
	if e.Operation != "" {
		b.WriteString(e.Operation + ": ")
	}
	b.WriteString(string(e.Code))
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	return b.String()
}

// ErrorCode returns the exception's name, as the errors of the AWS SDK do.
func (e *Error) ErrorCode() string { return string(e.Code) }

// ErrorMessage returns the exception's message, as the errors of the AWS SDK do.
func (e *Error) ErrorMessage() string { return e.Message }

// Is reports whether target is the [ErrorCode] of e.
func (e *Error) Is(target error) bool {
	code, ok := target.(ErrorCode)
	return ok && code == e.Code
}

// Unwrap returns the cause of the exception, or nil. For a ValidationException that lists violated
// constraints it is a *multierror.Error with one error for each; for an InvalidCiphertextException
// it is or wraps [ErrNotCiphertext], [ErrUnknownKeyMaterial], [ErrContextOrAltered] or
// [ErrNotKeyMaterial]; ErrContextOrAltered also for a KMSInvalidStateException of a key in an
// external key store; for a KMSInternalException it is the error of the store (see package keystore)
// or the audit sink.
func (e *Error) Unwrap() error { return e.cause }

// exception returns an Error without its Operation, which wrapError sets.
func exception(code ErrorCode, format string, arguments ...any) *Error {
	if len(arguments) > 0 {
		format = fmt.Sprintf(format, arguments...)
	}
	return &Error{Code: code, Message: format}
}

func invalid(format string, arguments ...any) *Error {
	return exception(ValidationException, format, arguments...)
}

// invalidCiphertext returns the exception for a ciphertext that cannot be decrypted. Only Go code
// learns the cause.
func invalidCiphertext(cause error) *Error {
	return &Error{Code: InvalidCiphertextException, cause: cause}
}

// invalidShape returns the ValidationException for an input that violates the API's constraints.
func invalidShape(violations []error) *Error {
	all := &multierror.Error{
		Errors: violations,
		ErrorFormat: func(violations []error) string {
			noun := " validation errors detected: "
			if len(violations) == 1 {
				noun = " validation error detected: "
			}
			texts := make([]string, len(violations))
			for i, v := range violations {
				texts[i] = v.Error()
			}
			return strconv.Itoa(len(violations)) + noun + strings.Join(texts, "; ")
		},
	}
	return &Error{Code: ValidationException, Message: all.Error(), cause: all}
}

// wrapError returns err, which is not nil, in the form in which it leaves the package. Only err
// itself can be an exception of this service. One that it wraps comes from another service, which
// the store uses.
func wrapError(ctx context.Context, err error, operation string) error {
	if u, ok := err.(passthrough); ok {
		return u.error
	}
	if e, ok := err.(*Error); ok {
		if e.Operation == operation {
			return e
		}
		named := *e
		named.Operation = operation
		named.Message = strings.ToValidUTF8(e.Message, "\uFFFD") // it can repeat input
		return &named
	}
	switch {
	case errors.Is(err, testhook.ErrConnection):
		return err
	case errors.Is(err, keydb.ErrClosed), errors.Is(err, ErrClosed):
		return ErrClosed
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return err
	}
	return &Error{
		Code:      KMSInternalException,
		Message:   "The request could not be completed: " + err.Error(),
		Operation: operation,
		cause:     opaqueCause{err},
	}
}

// A passthrough is an error that reaches the caller as it is.
type passthrough struct{ error }

// An opaqueCause is an error of a store or a sink. If the store or sink uses a KMS itself, err can
// wrap exceptions of that KMS. opaqueCause hides them: they are not exceptions of this service.
type opaqueCause struct{ err error }

func (e opaqueCause) Error() string { return e.err.Error() }

// Is reports whether the hidden error matches target. It never matches an exception.
func (e opaqueCause) Is(target error) bool {
	_, exception := target.(ErrorCode)
	return !exception && errors.Is(e.err, target)
}

// As is like errors.As for the hidden error. It never finds an exception.
func (e opaqueCause) As(target any) bool {
	switch target.(type) {
	case **Error, *ErrorCode:
		return false
	}
	return errors.As(e.err, target)
}
