package kms_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
	"github.com/pocketkms/kms/internal/arn"
	"github.com/pocketkms/kms/keystore"
	"github.com/pocketkms/kms/keystore/memory"
)

// readDecisions returns the decisions of AWS KMS in the file that the environment variable DECISIONS
// names, or in testdata. The head of testdata/decisions.json describes the format.
func readDecisions(t *testing.T) (cases []json.RawMessage) {
	files := []string{"testdata/decisions.json", "testdata/decisions-more.json"}
	if name := os.Getenv("DECISIONS"); name != "" {
		files = []string{name}
	}
	for _, name := range files {
		var file struct {
			Cases []json.RawMessage `json:"cases"`
		}
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(text, &file))
		require.NotEmpty(t, file.Cases, name)
		cases = append(cases, file.Cases...)
	}
	return cases
}

// A decisionCase is one decision. A member that it does not have is an error, so that no case is
// decided without all that it says.
type decisionCase struct {
	Name       string          `json:"name"`
	Topic      string          `json:"topic"`
	Why        string          `json:"why"`
	Source     string          `json:"source"`
	Confidence string          `json:"confidence"`
	PairOf     string          `json:"pair_of"`
	Changed    string          `json:"changed"`
	Needs      []string        `json:"needs"`
	Key        *decisionKey    `json:"key"`
	Grants     []decisionGrant `json:"grants"`
	Caller     decisionCaller  `json:"caller"`
	Request    decisionRequest `json:"request"`
	Expect     struct {
		Allowed    bool     `json:"allowed"`
		Reason     string   `json:"reason"`
		Error      string   `json:"error"`
		Message    *string  `json:"message"`
		MessageAny []string `json:"message_any"`
	} `json:"expect"`
}

type decisionKey struct {
	Account       string            `json:"account"`
	Region        string            `json:"region"`
	Spec          kms.KeySpec       `json:"spec"`
	Usage         kms.KeyUsageType  `json:"usage"`
	Origin        kms.OriginType    `json:"origin"`
	MultiRegion   bool              `json:"multi_region"`
	Tags          map[string]string `json:"tags"`
	Aliases       []string          `json:"aliases"`
	Policy        json.RawMessage   `json:"policy"`
	Created       *time.Time        `json:"created"`
	Replicas      []string          `json:"replicas"`
	ReplicaPolicy json.RawMessage   `json:"replica_policy"`
}

type decisionGrant struct {
	Grantee         string                `json:"grantee"`
	GranteeService  string                `json:"grantee_service"`
	Operations      []kms.GrantOperation  `json:"operations"`
	Retiring        string                `json:"retiring"`
	RetiringService string                `json:"retiring_service"`
	Constraints     *kms.GrantConstraints `json:"constraints"`
	IssuedBy        string                `json:"issued_by"`
	On              string                `json:"on"`
	Ended           json.RawMessage       `json:"ended"`
	Name            string                `json:"name"`
}

type decisionCaller struct {
	ARN              string            `json:"arn"`
	Type             string            `json:"type"`
	Account          string            `json:"account"`
	Role             string            `json:"role"`
	FederatedBy      string            `json:"federated_by"`
	UniqueID         string            `json:"unique_id"`
	Tags             map[string]string `json:"tags"`
	OrgID            string            `json:"org_id"`
	OrgPaths         []string          `json:"org_paths"`
	IdentityPolicies []json.RawMessage `json:"identity_policies"`
	Boundary         json.RawMessage   `json:"boundary"`
	SessionPolicies  []json.RawMessage `json:"session_policies"`
}

type decisionRequest struct {
	Operation                    string                     `json:"operation"`
	EncryptionContext            map[string]string          `json:"encryption_context"`
	DestinationEncryptionContext map[string]string          `json:"destination_encryption_context"`
	Params                       map[string]json.RawMessage `json:"params"`
	KeyReference                 string                     `json:"key_reference"`
	SecondKeyReference           string                     `json:"second_key_reference"`
	Alias                        string                     `json:"alias"`
	SecondAlias                  string                     `json:"second_alias"`
	SecondKey                    json.RawMessage            `json:"second_key"`
	Region                       string                     `json:"region"`
	MissingPrincipals            []string                   `json:"missing_principals"`
	PadPolicyTo                  int                        `json:"pad_policy_to"`
	Time                         *time.Time                 `json:"time"`

	ViaService      string     `json:"via_service"`
	CalledVia       []string   `json:"called_via"`
	SourceIP        string     `json:"source_ip"`
	SourceVPC       string     `json:"source_vpc"`
	SourceVPCE      string     `json:"source_vpce"`
	SecureTransport *bool      `json:"secure_transport"`
	UserAgent       string     `json:"user_agent"`
	SourceARN       string     `json:"source_arn"`
	SourceAccount   string     `json:"source_account"`
	SourceOrgID     string     `json:"source_org_id"`
	SourceOrgPaths  []string   `json:"source_org_paths"`
	MFAPresent      *bool      `json:"mfa_present"`
	MFAAge          *int64     `json:"mfa_age"`
	TokenIssueTime  *time.Time `json:"token_issue_time"`
}

// TestDecisions replays decisions through the public API.
func TestDecisions(t *testing.T) {
	cases, held := readDecisions(t), 0
	for i, raw := range cases {
		name := fmt.Sprint("case ", i)
		if failure := replayDecision(t, raw, &name); failure != "" {
			t.Fail()
			fmt.Printf("%s: %s\n", name, failure)
			continue
		}
		held++
	}
	fmt.Printf("%d of %d decisions hold\n", held, len(cases))
}

// readDecision reads a case.
func readDecision(text string) (*decisionCase, error) {
	members := said([]byte(text))
	for _, name := range []string{"key", "caller", "request"} {
		if raw := members[name]; raw != nil {
			members[name] = marshal(said(raw))
		}
	}
	if raw := members["grants"]; raw != nil {
		var grants []json.RawMessage
		must(0, json.Unmarshal(raw, &grants))
		for i := range grants {
			grants[i] = marshal(said(grants[i]))
		}
		members["grants"] = marshal(grants)
	}
	c := new(decisionCase)
	return c, unmarshalStrictly(marshal(members), c)
}

// otherNames are of members that the head of the format does not list: by what else they might be
// called, what they are called here.
var otherNames = map[string]string{
	"mfa": "mfa_present", "multi_factor_auth_present": "mfa_present", "multi_factor_auth_age": "mfa_age", "vpc": "source_vpc",
	"vpce": "source_vpce", "vpc_endpoint": "source_vpce", "requested_region": "region", "userid": "unique_id", "user_id": "unique_id",
}

// said returns the members of an object, without those that say nothing.
func said(object []byte) map[string]json.RawMessage {
	var members map[string]json.RawMessage
	must(0, json.Unmarshal(object, &members))
	for name, value := range members {
		switch other := otherNames[name]; {
		case slices.Contains([]string{"null", `""`, "[]", "{}"}, string(value)):
			delete(members, name)
		case other != "":
			members[other] = value
			delete(members, name)
		}
	}
	return members
}

// marshal is json.Marshal, and leaves the placeholders as they are.
func marshal(v any) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	must(0, encoder.Encode(v))
	return bytes.TrimSpace(b.Bytes())
}

// unmarshalStrictly fails for members that v does not have.
func unmarshalStrictly(text []byte, v any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	return decoder.Decode(v)
}

// replayDecision returns why a case does not hold, or "".
func replayDecision(t *testing.T, raw json.RawMessage, name *string) (failure string) {
	defer func() {
		if p := recover(); p != nil {
			failure = fmt.Sprint("cannot be arranged: ", p)
		}
	}()
	c, err := readDecision(string(raw))
	*name = cmp.Or(c.Name, *name)
	if err != nil {
		return fmt.Sprint("cannot be read: ", err)
	}
	r := newReplay(t, c, string(raw))
	defer r.close()
	err = r.request()
	if errors.Is(err, kms.DryRunOperationException) && c.Expect.Error == "" {
		err = nil // it would have succeeded
	}
	var refusal *kms.Error
	switch isError := errors.As(err, &refusal); {
	case err == nil && c.Expect.Allowed:
		return ""
	case err == nil:
		return fmt.Sprintf("was allowed, but must be refused: %s (%s)", c.Expect.Reason, c.Why)
	case c.Expect.Allowed:
		return fmt.Sprintf("must be allowed: %s (%s), but: %v", c.Expect.Reason, c.Why, err)
	case !isError || c.Expect.Error == "" && (refusal.Code == kms.KMSInternalException || strings.Contains(refusal.Message, "Member must not be null")):
		return fmt.Sprintf("must be refused: %s (%s), but failed: %v", c.Expect.Reason, c.Why, err)
	case c.Expect.Error != "" && string(refusal.Code) != c.Expect.Error:
		return fmt.Sprintf("must be refused with %s: %s (%s), but: %v", c.Expect.Error, c.Expect.Reason, c.Why, err)
	}
	messages := c.Expect.MessageAny
	if c.Expect.Message != nil {
		messages = append(messages, *c.Expect.Message)
	}
	if len(messages) == 0 || slices.ContainsFunc(messages, func(m string) bool { return r.fill(m) == refusal.Message }) {
		return ""
	}
	return fmt.Sprintf("was refused with %q, but the message is %q", refusal.Message, r.fill(strings.Join(messages, `" or "`)))
}

// A replay is the service in which one case is arranged.
type replay struct {
	t          testing.TB // fails by a panic, which is the failure of the case alone
	text       string
	c          *decisionCase
	svc        *kms.Service
	clock      *clock
	backend    keystore.Backend
	stores     map[kms.OriginType]string // the custom key stores
	key, other *replayKey                // other is the second key of the request; it may be key
	grants     []*kms.CreateGrantOutput
	before     func(ctx context.Context, svc *kms.Service, in any) // is called before the request; may be nil
}

type replayKey struct {
	*decisionKey
	*kms.KeyMetadata
	owner *kms.Service
}

// A panicker is a testing.TB for helpers of tests: it panics instead of ending the test.
type panicker struct{ testing.TB }

func (panicker) Errorf(format string, arguments ...any) { panic(fmt.Sprintf(format, arguments...)) }
func (panicker) FailNow()                               { panic("failed") }

const (
	allowAll   = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`
	everybodys = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}}`
)

func newReplay(t *testing.T, c *decisionCase, text string) *replay {
	r := &replay{t: panicker{t}, text: text, c: c, clock: newClock(), backend: memory.New(), stores: map[kms.OriginType]string{}}
	keys := []*decisionKey{c.Key}
	switch second := c.Request.SecondKey; {
	case len(second) == 0 || string(second) == "null" || string(second) == `"<key>"`:
	default:
		keys = append(keys, new(decisionKey))
		must(0, unmarshalStrictly(marshal(said(second)), keys[1]))
	}
	r.clock.now = r.start(keys)
	r.svc = r.open(200)
	if c.Key == nil {
		return r
	}
	r.key = r.create(c.Key)
	if len(keys) > 1 {
		r.other = r.create(keys[1])
	} else if string(c.Request.SecondKey) == `"<key>"` {
		r.other = r.key
	}
	if slices.ContainsFunc(keys, func(k *decisionKey) bool { return len(k.Aliases) > 50 }) {
		must(0, r.svc.Close())
		r.svc = r.open(0) // the key has more aliases now than it can have
		for _, k := range []*replayKey{r.key, r.other} {
			if k != nil {
				k.owner = r.ownerIn(k.Region, k.Account)
			}
		}
	}
	return r
}

// open opens the store of the case. Zero is the usual limit.
func (r *replay) open(aliasesPerKey int) *kms.Service {
	device := newDevice()
	device.AddKey("external")
	config := kms.Config{
		Backend: process{Backend: r.backend}, RootKey: sharedRoot, Clock: r.clock.Now, Logger: slog.New(slog.DiscardHandler),
		ReplicationDelay: -1, Limits: kms.Limits{AliasesPerKey: aliasesPerKey},
		PrincipalExists: func(_ context.Context, name string) (bool, error) {
			return !slices.Contains(r.c.Request.MissingPrincipals, name), nil
		},
	}
	withDevice(device)(&config)
	return must(kms.New(config))
}

// start returns when the first thing of the case happens.
func (r *replay) start(keys []*decisionKey) time.Time {
	start := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	if at := r.c.Request.Time; at != nil && at.Before(start) {
		start = *at
	}
	for _, k := range keys {
		if k != nil && k.Created != nil && (k.Created.Before(start) || len(keys) == 1) {
			start = *k.Created
		}
	}
	return start
}

func (r *replay) close() {
	must(0, r.svc.Close())
	must(0, r.backend.Close())
}

// ownerIn returns the root of an account, in a Region.
func (r *replay) ownerIn(region, account string) *kms.Service {
	return r.svc.In(region).As(principal(r.t, arn.Root(arn.Partition(region), account)))
}

// create creates a key that everybody may use for the time being, and its replicas.
func (r *replay) create(k *decisionKey) *replayKey {
	if k.Created != nil && k.Created.After(r.clock.Now()) {
		r.clock.MoveTo(*k.Created)
	}
	ctx, owner := context.Background(), r.ownerIn(k.Region, k.Account)
	in := &kms.CreateKeyInput{KeySpec: k.Spec, KeyUsage: k.Usage, Origin: k.Origin, MultiRegion: k.MultiRegion, Policy: everybodys}
	for key, value := range k.Tags {
		in.Tags = append(in.Tags, kms.Tag{TagKey: key, TagValue: value})
	}
	r.placeInStore(owner, in)
	created := createKey(r.t, owner, in)
	for _, alias := range k.Aliases {
		createAlias(r.t, owner, alias, created.KeyId)
	}
	if k.Origin == kms.OriginExternal && r.c.Request.Operation != "ImportKeyMaterial" {
		token, wrapped := r.material(owner, created)
		importWrapped(r.t, owner, created.KeyId, token, wrapped)
	}
	for _, region := range k.Replicas {
		replicate(r.t, owner, created.KeyId, region)
		owner.In(region).PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: created.KeyId, Policy: everybodys, BypassPolicyLockoutSafetyCheck: true})
	}
	return &replayKey{k, created, owner}
}

// placeInStore names a custom key store for a key whose origin is one.
func (r *replay) placeInStore(owner *kms.Service, in *kms.CreateKeyInput) {
	switch in.Origin {
	case kms.OriginAWSCloudHSM, kms.OriginExternalKeyStore:
		in.CustomKeyStoreId = cmp.Or(in.CustomKeyStoreId, r.store(owner, in.Origin, true))
	}
	if in.Origin == kms.OriginExternalKeyStore {
		in.XksKeyId = "external"
	}
}

// store returns the custom key store of an origin.
func (r *replay) store(owner *kms.Service, origin kms.OriginType, connected bool) string {
	if r.stores[origin] == "" {
		in := hsmStore("store")
		if origin == kms.OriginExternalKeyStore {
			in = proxyStore("store")
		}
		r.stores[origin] = createStore(r.t, owner, in)
		if connected {
			connect(r.t, owner, r.stores[origin])
		}
	}
	return r.stores[origin]
}

// settle gives a key and its replicas their policies.
func (r *replay) settle(k *replayKey) {
	put := func(owner *kms.Service, text json.RawMessage) {
		policy := withoutEffect(r.fill(string(text)))
		if policy == "" || policy == "null" {
			policy = defaultPolicyOf(arn.Root(arn.Partition(k.Region), k.Account))
		}
		must(owner.PutKeyPolicy(context.Background(), &kms.PutKeyPolicyInput{KeyId: k.KeyId, Policy: policy, BypassPolicyLockoutSafetyCheck: true}))
	}
	put(k.owner, k.Policy)
	for _, region := range k.Replicas {
		if string(k.ReplicaPolicy) == `"same"` {
			k.ReplicaPolicy = k.Policy
		}
		put(k.owner.In(region), k.ReplicaPolicy)
	}
}

// deletedPrincipal is the unique ID that stands in a stored policy for a principal that was deleted.
var deletedPrincipal = regexp.MustCompile(`"A(IDA|ROA)[A-Z0-9]{16,}"`)

// withoutEffect returns a policy that says the same as one that was stored once and can no longer
// be: a statement without Action or Resource is about nothing, and the ID of a principal that was
// deleted is nobody's.
func withoutEffect(policy string) string {
	var document map[string]json.RawMessage
	var statements []map[string]any
	if json.Unmarshal([]byte(policy), &document) != nil || json.Unmarshal(document["Statement"], &statements) != nil {
		return policy
	}
	for _, s := range statements {
		if s["Action"] == nil && s["NotAction"] == nil {
			s["Action"] = "none:None"
		}
		if s["Resource"] == nil && s["NotResource"] == nil {
			s["Resource"] = "arn:aws:none:::none"
		}
	}
	document["Statement"] = must(json.Marshal(statements))
	return deletedPrincipal.ReplaceAllString(string(must(json.Marshal(document))), `"arn:aws:iam::000000000000:role/deleted"`)
}

// defaultPolicyOf returns the default policy of an account, by the ARN of its root.
func defaultPolicyOf(root string) string {
	return `{"Version":"2012-10-17","Id":"key-default-1","Statement":[{"Sid":"Enable IAM User Permissions","Effect":"Allow",` +
		`"Principal":{"AWS":"` + root + `"},"Action":"kms:*","Resource":"*"}]}`
}

// fill replaces the placeholders in a text.
func (r *replay) fill(text string) string {
	if r.key != nil {
		text = strings.NewReplacer("<key>", r.key.Arn, "<key-id>", r.key.KeyId).Replace(text)
	}
	if r.other != nil {
		text = strings.ReplaceAll(text, "<key2>", r.other.Arn)
	}
	for i, g := range r.grants {
		text = strings.NewReplacer(fmt.Sprintf("<grant:%d>", i), g.GrantId, fmt.Sprintf("<grant-token:%d>", i), g.GrantToken).Replace(text)
	}
	return text
}

// grant creates a grant.
func (r *replay) grant(g *decisionGrant) {
	k := r.key
	switch g.On {
	case "", "key", "<key>":
	case "second_key", "<key2>":
		k = r.other
	default:
		panic("a grant cannot be on " + g.On)
	}
	constraints := g.Constraints
	if constraints != nil && len(constraints.EncryptionContextEquals)+len(constraints.EncryptionContextSubset)+len(constraints.SourceArn) == 0 {
		constraints = nil
	}
	issuer := cmp.Or(g.IssuedBy, k.owner.Caller().ARN())
	if !strings.HasPrefix(issuer, "arn:") { // an account
		issuer = arn.Root(arn.Partition(k.Region), issuer)
	}
	creator := principal(r.t, issuer)
	if !strings.HasSuffix(creator.ARN(), ":root") {
		creator = must(creator.WithIdentity(kms.Identity{Policies: []kms.Policy{{Document: allowAll}}}))
	}
	out := must(k.owner.As(creator).CreateGrant(context.Background(), &kms.CreateGrantInput{
		KeyId: k.Arn, GranteePrincipal: g.Grantee, GranteeServicePrincipal: g.GranteeService, RetiringPrincipal: g.Retiring,
		RetiringServicePrincipal: g.RetiringService, Operations: g.Operations, Constraints: constraints, Name: g.Name,
	}))
	if ended := string(g.Ended); ended != "" && ended != "null" && ended != "false" {
		must(k.owner.RevokeGrant(context.Background(), &kms.RevokeGrantInput{KeyId: k.KeyId, GrantId: out.GrantId}))
	}
	r.grants = append(r.grants, out)
}

// caller returns the principal that makes the request.
func (r *replay) caller() kms.Principal {
	c := &r.c.Caller
	if c.Type == "service" {
		return must(kms.ServicePrincipal(c.ARN))
	}
	p := must(kms.ParsePrincipal(c.ARN))
	id := kms.Identity{Issuer: c.Role + c.FederatedBy, UniqueID: cmp.Or(c.UniqueID, uniqueIDOf(c.ARN)), Tags: c.Tags,
		OrganizationID: c.OrgID, OrganizationPaths: c.OrgPaths}
	for _, text := range c.IdentityPolicies {
		id.Policies = append(id.Policies, kms.Policy{Document: string(text)})
	}
	if boundary := string(c.Boundary); boundary != "" && boundary != "null" {
		id.Boundary = &kms.Policy{Document: boundary}
	}
	for _, text := range c.SessionPolicies {
		id.SessionPolicies = append(id.SessionPolicies, kms.Policy{Document: string(text)})
	}
	if c.Type == "root" {
		id.Policies, id.Boundary, id.SessionPolicies = nil, nil, nil // IAM does not limit it
	}
	return must(p.WithIdentity(id))
}

// uniqueIDOf returns some unique ID of a user, a role or a session of a role, which all have one.
func uniqueIDOf(name string) string {
	_, session, _ := strings.Cut(name, ":assumed-role/")
	switch _, session, _ = strings.Cut(session, "/"); {
	case session != "":
		return "AROAEXAMPLEROLE00001:" + session
	case strings.Contains(name, ":role/"):
		return "AROAEXAMPLEROLE00001"
	case strings.Contains(name, ":user/"):
		return "AIDAEXAMPLEUSER00001"
	}
	return ""
}

// request arranges the rest of the case, and makes the request.
func (r *replay) request() error {
	for i := range r.c.Grants {
		r.c = must(readDecision(r.fill(r.text)))
		r.grant(&r.c.Grants[i])
	}
	r.c = must(readDecision(r.fill(r.text)))
	q := &r.c.Request
	if q.Time != nil && q.Time.After(r.clock.Now()) {
		r.clock.MoveTo(*q.Time)
	}
	in := r.input()
	if r.key != nil {
		r.settle(r.key)
	}
	if r.other != nil && r.other != r.key {
		r.settle(r.other)
	}
	info := audit.RequestInfo{
		SourceIPAddress: q.SourceIP, UserAgent: q.UserAgent, VPC: q.SourceVPC, VPCEndpoint: q.SourceVPCE, SecureTransport: q.SecureTransport,
		ViaService: q.ViaService, CalledVia: q.CalledVia, SourceARN: q.SourceARN, SourceAccount: q.SourceAccount,
		SourceOrgID: q.SourceOrgID, SourceOrgPaths: q.SourceOrgPaths, MFAPresent: q.MFAPresent,
	}
	if info.SecureTransport == nil {
		info.SecureTransport = new(true) // AWS KMS is called by no other
	}
	if q.MFAAge != nil {
		info.MFATime = r.clock.Now().Add(-time.Duration(*q.MFAAge) * time.Second)
	}
	if q.TokenIssueTime != nil {
		info.TokenIssueTime = *q.TokenIssueTime
	}
	svc := r.svc.In(r.region()).As(r.caller())
	ctx := audit.ContextWithRequestInfo(context.Background(), info)
	if r.before != nil {
		r.before(ctx, svc, in)
	}
	_, err := operationByName(q.Operation).Invoke(ctx, svc, in)
	return err
}

// region returns the Region of the request.
func (r *replay) region() string {
	if r.key != nil {
		return cmp.Or(r.c.Request.Region, r.key.Region)
	}
	return cmp.Or(r.c.Request.Region, "us-east-1")
}
