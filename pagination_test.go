package kms_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

// A listing is an operation with a list as its output, and an input with entries.
type listing struct {
	operation  string
	of         func(f *listingFixture) any // its input without Limit and Marker
	entries    string                      // the output's member
	max, usual int                         // of Limit
}

// listings has all listings. A test finds an operation with a Marker that is missing here.
var listings = []listing{
	{"ListKeys", func(f *listingFixture) any { return &kms.ListKeysInput{} }, "Keys", 1000, 100},
	{"ListAliases", func(f *listingFixture) any { return &kms.ListAliasesInput{} }, "Aliases", 100, 50},
	{"ListAliases", func(f *listingFixture) any { return &kms.ListAliasesInput{KeyId: f.keyID} }, "Aliases", 100, 50},
	{"ListGrants", func(f *listingFixture) any { return &kms.ListGrantsInput{KeyId: f.keyID} }, "Grants", 100, 50},
	{"ListGrants", func(f *listingFixture) any {
		return &kms.ListGrantsInput{KeyId: f.keyID, GranteePrincipal: fixtureAlice}
	}, "Grants", 100, 50},
	{"ListRetirableGrants", func(f *listingFixture) any {
		return &kms.ListRetirableGrantsInput{RetiringPrincipal: f.svc.Caller().ARN()}
	}, "Grants", 100, 50},
	{"ListResourceTags", func(f *listingFixture) any { return &kms.ListResourceTagsInput{KeyId: f.keyID} }, "Tags", 50, 50},
	{"ListKeyPolicies", func(f *listingFixture) any { return &kms.ListKeyPoliciesInput{KeyId: f.keyID} }, "PolicyNames", 1000, 100},
	{"DescribeCustomKeyStores", func(f *listingFixture) any { return &kms.DescribeCustomKeyStoresInput{} }, "CustomKeyStores", 1000, 100},
	{"ListKeyRotations", func(f *listingFixture) any { return &kms.ListKeyRotationsInput{KeyId: f.keyID} }, "Rotations", 1000, 100},
	{"ListKeyRotations", func(f *listingFixture) any {
		return &kms.ListKeyRotationsInput{KeyId: f.keyID, IncludeKeyMaterial: kms.IncludeKeyMaterialAllKeyMaterial}
	}, "Rotations", 1000, 100},
}

// A listingFixture has several entries for each listing, in one account and Region.
type listingFixture struct {
	svc   *kms.Service
	keyID string
}

func newListingFixture(t *testing.T, svc *kms.Service) *listingFixture {
	t.Helper()
	f := &listingFixture{svc, createKey(t, svc, &kms.CreateKeyInput{Tags: manyTags(7)}).KeyId}
	for range 6 {
		createKey(t, svc, nil)
	}
	for i := range 7 {
		createAlias(t, svc, fmt.Sprintf("alias/%d", i), f.keyID)
		createAlias(t, svc, fmt.Sprintf("alias/other-%d", i), createSigningKey(t, svc).KeyId)
	}
	for _, grantee := range []string{fixtureAlice, f.svc.Caller().ARN()} {
		for range 4 {
			createGrant(t, svc, &kms.CreateGrantInput{KeyId: f.keyID, GranteePrincipal: grantee, RetiringPrincipal: f.svc.Caller().ARN()})
		}
	}
	for i := range 7 {
		require.NoError(t, rotateNow(svc, f.keyID))
		in := proxyStore(fmt.Sprint("store ", i)) // behind a VPC endpoint service, whose device is not called now
		in.XksProxyConnectivity, in.XksProxyUriEndpoint = kms.XksProxyConnectivityVPCEndpointService, fmt.Sprintf("https://proxy-%d.example.com", i)
		in.XksProxyVpcEndpointServiceName = fmt.Sprintf("com.amazonaws.vpce.us-east-1.vpce-svc-%d", i)
		createStore(t, svc, in)
	}
	return f
}

// A listed is a page of any listing.
type listed struct {
	entries    []any
	nextMarker string
	truncated  bool
}

func (f *listingFixture) page(t *testing.T, l listing, limit *int32, marker string) (listed, error) {
	t.Helper()
	in := l.of(f)
	v := reflect.ValueOf(in).Elem()
	v.FieldByName("Limit").Set(reflect.ValueOf(limit))
	v.FieldByName("Marker").SetString(marker)
	out, err := operationNamed(t, l.operation).Invoke(context.Background(), f.svc, in)
	if err != nil {
		require.Nil(t, out)
		return listed{}, err
	}
	v = reflect.ValueOf(out).Elem()
	p := listed{nextMarker: v.FieldByName("NextMarker").String(), truncated: v.FieldByName("Truncated").Bool()}
	entries := v.FieldByName(l.entries)
	require.False(t, entries.IsNil(), "an empty list is there too")
	for i := range entries.Len() {
		p.entries = append(p.entries, entries.Index(i).Interface())
	}
	require.Equal(t, p.truncated, p.nextMarker != "", "the marker is there if there is more")
	return p, nil
}

func eachListing(t *testing.T, test func(t *testing.T, l listing)) {
	for i, l := range listings {
		t.Run(fmt.Sprint(l.operation, " ", i), func(t *testing.T) { test(t, l) })
	}
}

func TestEveryListingIsTested(t *testing.T) {
	tested := map[string]bool{}
	for _, l := range listings {
		tested[l.operation] = true
	}
	for _, op := range kms.Operations() {
		_, lists := reflect.TypeOf(op.NewInput()).Elem().FieldByName("Marker")
		require.Equal(t, lists, tested[op.Name()], op.Name())
	}
}

func TestAListingIsTheSameInPagesOfEverySize(t *testing.T) {
	svc, _ := newService(t)
	f := newListingFixture(t, svc)
	eachListing(t, func(t *testing.T, l listing) {
		whole, err := f.page(t, l, nil, "")
		require.NoError(t, err)
		require.False(t, whole.truncated)
		require.NotEmpty(t, whole.entries)
		for size := 1; size <= min(len(whole.entries)+1, l.max); size++ {
			var all []any
			marker := ""
			for pages := 1; ; pages++ {
				p, err := f.page(t, l, new(int32(size)), marker)
				require.NoError(t, err)
				all = append(all, p.entries...)
				if !p.truncated {
					require.Equal(t, max(1, (len(whole.entries)+size-1)/size), pages, "no page but the last is short")
					break
				}
				require.Len(t, p.entries, size)
				marker = p.nextMarker
			}
			require.Equal(t, whole.entries, all, "pages of %d", size)
		}
	})
}

func TestAPageHasTheDefaultSizeWithoutALimit(t *testing.T) {
	svc, _ := newService(t)
	ctx := context.Background()
	for range 101 {
		createKey(t, svc, nil)
	}
	keys, err := svc.ListKeys(ctx, nil)
	require.NoError(t, err)
	require.Len(t, keys.Keys, 100)
	require.True(t, keys.Truncated)
	for i := range 60 {
		createAlias(t, svc, fmt.Sprintf("alias/%02d", i), keys.Keys[i].KeyId)
	}
	aliases, err := svc.ListAliases(ctx, nil)
	require.NoError(t, err)
	require.Len(t, aliases.Aliases, 50)
	require.True(t, aliases.Truncated)
}

func TestALimitOutOfRangeIsRefused(t *testing.T) {
	svc, _ := newService(t)
	f := newListingFixture(t, svc)
	eachListing(t, func(t *testing.T, l listing) {
		for _, limit := range []int{1, l.max} {
			_, err := f.page(t, l, new(int32(limit)), "")
			require.NoError(t, err)
		}
		for limit, text := range map[int]string{
			0: "greater than or equal to 1", -1: "greater than or equal to 1", l.max + 1: fmt.Sprint("less than or equal to ", l.max),
		} {
			_, err := f.page(t, l, new(int32(limit)), "")
			requireError(t, err, kms.ValidationException,
				"1 validation error detected: Value '%d' at 'limit' failed to satisfy constraint: Member must have value %s", limit, text)
		}
	})
}

func TestAMarkerIsValidOnlyForItsListing(t *testing.T) {
	svc, _ := newService(t)
	here := newListingFixture(t, svc)
	region := newListingFixture(t, svc.In("eu-west-1"))
	account := newListingFixture(t, svc.As(rootOf(t, "444455556666")))
	another := &listingFixture{svc, createKey(t, svc, &kms.CreateKeyInput{Tags: manyTags(7)}).KeyId}
	type marked struct {
		from   listing
		marker string
	}
	var markers []marked
	for _, l := range listings {
		if l.operation == "ListKeyPolicies" {
			continue // has one page
		}
		p, err := here.page(t, l, new(int32(2)), "")
		require.NoError(t, err)
		require.NotEmpty(t, p.nextMarker)
		markers = append(markers, marked{l, p.nextMarker})
	}
	refused := func(f *listingFixture, l listing, marker string) {
		t.Helper()
		_, err := f.page(t, l, nil, marker)
		requireError(t, err, kms.InvalidMarkerException, "The marker is not valid.")
	}
	for _, l := range listings {
		for _, m := range markers {
			same := m.from.operation == l.operation && reflect.DeepEqual(m.from.of(here), l.of(here))
			if same {
				_, err := here.page(t, l, nil, m.marker)
				require.NoError(t, err)
			} else {
				refused(here, l, m.marker)
			}
			refused(region, l, m.marker)
			refused(account, l, m.marker)
			if same && !reflect.DeepEqual(l.of(here), l.of(another)) {
				refused(another, l, m.marker)
			}
		}
		for _, garbage := range []string{"x", "AAAA", "?", "é", " ", strings.Repeat("A", 1024), base64.RawURLEncoding.EncodeToString(make([]byte, 40))} {
			refused(here, l, garbage)
		}
		_, err := here.page(t, l, nil, strings.Repeat("A", 1025))
		require.ErrorIs(t, err, kms.ValidationException)
	}
	for _, m := range markers {
		for i := range m.marker { // each change of one character
			other := "A"
			if m.marker[i] == 'A' {
				other = "B"
			}
			refused(here, m.from, m.marker[:i]+other+m.marker[i+1:])
		}
		refused(here, m.from, m.marker[:len(m.marker)-1])
		refused(here, m.from, m.marker+"A")
	}
}

func TestAListingContinuesAfterItsLastEntryIsDeleted(t *testing.T) {
	svc, clock := newService(t)
	ctx := context.Background()
	newListingFixture(t, svc)
	all, err := svc.ListKeys(ctx, nil)
	require.NoError(t, err)
	first, err := svc.ListKeys(ctx, &kms.ListKeysInput{Limit: new(int32(3))})
	require.NoError(t, err)
	for _, i := range []int{2, 4} { // the last of the page, and one of the next
		scheduleDeletion(t, svc, all.Keys[i].KeyId, 7)
	}
	clock.Move(7 * day)
	second, err := svc.ListKeys(ctx, &kms.ListKeysInput{Limit: new(int32(2)), Marker: first.NextMarker})
	require.NoError(t, err)
	require.Equal(t, []kms.KeyListEntry{all.Keys[3], all.Keys[5]}, second.Keys, "a page is full though a key has gone")
}

func TestListsAreInOrder(t *testing.T) {
	svc, _ := newService(t)
	newListingFixture(t, svc)
	ctx := context.Background()
	keys, err := svc.ListKeys(ctx, nil)
	require.NoError(t, err)
	var ids []string
	for _, k := range keys.Keys {
		ids = append(ids, k.KeyId)
	}
	require.IsIncreasing(t, ids)
	require.IsIncreasing(t, aliasesOf(t, svc, ""))
}
