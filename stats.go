package kms

import (
	"context"
	"time"
)

// Stats are figures for monitoring.
type Stats struct {
	// Keys is how many customer managed keys, in all states, the caller's account has in the Region
	// of the view, and KeyQuota how many it can have.
	Keys, KeyQuota int

	// NextDeletion is when the next key of the store, of any account and Region, is deleted, and
	// NextExpiry when the next imported key material expires; zero if none is. If more than 1,000
	// other things are due first, it is the time before which none is.
	NextDeletion, NextExpiry time.Time
}

// Stats returns figures for monitoring. They come from counters and indexes, so that they take
// about the same time however many keys there are. It needs no permission.
func (s *Service) Stats(ctx context.Context) (Stats, error) {
	if err := s.ready(ctx); err != nil {
		return Stats{}, err
	}
	keys, err := s.core.db.CountKeys(ctx, s.caller.account, s.region)
	if err != nil {
		return Stats{}, err
	}
	next, err := s.core.db.Upcoming(ctx)
	if err != nil {
		return Stats{}, err
	}
	return Stats{
		Keys:         keys,
		KeyQuota:     s.core.config.Limits.KeysPerRegion,
		NextDeletion: next.Deletion,
		NextExpiry:   next.Expiry,
	}, nil
}
