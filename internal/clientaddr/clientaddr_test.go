package clientaddr_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/clientaddr"
)

func TestClient(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:4711":              "192.0.2.1",
		"[::ffff:192.0.2.1]:4711":     "192.0.2.1",
		"[2001:db8:1:2:3:4:5:6]:4711": "2001:db8:1:2::/64",
		"[2001:db8:1:2:ffff::]:4712":  "2001:db8:1:2::/64",
		"[2001:db8:1:3::]:4712":       "2001:db8:1:3::/64",
		"[::1]:4711":                  "::/64",
		"[fe80::1%eth0]:4711":         "fe80::/64",
		"@":                           "@",
		"":                            "",
	} {
		require.Equal(t, want, clientaddr.Client(remote), remote)
	}
}
