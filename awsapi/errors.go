package awsapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/pocketkms/kms"
)

// An exception is an error as it is sent to a client.
type exception struct {
	status  int
	code    kms.ErrorCode
	message string // "" for exceptions without a message
}

func (e *exception) Error() string { return string(e.code) + ": " + e.message }

// Exceptions of the protocol, which no operation returns.
const (
	unknownOperation   kms.ErrorCode = "UnknownOperationException"
	serialization      kms.ErrorCode = "SerializationException"
	tooLarge           kms.ErrorCode = "RequestEntityTooLargeException"
	serviceUnavailable kms.ErrorCode = "ServiceUnavailableException"
)

func badRequest(code kms.ErrorCode, message string) *exception {
	return &exception{http.StatusBadRequest, code, message}
}

// statuses are those of failures of the service. Every other exception has the status 400, whatever
// the API's model says.
var statuses = map[kms.ErrorCode]int{
	kms.KMSInternalException:       http.StatusInternalServerError,
	kms.KeyUnavailableException:    http.StatusInternalServerError,
	kms.DependencyTimeoutException: http.StatusServiceUnavailable,
	serviceUnavailable:             http.StatusServiceUnavailable,
}

func statusOf(code kms.ErrorCode) int {
	if status, ok := statuses[code]; ok {
		return status
	}
	return http.StatusBadRequest
}

// internalMessage is sent in place of the cause of a KMSInternalException.
const internalMessage = "The request could not be completed."

// exceptionOf returns the exception that is sent for an error, and the error to log if the
// exception hides its cause.
func exceptionOf(err error) (e *exception, hidden error) {
	var protocol *exception
	var failure *kms.Error
	switch {
	case errors.As(err, &protocol):
		return protocol, nil
	case errors.As(err, &failure):
		code, message := failure.Code, failure.Message
		if failure.Code == kms.KMSInternalException && failure.Unwrap() != nil {
			message, hidden = internalMessage, err
		}
		return &exception{statusOf(code), code, message}, hidden
	case errors.Is(err, kms.ErrClosed):
		return &exception{http.StatusServiceUnavailable, serviceUnavailable, "The service is shutting down."}, nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &exception{http.StatusServiceUnavailable, kms.DependencyTimeoutException, "The request was not completed in time."}, nil
	}
	return &exception{http.StatusInternalServerError, kms.KMSInternalException, internalMessage}, err
}
