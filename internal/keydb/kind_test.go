package keydb

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestKindOfEveryRecord(t *testing.T) {
	ref := Ref{"111122223333", "us-east-1", "1234abcd-12ab-34cd-56ef-1234567890ab"}
	alias := AliasRef{ref.Account, ref.Region, "alias/key/a"}
	grant := &Grant{Key: ref, ID: "00", GrantRecord: &GrantRecord{Name: "a", Grantee: "b", Retiring: "c"}}
	for _, name := range grant.recordNames() {
		require.Equal(t, GrantKind, KindOf(name), name)
	}
	require.Len(t, grant.recordNames(), 4)
	for name, want := range map[string]Kind{
		ref.recordName():                   KeyKind,
		alias.recordName():                 AliasKind,
		ref.aliasName(alias.Name):          AliasKind,
		ref.sharedName():                   SharedKind,
		ref.sharedMaterialsName() + "00":   OtherKind,
		ref.materialName("00"):             OtherKind,
		ref.lastUseName():                  OtherKind,
		ref.dueName(time.Unix(1, 0)):       OtherKind,
		eventPrefix + "000000000001/1/key": OtherKind,
		"":                                 OtherKind,
		"keys":                             OtherKind,
	} {
		require.Equal(t, want, KindOf(name), name)
	}
}
