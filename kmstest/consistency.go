package kmstest

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/keydb"
	"github.com/pocketkms/kms/internal/testhook"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/memory"
)

// EventualConsistency delays when changes become visible, by d on the Service's clock. In AWS KMS a
// change is visible within moments, but not to every call that follows it.
//
// It delays new, moved and deleted aliases, new and deleted grants, and every change to an existing
// key: its state, description, tags, policy, rotation and key material, its replicas and its
// primary. Calls that read or use keys see all that as it was d ago. It does not delay new keys, by
// their ID or ARN, except replicas, nor the deletion of a key at the end of its waiting period. A
// call that makes a change is based on the latest state, so it can be refused because of what other
// calls do not see yet. So is a call with the grant token of a grant that is not visible yet: that
// is what tokens are for.
//
// While a change is hidden, a successful call does not count as a use of its key for
// GetKeyLastUsage, and audit events name no resources.
func EventualConsistency(d time.Duration) Option {
	return func(o *settings) { o.lag = max(d, 0) }
}

// A laggedStore is the Backend of a Service. It remembers what records were before the changes that
// are not visible yet.
type laggedStore struct {
	*memory.Backend

	mu      sync.Mutex
	changed bool       // since the store was created or forked
	config  kms.Config // of the Service
	lag     time.Duration
	hidden  []change  // not visible yet, oldest first
	version int       // incremented when what is visible may have changed
	past    *pastView // nil until it is needed
}

// A change is the state of a record before a commit.
type change struct {
	at      time.Time
	name    string
	before  []byte
	existed bool
}

// setLag sets by how much changes are delayed from now on. A lag of 0 also ends the delay of
// earlier changes.
func (l *laggedStore) setLag(config kms.Config, lag time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.config, l.lag = config, lag
}

// changeLag replaces the lag, and returns the former one.
func (l *laggedStore) changeLag(lag time.Duration) (former time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	former, l.lag = l.lag, lag
	return former
}

// fork returns a copy, and the lag that is to be set once the copy has a Service.
func (l *laggedStore) fork(now time.Time) (*laggedStore, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dropVisible(now)
	return &laggedStore{Backend: l.Backend.Fork(), hidden: slices.Clone(l.hidden)}, l.lag
}

// Commit implements keystore.Backend.
func (l *laggedStore) Commit(ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(tx.Puts)+len(tx.Deletes) == 0 {
		return l.Backend.Commit(ctx, tx)
	}
	l.changed = true
	if l.lag == 0 {
		return l.Backend.Commit(ctx, tx)
	}
	names := slices.Clone(tx.Deletes)
	for _, put := range tx.Puts {
		names = append(names, put.Key)
	}
	var changes []change
	replicates := slices.ContainsFunc(names, func(name string) bool { // or it changes what related keys share
		if keydb.KindOf(name) != keydb.SharedKind {
			return false
		}
		_, err := l.Backend.Get(ctx, name)
		return err == nil
	})
	for _, name := range names {
		kind := keydb.KindOf(name)
		if kind == keydb.OtherKind {
			continue
		}
		r, err := l.Backend.Get(ctx, name)
		switch {
		case err == nil:
			changes = append(changes, change{l.config.Clock(), name, r.Value, true})
		case !errors.Is(err, keystore.ErrNotFound):
			return 0, err
		case kind == keydb.KeyKind && !replicates, kind == keydb.SharedKind: // a new key is visible at once
		default:
			changes = append(changes, change{l.config.Clock(), name, nil, false})
		}
	}
	revision, err := l.Backend.Commit(ctx, tx)
	if err != nil {
		return 0, err
	}
	l.version++
	l.hidden = append(l.hidden, changes...)
	return revision, nil
}

// needsCheck reports whether the store differs from what its parent checks.
func (l *laggedStore) needsCheck() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// Close implements keystore.Backend.
func (l *laggedStore) Close() error {
	l.mu.Lock()
	l.closePast()
	l.mu.Unlock()
	return l.Backend.Close()
}

// dropVisible drops the changes that have become visible.
func (l *laggedStore) dropVisible(now time.Time) {
	first := slices.IndexFunc(l.hidden, func(c change) bool { return c.at.Add(l.lag).After(now) })
	if first < 0 {
		first = len(l.hidden)
	}
	if first > 0 {
		l.hidden = slices.Delete(l.hidden, 0, first)
		l.version++
	}
}

// A pastView is a service that sees what is visible now. It cannot change anything.
type pastView struct {
	*kms.Service
	version int
	users   int
	closed  bool // no new users; the last one closes the Service
}

// runVisible runs a call: on the past if the call changes nothing and changes are hidden, else as
// usual.
func (l *laggedStore) runVisible(ctx context.Context, call kms.Call, next func(context.Context) (any, error)) (any, error) {
	if !call.Operation.ReadOnly() {
		return next(ctx)
	}
	p, err := l.acquire()
	if err != nil {
		return nil, err
	}
	if p == nil {
		return next(ctx)
	}
	defer l.release(p)
	view := p.In(call.Service.Region()).As(call.Service.Caller())
	out, err := call.Operation.Invoke(ctx, view, testhook.WireInput(ctx, call.Input))
	if errors.Is(err, testhook.ErrReadOnly) {
		return next(ctx) // the call has to change something: a key is due for deletion, or an AWS managed key does not exist
	}
	if errors.Is(err, kms.InvalidGrantTokenException) {
		return next(ctx) // the token may be that of a hidden grant
	}
	return out, err
}

// acquire returns the past as it is visible now, or nil if nothing is hidden. The caller releases
// it.
func (l *laggedStore) acquire() (*pastView, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lag == 0 {
		return nil, nil
	}
	l.dropVisible(l.config.Clock())
	if l.past != nil && l.past.version != l.version || len(l.hidden) == 0 {
		l.closePast()
	}
	if len(l.hidden) == 0 {
		return nil, nil
	}
	if l.past == nil {
		svc, err := l.openPast()
		if err != nil {
			return nil, err
		}
		l.past = &pastView{Service: svc, version: l.version}
	}
	l.past.users++
	return l.past, nil
}

func (l *laggedStore) release(p *pastView) {
	l.mu.Lock()
	p.users--
	last := p.closed && p.users == 0
	l.mu.Unlock()
	if last {
		p.Close()
	}
}

// closePast closes the past, if there is one, as soon as nobody uses it.
func (l *laggedStore) closePast() {
	p := l.past
	if p == nil {
		return
	}
	l.past, p.closed = nil, true
	if p.users == 0 {
		p.Close()
	}
}

// openPast returns a service on a fork in which all hidden changes are undone.
func (l *laggedStore) openPast() (*kms.Service, error) {
	fork := l.Backend.Fork()
	for _, c := range slices.Backward(l.hidden) { // the oldest change to a record is undone last
		tx := keystore.Tx{Deletes: []string{c.name}}
		if c.existed {
			tx = keystore.Tx{Puts: []keystore.Put{{Key: c.name, Value: c.before}}}
		}
		if _, err := fork.Commit(context.Background(), tx); err != nil {
			return nil, err
		}
	}
	config := l.config
	config.Backend, config.Audit, config.Intercept = readOnly{fork}, nil, nil
	config.Logger = slog.New(slog.DiscardHandler)
	return kms.New(config)
}

// readOnly is a Backend that refuses changes.
type readOnly struct{ *memory.Backend }

func (r readOnly) Commit(ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
	if len(tx.Puts)+len(tx.Deletes) > 0 {
		return 0, testhook.ErrReadOnly
	}
	return r.Backend.Commit(ctx, tx)
}
