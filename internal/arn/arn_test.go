package arn

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestThePartitionFollowsTheRegion(t *testing.T) {
	for region, want := range map[string]string{
		"us-east-1": "aws", "eu-central-1": "aws", "cn-north-1": "aws-cn", "cn-northwest-1": "aws-cn", "us-gov-west-1": "aws-us-gov",
		"us-iso-east-1": "aws-iso", "us-isob-east-1": "aws-iso-b", "eu-isoe-west-1": "aws-iso-e", "us-isof-south-1": "aws-iso-f",
		"eusc-de-east-1": "aws-eusc", "local": "aws", "": "aws",
	} {
		require.Equal(t, want, Partition(region), region)
	}
	require.Equal(t, "arn:aws-cn:kms:cn-north-1:111122223333:key/k", Key("111122223333", "cn-north-1", "k"))
	require.Equal(t, "arn:aws:kms:us-east-1:111122223333:alias/a", Alias("111122223333", "us-east-1", "alias/a"))
}

func TestForms(t *testing.T) {
	for _, form := range []struct {
		name     string
		is       func(string) bool
		yes, not []string
	}{
		{"account", IsAccount, []string{"111122223333", "000000000000"}, []string{"", "11112222333", "1111222233334", "11112222333x"}},
		{"Region", IsRegion, []string{"us-east-1", "x", strings.Repeat("a", 32)}, []string{"", "US", "a/b", "a:b", strings.Repeat("a", 33)}},
		{"Region of a partition", IsRegionOfPartition,
			[]string{"us-east-1", "ap-southeast-12", "cn-northwest-1", "us-gov-west-1", "us-isob-east-1", "eusc-de-east-1"},
			[]string{"", "us", "us-east", "us-east-", "us--1", "-east-1", "us-east-1a", "us-eas2-1", "local", "xx-east-1", "us-gov-1-1", "east-1", "us-east-" + strings.Repeat("1", 30)}},
		{"alias", IsAlias, []string{"alias/a", "alias/a/B_-9", "alias/" + strings.Repeat("a", 250)},
			[]string{"", "alias", "alias/", "a", "alias/a:b", "alias/é", "alias/" + strings.Repeat("a", 251)}},
		{"key ID", IsKeyID, []string{"1234abcd-12ab-34cd-56ef-1234567890ab", "mrk-1234abcd12ab34cd56ef1234567890ab"},
			[]string{"", "1234ABCD-12ab-34cd-56ef-1234567890ab", "1234abcd12ab34cd56ef1234567890ab", "mrk-1234", "mrk-1234abcd-12ab-34cd-56ef-1234567890ab"}},
	} {
		for _, s := range form.yes {
			require.True(t, form.is(s), "%s %q", form.name, s)
		}
		for _, s := range form.not {
			require.False(t, form.is(s), "%s %q", form.name, s)
		}
	}
}

func TestKeyIDsArePackedAndFormatted(t *testing.T) {
	for _, multiRegion := range []bool{false, true} {
		id := NewKeyID(multiRegion)
		require.True(t, IsKeyID(id))
		packed, mr := PackKeyID(id)
		require.Equal(t, multiRegion, mr)
		require.Equal(t, id, FormatKeyID(&packed, mr))
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "arn:", "arn:aws:kms", "arn:aws:kms:us-east-1:111122223333:key/x", "arn:::::", "arn:a:b:::c:d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, ok := Parse(s)
		if ok {
			require.Equal(t, s, "arn:"+strings.Join([]string{a.Partition, a.Service, a.Region, a.Account, a.Resource}, ":"))
		}
	})
}
