package keystoretest

import (
	"bytes"
	"context"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A recorder takes the failures of a check instead of a test.
type recorder struct {
	testing.TB
	mu     sync.Mutex
	failed bool
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(string, ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
}

func (r *recorder) FailNow() {
	r.Errorf("")
	runtime.Goexit()
}

// fails runs a check as a test would, and reports whether it failed.
func fails(t *testing.T, c check, open func(testing.TB) keystore.Backend) bool {
	r := &recorder{TB: t}
	done := make(chan struct{})
	var b keystore.Backend
	go func() {
		defer close(done)
		c.run(r, func(tb testing.TB) keystore.Backend {
			b = open(tb)
			return b
		})
	}()
	<-done
	_ = b.Close() // which ends the watches of a failed check
	return r.failed
}

// A broken backend breaks one promise; methods whose function is nil are those of memory.
type broken struct {
	keystore.Backend
	get    func(b keystore.Backend, ctx context.Context, key string) (keystore.Record, error)
	scan   func(b keystore.Backend, ctx context.Context, prefix, after string, limit int) ([]keystore.Record, error)
	commit func(b keystore.Backend, ctx context.Context, tx keystore.Tx) (keystore.Revision, error)
	watch  func(b keystore.Backend, ctx context.Context, after keystore.Revision) iter.Seq2[keystore.Event, error]
	close  func(b keystore.Backend) error
}

func (b *broken) Get(ctx context.Context, key string) (keystore.Record, error) {
	if b.get != nil {
		return b.get(b.Backend, ctx, key)
	}
	return b.Backend.Get(ctx, key)
}

func (b *broken) Scan(ctx context.Context, prefix, after string, limit int) ([]keystore.Record, error) {
	if b.scan != nil {
		return b.scan(b.Backend, ctx, prefix, after, limit)
	}
	return b.Backend.Scan(ctx, prefix, after, limit)
}

func (b *broken) Commit(ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
	if b.commit != nil {
		return b.commit(b.Backend, ctx, tx)
	}
	return b.Backend.Commit(ctx, tx)
}

func (b *broken) Watch(ctx context.Context, after keystore.Revision) iter.Seq2[keystore.Event, error] {
	if b.watch != nil {
		return b.watch(b.Backend, ctx, after)
	}
	return b.Backend.Watch(ctx, after)
}

func (b *broken) Close() error {
	if b.close != nil {
		return b.close(b.Backend)
	}
	return b.Backend.Close()
}

func TestEachCheckPassesForMemoryAndFailsForABrokenBackend(t *testing.T) {
	unfinished := map[string]bool{}
	for _, c := range checks {
		require.False(t, fails(t, c, func(testing.TB) keystore.Backend { return memory.New() }), "%s: fails for a right backend", c.name)
		unfinished[c.name] = true
	}
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			bitten := false
			for _, c := range checks {
				if slices.Contains(fault.checks, c.name) {
					bitten = true
					require.True(t, fails(t, c, func(testing.TB) keystore.Backend { return fault.open() }), "%q lets it pass", c.name)
					delete(unfinished, c.name)
				}
			}
			require.True(t, bitten, "no such check")
		})
	}
	require.Empty(t, unfinished, "checks that no fault has made fail")
}

// torn reads its snapshots record by record.
type torn struct{ keystore.Backend }

func (b torn) Snapshot(ctx context.Context) iter.Seq2[keystore.Record, error] {
	return func(yield func(keystore.Record, error) bool) {
		for after := ""; ; {
			records, err := b.Scan(ctx, "", after, 1)
			if err != nil || len(records) == 0 || !yield(records[0], nil) {
				return
			}
			after = records[0].Key
		}
	}
}

type fault struct {
	name   string
	checks []string
	open   func() keystore.Backend
}

// refuses is a backend with limits of its own.
func refuses(name string, refused func(keystore.Tx) bool) fault {
	return fault{name, []string{"transactions up to the limits are accepted"}, func() keystore.Backend {
		return &broken{Backend: memory.New(), commit: func(b keystore.Backend, ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
			if refused(tx) {
				return 0, keystore.ErrInvalid
			}
			return b.Commit(ctx, tx)
		}}
	}}
}

var faults = []fault{
	{"shows changes in a snapshot", []string{"a snapshot has all records of one moment"}, func() keystore.Backend {
		return torn{memory.New()}
	}},
	{"ignores expectations", []string{
		"a transaction whose expectations do not hold changes nothing", "a transaction is atomic", "no concurrent update is lost",
		"each record is a linearizable register", "revisions rise with each write", "watch resumes after a revision",
	}, func() keystore.Backend {
		var gate sync.WaitGroup // two readers of a counter meet, or else there may be no update to lose
		gate.Add(2)
		var n int
		var mu sync.Mutex
		return &broken{Backend: memory.New(), get: func(b keystore.Backend, ctx context.Context, key string) (keystore.Record, error) {
			record, err := b.Get(ctx, key)
			if key == "counter/0" || key == "register/0" {
				mu.Lock()
				n++
				first := n <= 2
				mu.Unlock()
				if first {
					gate.Done()
					gate.Wait()
				}
			}
			return record, err
		}, commit: func(b keystore.Backend, ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
			tx.Expect = nil
			return b.Commit(ctx, tx)
		}}
	}},
	{"checks only the first expectation", []string{"a transaction whose expectations do not hold changes nothing"}, func() keystore.Backend {
		return &broken{Backend: memory.New(), commit: func(b keystore.Backend, ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
			tx.Expect = tx.Expect[:min(1, len(tx.Expect))]
			return b.Commit(ctx, tx)
		}}
	}},
	{"writes before it checks", []string{"a transaction is atomic", "a transaction whose expectations do not hold changes nothing"}, func() keystore.Backend {
		return &broken{Backend: memory.New(), commit: func(b keystore.Backend, ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
			if len(tx.Puts) > 0 {
				if _, err := b.Commit(ctx, keystore.Tx{Puts: tx.Puts[:1]}); err != nil {
					return 0, err
				}
			}
			return b.Commit(ctx, tx)
		}}
	}},
	{"writes record by record", []string{"a scan is a snapshot", "a transaction is atomic"}, func() keystore.Backend {
		return &broken{Backend: memory.New(), commit: func(b keystore.Backend, ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
			for _, put := range tx.Puts {
				if _, err := b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{put}}); err != nil {
					return 0, err
				}
			}
			return b.Commit(ctx, keystore.Tx{Expect: tx.Expect, Deletes: tx.Deletes})
		}}
	}},
	{"never deletes", []string{"deletes remove records, and may name missing ones", "a scrub changes nothing but the medium"}, func() keystore.Backend {
		return &broken{Backend: memory.New(), commit: func(b keystore.Backend, ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
			tx.Deletes = nil
			return b.Commit(ctx, tx)
		}}
	}},
	{"trims values", []string{"records are read as they were written"}, func() keystore.Backend {
		return &broken{Backend: memory.New(), get: func(b keystore.Backend, ctx context.Context, key string) (keystore.Record, error) {
			record, err := b.Get(ctx, key)
			record.Value = bytes.TrimRight(record.Value, "\xff")
			return record, err
		}}
	}},
	{"has a record of its own", []string{"an empty store has no records"}, func() keystore.Backend {
		b := memory.New()
		_, _ = b.Commit(ctx, keystore.Tx{Puts: []keystore.Put{{Key: "a"}}})
		return b
	}},
	{"keeps short values only", []string{"values may be empty, and as long as the limit"}, func() keystore.Backend {
		return &broken{Backend: memory.New(), commit: func(b keystore.Backend, ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
			if len(tx.Puts) > 0 && len(tx.Puts[0].Value) > 1<<16 {
				return 0, keystore.ErrInvalid
			}
			return b.Commit(ctx, tx)
		}}
	}},
	{"sorts like people", []string{"scans are in the order of bytes"}, func() keystore.Backend {
		return &broken{Backend: memory.New(), scan: func(b keystore.Backend, ctx context.Context, prefix, after string, limit int) ([]keystore.Record, error) {
			records, err := b.Scan(ctx, prefix, after, limit)
			slices.SortStableFunc(records, func(a, b keystore.Record) int { return strings.Compare(strings.ToLower(a.Key), strings.ToLower(b.Key)) })
			return records, err
		}}
	}},
	{"takes a prefix for a path", []string{"scans return only keys with the prefix"}, func() keystore.Backend {
		return &broken{Backend: memory.New(), scan: func(b keystore.Backend, ctx context.Context, prefix, after string, limit int) ([]keystore.Record, error) {
			records, err := b.Scan(ctx, prefix, after, limit)
			return slices.DeleteFunc(records, func(r keystore.Record) bool {
				rest := strings.TrimPrefix(r.Key, prefix)
				return rest != "" && rest[0] != '/' && !strings.HasSuffix(prefix, "/")
			}), err
		}}
	}},
	{"repeats the last of a page", []string{"scans can be continued page by page"}, func() keystore.Backend {
		return &broken{Backend: memory.New(), scan: func(b keystore.Backend, ctx context.Context, prefix, after string, limit int) ([]keystore.Record, error) {
			records, err := b.Scan(ctx, prefix, after, limit)
			if last, err := b.Get(ctx, after); err == nil && len(records) > 0 && len(records) < limit {
				records = append([]keystore.Record{last}, records...)
			}
			return records, err
		}}
	}},
	{"takes any limit", []string{"a limit must be positive"}, func() keystore.Backend {
		return &broken{Backend: memory.New(), scan: func(b keystore.Backend, ctx context.Context, prefix, after string, limit int) ([]keystore.Record, error) {
			return b.Scan(ctx, prefix, after, max(limit, 1))
		}}
	}},
	refuses("takes fewer puts", func(tx keystore.Tx) bool { return len(tx.Puts) >= keystore.MaxTxOps }),
	refuses("takes fewer deletes", func(tx keystore.Tx) bool { return len(tx.Deletes) >= keystore.MaxTxOps }),
	refuses("takes fewer expectations", func(tx keystore.Tx) bool { return len(tx.Expect) > keystore.MaxTxOps }),
	refuses("takes fewer bytes", func(tx keystore.Tx) bool {
		size := 0
		for _, expect := range tx.Expect {
			size += len(expect.Key)
		}
		for _, put := range tx.Puts {
			size += len(put.Key) + len(put.Value)
		}
		for _, key := range tx.Deletes {
			size += len(key)
		}
		return size >= keystore.MaxTxBytes
	}),
	{"has no limits", []string{"keys, values and transactions beyond the limits are refused"}, func() keystore.Backend {
		return &broken{Backend: memory.New(), commit: func(b keystore.Backend, ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
			if len(tx.Puts) > 0 && len(tx.Puts[0].Value) > keystore.MaxValueBytes {
				return 1, nil
			}
			return b.Commit(ctx, tx)
		}}
	}},
	{"expects without end", []string{"keys, values and transactions beyond the limits are refused"}, func() keystore.Backend {
		return &broken{Backend: memory.New(), commit: func(b keystore.Backend, ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
			if len(tx.Expect) > keystore.MaxTxOps+1 {
				return 1, nil
			}
			return b.Commit(ctx, tx)
		}}
	}},
	{"gives the revision before", []string{"revisions rise with each write", "records are read as they were written"}, func() keystore.Backend {
		return &broken{Backend: memory.New(), commit: func(b keystore.Backend, ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
			before, err := b.Commit(ctx, keystore.Tx{})
			if err == nil {
				_, err = b.Commit(ctx, tx)
			}
			return before, err
		}}
	}},
	{"shares its memory", []string{"slices belong to the caller"}, func() keystore.Backend {
		var mu sync.Mutex
		shared := map[string][]byte{}
		return &broken{Backend: memory.New(), get: func(b keystore.Backend, ctx context.Context, key string) (keystore.Record, error) {
			mu.Lock()
			defer mu.Unlock()
			record, err := b.Get(ctx, key)
			if value, ok := shared[key]; ok && err == nil {
				record.Value = value
			}
			return record, err
		}, commit: func(b keystore.Backend, ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
			mu.Lock()
			defer mu.Unlock()
			for _, put := range tx.Puts {
				shared[put.Key] = put.Value
			}
			return b.Commit(ctx, tx)
		}}
	}},
	{"reads a cache that is never refreshed", []string{"each record is a linearizable register", "a scrub changes nothing but the medium"}, func() keystore.Backend {
		var cache sync.Map
		return &broken{Backend: memory.New(), get: func(b keystore.Backend, ctx context.Context, key string) (keystore.Record, error) {
			record, err := b.Get(ctx, key)
			if old, loaded := cache.LoadOrStore(key, record); err == nil && loaded && strings.HasPrefix(key, "register") {
				return old.(keystore.Record), nil
			}
			if err == nil && key == "kept" {
				record.Revision++
			}
			return record, err
		}}
	}},
	{"misses deletions in watch", []string{"watch yields each change once, in order", "watch resumes after a revision"}, func() keystore.Backend {
		return &broken{Backend: memory.New(), watch: func(b keystore.Backend, ctx context.Context, after keystore.Revision) iter.Seq2[keystore.Event, error] {
			return func(yield func(keystore.Event, error) bool) {
				for event, err := range b.Watch(ctx, after) {
					if !event.Deleted && !yield(event, err) {
						return
					}
				}
			}
		}}
	}},
	{"watches twice", []string{"watch yields each change once, in order"}, func() keystore.Backend {
		return &broken{Backend: memory.New(), watch: func(b keystore.Backend, ctx context.Context, after keystore.Revision) iter.Seq2[keystore.Event, error] {
			return func(yield func(keystore.Event, error) bool) {
				for event, err := range b.Watch(ctx, after) {
					if !yield(event, err) || err == nil && !yield(event, err) {
						return
					}
				}
			}
		}}
	}},
	{"watches from its own start", []string{"watch resumes after a revision"}, func() keystore.Backend {
		return &broken{Backend: memory.New(), watch: func(b keystore.Backend, ctx context.Context, after keystore.Revision) iter.Seq2[keystore.Event, error] {
			return b.Watch(ctx, 0)
		}}
	}},
	{"knows no contexts", []string{"a cancelled context does nothing"}, func() keystore.Backend {
		return &broken{Backend: memory.New(), commit: func(b keystore.Backend, _ context.Context, tx keystore.Tx) (keystore.Revision, error) {
			return b.Commit(context.Background(), tx)
		}}
	}},
	{"ends a watch without an error", []string{"watch ends with its context"}, func() keystore.Backend {
		return &broken{Backend: memory.New(), watch: func(b keystore.Backend, ctx context.Context, after keystore.Revision) iter.Seq2[keystore.Event, error] {
			return func(yield func(keystore.Event, error) bool) {
				for event, err := range b.Watch(ctx, after) {
					if err != nil || !yield(event, nil) {
						return
					}
				}
			}
		}}
	}},
	{"can be closed again and again", []string{"a closed store stays closed"}, func() keystore.Backend {
		return &broken{Backend: memory.New(), close: func(b keystore.Backend) error {
			_ = b.Close()
			return nil
		}}
	}},
	{"mistakes a prefix for a key", []string{"a transaction whose expectations do not hold changes nothing"}, func() keystore.Backend {
		return &broken{Backend: memory.New(), commit: func(b keystore.Backend, ctx context.Context, tx keystore.Tx) (keystore.Revision, error) {
			for i, expect := range tx.Expect {
				if records, err := b.Scan(ctx, expect.Key, "", 1); err == nil && len(records) == 1 {
					tx.Expect = slices.Clone(tx.Expect)
					tx.Expect[i].Key = records[0].Key
				}
			}
			return b.Commit(ctx, tx)
		}}
	}},
}
