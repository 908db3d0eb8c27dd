package kms

import (
	"context"
	"iter"
)

// all yields the entries of a list, from the page that in asks for to the last. It reads a page
// when its first entry is wanted. page returns the entries of an output and its NextMarker, and
// marker where an input has its Marker.
func all[In, Out, Entry any](ctx context.Context, in *In, list func(context.Context, *In) (*Out, error),
	marker func(*In) *string, page func(*Out) ([]Entry, string)) iter.Seq2[Entry, error] {
	var first In
	if in != nil {
		first = *in
	}
	return func(yield func(Entry, error) bool) {
		for next := first; ; {
			out, err := list(ctx, &next)
			if err != nil {
				var none Entry
				yield(none, err)
				return
			}
			entries, following := page(out)
			for _, e := range entries {
				if !yield(e, nil) {
					return
				}
			}
			if following == "" {
				return
			}
			*marker(&next) = following
		}
	}
}

// AllKeys yields the keys of [Service.ListKeys], of all pages from the one that in asks for. An
// error ends the list. A loop over it may run again: it then makes the calls again.
func (s *Service) AllKeys(ctx context.Context, in *ListKeysInput) iter.Seq2[KeyListEntry, error] {
	return all(ctx, in, s.ListKeys,
		func(in *ListKeysInput) *string { return &in.Marker },
		func(out *ListKeysOutput) ([]KeyListEntry, string) { return out.Keys, out.NextMarker })
}

// AllAliases is [Service.AllKeys] for [Service.ListAliases].
func (s *Service) AllAliases(ctx context.Context, in *ListAliasesInput) iter.Seq2[AliasListEntry, error] {
	return all(ctx, in, s.ListAliases,
		func(in *ListAliasesInput) *string { return &in.Marker },
		func(out *ListAliasesOutput) ([]AliasListEntry, string) { return out.Aliases, out.NextMarker })
}

// AllGrants is [Service.AllKeys] for [Service.ListGrants].
func (s *Service) AllGrants(ctx context.Context, in *ListGrantsInput) iter.Seq2[GrantListEntry, error] {
	return all(ctx, in, s.ListGrants,
		func(in *ListGrantsInput) *string { return &in.Marker },
		func(out *ListGrantsOutput) ([]GrantListEntry, string) { return out.Grants, out.NextMarker })
}

// AllRetirableGrants is [Service.AllKeys] for [Service.ListRetirableGrants].
func (s *Service) AllRetirableGrants(ctx context.Context, in *ListRetirableGrantsInput) iter.Seq2[GrantListEntry, error] {
	return all(ctx, in, s.ListRetirableGrants,
		func(in *ListRetirableGrantsInput) *string { return &in.Marker },
		func(out *ListRetirableGrantsOutput) ([]GrantListEntry, string) { return out.Grants, out.NextMarker })
}

// AllKeyPolicies is [Service.AllKeys] for [Service.ListKeyPolicies]: it yields the names of
// policies.
func (s *Service) AllKeyPolicies(ctx context.Context, in *ListKeyPoliciesInput) iter.Seq2[string, error] {
	return all(ctx, in, s.ListKeyPolicies,
		func(in *ListKeyPoliciesInput) *string { return &in.Marker },
		func(out *ListKeyPoliciesOutput) ([]string, string) { return out.PolicyNames, out.NextMarker })
}

// AllKeyRotations is [Service.AllKeys] for [Service.ListKeyRotations].
func (s *Service) AllKeyRotations(ctx context.Context, in *ListKeyRotationsInput) iter.Seq2[RotationsListEntry, error] {
	return all(ctx, in, s.ListKeyRotations,
		func(in *ListKeyRotationsInput) *string { return &in.Marker },
		func(out *ListKeyRotationsOutput) ([]RotationsListEntry, string) { return out.Rotations, out.NextMarker })
}

// AllResourceTags is [Service.AllKeys] for [Service.ListResourceTags].
func (s *Service) AllResourceTags(ctx context.Context, in *ListResourceTagsInput) iter.Seq2[Tag, error] {
	return all(ctx, in, s.ListResourceTags,
		func(in *ListResourceTagsInput) *string { return &in.Marker },
		func(out *ListResourceTagsOutput) ([]Tag, string) { return out.Tags, out.NextMarker })
}

// AllCustomKeyStores is [Service.AllKeys] for [Service.DescribeCustomKeyStores].
func (s *Service) AllCustomKeyStores(ctx context.Context, in *DescribeCustomKeyStoresInput) iter.Seq2[CustomKeyStoresListEntry, error] {
	return all(ctx, in, s.DescribeCustomKeyStores,
		func(in *DescribeCustomKeyStoresInput) *string { return &in.Marker },
		func(out *DescribeCustomKeyStoresOutput) ([]CustomKeyStoresListEntry, string) {
			return out.CustomKeyStores, out.NextMarker
		})
}
