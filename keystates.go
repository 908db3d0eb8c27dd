package kms

import "github.com/pocketkms/kms/internal/keydb"

// A stateRule says how an operation answers in each key state. It is the "Key states" table of the
// AWS KMS Developer Guide, with one rule for each group of operations that share a row. The zero
// answer refuses.
type stateRule struct {
	enabled, disabled, pendingDeletion, pendingImport, unavailable, creating, updating stateAnswer
}

type stateAnswer uint8

const (
	unset stateAnswer = iota // answered like isUnavailable
	proceed
	isDisabled
	isPendingDeletion
	isNotPendingDeletion
	isPendingImport
	isUnavailable
	isCreating
	isUpdating
)

var stateAnswers = [...]struct {
	code ErrorCode
	text string // after the key's ARN
}{
	unset:                {KMSInvalidStateException, " is unavailable."},
	isDisabled:           {DisabledException, " is disabled."},
	isPendingDeletion:    {KMSInvalidStateException, " is pending deletion."},
	isNotPendingDeletion: {KMSInvalidStateException, " is not pending deletion."},
	isPendingImport:      {KMSInvalidStateException, " is pending import."},
	isUnavailable:        {KMSInvalidStateException, " is unavailable."},
	isCreating:           {KMSInvalidStateException, " is creating."},
	isUpdating:           {KMSInvalidStateException, " is updating."},
}

var (
	// anyState: operations that only read what is stored of the key, or work in every state.
	anyState = &stateRule{proceed, proceed, proceed, proceed, proceed, proceed, proceed}
	// useState: the cryptographic operations.
	useState = &stateRule{enabled: proceed, disabled: isDisabled, pendingDeletion: isPendingDeletion, pendingImport: isPendingImport,
		unavailable: isUnavailable, creating: isCreating, updating: proceed}
	// pairState: data key pairs, which no key of a custom key store makes, whatever its state.
	pairState = &stateRule{enabled: proceed, disabled: isDisabled, pendingDeletion: isPendingDeletion, pendingImport: isPendingImport,
		unavailable: proceed, creating: isCreating, updating: proceed}
	// publicState: GetPublicKey, which works on a disabled key.
	publicState = &stateRule{proceed, proceed, isPendingDeletion, isPendingImport, proceed, isCreating, proceed}
	// toggleState: EnableKey and DisableKey.
	toggleState = &stateRule{proceed, proceed, isPendingDeletion, isPendingImport, proceed, isCreating, isUpdating}
	// changeState: changes to what describes a key.
	changeState = &stateRule{proceed, proceed, isPendingDeletion, proceed, proceed, proceed, proceed}
	// readyState: RotateKeyOnDemand, CreateGrant and UpdatePrimaryRegion.
	readyState = &stateRule{proceed, isDisabled, isPendingDeletion, isPendingImport, proceed, isCreating, proceed}
	// replicateState: ReplicateKey.
	replicateState = &stateRule{proceed, isDisabled, isPendingDeletion, isPendingImport, isUnavailable, isCreating, isUpdating}
	scheduleState  = &stateRule{proceed, proceed, isPendingDeletion, proceed, proceed, proceed, isUpdating}
	cancelState    = &stateRule{enabled: isNotPendingDeletion, disabled: isNotPendingDeletion, pendingDeletion: proceed,
		pendingImport: isNotPendingDeletion, unavailable: isNotPendingDeletion, creating: isNotPendingDeletion, updating: isNotPendingDeletion}
	// parametersState: GetParametersForImport.
	parametersState = &stateRule{proceed, proceed, isPendingDeletion, proceed, proceed, isCreating, isUpdating}
	importState     = &stateRule{proceed, proceed, isPendingDeletion, proceed, proceed, isCreating, proceed}
	// deleteMaterialState: DeleteImportedKeyMaterial.
	deleteMaterialState = &stateRule{proceed, proceed, proceed, proceed, proceed, isCreating, isUpdating}
	// rotationState: changes to automatic rotation.
	rotationState = &stateRule{proceed, isDisabled, isPendingDeletion, proceed, proceed, isCreating, proceed}
)

func (r *stateRule) answer(s KeyState) stateAnswer {
	switch s {
	case KeyStateEnabled:
		return r.enabled
	case KeyStateDisabled:
		return r.disabled
	case KeyStatePendingDeletion, KeyStatePendingReplicaDeletion:
		return r.pendingDeletion
	case KeyStatePendingImport:
		return r.pendingImport
	case KeyStateUnavailable:
		return r.unavailable
	case KeyStateCreating:
		return r.creating
	case KeyStateUpdating:
		return r.updating
	}
	return unset // a state that no record can be in
}

// refuse is the rule of an operation that has none.
var refuse = new(stateRule)

// admit refuses an operation that the key's state does not allow.
func (r *stateRule) admit(k *keydb.Key) error {
	if r == nil {
		r = refuse
	}
	state := KeyState(k.State)
	a := r.answer(state)
	switch {
	case a == proceed:
		return nil
	case a == isPendingDeletion && state == KeyStatePendingReplicaDeletion:
		return exception(KMSInvalidStateException, "%s is pending replica deletion.", k.ARN)
	}
	return exception(stateAnswers[a].code, "%s%s", k.ARN, stateAnswers[a].text)
}

// admit refuses a call that its keys, as they are now, cannot serve.
func (c *call) admit() error {
	for i := range c.count {
		if err := c.op.states.admit(c.targets[i].key); err != nil {
			return err
		}
	}
	if c.op.usage != "" {
		return requireUsage(c.key(), c.op.usage, c.op.name)
	}
	return nil
}

// requireUsage refuses a key of another usage.
func requireUsage(k *keydb.Key, usage KeyUsageType, operation string) error {
	if k.Usage.Name != string(usage) {
		return exception(InvalidKeyUsageException, "%s key usage is %s which is not valid for %s.", k.ARN, k.Record.Usage, operation)
	}
	return nil
}

// requireAlgorithm refuses an algorithm that k's spec does not have.
func requireAlgorithm(k *keydb.Key, algorithm string) error {
	if !k.Usage.Has(algorithm) {
		return exception(InvalidKeyUsageException, "Algorithm %s is incompatible with key spec %s.", algorithm, k.Record.Spec)
	}
	return nil
}
