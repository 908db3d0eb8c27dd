package envelope

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	reservedPrefix = "aws-crypto-"           // of keys that only implementations of the format use
	publicKeyPair  = "aws-crypto-public-key" // holds the public key of a signed message
	maxContext     = math.MaxUint16 - 2      // in bytes; what all implementations accept
)

// An encryptionContext is the complete encryption context of a message: the caller's pairs, and that
// of the signature.
type encryptionContext struct {
	pairs   map[string]string // not to be changed
	encoded []byte            // canonical: what raw keyrings authenticate
}

// newContext returns the context of pairs, which it keeps.
func newContext(pairs map[string]string) (*encryptionContext, error) {
	encoded, err := encodeContext(pairs)
	if err != nil {
		return nil, err
	}
	return &encryptionContext{pairs: pairs, encoded: encoded}, nil
}

// encodeContext returns the canonical encoding of pairs: their number, and each key and value with
// its length, sorted by the UTF-8 bytes of the keys. No pairs are no bytes.
func encodeContext(pairs map[string]string) ([]byte, error) {
	if len(pairs) == 0 {
		return nil, nil
	}
	size := 2
	var few [8]string
	keys := few[:0]
	for k, v := range pairs {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return nil, fmt.Errorf("%w: a pair is not UTF-8", ErrContext)
		}
		size += 4 + len(k) + len(v)
		if size > maxContext {
			return nil, fmt.Errorf("%w: it has more than %d bytes", ErrContext, maxContext)
		}
		keys = append(keys, k)
	}
	slices.Sort(keys)
	b := binary.BigEndian.AppendUint16(make([]byte, 0, size), uint16(len(pairs)))
	for _, k := range keys {
		b = appendString(appendString(b, k), pairs[k])
	}
	return b, nil
}

// appendString appends s, of at most 65,535 bytes, after its length.
func appendString[T string | []byte](b []byte, s T) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// decodeContext returns the pairs of a message's header. It accepts them in any order: some
// implementations sorted by UTF-16, and the order means nothing. The header's tag authenticates the
// bytes. It refuses repeated keys, and a number of pairs that is 0, which nobody writes.
func decodeContext(b []byte) (map[string]string, error) {
	if len(b) == 0 {
		return nil, nil
	}
	count, b, ok := cutUint16(b)
	if !ok || count == 0 || count > len(b)/4 {
		return nil, fmt.Errorf("%w: its encryption context has an impossible number of pairs", ErrAltered)
	}
	pairs := make(map[string]string, count)
	for range count {
		var k, v []byte
		if k, b, ok = cutString(b); ok {
			v, b, ok = cutString(b)
		}
		if !ok || !utf8.Valid(k) || !utf8.Valid(v) {
			return nil, fmt.Errorf("%w: its encryption context is malformed", ErrAltered)
		}
		if _, repeated := pairs[string(k)]; repeated {
			return nil, fmt.Errorf("%w: its encryption context repeats a key", ErrAltered)
		}
		pairs[string(k)] = string(v)
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%w: bytes follow its encryption context", ErrAltered)
	}
	return pairs, nil
}

func cutUint16(b []byte) (n int, rest []byte, ok bool) {
	if len(b) < 2 {
		return 0, nil, false
	}
	return int(binary.BigEndian.Uint16(b)), b[2:], true
}

func cutString(b []byte) (s, rest []byte, ok bool) {
	n, b, ok := cutUint16(b)
	if !ok || n > len(b) {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}

// checkCallerPairs refuses pairs that callers must not give, and a context without a required key.
func checkCallerPairs(pairs map[string]string, required []string) error {
	for k := range pairs {
		if strings.HasPrefix(k, reservedPrefix) {
			return fmt.Errorf("%w: keys that begin with %s are reserved", ErrContext, reservedPrefix)
		}
	}
	for _, k := range required {
		if _, ok := pairs[k]; !ok {
			return fmt.Errorf("%w: it lacks the required key %q", ErrContext, k)
		}
	}
	return nil
}

// checkRequiredKeys refuses option values that no context can satisfy, and returns a copy.
func checkRequiredKeys(keys []string) ([]string, error) {
	for _, k := range keys {
		if k == "" || !utf8.ValidString(k) || strings.HasPrefix(k, reservedPrefix) {
			return nil, fmt.Errorf("envelope: RequiredContextKeys: %q cannot be required", k)
		}
	}
	keys = slices.Clone(keys)
	slices.Sort(keys)
	return slices.Compact(keys), nil
}

// withoutKeys returns pairs without some keys, and those of these keys.
func withoutKeys(pairs map[string]string, keys []string) (kept, taken map[string]string) {
	if len(keys) == 0 {
		return pairs, nil
	}
	kept, taken = maps.Clone(pairs), make(map[string]string, len(keys))
	for _, k := range keys {
		taken[k] = pairs[k]
		delete(kept, k)
	}
	return kept, taken
}

// reproduce joins the stored pairs of a message with those that the caller gives. A given pair must
// equal the stored one; the pairs that are only given are authenticated with the header.
func reproduce(stored, given map[string]string) (all, onlyGiven map[string]string, err error) {
	all = stored
	for k, v := range given {
		if have, ok := stored[k]; ok {
			if have != v {
				return nil, nil, fmt.Errorf("%w: the message has another value of %q", ErrContext, k)
			}
			continue
		}
		if onlyGiven == nil {
			all, onlyGiven = make(map[string]string, len(stored)+len(given)), make(map[string]string)
			maps.Copy(all, stored)
		}
		all[k], onlyGiven[k] = v, v
	}
	return all, onlyGiven, nil
}

// callerPairs returns a copy of pairs without the reserved ones.
func callerPairs(pairs map[string]string) map[string]string {
	callers := make(map[string]string, len(pairs))
	for k, v := range pairs {
		if !strings.HasPrefix(k, reservedPrefix) {
			callers[k] = v
		}
	}
	return callers
}
