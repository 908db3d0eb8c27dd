package kms

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pocketkms/kms/iam"
	"github.com/pocketkms/kms/internal/testhook"
)

// A requestQuota is how many calls per second the principals of an account may make in a Region.
type requestQuota struct {
	perSecond  float64
	operations string   // that share it
	specs      []string // of the key, or of the key pair that is generated; nil: any
}

var (
	symmetricSpecs = []string{"SYMMETRIC_DEFAULT", "HMAC_224", "HMAC_256", "HMAC_384", "HMAC_512"}
	eccSpecs       = []string{"ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_SECG_P256K1", "ECC_NIST_EDWARDS25519", "SM2"}
	rsaSpecs       = []string{"RSA_2048", "RSA_3072", "RSA_4096"}
	mlkemSpecs     = []string{"ML_KEM_512", "ML_KEM_768", "ML_KEM_1024"}
	mldsaSpecs     = []string{"ML_DSA_44", "ML_DSA_65", "ML_DSA_87"}
)

const (
	pairOperations   = "GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext"
	throttledMessage = "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."
)

// sharedQuotas has a row for each quota that operations share, or that depends on the key. Those of
// ML-KEM are assumed to be like those of the other asymmetric keys.
var sharedQuotas = []requestQuota{
	{10_000, "Decrypt Encrypt GenerateDataKey GenerateDataKeyWithoutPlaintext GenerateMac GenerateRandom ReEncrypt VerifyMac", symmetricSpecs},
	{1_000, "Decrypt Encrypt ReEncrypt Sign Verify", rsaSpecs},
	{1_000, "Decrypt DeriveSharedSecret Encrypt ReEncrypt Sign Verify", eccSpecs},
	{1_000, "Sign Verify", mldsaSpecs},
	{1_000, "Decapsulate Encapsulate", mlkemSpecs},
	{100, pairOperations, eccSpecs[:1]},
	{100, pairOperations, eccSpecs[1:2]},
	{100, pairOperations, eccSpecs[2:3]},
	{100, pairOperations, eccSpecs[3:4]},
	{100, pairOperations, eccSpecs[4:5]},
	{25, pairOperations, eccSpecs[5:]},
	{20, pairOperations, rsaSpecs[:1]},
	{4, pairOperations, rsaSpecs[1:2]},
	{1, pairOperations, rsaSpecs[2:]},
	{100, pairOperations, mlkemSpecs[:1]},
	{100, pairOperations, mlkemSpecs[1:2]},
	{100, pairOperations, mlkemSpecs[2:]},
}

// ownQuotas are the quotas of the other operations, each of which has one of its own.
var ownQuotas = []requestQuota{
	{2_000, "DescribeKey GetPublicKey ListResourceTags", nil},
	{1_000, "GetKeyPolicy GetKeyRotationStatus", nil},
	{500, "ListAliases ListKeys", nil},
	{100, "ListGrants ListKeyPolicies ListKeyRotations ListRetirableGrants", nil},
	{50, "CreateGrant RetireGrant RevokeGrant", nil},
	{15, "DeleteAlias DeleteImportedKeyMaterial EnableKeyRotation ImportKeyMaterial PutKeyPolicy ScheduleKeyDeletion", nil},
	{10, "TagResource", nil},
	{5, "CancelKeyDeletion ConnectCustomKeyStore CreateAlias CreateCustomKeyStore CreateKey DeleteCustomKeyStore DescribeCustomKeyStores " +
		"DisableKey DisableKeyRotation DisconnectCustomKeyStore EnableKey GetKeyLastUsage ReplicateKey RotateKeyOnDemand " +
		"UntagResource UpdateAlias UpdateCustomKeyStore UpdateKeyDescription UpdatePrimaryRegion", nil},
	{1, "GetParametersForImport", nil},
}

// storeQuota is that of one custom key store, which the callers of all accounts share.
var storeQuota = requestQuota{1_800, "Decrypt Encrypt GenerateDataKey GenerateDataKeyWithoutPlaintext ReEncrypt", nil}

// symmetricPerSecond are the Regions in which the first of sharedQuotas is higher.
var symmetricPerSecond = map[string]float64{
	"us-east-2": 20_000, "ap-southeast-1": 20_000, "ap-southeast-2": 20_000, "ap-northeast-1": 20_000, "eu-central-1": 20_000, "eu-west-2": 20_000,
	"us-east-1": 100_000, "us-west-2": 100_000, "eu-west-1": 100_000,
}

// quotasOf has the quotas of each operation. An operation with more than one has those of the
// specs.
var quotasOf = func() map[string][]*requestQuota {
	byOperation := map[string][]*requestQuota{}
	for i := range sharedQuotas {
		for name := range strings.FieldsSeq(sharedQuotas[i].operations) {
			byOperation[name] = append(byOperation[name], &sharedQuotas[i])
		}
	}
	for _, q := range ownQuotas {
		for name := range strings.FieldsSeq(q.operations) {
			byOperation[name] = append(byOperation[name], &requestQuota{q.perSecond, name, nil})
		}
	}
	return byOperation
}()

// quotaOf returns the one of several quotas for a spec. If the operation cannot work with it, it is
// the first: a call that will fail counts, too.
func quotaOf(quotas []*requestQuota, spec string) *requestQuota {
	for _, q := range quotas {
		if slices.Contains(q.specs, spec) {
			return q
		}
	}
	return quotas[0]
}

func (q *requestQuota) rate(region string) float64 {
	if q == &sharedQuotas[0] {
		if rate := symmetricPerSecond[region]; rate != 0 {
			return rate
		}
	}
	return q.perSecond
}

// A throttle counts calls against the request quotas: each has a bucket of as many tokens as there
// are calls in a second, which refills at that rate.
type throttle struct {
	mu      sync.Mutex
	buckets map[bucketKey]*bucket
	sweepAt int // how many buckets there are when those that are full are removed
}

type bucketKey struct {
	account, region string // the account is empty in a bucket of storeQuota
	store           string // the ID of a custom key store, in a bucket of storeQuota
	quota           *requestQuota
}

// A bucket had some tokens at a time.
type bucket struct {
	tokens float64
	at     time.Time
}

// A charge is an amount of tokens of one bucket.
type charge struct {
	bucketKey
	tokens float64
}

const minSweep = 1024

// take takes what all charges say, or nothing, and reports whether it did. A clock that is set back
// refills nothing.
func (t *throttle) take(now time.Time, charges []charge) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range charges {
		if t.at(c.bucketKey, now).tokens < c.tokens {
			return false
		}
	}
	for _, c := range charges {
		t.buckets[c.bucketKey].tokens -= c.tokens
	}
	return true
}

// at returns a bucket as it is at now. t.mu must be held.
func (t *throttle) at(key bucketKey, now time.Time) *bucket {
	rate := key.quota.rate(key.region)
	b := t.buckets[key]
	if b == nil {
		t.sweep(now)
		b = &bucket{rate, now}
		t.buckets[key] = b
	}
	if elapsed := now.Sub(b.at); elapsed > 0 {
		b.tokens, b.at = min(rate, b.tokens+rate*elapsed.Seconds()), now
	}
	return b
}

// sweep removes the buckets that are full again, if there are many. All are, a second after the
// last call: so the calls of a second bound how many there are.
func (t *throttle) sweep(now time.Time) {
	if t.buckets == nil {
		t.buckets = map[bucketKey]*bucket{}
	}
	if len(t.buckets) < max(t.sweepAt, minSweep) {
		return
	}
	for key, b := range t.buckets {
		if now.Sub(b.at) >= time.Second {
			delete(t.buckets, key)
		}
	}
	t.sweepAt = 2 * len(t.buckets)
}

// charge takes the call from the caller's request quotas, or refuses it. A call is charged once,
// whatever comes of it: before it is validated if its quota depends only on its operation, as at
// the front of AWS KMS, and else as soon as its key is known. A call whose key cannot be found is
// not charged in the second case.
func (op *operation[In, Out]) charge(c *call, in *In, identified bool) error {
	t := c.svc.core.throttle
	quotas := op.quotas
	if t == nil || len(quotas) == 0 || c.charged || len(quotas) > 1 && !identified || c.svc.badRegion || c.svc.caller.kind == iam.Anonymous || testhook.Uncharged(c.ctx) {
		return nil
	}
	c.charged = true
	charges := make([]charge, 0, 4)
	addTo := func(key bucketKey, tokens float64) {
		for i := range charges {
			if charges[i].bucketKey == key {
				return
			}
		}
		charges = append(charges, charge{key, tokens})
	}
	add := func(quota *requestQuota, region string, tokens float64) {
		addTo(bucketKey{account: c.svc.caller.account, region: region, quota: quota}, tokens)
	}
	if len(quotas) == 1 {
		add(quotas[0], c.svc.region, 1)
	} else if pair := op.pairSpec.Of(in); pair != "" {
		add(quotaOf(quotas, string(pair)), c.svc.region, 1)
	} else {
		for i := range c.count { // ReEncrypt has two keys
			k := c.targets[i].key
			add(quotaOf(quotas, k.Spec.Name), c.svc.region, 1)
			if k.Record.CustomKeyStore != "" {
				addTo(bucketKey{region: k.Region, store: k.Record.CustomKeyStore, quota: &storeQuota}, 1)
			}
		}
	}
	if region := op.replicaRegion.Of(in); region != "" {
		add(quotasOf["CreateKey"][0], region, 2)
	}
	if region := op.primaryRegion.Of(in); region != "" {
		add(quotas[0], region, 1)
	}
	if !t.take(c.now, charges) {
		return exception(ThrottlingException, throttledMessage)
	}
	return nil
}
