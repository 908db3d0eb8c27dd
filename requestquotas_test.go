package kms

import (
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms/internal/spec"
)

// A quotaFixture is a service with request quotas, whose clock the test moves.
type quotaFixture struct {
	*Service
	t    *testing.T
	past atomic.Int64 // nanoseconds since the beginning
}

func (f *quotaFixture) advance(d time.Duration) { f.past.Add(int64(d)) }

func newQuotaFixture(t *testing.T) *quotaFixture {
	f := &quotaFixture{t: t}
	begin := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { return begin.Add(time.Duration(f.past.Load())) }
	svc, err := New(Config{RequestQuotas: true, Region: "eu-north-1", Clock: clock})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, svc.Close()) })
	f.Service = svc
	return f
}

func (f *quotaFixture) key(spec KeySpec, usage KeyUsageType) string {
	f.t.Helper()
	out, err := f.CreateKey(f.t.Context(), &CreateKeyInput{KeySpec: spec, KeyUsage: usage})
	require.NoError(f.t, err)
	return out.KeyMetadata.KeyId
}

// untilThrottled returns how many calls are not throttled. The others fail with the API's answer.
func (f *quotaFixture) untilThrottled(call func() error) (n int) {
	f.t.Helper()
	for ; ; n++ {
		err := call()
		if e, ok := err.(*Error); ok && e.Code == ThrottlingException {
			require.Equal(f.t, "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.", e.Message)
			return n
		}
		require.Less(f.t, n, 200_000)
	}
}

func (f *quotaFixture) listKeys(svc *Service) func() error {
	return func() error { _, err := svc.ListKeys(f.t.Context(), nil); return err }
}

func TestEveryOperationHasARequestQuota(t *testing.T) {
	for _, op := range operations {
		quotas := quotasOf[op.Name()]
		require.NotEmpty(t, quotas, op.Name())
		if len(quotas) == 1 {
			continue
		}
		for _, q := range quotas { // which have no spec in common
			for _, name := range q.specs {
				require.NotNil(t, spec.Of(name), name)
				require.Same(t, q, quotaOf(quotas, name))
			}
		}
	}
	for _, pair := range DataKeyPairSpec("").Values() {
		require.Contains(t, quotaOf(quotasOf["GenerateDataKeyPair"], string(pair)).specs, string(pair))
	}
}

func TestACallBeyondItsQuotaIsThrottled(t *testing.T) {
	f := newQuotaFixture(t)
	require.Equal(t, 500, f.untilThrottled(f.listKeys(f.Service)))
	require.Equal(t, 500, f.untilThrottled(f.listKeys(f.In("us-east-1"))), "each Region has its own")
	other, err := ParsePrincipal("arn:aws:iam::444455556666:root")
	require.NoError(t, err)
	require.Equal(t, 500, f.untilThrottled(f.listKeys(f.As(other))), "and each account")
	alice, err := ParsePrincipal("arn:aws:iam::111122223333:user/alice")
	require.NoError(t, err)
	require.Zero(t, f.untilThrottled(f.listKeys(f.As(alice))), "the principals of an account share it")
	require.Equal(t, 500, f.untilThrottled(func() error { _, err := f.ListAliases(t.Context(), nil); return err }), "and each operation")

	f.advance(100 * time.Millisecond)
	require.Equal(t, 50, f.untilThrottled(f.listKeys(f.Service)))
	f.advance(time.Hour)
	require.Equal(t, 500, f.untilThrottled(f.listKeys(f.Service)), "no more than those of a second are saved")
	f.advance(-time.Hour)
	require.Zero(t, f.untilThrottled(f.listKeys(f.Service)))
}

func TestInvalidCallsAndDryRunsCountAndOneCallCountsOnce(t *testing.T) {
	f := newQuotaFixture(t)
	require.Equal(t, 2000, f.untilThrottled(func() error { _, err := f.DescribeKey(t.Context(), nil); return err }))
	id := f.key("", "")
	dryRun := &CreateGrantInput{KeyId: id, GranteePrincipal: "arn:aws:iam::111122223333:root", Operations: []GrantOperation{GrantOperationDecrypt}, DryRun: true}
	require.Equal(t, 50, f.untilThrottled(func() error { _, err := f.CreateGrant(t.Context(), dryRun); return err }))
	require.Equal(t, 4, f.untilThrottled(func() error { _, err := f.CreateKey(t.Context(), nil); return err }), "the first was above")
}

func TestTheQuotaOfACryptographicOperationIsThatOfTheKey(t *testing.T) {
	f := newQuotaFixture(t)
	symmetric, ecc := f.key("", ""), f.key(KeySpecECCNISTP256, KeyUsageSignVerify)
	mldsa := f.key(KeySpecMLDSA44, KeyUsageSignVerify)
	sign := func(id string) func() error {
		return func() error {
			_, err := f.Sign(t.Context(), &SignInput{KeyId: id, Message: []byte("m"), SigningAlgorithm: SigningAlgorithmRSASSAPSSSHA256}) // fails, and counts
			return err
		}
	}
	encrypt := func() error {
		_, err := f.Encrypt(t.Context(), &EncryptInput{KeyId: symmetric, Plaintext: []byte("p")})
		return err
	}
	random := func() error {
		_, err := f.GenerateRandom(t.Context(), &GenerateRandomInput{NumberOfBytes: new(int32(1))})
		return err
	}
	require.Equal(t, 1000, f.untilThrottled(sign(ecc)))
	require.Equal(t, 1000, f.untilThrottled(sign(mldsa)))
	require.Zero(t, f.untilThrottled(func() error {
		_, err := f.Verify(t.Context(), &VerifyInput{KeyId: ecc, Message: []byte("m"), Signature: []byte("s"), SigningAlgorithm: SigningAlgorithmECDSASHA256})
		return err
	}), "Sign and Verify share it")
	require.NoError(t, encrypt())
	require.Equal(t, 9_999, f.untilThrottled(random))
	require.Zero(t, f.untilThrottled(encrypt))

	f.advance(time.Second)
	pair := func(s DataKeyPairSpec) func() error {
		return func() error {
			_, err := f.GenerateDataKeyPair(t.Context(), &GenerateDataKeyPairInput{KeyId: symmetric, KeyPairSpec: s, DryRun: true})
			return err
		}
	}
	require.Equal(t, 1, f.untilThrottled(pair(DataKeyPairSpecRSA4096)))
	require.Equal(t, 20, f.untilThrottled(pair(DataKeyPairSpecRSA2048)))
	require.Equal(t, 25, f.untilThrottled(pair(DataKeyPairSpecSM2)))
	require.Equal(t, 100, f.untilThrottled(pair(DataKeyPairSpecECCNISTP256)))
}

func TestReEncryptCountsForBothKeys(t *testing.T) {
	f := newQuotaFixture(t)
	symmetric, sm2 := f.key("", ""), f.key(KeySpecSM2, KeyUsageEncryptDecrypt)
	sealed, err := f.Encrypt(t.Context(), &EncryptInput{KeyId: symmetric, Plaintext: []byte("p")})
	require.NoError(t, err)
	f.advance(time.Second)
	in := &ReEncryptInput{CiphertextBlob: sealed.CiphertextBlob, DestinationKeyId: sm2, DryRun: true}
	require.Equal(t, 1000, f.untilThrottled(func() error { _, err := f.ReEncrypt(t.Context(), in); return err }))
	in.DestinationKeyId = symmetric
	require.Equal(t, 9_000, f.untilThrottled(func() error { _, err := f.ReEncrypt(t.Context(), in); return err }), "a refused call takes nothing")
}

func TestTheSymmetricQuotaDependsOnTheRegion(t *testing.T) {
	symmetric := quotasOf["GenerateRandom"][0]
	require.EqualValues(t, 10_000, symmetric.rate("eu-north-1"))
	require.EqualValues(t, 20_000, symmetric.rate("us-east-2"))
	require.EqualValues(t, 100_000, symmetric.rate("us-east-1"))
	require.EqualValues(t, 500, quotasOf["ListKeys"][0].rate("us-east-1"))
}

func TestTheBucketsOfAThrottleAreBounded(t *testing.T) {
	th, now := new(throttle), time.Now()
	quota := quotasOf["ListKeys"][0]
	for i := range 100 * minSweep {
		if i%minSweep == 0 {
			now = now.Add(time.Second)
		}
		require.True(t, th.take(now, []charge{{bucketKey{account: "111122223333", region: time.Duration(i).String(), quota: quota}, 1}}))
	}
	require.LessOrEqual(t, len(th.buckets), 3*minSweep)
}

// ReplicateKey counts as two CreateKeys in the Region of the replica.
func TestACallCountsInItsOtherRegion(t *testing.T) {
	type input struct{ ReplicaRegion, PrimaryRegion string }
	f := newQuotaFixture(t)
	for name, tt := range map[string]struct {
		in   input
		want map[string]float64
	}{
		"ReplicateKey":        {input{ReplicaRegion: "eu-west-1"}, map[string]float64{"ReplicateKey eu-north-1": 4, "CreateKey eu-west-1": 3}},
		"UpdatePrimaryRegion": {input{PrimaryRegion: "eu-west-1"}, map[string]float64{"UpdatePrimaryRegion eu-north-1": 4, "UpdatePrimaryRegion eu-west-1": 4}},
	} {
		f.core.throttle = new(throttle)
		op := define(description{name: name}, steps[input, struct{}]{})
		c, err := begin(t.Context(), f.Service, &op.description)
		require.NoError(t, err)
		require.NoError(t, op.charge(c, &tt.in, false))
		require.NoError(t, op.charge(c, &tt.in, true), "once")
		c.end()
		got := map[string]float64{}
		for key, b := range f.core.throttle.buckets {
			got[key.quota.operations+" "+key.region] = b.tokens
		}
		require.Equal(t, tt.want, got, name)
	}
}

func TestThereAreNoRequestQuotasByDefault(t *testing.T) {
	svc, err := New(Config{})
	require.NoError(t, err)
	defer svc.Close()
	for range 600 {
		_, err := svc.ListKeys(t.Context(), nil)
		require.NoError(t, err)
	}
	require.False(t, reflect.ValueOf(Config{}).FieldByName("RequestQuotas").Bool())
}
