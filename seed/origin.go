package seed

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/spec"
)

// materialDescription matches what ImportKeyMaterial accepts as a KeyMaterialDescription.
var materialDescription = regexp.MustCompile(`^[a-zA-Z0-9:/_\s.-]{0,256}$`)

// checkOrigin refuses an origin that a seeded key cannot have, and what does not suit it.
func (k *Key) checkOrigin() error {
	imported, given := k.Origin == kms.OriginExternal, k.Material.stored != nil
	s := spec.Of(string(k.Spec))
	refuse := func(member, format string, arguments ...any) error {
		return &memberError{[]any{member}, fmt.Errorf(format, arguments...)}
	}
	switch {
	case k.Origin != "" && k.Origin != kms.OriginAWSKMS && !imported:
		return refuse("origin", "the origin %.32q is not AWS_KMS or EXTERNAL", k.Origin)
	case k.MaterialValidityInDays != 0 && !(imported && given):
		return refuse("materialValidityInDays", "only a material of origin EXTERNAL has a validity")
	case k.MaterialValidityInDays < 0 || k.MaterialValidityInDays > 365:
		return refuse("materialValidityInDays", "the validity of a material is 1 to 365 days")
	case k.MaterialDescription != "" && (!(imported && given) || s != nil && s.Kind != spec.Symmetric):
		return refuse("materialDescription", "only a material of origin EXTERNAL of a symmetric encryption key has a description")
	case !materialDescription.MatchString(k.MaterialDescription):
		return refuse("materialDescription", "the description of a material has up to 256 letters, digits, spaces and :/_.-")
	case imported && !given && (k.State == kms.KeyStateEnabled || k.State == kms.KeyStateDisabled):
		return refuse("state", "a key of origin EXTERNAL without a material cannot be %s", k.State)
	case imported && !given && len(k.Grants) > 0:
		return &memberError{[]any{"grants", 0}, errors.New("a key of origin EXTERNAL without a material cannot have grants")}
	}
	return nil
}
