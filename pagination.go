package kms

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"

	"github.com/pocketkms/kms/internal/secret"
	"github.com/pocketkms/kms/keystore"
)

// A page is the part of a listing that one call asks for. Each entry of a
// listing has a place, a string whose byte order is the order of the listing
// and which begins with the listing's scope.
type page struct {
	scope string
	after string // the place of the last entry of the page before; empty for the first page
	limit int
}

func (c *call) page(marker string, limit *int32, defaultLimit int, scope string) (page, error) {
	p := page{scope: scope, limit: defaultLimit}
	if limit != nil {
		p.limit = int(*limit)
	}
	var err error
	p.after, err = c.readMarker(marker, scope)
	return p, err
}

// collect turns the names of records, which are places of p's listing, into
// entries, up to one more than p's limit. entry returns nil for one to pass
// over.
func collect[T any](c *call, p page, entry func(name string) (*T, error)) ([]T, error) {
	list := []T{}
	for name, err := range c.names(c.ctx, p.scope, p.after, p.limit+1) {
		if err != nil {
			return nil, err
		}
		e, err := entry(name)
		if err != nil {
			return nil, err
		}
		if e != nil {
			list = append(list, *e)
		}
		if len(list) > p.limit {
			break
		}
	}
	return list, nil
}

// names are those of the records with a prefix, in order, read some at a time.
// They include the names of records that cannot be read: one damaged record
// shall not hide the others. It ends with the first error of the store's own.
func (c *core) names(ctx context.Context, prefix, after string, batch int) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for {
			records, err := c.store.Scan(ctx, prefix, after, batch)
			var damaged *keystore.RecordError
			if errors.As(err, &damaged) {
				records = append(records, keystore.Record{Key: damaged.Key})
			} else if err != nil {
				yield("", err)
				return
			}
			for _, r := range records {
				secret.Clear(r.Value)
				if r.Key <= after { // of a Backend that is not in order: there would be no end
					yield("", fmt.Errorf("%w: record %q is out of place", keystore.ErrCorrupt, r.Key))
					return
				}
				if !yield(r.Key, nil) {
					return
				}
				after = r.Key
			}
			if damaged == nil && len(records) < batch {
				return
			}
		}
	}
}

// cut returns the page of list, which is in order, and the marker of the next
// one; empty if there is none.
func cut[T any](c *call, p page, list []T, place func(T) string) ([]T, string) {
	for len(list) > 0 && place(list[0]) <= p.after {
		list = list[1:]
	}
	if len(list) <= p.limit {
		return list, ""
	}
	list = list[:p.limit]
	return list, c.marker(place(list[p.limit-1]), p.scope)
}

// A marker is the place of the last entry of a page, behind a checksum that
// ties it to its listing. Everything in it is known to the caller, and a
// listing authorizes each of its pages: the checksum only tells a marker of
// another listing, or a mistyped one, from a right one.
func (c *call) marker(place, scope string) string {
	return base64.RawURLEncoding.EncodeToString(append(c.markerSum(place, scope), place[len(scope):]...))
}

const markerSumBytes = 12

func (c *call) markerSum(place, scope string) []byte {
	sum := sha256.Sum256([]byte(c.op.name + "\x00" + scope + "\x00" + place))
	return sum[:markerSumBytes:markerSumBytes]
}

func (c *call) readMarker(marker, scope string) (place string, err error) {
	if marker == "" {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(marker)
	if err == nil && len(raw) > markerSumBytes {
		place := scope + string(raw[markerSumBytes:])
		// Compared as it is written: decoding passes over line breaks.
		if c.marker(place, scope) == marker {
			return place, nil
		}
	}
	return "", exception(InvalidMarkerException, "The marker is not valid.")
}
