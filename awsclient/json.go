package awsclient

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
)

// JSON returns a function that calls the operations of client by the JSON of the API, in any Region.
// client is a *kms.Client of the SDK, or anything that has some of its methods, such as a fake. Its
// errors are those of client, except that errors.Is finds [errors.ErrUnsupported] in the error for an
// operation or an input that client does not have, or does not send.
//
// It is for package kmstest/conformance, which checks clients and fakes.
func JSON(client any) func(ctx context.Context, region, operation string, input []byte) (output []byte, err error) {
	return func(ctx context.Context, region, operation string, input []byte) ([]byte, error) {
		method := reflect.ValueOf(client).MethodByName(operation)
		if !isOperation(method) {
			return nil, fmt.Errorf("awsclient: a %T has no %s: %w", client, operation, errors.ErrUnsupported)
		}
		in := reflect.New(method.Type().In(1).Elem())
		d := json.NewDecoder(bytes.NewReader(input))
		d.UseNumber()
		var members any
		if err := d.Decode(&members); err != nil {
			return nil, fmt.Errorf("awsclient: the input of %s is not JSON", operation)
		}
		if err := decode(in.Elem(), members); err != nil {
			return nil, fmt.Errorf("awsclient: an input of %s: %w", operation, err)
		}
		out := method.Call([]reflect.Value{reflect.ValueOf(ctx), in, reflect.ValueOf(func(o *awskms.Options) { o.Region = region })})
		if err, _ := out[1].Interface().(error); err != nil {
			if _, ok := errors.AsType[*smithy.InvalidParamsError](err); ok {
				return nil, fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
			}
			if e, ok := errors.AsType[*smithy.GenericAPIError](err); ok && e.Message == "UnknownError" {
				return nil, &smithy.GenericAPIError{Code: e.Code} // the SDK's word for no message
			}
			return nil, err
		}
		return json.Marshal(encode(out[0]))
	}
}

// isOperation reports whether a method is one of the SDK's client.
func isOperation(method reflect.Value) bool {
	if !method.IsValid() {
		return false
	}
	t := method.Type()
	return t.NumIn() == 3 && t.In(0) == reflect.TypeFor[context.Context]() && t.In(2) == reflect.TypeFor[[]func(*awskms.Options)]() &&
		t.In(1).Kind() == reflect.Pointer && t.In(1).Elem().Kind() == reflect.Struct &&
		t.NumOut() == 2 && t.Out(0).Kind() == reflect.Pointer && t.Out(1) == reflect.TypeFor[error]()
}

var errMember = fmt.Errorf("the SDK has no such member: %w", errors.ErrUnsupported)

// decode sets a value of the SDK to one of JSON, decoded with numbers as they are.
func decode(to reflect.Value, from any) error {
	if to.Kind() == reflect.Pointer {
		to.Set(reflect.New(to.Type().Elem()))
		return decode(to.Elem(), from)
	}
	switch from := from.(type) {
	case map[string]any:
		return decodeObject(to, from)
	case []any:
		if to.Kind() != reflect.Slice {
			return errMember
		}
		to.Set(reflect.MakeSlice(to.Type(), len(from), len(from)))
		for i, element := range from {
			if err := decode(to.Index(i), element); err != nil {
				return err
			}
		}
		return nil
	case string:
		switch {
		case to.Kind() == reflect.String:
			to.SetString(from)
			return nil
		case to.Type() == reflect.TypeFor[[]byte]():
			decoded, err := base64.StdEncoding.DecodeString(from)
			if err != nil {
				return errMember
			}
			to.SetBytes(decoded)
			return nil
		}
	case json.Number:
		number, err := from.Float64()
		switch {
		case err != nil:
		case to.Type() == reflect.TypeFor[time.Time]():
			to.Set(reflect.ValueOf(time.UnixMilli(int64(math.Round(number * 1000))).UTC()))
			return nil
		case to.CanInt() && number == math.Trunc(number) && !to.OverflowInt(int64(number)):
			to.SetInt(int64(number))
			return nil
		}
	case bool:
		if to.Kind() == reflect.Bool {
			to.SetBool(from)
			return nil
		}
	}
	return errMember
}

func decodeObject(to reflect.Value, from map[string]any) error {
	switch to.Kind() {
	case reflect.Map:
		to.Set(reflect.MakeMap(to.Type()))
		for key, value := range from {
			element := reflect.New(to.Type().Elem()).Elem()
			if err := decode(element, value); err != nil {
				return err
			}
			to.SetMapIndex(reflect.ValueOf(key).Convert(to.Type().Key()), element)
		}
		return nil
	case reflect.Struct:
		for name, value := range from {
			f, ok := to.Type().FieldByName(name)
			if !ok || !f.IsExported() {
				return errMember
			}
			if err := decode(to.FieldByIndex(f.Index), value); err != nil {
				return err
			}
		}
		return nil
	}
	return errMember
}

// encode returns a value of the SDK for package json: of a structure, the members that are present.
// A bool that is no pointer always is.
func encode(v reflect.Value) any {
	switch {
	case v.Kind() == reflect.Pointer:
		return encode(v.Elem())
	case v.Type() == reflect.TypeFor[[]byte]():
		return v.Bytes()
	case v.Type() == reflect.TypeFor[time.Time]():
		return float64(v.Interface().(time.Time).UnixMilli()) / 1000
	case v.Kind() == reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = encode(v.Index(i))
		}
		return list
	case v.Kind() == reflect.Struct:
		members := map[string]any{}
		for f, value := range v.Fields() {
			if f.IsExported() && f.Name != "ResultMetadata" && (!value.IsZero() || value.Kind() == reflect.Bool) {
				members[f.Name] = encode(value)
			}
		}
		return members
	}
	return v.Interface()
}
