package uuid_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/uuid"
)

func TestUUIDsHaveVersion4(t *testing.T) {
	require.Equal(t, "00000000-0000-4000-8000-000000000000", uuid.Format(uuid.Of([16]byte{})))
	ones := [16]byte{}
	for i := range ones {
		ones[i] = 0xff
	}
	require.Equal(t, "ffffffff-ffff-4fff-bfff-ffffffffffff", uuid.Format(uuid.Of(ones)))
	for _, id := range [][16]byte{{}, ones, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}} {
		var put [16]byte
		uuid.Put(&put, binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:]))
		require.Equal(t, uuid.Of(id), put)
	}
	require.Equal(t, "01020304-0506-0708-090a-0b0c0d0e0f10", uuid.Format([16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}))
}
