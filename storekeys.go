package kms

import (
	"errors"
	"slices"
	"strings"

	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/internal/ciphertext"
	"github.com/pocketkms/kms/internal/keydb"
)

// inCustomKeyStore reports whether a key of that origin is in a custom key store.
func inCustomKeyStore(origin string) bool {
	return origin == string(OriginAWSCloudHSM) || origin == string(OriginExternalKeyStore)
}

// refuseCustomKeyStore refuses an operation that no key of a custom key store takes.
func refuseCustomKeyStore(k *keydb.Key) error {
	if inCustomKeyStore(k.Record.Origin) {
		return exception(UnsupportedOperationException, "%s origin is %s which is not valid for this operation.", k.ARN, k.Record.Origin)
	}
	return nil
}

// createInStore creates a key in a custom key store.
func (c *call) createInStore(in *CreateKeyInput, ref keydb.Ref, record *keydb.Record, options keydb.CreateOptions) (*keydb.Key, error) {
	db := c.svc.core.db
	s, err := c.customKeyStore(in.CustomKeyStoreId)
	switch {
	case err != nil:
		return nil, err
	case s.Type != record.Origin:
		return nil, invalid("The type of the custom key store %s is %s, which is not valid for Origin %s.", s.ID, s.Type, record.Origin)
	case s.State != keydb.Connected && s.External():
		return nil, exception(CustomKeyStoreInvalidStateException, "This KMS key is in a custom key store that is not connected to its external key store proxy. Connect the external key store and try the request again.")
	case s.State != keydb.Connected:
		return nil, wrongConnectionState(s)
	}
	call := c.deviceCall()
	if s.External() {
		used, err := db.HasDeviceKey(c.ctx, s, in.XksKeyId)
		if err != nil {
			return nil, err
		}
		if used {
			return nil, exception(XksKeyAlreadyInUseException, "The external key %s is that of another KMS key in the custom key store %s.", in.XksKeyId, s.ID)
		}
		external, err := db.DescribeDeviceKey(c.ctx, s, in.XksKeyId, call)
		if err == nil {
			err = requireExternalKey(in.XksKeyId, external)
		}
		if err != nil {
			return nil, keyFailure(err)
		}
		record.DeviceKey = in.XksKeyId
	} else {
		health, err := db.DeviceHealth(c.ctx, s, nil, call)
		if err == nil {
			err = requireHSMs(s, health)
		}
		if err != nil {
			return nil, keyFailure(err)
		}
	}
	k, err := db.CreateInStore(c.ctx, s, ref, record, options, call)
	return k, keyFailure(err)
}

// requireExternalKey refuses an external key that no KMS key can have.
func requireExternalKey(id string, k keydb.DeviceKey) error {
	refuse := func(what, is, must string) error {
		return exception(XksKeyInvalidConfigurationException, "The %s of the external key %s is %s; it must be %s.", what, id, is, must)
	}
	switch {
	case k.Spec != "AES_256":
		return refuse("key spec", k.Spec, "AES_256")
	case k.Status != "ENABLED":
		return refuse("key status", k.Status, "ENABLED")
	case !slices.Contains(k.Usages, "ENCRYPT") || !slices.Contains(k.Usages, "DECRYPT"):
		return refuse("key usage", "["+strings.Join(k.Usages, ", ")+"]", "[ENCRYPT, DECRYPT]")
	}
	return nil
}

// keyFailure returns the exception of CreateKey for the failure of a device, and other errors as
// they are.
func keyFailure(err error) error {
	if failure, ok := errors.AsType[*keydb.DeviceError](err); ok {
		return exception(ErrorCode(failure.KeyException()), "%s", failure.Message())
	}
	return err
}

// randomInStore returns n random bytes of a CloudHSM key store.
func (c *call) randomInStore(id string, n int) ([]byte, error) {
	s, err := c.customKeyStore(id)
	switch {
	case err != nil:
		return nil, err
	case s.External():
		return nil, exception(UnsupportedOperationException, "The custom key store %s is an external key store, which generates no random bytes.", s.ID)
	case s.State != keydb.Connected:
		return nil, wrongConnectionState(s)
	}
	random, err := c.svc.core.db.Random(c.ctx, s, n, c.deviceCall())
	if failure, ok := errors.AsType[*keydb.DeviceError](err); ok {
		return nil, exception(CustomKeyStoreInvalidStateException, "%s", failure.Message())
	}
	return random, err
}

// sealInStore has the device of t's key encrypt what seal has.
func (c *call) sealInStore(t *target, sealed []byte) ([]byte, error) {
	if len(sealed) > ciphertext.NonceEnd+ciphertext.MaxDevicePlaintext {
		return nil, invalid("A key of a custom key store cannot encrypt data larger than %d bytes.", ciphertext.MaxDevicePlaintext-ciphertext.TagBytes)
	}
	beginning := sealed[:ciphertext.NonceEnd]
	sealed, err := c.svc.core.db.SealInDevice(c.ctx, t.key, beginning, sealed[len(beginning):], c.context(), c.deviceCall())
	return sealed, useFailure(err)
}

// openInStore is the inverse of sealInStore.
func (c *call) openInStore(t *target, sealed []byte, encryptionContext map[string]string) ([]byte, error) {
	if _, err := c.associatedData(nil, encryptionContext); err != nil {
		return nil, err
	}
	sealed, err := c.svc.core.db.OpenInDevice(c.ctx, t.key, sealed, c.context(), c.deviceCall())
	return sealed, useFailure(err)
}

// useFailure returns the exception of a cryptographic operation for the failure of a device.
func useFailure(err error) error {
	failure, ok := errors.AsType[*keydb.DeviceError](err)
	switch {
	case !ok:
		return err
	case !failure.IsBadCiphertext():
		return exception(KMSInvalidStateException, "%s", failure.Message())
	case failure.IsExternal():
		return &Error{Code: KMSInvalidStateException, Message: failure.Message(), cause: ErrContextOrAltered}
	}
	return invalidCiphertext(ErrContextOrAltered)
}

// errAlteredByDevice refuses what a device made of a ciphertext.
var errAlteredByDevice = &Error{
	Code:    KMSInvalidStateException,
	Message: "The ciphertext that the external key store proxy submitted for decryption, or the encryption context, is corrupted, missing, or otherwise invalid.",
	cause:   ErrContextOrAltered,
}

// addStores adds to an event the custom key stores of the keys that the call encrypted or decrypted
// with, or created.
func (c *call) addStores(b *audit.Builder) {
	if !c.op.tracked && c.op.name != opCreateKey.name {
		return
	}
	prefix := func(i int, name string) string {
		if c.count < 2 {
			return name
		}
		return []string{"source", "destination"}[i] + strings.ToUpper(name[:1]) + name[1:]
	}
	for i := c.count - 1; i >= 0; i-- { // in the order of the names
		r := c.targets[i].key.Record
		if !inCustomKeyStore(r.Origin) {
			continue
		}
		device := "backingKeyId"
		if r.Origin == string(OriginExternalKeyStore) {
			device = "xksKeyId"
		}
		b.String(prefix(i, "customKeyStoreId"), r.CustomKeyStore)
		b.String(prefix(i, device), r.DeviceKey)
	}
}
