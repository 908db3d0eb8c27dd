package envelope_test

import (
	"fmt"

	"github.com/pocketkms/kms/envelope"
)

func suiteHex(s envelope.Suite) string { return fmt.Sprintf("%04x", uint16(s)) }
