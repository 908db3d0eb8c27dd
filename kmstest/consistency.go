package kmstest

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/testhook"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/memory"
)

// EventualConsistency delays by d, on the Service's clock, when changes become visible: AWS tells that within moments, but not
// to every next call.
//
// Delayed are new, moved and deleted aliases, and every change of an existing key: its state, description, tags, policy,
// rotation and material. Calls that read or use keys find all that as it was d ago. Not delayed are new keys, under their ID
// or ARN; the end of a key, when its waiting period is over; and calls that make changes, which build on the latest state,
// and so are refused for what other calls do not see yet.
//
// As long as a change is hidden, a successful call is no use of its key for GetKeyLastUsage, and audit events name no
// resources.
func EventualConsistency(d time.Duration) Option {
	return func(o *settings) { o.lag = max(d, 0) }
}

// A history is a Service's store, with what records were before the changes that are not visible yet.
type history struct {
	*memory.Backend

	mu      sync.Mutex
	config  kms.Config // of the Service
	lag     time.Duration
	changes []change // that are not visible yet, oldest first
	version int      // goes up with whatever a past would show
	past    *past    // nil: none was needed yet
}

// A change is what a record was before a commit.
type change struct {
	at      time.Time
	name    string
	before  []byte
	existed bool
}

// lags delays changes by lag from now on; those before keep their delay as long as there is one.
func (h *history) lags(config kms.Config, lag time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.config, h.lag = config, lag
}

// fork returns a copy, and by how much it shall delay changes once it has a Service.
func (h *history) fork(now time.Time) (*history, time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.settle(now)
	return &history{Backend: h.Backend.Fork(), changes: slices.Clone(h.changes)}, h.lag
}

// Commit is that of keystore.Backend.
func (h *history) Commit(ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lag == 0 || len(tx.Puts)+len(tx.Deletes) == 0 {
		return h.Backend.Commit(ctx, tx)
	}
	names := slices.Clone(tx.Deletes)
	for _, put := range tx.Puts {
		names = append(names, put.Key)
	}
	var changes []change
	for _, name := range names {
		isKey := strings.HasPrefix(name, "key/")
		if !isKey && !strings.HasPrefix(name, "alias/") && !strings.HasPrefix(name, "aliasof/") {
			continue
		}
		r, err := h.Backend.Get(ctx, name)
		switch {
		case err == nil:
			changes = append(changes, change{h.config.Clock(), name, r.Value, true})
		case !errors.Is(err, keystore.ErrNotFound):
			return 0, err
		case !isKey:
			changes = append(changes, change{h.config.Clock(), name, nil, false})
		}
	}
	revision, err := h.Backend.Commit(ctx, tx)
	if err != nil {
		return 0, err
	}
	h.version++
	h.changes = append(h.changes, changes...)
	return revision, nil
}

// Close is that of keystore.Backend.
func (h *history) Close() error {
	h.mu.Lock()
	h.retire()
	h.mu.Unlock()
	return h.Backend.Close()
}

// settle forgets the changes that have become visible.
func (h *history) settle(now time.Time) {
	hidden := slices.IndexFunc(h.changes, func(c change) bool { return c.at.Add(h.lag).After(now) })
	if hidden < 0 {
		hidden = len(h.changes)
	}
	if hidden > 0 {
		h.changes = slices.Delete(h.changes, 0, hidden)
		h.version++
	}
}

// A past is a service that sees what is visible now, and cannot change anything.
type past struct {
	*kms.Service
	version int
	users   int
	retired bool
}

// answer lets a call go on: where changes are hidden, one that changes nothing itself in the past.
func (s *Service) answer(ctx context.Context, call kms.Call, next func(context.Context) (any, error)) (any, error) {
	if !call.Operation.ReadOnly() {
		return next(ctx)
	}
	p, err := s.store.enter()
	if err != nil {
		return nil, err
	}
	if p == nil {
		return next(ctx)
	}
	defer s.store.leave(p)
	view := p.In(call.Service.Region()).As(call.Service.Caller())
	out, err := call.Operation.Invoke(ctx, view, testhook.WireInput(ctx, call.Input))
	if errors.Is(err, testhook.ErrReadOnly) { // the clock has brought about the end of a key, say, or an AWS managed key is to be made
		return next(ctx)
	}
	return out, err
}

// enter returns the past as it is visible now; nil if nothing is hidden. To be left.
func (h *history) enter() (*past, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lag == 0 {
		return nil, nil
	}
	h.settle(h.config.Clock())
	if h.past != nil && h.past.version != h.version || len(h.changes) == 0 {
		h.retire()
	}
	if len(h.changes) == 0 {
		return nil, nil
	}
	if h.past == nil {
		svc, err := h.reconstruct()
		if err != nil {
			return nil, err
		}
		h.past = &past{Service: svc, version: h.version}
	}
	h.past.users++
	return h.past, nil
}

func (h *history) leave(p *past) {
	h.mu.Lock()
	p.users--
	done := p.retired && p.users == 0
	h.mu.Unlock()
	if done {
		p.Close()
	}
}

// retire ends the present past, once it is left by all.
func (h *history) retire() {
	if p := h.past; p != nil {
		h.past, p.retired = nil, true
		if p.users == 0 {
			p.Close()
		}
	}
}

// reconstruct returns a service on a fork in which all that is hidden is undone.
func (h *history) reconstruct() (*kms.Service, error) {
	fork := h.Backend.Fork()
	for i := len(h.changes) - 1; i >= 0; i-- { // the oldest change of a record comes last
		c := h.changes[i]
		tx := keystore.Tx{Deletes: []string{c.name}}
		if c.existed {
			tx = keystore.Tx{Puts: []keystore.Put{{Key: c.name, Value: c.before}}}
		}
		if _, err := fork.Commit(context.Background(), tx); err != nil {
			return nil, err
		}
	}
	config := h.config
	config.Backend, config.Audit, config.Intercept = unchanging{fork}, nil, nil
	config.Logger = slog.New(slog.DiscardHandler)
	return kms.New(config)
}

type unchanging struct{ *memory.Backend }

func (u unchanging) Commit(ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
	if len(tx.Puts)+len(tx.Deletes) > 0 {
		return 0, testhook.ErrReadOnly
	}
	return u.Backend.Commit(ctx, tx)
}
