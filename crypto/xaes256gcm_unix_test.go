//go:build unix && (amd64 || arm64)

package crypto

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// The plaintext is address space without memory: reading a byte of it would crash.
func TestXAESRefusesMoreThanAESGCMCanEncrypt(t *testing.T) {
	plaintext, err := syscall.Mmap(-1, 0, xaesMaxPlaintext+1, syscall.PROT_NONE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	require.NoError(t, err)
	defer func() { require.NoError(t, syscall.Munmap(plaintext)) }()
	_, err = newXAES(t, randomBytes(32), nil).Seal(nil, plaintext, nil)
	require.ErrorIs(t, err, ErrLength)
}
