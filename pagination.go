package kms

import (
	"crypto/sha256"
	"encoding/base64"
	"iter"
)

// A page is the part of a list that one call requests. Lists are sorted by their sort keys.
type page struct {
	list  string // identifies the list among those of the operation
	after string // the sort key of the last entry of the page before; empty for the first page
	limit int
}

// callerList identifies a list of everything that the caller's account has in the Region.
func (c *call) callerList() string { return c.svc.caller.account + "/" + c.svc.region }

func (c *call) page(marker string, limit *int32, defaultLimit int, list string) (page, error) {
	p := page{list: list, limit: defaultLimit}
	if limit != nil {
		p.limit = int(*limit)
	}
	var err error
	p.after, err = c.readMarker(marker, list)
	return p, err
}

// collect returns the first entries of a sequence, at most one more than p's limit.
func collect[Source, Entry any](p page, all iter.Seq2[Source, error], entry func(Source) Entry) ([]Entry, error) {
	list := []Entry{}
	for s, err := range all {
		if err != nil {
			return nil, err
		}
		if list = append(list, entry(s)); len(list) > p.limit {
			break
		}
	}
	return list, nil
}

// truncate returns the page of list, which is sorted, and the marker of the next page, which is
// empty if there is none.
func truncate[Entry any](c *call, p page, list []Entry, sortKey func(Entry) string) ([]Entry, string) {
	for len(list) > 0 && p.after != "" && sortKey(list[0]) <= p.after {
		list = list[1:]
	}
	if len(list) <= p.limit {
		return list, ""
	}
	list = list[:p.limit]
	return list, c.marker(sortKey(list[p.limit-1]), p.list)
}

// marker returns the marker of the page after the entry with the sort key after: the sort key with
// a checksum in front. The checksum detects markers that are mistyped or of another list. It is not
// keyed, because the caller knows everything in a marker and every page is authorized.
func (c *call) marker(after, list string) string {
	return base64.RawURLEncoding.EncodeToString(append(c.markerSum(after, list), after...))
}

const markerSumBytes = 12

func (c *call) markerSum(after, list string) []byte {
	sum := sha256.Sum256([]byte(c.op.name + "\x00" + list + "\x00" + after))
	return sum[:markerSumBytes:markerSumBytes]
}

func (c *call) readMarker(marker, list string) (after string, err error) {
	if marker == "" {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(marker)
	if err == nil && len(raw) > markerSumBytes {
		after := string(raw[markerSumBytes:])
		// Compare the text: decoding ignores line breaks.
		if c.marker(after, list) == marker {
			return after, nil
		}
	}
	return "", exception(InvalidMarkerException, "The marker is not valid.")
}
