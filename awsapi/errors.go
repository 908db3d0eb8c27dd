package awsapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/pocketkms/kms"
)

// An exception is an error as it goes over the wire.
type exception struct {
	status  int
	code    kms.ErrorCode
	message string // some exceptions have none
}

func (e *exception) Error() string { return string(e.code) + ": " + e.message }

// Exceptions of the protocol, which the service itself never answers with.
const (
	unknownOperation   kms.ErrorCode = "UnknownOperationException"
	serialization      kms.ErrorCode = "SerializationException"
	tooLarge           kms.ErrorCode = "RequestEntityTooLargeException"
	serviceUnavailable kms.ErrorCode = "ServiceUnavailableException"
)

func refuse(code kms.ErrorCode, message string) *exception {
	return &exception{http.StatusBadRequest, code, message}
}

// statuses are those of the service's own failures. Its other exceptions have 400, whatever the API's model says of them.
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

// internalMessage is all that a client learns of a failure that lies behind a KMSInternalException.
const internalMessage = "The request could not be completed."

// exceptionOf is the wire's form of what a call failed with. hidden is an error that the operator should hear of, since
// the client does not.
func exceptionOf(err error) (e *exception, hidden error) {
	var sent *exception
	var failure *kms.Error
	switch {
	case errors.As(err, &sent):
		return sent, nil
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
