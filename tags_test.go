package kms_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

func tagsOf(t testing.TB, svc *kms.Service, keyID string) []kms.Tag {
	t.Helper()
	out, err := svc.ListResourceTags(context.Background(), &kms.ListResourceTagsInput{KeyId: keyID})
	require.NoError(t, err)
	require.False(t, out.Truncated)
	return out.Tags
}

func TestTagsAreAddedReplacedAndRemovedByTheirKeys(t *testing.T) {
	svc, _ := newService(t)
	ctx := context.Background()
	k := createKey(t, svc, &kms.CreateKeyInput{Tags: []kms.Tag{{TagKey: "b", TagValue: "1"}, {TagKey: "a"}}})
	require.Equal(t, []kms.Tag{{TagKey: "a"}, {TagKey: "b", TagValue: "1"}}, tagsOf(t, svc, k.KeyId))

	_, err := svc.TagResource(ctx, &kms.TagResourceInput{KeyId: k.KeyId, Tags: []kms.Tag{
		{TagKey: "B", TagValue: "another case"}, {TagKey: "b", TagValue: "2"}, {TagKey: "é", TagValue: strings.Repeat("é", 256)}}})
	require.NoError(t, err)
	all := []kms.Tag{{TagKey: "B", TagValue: "another case"}, {TagKey: "a"}, {TagKey: "b", TagValue: "2"}, {TagKey: "é", TagValue: strings.Repeat("é", 256)}}
	require.Equal(t, all, tagsOf(t, svc, k.Arn))

	for range 2 { // the second time they are not there
		_, err = svc.UntagResource(ctx, &kms.UntagResourceInput{KeyId: k.KeyId, TagKeys: []string{"a", "B", "none"}})
		require.NoError(t, err)
		require.Equal(t, all[2:], tagsOf(t, svc, k.KeyId))
	}
	require.Equal(t, k, describe(t, svc, k.KeyId), "tags are no metadata")
	require.Empty(t, tagsOf(t, svc, createKey(t, svc, nil).KeyId))
}

func TestAKeyHasAtMost50Tags(t *testing.T) {
	svc, _ := newService(t)
	ctx := context.Background()
	k := createKey(t, svc, &kms.CreateKeyInput{Tags: manyTags(49)})
	tag := func(tags ...kms.Tag) error {
		_, err := svc.TagResource(ctx, &kms.TagResourceInput{KeyId: k.KeyId, Tags: tags})
		return err
	}
	requireError(t, tag(kms.Tag{TagKey: "50"}, kms.Tag{TagKey: "51"}), kms.TagException, "Too many tags")
	requireError(t, tag(manyTags(51)...), kms.TagException, "Too many tags")
	require.Equal(t, manyTags(49), tagsOf(t, svc, k.KeyId), "all or nothing")
	require.NoError(t, tag(kms.Tag{TagKey: "key-049", TagValue: "value"}))
	require.NoError(t, tag(manyTags(50)...), "which does not make them more")
	require.Equal(t, manyTags(50), tagsOf(t, svc, k.KeyId))
	requireError(t, tag(kms.Tag{TagKey: "50"}), kms.TagException, "Too many tags")
	require.Len(t, tagsOf(t, svc, createKey(t, svc, &kms.CreateKeyInput{Tags: manyTags(50)}).KeyId), 50)
}

func TestTagResourceRefusesWhatNoTagCanBe(t *testing.T) {
	svc, _ := newService(t)
	ctx := context.Background()
	k := createKey(t, svc, nil)
	long := strings.Repeat("é", 257)
	tests := []struct {
		name    string
		tags    []kms.Tag
		code    kms.ErrorCode
		message string
	}{
		{"none", nil, kms.ValidationException, "1 validation error detected: Value null at 'tags' failed to satisfy constraint: Member must not be null"},
		{"one without a key", []kms.Tag{{TagValue: "v"}}, kms.ValidationException,
			"1 validation error detected: Value null at 'tags.1.member.tagKey' failed to satisfy constraint: Member must not be null"},
		{"a key that is too long", []kms.Tag{{TagKey: string([]rune(long)[:129])}}, kms.ValidationException,
			fmt.Sprintf("1 validation error detected: Value '%s' at 'tags.1.member.tagKey' failed to satisfy constraint: Member must have length less than or equal to 128", string([]rune(long)[:129]))},
		{"a value that is too long", []kms.Tag{{TagKey: "a"}, {TagKey: "b", TagValue: long}}, kms.ValidationException,
			fmt.Sprintf("1 validation error detected: Value '%s' at 'tags.2.member.tagValue' failed to satisfy constraint: Member must have length less than or equal to 256", long)},
		{"one key twice", []kms.Tag{{TagKey: "a", TagValue: "1"}, {TagKey: "a", TagValue: "2"}}, kms.TagException, "Duplicate tag keys"},
		{"a reserved key", []kms.Tag{{TagKey: "aws:cloudformation:stack-name"}}, kms.TagException, "Tags beginning with aws: are reserved"},
		{"a reserved key in another case", []kms.Tag{{TagKey: "aWs:x"}}, kms.TagException, "Tags beginning with aws: are reserved"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := svc.TagResource(ctx, &kms.TagResourceInput{KeyId: k.KeyId, Tags: test.tags})
			requireError(t, err, test.code, "%s", test.message)
		})
	}
	_, err := svc.UntagResource(ctx, &kms.UntagResourceInput{KeyId: k.KeyId, TagKeys: []string{"ok", strings.Repeat("x", 129)}})
	require.ErrorIs(t, err, kms.ValidationException)
	require.ErrorContains(t, err, "at 'tagKeys' failed to satisfy constraint: Member must satisfy constraint: [")
	require.Empty(t, tagsOf(t, svc, k.KeyId))
}

func TestTagsAreTheCallersOwn(t *testing.T) {
	svc, _ := newService(t)
	tags := manyTags(3)
	k := createKey(t, svc, &kms.CreateKeyInput{Tags: tags})
	tags[0].TagValue = "changed afterwards"
	got := tagsOf(t, svc, k.KeyId)
	require.Equal(t, manyTags(3), got)
	got[1].TagValue = "changed by its reader"
	require.Equal(t, manyTags(3), tagsOf(t, svc, k.KeyId))

	k = createKey(t, svc, nil)
	tags = []kms.Tag{{TagKey: "b", TagValue: "1"}, {TagKey: "a", TagValue: "2"}}
	_, err := svc.TagResource(context.Background(), &kms.TagResourceInput{KeyId: k.KeyId, Tags: tags})
	require.NoError(t, err)
	require.Equal(t, []kms.Tag{{TagKey: "b", TagValue: "1"}, {TagKey: "a", TagValue: "2"}}, tags, "not sorted in place")
	clear(tags)
	require.Equal(t, []kms.Tag{{TagKey: "a", TagValue: "2"}, {TagKey: "b", TagValue: "1"}}, tagsOf(t, svc, k.KeyId))
}

// A reader has the tags as they were before a change or after it.
func TestTagsAreReadWhileTheyAreRemoved(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, &kms.CreateKeyInput{Tags: manyTags(50)})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for left := 50; left > 0; {
				out, err := svc.ListResourceTags(t.Context(), &kms.ListResourceTagsInput{KeyId: k.KeyId})
				if err != nil || !slices.Equal(out.Tags, manyTags(50)[50-len(out.Tags):]) {
					t.Errorf("%v, %v", out, err)
					return
				}
				left = len(out.Tags)
			}
		})
	}
	for _, tag := range manyTags(50) {
		_, err := svc.UntagResource(t.Context(), &kms.UntagResourceInput{KeyId: k.KeyId, TagKeys: []string{tag.TagKey}})
		require.NoError(t, err)
	}
	readers.Wait()
}
