package kms_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

// Every list has a method that reads all of its pages.
func TestEveryListHasAnIterator(t *testing.T) {
	for _, op := range kms.Operations() {
		method, ok := reflect.TypeFor[*kms.Service]().MethodByName(op.Name())
		require.True(t, ok)
		if _, paginates := method.Type.Out(0).Elem().FieldByName("NextMarker"); !paginates {
			continue
		}
		name := "All" + op.Name()[len("List"):]
		all, ok := reflect.TypeFor[*kms.Service]().MethodByName(name)
		require.True(t, ok, name)
		require.Equal(t, method.Type.In(2), all.Type.In(2), name)
	}
}

// collectAll returns the entries of a list as texts, which are the same for equal entries.
func collectAll[E any](t *testing.T, all iter.Seq2[E, error]) (texts []string) {
	t.Helper()
	for e, err := range all {
		require.NoError(t, err)
		texts = append(texts, fmt.Sprintf("%+v", e))
	}
	return texts
}

func texts[E any](entries []E) (texts []string) {
	for _, e := range entries {
		texts = append(texts, fmt.Sprintf("%+v", e))
	}
	return texts
}

// A list in pages of one entry is the list in one page.
func TestIteratorsReadAllPages(t *testing.T) {
	f := newFixture(t)
	svc, ctx, one, id := f.svc, t.Context(), new(int32(1)), f.symmetric.KeyId
	for i := range 3 {
		createAlias(t, svc, fmt.Sprintf("alias/%d", i), id)
		createGrant(t, svc, &kms.CreateGrantInput{KeyId: f.other.KeyId, RetiringPrincipal: fixtureAlice})
		_, err := svc.TagResource(ctx, &kms.TagResourceInput{KeyId: id, Tags: []kms.Tag{{TagKey: fmt.Sprint(i), TagValue: "v"}}})
		require.NoError(t, err)
		_, err = svc.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: id})
		require.NoError(t, err)
	}
	for name, list := range map[string]func() (all, want []string){
		"ListKeys": func() (all, want []string) {
			out, err := svc.ListKeys(ctx, nil)
			require.NoError(t, err)
			require.Equal(t, texts(out.Keys), collectAll(t, svc.AllKeys(ctx, nil)))
			return collectAll(t, svc.AllKeys(ctx, &kms.ListKeysInput{Limit: one})), texts(out.Keys)
		},
		"ListAliases": func() (all, want []string) {
			out, err := svc.ListAliases(ctx, nil)
			require.NoError(t, err)
			return collectAll(t, svc.AllAliases(ctx, &kms.ListAliasesInput{Limit: one})), texts(out.Aliases)
		},
		"ListGrants": func() (all, want []string) {
			out, err := svc.ListGrants(ctx, &kms.ListGrantsInput{KeyId: f.other.KeyId})
			require.NoError(t, err)
			return collectAll(t, svc.AllGrants(ctx, &kms.ListGrantsInput{KeyId: f.other.KeyId, Limit: one})), texts(out.Grants)
		},
		"ListRetirableGrants": func() (all, want []string) {
			out, err := svc.ListRetirableGrants(ctx, &kms.ListRetirableGrantsInput{RetiringPrincipal: fixtureAlice})
			require.NoError(t, err)
			return collectAll(t, svc.AllRetirableGrants(ctx, &kms.ListRetirableGrantsInput{RetiringPrincipal: fixtureAlice, Limit: one})), texts(out.Grants)
		},
		"ListKeyPolicies": func() (all, want []string) {
			return collectAll(t, svc.AllKeyPolicies(ctx, &kms.ListKeyPoliciesInput{KeyId: id})), []string{"default"}
		},
		"ListKeyRotations": func() (all, want []string) {
			out, err := svc.ListKeyRotations(ctx, &kms.ListKeyRotationsInput{KeyId: id})
			require.NoError(t, err)
			return collectAll(t, svc.AllKeyRotations(ctx, &kms.ListKeyRotationsInput{KeyId: id, Limit: one})), texts(out.Rotations)
		},
		"ListResourceTags": func() (all, want []string) {
			out, err := svc.ListResourceTags(ctx, &kms.ListResourceTagsInput{KeyId: id})
			require.NoError(t, err)
			return collectAll(t, svc.AllResourceTags(ctx, &kms.ListResourceTagsInput{KeyId: id, Limit: one})), texts(out.Tags)
		},
	} {
		all, want := list()
		require.Equal(t, want, all, name)
		if name != "ListKeyPolicies" {
			require.GreaterOrEqual(t, len(want), 3, name)
		}
	}
}

// A listCalls counts the calls of a list, and can fail one of them.
type listCalls struct{ n, fails int }

var errThrottled = &kms.Error{Code: kms.ThrottlingException}

func (l *listCalls) configure(c *kms.Config) {
	c.Intercept = func(ctx context.Context, call kms.Call, next func(context.Context) (any, error)) (any, error) {
		if call.Operation.Name() == "ListKeys" {
			if l.n++; l.n == l.fails {
				return nil, errThrottled
			}
		}
		return next(ctx)
	}
}

func TestAnIteratorReadsNoPageThatIsNotWanted(t *testing.T) {
	calls := new(listCalls)
	svc, _ := newService(t, calls.configure)
	for range 5 {
		createKey(t, svc, nil)
	}
	in := &kms.ListKeysInput{Limit: new(int32(2))}
	all := svc.AllKeys(t.Context(), in)
	require.Zero(t, calls.n)
	for range all {
		break
	}
	require.Equal(t, 1, calls.n)
	whole := collectAll(t, all)
	require.Len(t, whole, 5, "it may run again")
	require.Equal(t, 4, calls.n)
	require.Equal(t, &kms.ListKeysInput{Limit: new(int32(2))}, in)

	first, err := svc.ListKeys(t.Context(), in)
	require.NoError(t, err)
	rest := &kms.ListKeysInput{Marker: first.NextMarker}
	require.Equal(t, whole[2:], collectAll(t, svc.AllKeys(t.Context(), rest)), "from the page of its marker")
	require.Equal(t, first.NextMarker, rest.Marker)
}

func TestAnErrorEndsAnIterator(t *testing.T) {
	calls := &listCalls{fails: 3}
	svc, _ := newService(t, calls.configure)
	for range 5 {
		createKey(t, svc, nil)
	}
	var errs []error
	for key, err := range svc.AllKeys(t.Context(), &kms.ListKeysInput{Limit: new(int32(1))}) {
		errs = append(errs, err)
		require.Equal(t, err != nil, key == kms.KeyListEntry{})
	}
	require.Len(t, errs, 3)
	require.Equal(t, []error{nil, nil}, errs[:2])
	require.ErrorIs(t, errs[2], kms.ThrottlingException)
	for _, err := range svc.AllKeys(t.Context(), &kms.ListKeysInput{Limit: new(int32(1001))}) {
		require.ErrorIs(t, err, kms.ValidationException)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	for _, err := range svc.AllKeys(ctx, &kms.ListKeysInput{Limit: new(int32(1))}) {
		if n++; n == 2 {
			require.True(t, errors.Is(err, context.Canceled))
		}
		cancel()
	}
	require.Equal(t, 2, n)
}

// All keys, however many pages there are.
func ExampleService_AllKeys() {
	svc, err := kms.New(kms.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close()
	ctx := context.Background()
	for range 150 {
		if _, err := svc.CreateKey(ctx, nil); err != nil {
			log.Fatal(err)
		}
	}

	n := 0
	for key, err := range svc.AllKeys(ctx, nil) {
		if err != nil {
			log.Fatal(err)
		}
		if key.KeyId != "" {
			n++
		}
	}
	fmt.Println(n, "keys")
	// Output: 150 keys
}
