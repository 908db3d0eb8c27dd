package conformance

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

// An expectation checks a reply.
type expectation func(s *scene, got reply)

// A moment is a time in an output, in seconds since 1970, as if the target had started at Start.
type moment float64

func unix(at time.Time) moment { return moment(float64(at.UnixMilli()) / 1000) }

// input is a call without preparation.
func input(in any) func(*scene) any { return func(*scene) any { return in } }

// with is a call that is made once the scene has something.
func with[T any](have func(*scene) T, call func(*scene) any) func(*scene) any {
	return func(s *scene) any { have(s); return call(s) }
}

// about is a call with a key as its KeyId, by one of the names of expand. The ARN is sent.
func about(key string, in any) func(*scene) any {
	return func(s *scene) any {
		again := reflect.New(reflect.TypeOf(in).Elem())
		again.Elem().Set(reflect.ValueOf(in).Elem())
		keyMembers(again.Interface())[0].SetString(s.expand(key))
		return again.Interface()
	}
}

// expand replaces {symmetric}, {other}, {signing}, {mac}, {lone}, {primary}, {replica}, {key} and
// {keyReplica} in a text by the keys' ARNs.
func (s *scene) expand(text string) string {
	for name, key := range map[string]func() *kms.KeyMetadata{
		"{symmetric}": s.symmetric, "{other}": s.other, "{signing}": s.signing, "{mac}": s.mac, "{lone}": s.lone, "{primary}": s.primary,
		"{key}": func() *kms.KeyMetadata { return s.key },
	} {
		if strings.Contains(text, name) {
			text = strings.ReplaceAll(text, name, key().Arn)
		}
	}
	if strings.Contains(text, "{replica}") {
		text = strings.ReplaceAll(text, "{replica}", replicaARN(s.primary()))
	}
	if strings.Contains(text, "{keyReplica}") {
		text = strings.ReplaceAll(text, "{keyReplica}", replicaARN(s.key))
	}
	return text
}

// refuses expects an exception with exactly this message.
func refuses(code kms.ErrorCode, message string) expectation {
	return func(s *scene, got reply) {
		s.Helper()
		s.checked = true
		require.Equal(s, string(code)+": "+s.expand(message), got.code+": "+got.message)
	}
}

// violates expects the exception for one member that violates one constraint.
func violates(value, constraint string) expectation {
	return refuses(kms.ValidationException, "1 validation error detected: "+value+" failed to satisfy constraint: Member must "+constraint)
}

// denies expects the exception for a user of the key's account to whom no policy allows the call.
func denies(user, permission, resource string) expectation {
	return refuses(kms.AccessDeniedException, "User: "+user+" is not authorized to perform: "+permission+" on resource: "+resource+
		" because no identity-based policy allows the "+permission+" action")
}

// refusesSomehow expects an exception whose message is not known.
func refusesSomehow(codes ...kms.ErrorCode) expectation {
	return func(s *scene, got reply) {
		s.Helper()
		s.checked = true
		require.Contains(s, codes, kms.ErrorCode(got.code))
	}
}

// succeeds expects an output that meets all expectations.
func succeeds(wants ...expectation) expectation {
	return func(s *scene, got reply) {
		s.Helper()
		require.Empty(s, got.code+got.message)
		s.checked = s.checked || len(wants) == 0
		for _, want := range wants {
			want(s, got)
		}
	}
}

// has expects exactly these members, separated by spaces, in the structure at path. An empty path
// is the output itself.
func has(path, members string) expectation {
	return func(s *scene, got reply) {
		s.Helper()
		s.checked = true
		structure, ok := at(got.members, path).(map[string]any)
		require.True(s, ok, "there is no %s", path)
		names := []string{}
		for name := range structure {
			names = append(names, name)
		}
		require.ElementsMatch(s, strings.Fields(members), names)
	}
}

// is expects a value at path, such as Aliases.0.AliasName.
func is(path string, value any) expectation {
	return func(s *scene, got reply) {
		s.Helper()
		s.checked = true
		want := value
		switch value := value.(type) {
		case string:
			want = s.expand(value)
		case moment:
			if s.target.Clock == nil {
				s.needs("a clock that stands still")
			}
			want = float64(value) + s.start.Sub(Start).Seconds()
		}
		require.Equal(s, want, at(got.members, path), path)
	}
}

func matches(path, pattern string) expectation {
	return func(s *scene, got reply) {
		s.Helper()
		s.checked = true
		require.Regexp(s, pattern, at(got.members, path), path)
	}
}

// isSent expects a text in the body. It is checked only over HTTP.
func isSent(text string) expectation {
	return func(s *scene, got reply) {
		s.Helper()
		if !s.target.HTTP {
			s.skipped = "the bodies of responses"
			return
		}
		s.checked = true
		require.Contains(s, got.body, s.expand(text))
	}
}

// then makes another call afterwards, in Go, and checks its result.
func then(in func(s *scene) any, want expectation) expectation {
	return func(s *scene, _ reply) {
		s.Helper()
		want(s, s.send(in(s)))
	}
}

// isRecorded expects exactly this JSON at a path of the call's audit event.
func isRecorded(path, want string) expectation {
	return inEvent(func(s *scene, event map[string]any) {
		text, err := json.Marshal(at(event, path))
		require.NoError(s, err)
		require.JSONEq(s, s.expand(want), string(text), path)
	})
}

// hasRecorded expects exactly these members, separated by spaces, at a path of the call's audit
// event.
func hasRecorded(path, members string) expectation {
	return inEvent(func(s *scene, event map[string]any) { has(path, members)(s, reply{members: event}) })
}

// inEvent checks the audit event of the latest call, decoded from JSON.
func inEvent(check func(s *scene, event map[string]any)) expectation {
	return func(s *scene, _ reply) {
		if s.target.Event == nil {
			s.skipped = "audit events"
			return
		}
		s.checked = true
		var event map[string]any
		require.NoError(s, json.Unmarshal(s.target.Event(), &event))
		check(s, event)
	}
}

// at returns the value at a path in decoded JSON, or nil if there is none.
func at(v any, path string) any {
	for step := range strings.SplitSeq(path, ".") {
		switch structure := v.(type) {
		case map[string]any:
			if step != "" {
				v = structure[step]
			}
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(structure) {
				return nil
			}
			v = structure[i]
		default:
			return nil
		}
	}
	return v
}

// refusesWith expects a message whose exception is not known.
func refusesWith(message string) expectation {
	return func(s *scene, got reply) {
		s.Helper()
		s.checked = true
		require.NotEmpty(s, got.code)
		require.Equal(s, message, got.message)
	}
}
