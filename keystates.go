package kms

// A stateRule says how an operation answers in each key state: zero where it
// goes on, else one of the answers below. It is the "Key states" table of the
// AWS KMS Developer Guide, one rule for each group of operations that share a
// row.
type stateRule struct {
	enabled, disabled, pendingDeletion, pendingImport, unavailable, creating, updating stateAnswer
}

type stateAnswer uint8

const (
	proceed stateAnswer = iota
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
	isDisabled:           {DisabledException, " is disabled."},
	isPendingDeletion:    {KMSInvalidStateException, " is pending deletion."},
	isNotPendingDeletion: {KMSInvalidStateException, " is not pending deletion."},
	isPendingImport:      {KMSInvalidStateException, " is pending import."},
	isUnavailable:        {KMSInvalidStateException, " is unavailable."},
	isCreating:           {KMSInvalidStateException, " is creating."},
	isUpdating:           {KMSInvalidStateException, " is updating."},
}

var (
	// useState: the cryptographic operations.
	useState = stateRule{disabled: isDisabled, pendingDeletion: isPendingDeletion, pendingImport: isPendingImport,
		unavailable: isUnavailable, creating: isCreating}
	// publicState: GetPublicKey, which a disabled key still answers.
	publicState = stateRule{pendingDeletion: isPendingDeletion, creating: isCreating}
	// toggleState: EnableKey and DisableKey.
	toggleState = stateRule{pendingDeletion: isPendingDeletion, pendingImport: isPendingImport, creating: isCreating,
		updating: isUpdating}
	// changeState: what describes or names a key that is to stay.
	changeState   = stateRule{pendingDeletion: isPendingDeletion}
	scheduleState = stateRule{pendingDeletion: isPendingDeletion, updating: isUpdating}
	cancelState   = stateRule{enabled: isNotPendingDeletion, disabled: isNotPendingDeletion, pendingImport: isNotPendingDeletion,
		unavailable: isNotPendingDeletion, creating: isNotPendingDeletion, updating: isNotPendingDeletion}
	// rotationState: changes to automatic rotation.
	rotationState = stateRule{disabled: isDisabled, pendingDeletion: isPendingDeletion, creating: isCreating}
	rotateState   = stateRule{disabled: isDisabled, pendingDeletion: isPendingDeletion, pendingImport: isPendingImport,
		creating: isCreating}
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
	return isUnavailable // a state that no record can be in: fail closed
}

// admit refuses an operation that the key's state does not allow.
func (r *stateRule) admit(k *key) error {
	a := r.answer(k.state)
	switch {
	case a == proceed:
		return nil
	case a == isPendingDeletion && k.state == KeyStatePendingReplicaDeletion:
		return exception(KMSInvalidStateException, "%s is pending replica deletion.", k.arn)
	}
	return exception(stateAnswers[a].code, "%s%s", k.arn, stateAnswers[a].text)
}
