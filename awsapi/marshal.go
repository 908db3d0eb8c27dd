package awsapi

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/shape"
)

// Marshal returns the JSON that the protocol has for an input or output, such as a
// *kms.EncryptInput, including its secrets. What has no members is an empty object.
func Marshal(v any) ([]byte, error) {
	s, err := shapeOf(v)
	if err != nil {
		return nil, err
	}
	if len(s.Members) == 0 {
		return []byte("{}"), nil
	}
	return encode(nil, s, v), nil
}

// Unmarshal decodes the JSON of the protocol into a zero input or output. Unknown members are
// ignored, and empty text means the body of an output without members. The errors contain nothing
// of the text.
func Unmarshal(data []byte, v any) error {
	s, err := shapeOf(v)
	if err != nil || len(data) == 0 {
		return err
	}
	if _, err = decode(data, s, v); err != nil {
		return fmt.Errorf("awsapi: not the JSON of a %T: %w", v, err)
	}
	return nil
}

// shapeOf returns the shape of an input or output.
func shapeOf(v any) (*shape.Struct, error) {
	if t := reflect.TypeOf(v); t != nil && t.Kind() == reflect.Pointer && !reflect.ValueOf(v).IsNil() {
		t = t.Elem()
		ofAPI := strings.HasSuffix(t.Name(), "Input") || strings.HasSuffix(t.Name(), "Output")
		if ofAPI && t.PkgPath() == reflect.TypeFor[kms.Service]().PkgPath() {
			return shape.OfType(t), nil
		}
	}
	return nil, fmt.Errorf("awsapi: a %T is neither an input nor an output", v)
}
