// Package loglimit keeps a failure that happens again and again from filling the log.
package loglimit

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// A Limiter logs one kind of failure at most once a minute. Its zero value is ready for use.
type Limiter struct {
	last atomic.Int64 // when it was last logged, in seconds since 1970
}

// Error logs err at the level of errors, unless it logged one less than a minute before now.
func (l *Limiter) Error(logger *slog.Logger, now time.Time, message string, err error) {
	at := now.Unix()
	if last := l.last.Load(); at-last >= 60 && l.last.CompareAndSwap(last, at) {
		logger.Error(message, "error", err)
	}
}
