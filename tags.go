package kms

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"
)

// Tag is a label on a key, for bookkeeping and for policies. Tags are no place for secrets: they are logged in clear.
type Tag struct {
	// TagKey is the name, 1 to 128 characters, upper and lower case being different. "aws:" is reserved.
	TagKey string `kms:"required,len=1..128"`

	// TagValue is the value, up to 256 characters. The API calls this member required, but allows it to be empty.
	TagValue string `kms:"required-on-wire,len=..256,emitzero"`
}

// TagResourceInput puts tags on a key.
type TagResourceInput struct {
	// KeyId is a key ID or key ARN of the caller's account, of a customer managed key.
	KeyId string `kms:"required,len=1..2048"`

	// Tags are added; one whose TagKey the key already has replaces the value. A key has at most 50.
	Tags []Tag `kms:"required"`
}

// TagResourceOutput is empty.
type TagResourceOutput struct{}

// UntagResourceInput takes tags off a key.
type UntagResourceInput struct {
	// KeyId is a key ID or key ARN of the caller's account, of a customer managed key.
	KeyId string `kms:"required,len=1..2048"`

	// TagKeys name the tags to remove. One that the key does not have is passed over.
	TagKeys []string `kms:"required,each=1..128"`
}

// UntagResourceOutput is empty.
type UntagResourceOutput struct{}

// ListResourceTagsInput chooses a page of a key's tags.
type ListResourceTagsInput struct {
	// KeyId is a key ID or key ARN of the caller's account.
	KeyId string `kms:"required,len=1..2048"`

	// Limit is the most tags to return, 1 to 50; nil means 50.
	Limit *int32 `kms:"range=1..50"`

	// Marker continues a list: NextMarker of the page before. Absent on the first call.
	Marker string `kms:"len=1..1024,pattern=marker"`
}

// ListResourceTagsOutput is a page of tags.
type ListResourceTagsOutput struct {
	// Tags are in the order of their keys.
	Tags []Tag `kms:"emitzero"`

	// NextMarker is the Marker of the next page; present if and only if Truncated.
	NextMarker string

	// Truncated says that more tags follow.
	Truncated bool `kms:"emitzero"`
}

const tagsPerKey = 50

func validateTags(tags []Tag) error {
	if len(tags) > tagsPerKey {
		return exception(TagException, "Too many tags")
	}
	seen := make(map[string]bool, len(tags))
	for _, t := range tags {
		if !utf8.ValidString(t.TagKey) || !utf8.ValidString(t.TagValue) { // it would be stored as something else
			return invalid("Tag keys and values must be valid UTF-8.")
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

// mergeTags returns old with added in it, by tag key.
func mergeTags(old, added []Tag) []Tag {
	merged := slices.Clone(added)
	for _, t := range old {
		if !slices.ContainsFunc(added, func(a Tag) bool { return a.TagKey == t.TagKey }) {
			merged = append(merged, t)
		}
	}
	slices.SortFunc(merged, func(a, b Tag) int { return strings.Compare(a.TagKey, b.TagKey) })
	return merged
}

var opTagResource = define(operation[TagResourceInput, TagResourceOutput]{
	description: description{name: "TagResource", keys: keyOnly, states: changeState},
	admit:       func(_ *call, in *TagResourceInput) error { return validateTags(in.Tags) },
	act: func(c *call, in *TagResourceInput) (*TagResourceOutput, error) {
		merged := mergeTags(c.key().record.Tags, in.Tags)
		if len(merged) > tagsPerKey {
			return nil, exception(TagException, "Too many tags")
		}
		return &TagResourceOutput{}, c.change(func(r *keyRecord) { r.Tags = merged })
	},
})

// TagResource adds tags to a key, and replaces those whose tag key it has
// already. A key can have 50.
func (s *Service) TagResource(ctx context.Context, in *TagResourceInput) (*TagResourceOutput, error) {
	return opTagResource.do(ctx, s, in)
}

var opUntagResource = define(operation[UntagResourceInput, UntagResourceOutput]{
	description: description{name: "UntagResource", keys: keyOnly, states: changeState},
	act: func(c *call, in *UntagResourceInput) (*UntagResourceOutput, error) {
		return &UntagResourceOutput{}, c.change(func(r *keyRecord) {
			r.Tags = slices.DeleteFunc(r.Tags, func(t Tag) bool { return slices.Contains(in.TagKeys, t.TagKey) })
		})
	},
})

// UntagResource removes tags from a key. Those that it does not have are
// passed over.
func (s *Service) UntagResource(ctx context.Context, in *UntagResourceInput) (*UntagResourceOutput, error) {
	return opUntagResource.do(ctx, s, in)
}

var opListResourceTags = define(operation[ListResourceTagsInput, ListResourceTagsOutput]{
	description: description{name: "ListResourceTags", keys: keyOnly, readOnly: true},
	act: func(c *call, in *ListResourceTagsInput) (*ListResourceTagsOutput, error) {
		scope := c.key().arn + "/"
		p, err := c.page(in.Marker, in.Limit, 50, scope)
		if err != nil {
			return nil, err
		}
		list, next := cut(c, p, append([]Tag{}, c.key().record.Tags...), func(t Tag) string { return scope + t.TagKey })
		return &ListResourceTagsOutput{Tags: list, NextMarker: next, Truncated: next != ""}, nil
	},
})

// ListResourceTags lists a key's tags by tag key.
func (s *Service) ListResourceTags(ctx context.Context, in *ListResourceTagsInput) (*ListResourceTagsOutput, error) {
	return opListResourceTags.do(ctx, s, in)
}
