package keystoretest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/keystore"
)

// A call is the input of an operation on a register, an answer its output. The state of a register
// is an answer too: its current record.
type call struct {
	key    string
	op     byte // 'g'et, 'p'ut, 'd'elete
	value  string
	expect keystore.Revision
}

type answer struct {
	value    string
	revision keystore.Revision // 0: no such record
	conflict bool
}

// register is a record as a sequential program would see it.
var register = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, op := range history {
			key := op.Input.(call).key
			byKey[key] = append(byKey[key], op)
		}
		var parts [][]porcupine.Operation
		for _, part := range byKey {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return answer{} },
	Step: func(state, input, output any) (bool, any) {
		now, in, out := state.(answer), input.(call), output.(answer)
		switch {
		case in.op == 'g':
			return out == now, now
		case out.conflict:
			return in.expect != now.revision, now
		case in.op == 'd':
			return in.expect == now.revision, answer{}
		}
		return in.expect == now.revision && out.revision > now.revision, answer{value: in.value, revision: out.revision}
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

// linearizable lets clients read records and change them on condition that they are as read, and
// checks that the history is linearizable.
func linearizable(tb testing.TB, b *backend) {
	const clients, rounds = 4, 30
	start := time.Now()
	histories := make([][]porcupine.Operation, clients)
	errs := make([]error, clients)
	var group sync.WaitGroup
	for client := range clients {
		group.Go(func() {
			do := func(in call) (answer, error) {
				called := time.Since(start)
				out, err := b.perform(in)
				histories[client] = append(histories[client], porcupine.Operation{
					ClientId: client, Input: in, Call: int64(called), Output: out, Return: int64(time.Since(start)),
				})
				return out, err
			}
			for i := range rounds {
				key := fmt.Sprint("register/", i%3)
				seen, err := do(call{key: key, op: 'g'})
				if err == nil {
					op := byte('p')
					if i%5 == 4 {
						op = 'd'
					}
					_, err = do(call{key: key, op: op, value: fmt.Sprint(client, "-", i), expect: seen.revision})
				}
				if errs[client] = err; err != nil {
					return
				}
			}
		})
	}
	group.Wait()
	require.NoError(tb, errors.Join(errs...))
	var history []porcupine.Operation
	for _, part := range histories {
		history = append(history, part...)
	}
	require.True(tb, porcupine.CheckOperations(register, history), "not linearizable")
}

func (b *backend) perform(in call) (answer, error) {
	if in.op == 'g' {
		record, err := b.Get(ctx, in.key)
		if errors.Is(err, keystore.ErrNotFound) {
			err = nil
		}
		return answer{value: string(record.Value), revision: record.Revision}, err
	}
	tx := keystore.Tx{Expect: []keystore.Expectation{{Key: in.key, Revision: in.expect}}}
	if in.op == 'd' {
		tx.Deletes = []string{in.key}
	} else {
		tx.Puts = []keystore.Put{{Key: in.key, Value: []byte(in.value)}}
	}
	revision, err := b.Commit(ctx, tx)
	if errors.Is(err, keystore.ErrConflict) {
		return answer{conflict: true}, nil
	}
	return answer{revision: revision}, err
}
