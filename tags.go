package kms

import (
	"context"
	"slices"
	"strings"

	"github.com/pocketkms/kms/internal/keydb"
)

// Tag is a label of a key, for bookkeeping and for policies. It must hold no secrets: it is logged
// in the clear.
type Tag struct {
	// TagKey is the name, 1 to 128 characters. Upper and lower case differ. Names that begin with
	// "aws:" are reserved.
	TagKey string `kms:"required,len=1..128"`

	// TagValue is the value, up to 256 characters. The API calls this member required but allows it
	// to be empty.
	TagValue string `kms:"required-on-wire,len=..256,emitzero"`
}

// TagResourceInput adds tags to a key.
type TagResourceInput struct {
	// KeyId is the key ID or key ARN of a customer managed key of the caller's account.
	KeyId string `kms:"required,len=1..2048"`

	// Tags are the tags to add, and those whose value to replace. A key can have up to 50.
	Tags []Tag `kms:"required"`
}

// TagResourceOutput is empty.
type TagResourceOutput struct{}

// UntagResourceInput removes tags from a key.
type UntagResourceInput struct {
	// KeyId is the key ID or key ARN of a customer managed key of the caller's account.
	KeyId string `kms:"required,len=1..2048"`

	// TagKeys are the keys of the tags to remove. Those that the key does not have are ignored.
	TagKeys []string `kms:"required,each=1..128"`
}

// UntagResourceOutput is empty.
type UntagResourceOutput struct{}

// ListResourceTagsInput selects a page of the tags of a key.
type ListResourceTagsInput struct {
	// KeyId is a key ID or key ARN of the caller's account.
	KeyId string `kms:"required,len=1..2048"`

	// Limit is the most tags to return, 1 to 50; nil means 50.
	Limit *int32 `kms:"range=1..50"`

	// Marker is the NextMarker of the previous page; absent in the first call.
	Marker string `kms:"len=1..1024,pattern=marker"`
}

// ListResourceTagsOutput is a page of tags.
type ListResourceTagsOutput struct {
	// Tags are the tags, sorted by tag key.
	Tags []Tag `kms:"emitzero"`

	// NextMarker is the Marker of the next page; present if and only if Truncated.
	NextMarker string

	// Truncated reports whether more tags follow.
	Truncated bool `kms:"emitzero"`
}

const tagsPerKey = 50

func validateTags(tags []Tag) error {
	if len(tags) > tagsPerKey {
		return exception(TagException, "Too many tags")
	}
	seen := make(map[string]bool, len(tags))
	for _, t := range tags {
		if err := requireText("A tag", t.TagKey, t.TagValue); err != nil {
			return err
		}
		if seen[t.TagKey] {
			return exception(TagException, "Duplicate tag keys")
		}
		seen[t.TagKey] = true
		if len(t.TagKey) >= 4 && strings.EqualFold(t.TagKey[:4], "aws:") {
			return exception(TagException, "Tags beginning with aws: are reserved")
		}
	}
	return nil
}

// authorizeNewTags refuses a caller that may not set tags of the key that it creates. The resource is
// that key, so that what policies say about all keys of an account holds for it, too.
func (c *call) authorizeNewTags(key keydb.Ref, tags []Tag) error {
	if len(tags) == 0 {
		return nil
	}
	return c.authorizeResource("kms:TagResource", key.ARN())
}

func storedTags(tags []Tag) []keydb.Tag {
	var stored []keydb.Tag
	for _, t := range tags {
		stored = append(stored, keydb.Tag{Key: t.TagKey, Value: t.TagValue})
	}
	return stored
}

// tagsOf returns the tags of k, which are sorted by tag key.
func tagsOf(k *keydb.Key) []Tag {
	tags := []Tag{}
	for _, t := range k.Record.Tags {
		tags = append(tags, Tag{TagKey: t.Key, TagValue: t.Value})
	}
	return tags
}

// mergeTags returns old with added in it, sorted by key.
func mergeTags(old, added []keydb.Tag) []keydb.Tag {
	merged := slices.Clone(added)
	for _, t := range old {
		if !slices.ContainsFunc(added, func(a keydb.Tag) bool { return a.Key == t.Key }) {
			merged = append(merged, t)
		}
	}
	slices.SortFunc(merged, func(a, b keydb.Tag) int { return strings.Compare(a.Key, b.Key) })
	return merged
}

var opTagResource = define(description{
	name: "TagResource", keys: keyOnly, states: changeState,
}, steps[TagResourceInput, TagResourceOutput]{
	admit: func(_ *call, in *TagResourceInput) error { return validateTags(in.Tags) },
	act: func(c *call, in *TagResourceInput) (*TagResourceOutput, error) {
		merged := mergeTags(c.key().Record.Tags, storedTags(in.Tags))
		if len(merged) > tagsPerKey {
			return nil, exception(TagException, "Too many tags")
		}
		return &TagResourceOutput{}, c.update(func(r *keydb.Record) { r.Tags = merged })
	},
})

// TagResource adds tags to a key, and replaces the values of tags that the key already has. A key
// can have up to 50.
func (s *Service) TagResource(ctx context.Context, in *TagResourceInput) (*TagResourceOutput, error) {
	return opTagResource.do(ctx, s, in)
}

var opUntagResource = define(description{
	name: "UntagResource", keys: keyOnly, states: changeState,
}, steps[UntagResourceInput, UntagResourceOutput]{
	validate: func(in *UntagResourceInput) error { return requireText("A tag key", in.TagKeys...) },
	act: func(c *call, in *UntagResourceInput) (*UntagResourceOutput, error) {
		return &UntagResourceOutput{}, c.update(func(r *keydb.Record) {
			r.Tags = slices.DeleteFunc(r.Tags, func(t keydb.Tag) bool { return slices.Contains(in.TagKeys, t.Key) })
		})
	},
})

// UntagResource removes tags from a key. It ignores those that the key does not have.
func (s *Service) UntagResource(ctx context.Context, in *UntagResourceInput) (*UntagResourceOutput, error) {
	return opUntagResource.do(ctx, s, in)
}

var opListResourceTags = define(description{
	name: "ListResourceTags", keys: keyOnly, states: anyState, readOnly: true,
}, steps[ListResourceTagsInput, ListResourceTagsOutput]{
	act: func(c *call, in *ListResourceTagsInput) (*ListResourceTagsOutput, error) {
		p, err := c.page(in.Marker, in.Limit, 50, c.key().ARN)
		if err != nil {
			return nil, err
		}
		list, next := truncate(c, p, tagsOf(c.key()), func(t Tag) string { return t.TagKey })
		return &ListResourceTagsOutput{Tags: list, NextMarker: next, Truncated: next != ""}, nil
	},
})

// ListResourceTags lists the tags of a key, sorted by tag key.
func (s *Service) ListResourceTags(ctx context.Context, in *ListResourceTagsInput) (*ListResourceTagsOutput, error) {
	return opListResourceTags.do(ctx, s, in)
}
