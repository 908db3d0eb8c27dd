package kms_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/audit"
)

// A decisionsFile has decisions of AWS KMS. The head of testdata/decisions.json describes the
// format.
type decisionsFile struct {
	Cases []json.RawMessage `json:"cases"`
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

// TestDecisions replays the decisions in the file that the environment variable DECISIONS names, or
// in testdata/decisions.json, through the public API.
func TestDecisions(t *testing.T) {
	text, err := os.ReadFile(cmp.Or(os.Getenv("DECISIONS"), "testdata/decisions.json"))
	require.NoError(t, err)
	var file decisionsFile
	require.NoError(t, json.Unmarshal(text, &file))
	held := 0
	for i, raw := range file.Cases {
		name := fmt.Sprint("case ", i)
		if failure := replayDecision(t, raw, &name); failure != "" {
			t.Fail()
			fmt.Printf("%s: %s\n", name, failure)
			continue
		}
		held++
	}
	if len(file.Cases) == 0 {
		t.Fail()
	}
	fmt.Printf("%d of %d decisions hold\n", held, len(file.Cases))
}

// replayDecision returns why a case does not hold, or "".
func replayDecision(t *testing.T, raw json.RawMessage, name *string) (failure string) {
	defer func() {
		if p := recover(); p != nil {
			failure = fmt.Sprint("cannot be arranged: ", p)
		}
	}()
	var c decisionCase
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil {
		return fmt.Sprint("cannot be read: ", err)
	}
	*name = c.Name
	r := newReplay(t, &c)
	defer func() { must(0, r.svc.Close()) }()
	err := r.request()
	var refusal *kms.Error
	switch isError := errors.As(err, &refusal); {
	case err == nil && c.Expect.Allowed:
		return ""
	case err == nil:
		return fmt.Sprintf("was allowed, but must be refused: %s (%s)", c.Expect.Reason, c.Why)
	case !isError || c.Expect.Allowed:
		return fmt.Sprintf("must be allowed: %s (%s), but: %v", c.Expect.Reason, c.Why, err)
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
	t          *testing.T
	c          *decisionCase
	svc        *kms.Service
	clock      *clock
	key, other *replayKey // other is the second key of the request; it may be key
	grants     []*kms.CreateGrantOutput
	before     func(ctx context.Context, svc *kms.Service, in any) // is called before the request; may be nil
}

type replayKey struct {
	*decisionKey
	*kms.KeyMetadata
	owner *kms.Service
}

const (
	allowAll   = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`
	everybodys = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}}`
)

func newReplay(t *testing.T, c *decisionCase) *replay {
	r := &replay{t: t, c: c, clock: newClock()}
	r.clock.now = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	for _, at := range []*time.Time{c.Request.Time, c.created()} {
		if at != nil && at.Before(r.clock.now) {
			r.clock.now = *at
		}
	}
	r.svc = must(kms.New(kms.Config{
		Clock: r.clock.Now,
		PrincipalExists: func(_ context.Context, name string) (bool, error) {
			return !slices.Contains(c.Request.MissingPrincipals, name), nil
		},
	}))
	if c.Key == nil {
		return r
	}
	r.key = r.create(c.Key)
	switch second := c.Request.SecondKey; {
	case len(second) == 0 || string(second) == "null":
	case string(second) == `"<key>"`:
		r.other = r.key
	default:
		var k decisionKey
		must(0, json.Unmarshal(second, &k))
		r.other = r.create(&k)
	}
	return r
}

func (c *decisionCase) created() *time.Time {
	if c.Key == nil {
		return nil
	}
	return c.Key.Created
}

// create creates a key that everybody may use for the time being.
func (r *replay) create(k *decisionKey) *replayKey {
	owner := r.svc.In(k.Region).As(rootOf(r.t, k.Account))
	in := &kms.CreateKeyInput{KeySpec: k.Spec, KeyUsage: k.Usage, Origin: k.Origin, MultiRegion: k.MultiRegion, Policy: everybodys}
	for key, value := range k.Tags {
		in.Tags = append(in.Tags, kms.Tag{TagKey: key, TagValue: value})
	}
	created := must(owner.CreateKey(context.Background(), in)).KeyMetadata
	for _, alias := range k.Aliases {
		must(owner.CreateAlias(context.Background(), &kms.CreateAliasInput{AliasName: alias, TargetKeyId: created.KeyId}))
	}
	if k.Origin == kms.OriginExternal && r.c.Request.Operation != "ImportKeyMaterial" {
		parameters := parametersForImport(r.t, owner, created.KeyId, kms.AlgorithmRSAESOAEPSHA256, kms.WrappingKeySpecRSA2048)
		importWrapped(r.t, owner, created.KeyId, parameters.ImportToken, wrap(r.t, parameters.PublicKey, kms.AlgorithmRSAESOAEPSHA256, make([]byte, 32)))
	}
	return &replayKey{k, created, owner}
}

// settle gives a key its policy.
func (r *replay) settle(k *replayKey) {
	policy := r.fill(string(k.Policy))
	if policy == "" || policy == "null" {
		policy = defaultPolicyOf(k.Account)
	}
	must(k.owner.PutKeyPolicy(context.Background(), &kms.PutKeyPolicyInput{KeyId: k.KeyId, Policy: policy, BypassPolicyLockoutSafetyCheck: true}))
	for _, region := range k.Replicas {
		in := operationInput("ReplicateKey", map[string]any{"KeyId": k.KeyId, "ReplicaRegion": region, "BypassPolicyLockoutSafetyCheck": true})
		if strings.HasPrefix(string(k.ReplicaPolicy), "{") {
			policy = r.fill(string(k.ReplicaPolicy))
		}
		setMember(in, "Policy", policy)
		must(operationByName("ReplicateKey").Invoke(context.Background(), k.owner, in))
	}
}

func defaultPolicyOf(account string) string {
	return `{"Version":"2012-10-17","Id":"key-default-1","Statement":[{"Sid":"Enable IAM User Permissions","Effect":"Allow",` +
		`"Principal":{"AWS":"arn:aws:iam::` + account + `:root"},"Action":"kms:*","Resource":"*"}]}`
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
	if g.On == "second_key" {
		k = r.other
	}
	constraints := g.Constraints
	if constraints != nil && len(constraints.EncryptionContextEquals)+len(constraints.EncryptionContextSubset)+len(constraints.SourceArn) == 0 {
		constraints = nil
	}
	creator := principal(r.t, g.IssuedBy)
	if !strings.HasSuffix(g.IssuedBy, ":root") {
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
	id := kms.Identity{Issuer: c.Role + c.FederatedBy, UniqueID: c.UniqueID, Tags: c.Tags, OrganizationID: c.OrgID, OrganizationPaths: c.OrgPaths}
	for _, text := range c.IdentityPolicies {
		id.Policies = append(id.Policies, kms.Policy{Document: r.fill(string(text))})
	}
	if boundary := r.fill(string(c.Boundary)); boundary != "" && boundary != "null" {
		id.Boundary = &kms.Policy{Document: boundary}
	}
	for _, text := range c.SessionPolicies {
		id.SessionPolicies = append(id.SessionPolicies, kms.Policy{Document: r.fill(string(text))})
	}
	if c.Type == "root" {
		id.Policies, id.Boundary, id.SessionPolicies = nil, nil, nil // IAM does not limit it
	}
	return must(p.WithIdentity(id))
}

// request arranges the rest of the case, and makes the request.
func (r *replay) request() error {
	q := &r.c.Request
	for i := range r.c.Grants {
		r.grant(&r.c.Grants[i])
	}
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
		ViaService: q.ViaService, CalledVia: q.CalledVia, SourceARN: r.fill(q.SourceARN), SourceAccount: q.SourceAccount,
		SourceOrgID: q.SourceOrgID, SourceOrgPaths: q.SourceOrgPaths, MFAPresent: q.MFAPresent,
	}
	if q.MFAAge != nil {
		info.MFATime = r.clock.Now().Add(-time.Duration(*q.MFAAge) * time.Second)
	}
	if q.TokenIssueTime != nil {
		info.TokenIssueTime = *q.TokenIssueTime
	}
	region := "us-east-1"
	if r.key != nil {
		region = r.key.Region
	}
	svc := r.svc.In(cmp.Or(q.Region, region)).As(r.caller())
	ctx := audit.ContextWithRequestInfo(context.Background(), info)
	if r.before != nil {
		r.before(ctx, svc, in)
	}
	_, err := operationByName(q.Operation).Invoke(ctx, svc, in)
	return err
}

// reference returns how the request names a key.
func reference(k *replayKey, how, alias string) string {
	switch how {
	case "id":
		return k.KeyId
	case "alias":
		return alias
	case "alias-arn":
		return strings.Replace(k.Arn, "key/"+k.KeyId, alias, 1)
	case "none":
		return ""
	}
	return k.Arn
}

// input returns the input of the request, with valid values for what the case leaves out.
func (r *replay) input() any {
	q := &r.c.Request
	in := operationByName(q.Operation).NewInput()
	if r.key != nil {
		named := reference(r.key, q.KeyReference, q.Alias)
		setMember(in, "KeyId", named)
		setMember(in, "SourceKeyId", named)
		setMember(in, "TargetKeyId", r.key.KeyId)
		if strings.HasSuffix(q.Operation, "Alias") && q.Alias != "" {
			setMember(in, "AliasName", q.Alias)
		}
		r.supply(in)
	}
	if r.other != nil {
		second := reference(r.other, cmp.Or(q.SecondKeyReference, "arn"), q.SecondAlias)
		setMember(in, "DestinationKeyId", second)
		if q.Operation == "UpdateAlias" {
			setMember(in, "TargetKeyId", second)
		}
	}
	for _, name := range []string{"EncryptionContext", "SourceEncryptionContext"} {
		setMember(in, name, q.EncryptionContext)
	}
	setMember(in, "DestinationEncryptionContext", q.DestinationEncryptionContext)
	for name, raw := range q.Params {
		field := reflect.ValueOf(in).Elem().FieldByName(name)
		if !field.IsValid() {
			panic(fmt.Sprintf("%s has no member %s", q.Operation, name))
		}
		switch value := r.fill(string(raw)); {
		case name == "Policy":
			field.SetString(r.policy(value))
		case field.Type() == reflect.TypeFor[time.Time]() && !strings.HasPrefix(value, `"`):
			field.Set(reflect.ValueOf(time.Unix(must(json.Number(value).Int64()), 0)))
		default:
			must(0, json.Unmarshal([]byte(value), field.Addr().Interface()))
		}
	}
	return in
}

// policy returns the text of a policy parameter.
func (r *replay) policy(value string) string {
	if strings.HasPrefix(value, `"`) {
		var text string
		must(0, json.Unmarshal([]byte(value), &text))
		return text
	}
	if r.c.Request.PadPolicyTo == 0 {
		return value
	}
	var document map[string]any
	must(0, json.Unmarshal([]byte(value), &document))
	statement := document["Statement"].([]any)[0].(map[string]any)
	statement["Sid"] = ""
	statement["Sid"] = strings.Repeat("x", r.c.Request.PadPolicyTo-len(must(json.Marshal(document))))
	return string(must(json.Marshal(document)))
}

// supply sets the members that the operation requires.
func (r *replay) supply(in any) {
	ctx, owner, k := context.Background(), r.key.owner, r.key
	encryptionContext := r.c.Request.EncryptionContext
	algorithm := func() (first kms.EncryptionAlgorithmSpec) {
		if k.KeyMetadata.KeySpec != kms.KeySpecSymmetricDefault {
			first = k.EncryptionAlgorithms[0]
		}
		return first
	}
	message := []byte("message")
	if text := string(r.c.Request.Params["MessageType"]); text != "" && text != `"RAW"` {
		message = make([]byte, map[kms.KeySpec]int{kms.KeySpecECCNISTP384: 48, kms.KeySpecECCNISTP521: 64}[k.KeyMetadata.KeySpec])
		if len(message) == 0 {
			message = make([]byte, 32)
		}
	}
	signingAlgorithm := func() (a kms.SigningAlgorithmSpec) {
		if raw := r.c.Request.Params["SigningAlgorithm"]; raw != nil {
			must(0, json.Unmarshal(raw, &a))
			return a
		}
		return k.SigningAlgorithms[0]
	}
	switch in := in.(type) {
	case *kms.EncryptInput:
		in.Plaintext, in.EncryptionAlgorithm = []byte("x"), algorithm()
	case *kms.DecryptInput:
		in.EncryptionAlgorithm = algorithm()
		in.CiphertextBlob = must(owner.Encrypt(ctx, &kms.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("x"), EncryptionContext: encryptionContext, EncryptionAlgorithm: algorithm()})).CiphertextBlob
	case *kms.ReEncryptInput:
		in.SourceEncryptionAlgorithm = algorithm()
		in.CiphertextBlob = must(owner.Encrypt(ctx, &kms.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("x"), EncryptionContext: encryptionContext, EncryptionAlgorithm: algorithm()})).CiphertextBlob
		if r.other != nil && r.other.KeyMetadata.KeySpec != kms.KeySpecSymmetricDefault {
			in.DestinationEncryptionAlgorithm = r.other.EncryptionAlgorithms[0]
		}
	case *kms.GenerateDataKeyInput:
		if r.c.Request.Params["NumberOfBytes"] == nil {
			in.KeySpec = kms.DataKeySpecAES256
		}
	case *kms.GenerateDataKeyWithoutPlaintextInput:
		if r.c.Request.Params["NumberOfBytes"] == nil {
			in.KeySpec = kms.DataKeySpecAES256
		}
	case *kms.GenerateDataKeyPairInput:
		in.KeyPairSpec = kms.DataKeyPairSpecECCNISTP256
	case *kms.GenerateDataKeyPairWithoutPlaintextInput:
		in.KeyPairSpec = kms.DataKeyPairSpecECCNISTP256
	case *kms.SignInput:
		in.Message, in.SigningAlgorithm = message, signingAlgorithm()
	case *kms.VerifyInput:
		in.Message, in.SigningAlgorithm = message, signingAlgorithm()
		sign := &kms.SignInput{KeyId: k.KeyId, Message: message, SigningAlgorithm: in.SigningAlgorithm}
		if raw := r.c.Request.Params["MessageType"]; raw != nil {
			must(0, json.Unmarshal(raw, &sign.MessageType))
		}
		in.Signature = must(owner.Sign(ctx, sign)).Signature
	case *kms.GenerateMacInput:
		in.Message, in.MacAlgorithm = message, k.MacAlgorithms[0]
	case *kms.VerifyMacInput:
		in.Message, in.MacAlgorithm = message, k.MacAlgorithms[0]
		in.Mac = must(owner.GenerateMac(ctx, &kms.GenerateMacInput{KeyId: k.KeyId, Message: message, MacAlgorithm: in.MacAlgorithm})).Mac
	case *kms.DeriveSharedSecretInput:
		in.KeyAgreementAlgorithm = kms.KeyAgreementAlgorithmECDH
		curve := map[kms.KeySpec]ecdh.Curve{kms.KeySpecECCNISTP256: ecdh.P256(), kms.KeySpecECCNISTP384: ecdh.P384(), kms.KeySpecECCNISTP521: ecdh.P521()}[k.KeyMetadata.KeySpec]
		in.PublicKey = must(x509.MarshalPKIXPublicKey(must(curve.GenerateKey(rand.Reader)).PublicKey()))
	case *kms.DecapsulateInput:
		out := must(owner.Encapsulate(ctx, &kms.EncapsulateInput{KeyId: k.KeyId, EncapsulationAlgorithm: k.EncapsulationAlgorithms[0]}))
		in.EncapsulationAlgorithm, in.SharedSecretCiphertextBlob = k.EncapsulationAlgorithms[0], out.SharedSecretCiphertextBlob
	case *kms.EncapsulateInput:
		in.EncapsulationAlgorithm = k.EncapsulationAlgorithms[0]
	case *kms.CreateGrantInput:
		in.GranteePrincipal, in.Operations = "arn:aws:iam::111122223333:role/web", []kms.GrantOperation{kms.GrantOperationDescribeKey}
		if r.c.Request.Params["GranteeServicePrincipal"] != nil {
			in.GranteePrincipal = ""
		}
	case *kms.CreateAliasInput:
		in.AliasName = cmp.Or(in.AliasName, "alias/new")
	case *kms.TagResourceInput:
		in.Tags = []kms.Tag{{TagKey: "k", TagValue: "v"}}
	case *kms.UntagResourceInput:
		in.TagKeys = []string{"k"}
	case *kms.PutKeyPolicyInput:
		in.Policy = everybodys
	case *kms.GetParametersForImportInput:
		in.WrappingAlgorithm, in.WrappingKeySpec = kms.AlgorithmRSAESOAEPSHA256, kms.WrappingKeySpecRSA2048
	case *kms.ImportKeyMaterialInput:
		parameters := must(owner.GetParametersForImport(ctx, &kms.GetParametersForImportInput{
			KeyId: k.KeyId, WrappingAlgorithm: kms.AlgorithmRSAESOAEPSHA256, WrappingKeySpec: kms.WrappingKeySpecRSA2048}))
		in.ImportToken = parameters.ImportToken
		in.EncryptedKeyMaterial = wrap(r.t, parameters.PublicKey, kms.AlgorithmRSAESOAEPSHA256, make([]byte, 32))
	case *kms.UpdateKeyDescriptionInput:
		in.Description = "x"
	}
}

func operationByName(name string) kms.Operation {
	for _, op := range kms.Operations() {
		if op.Name() == name {
			return op
		}
	}
	panic("there is no operation " + name)
}

func operationInput(name string, members map[string]any) any {
	in := operationByName(name).NewInput()
	for member, value := range members {
		setMember(in, member, value)
	}
	return in
}

// setMember sets a member of an input, if it has one of that name.
func setMember(in any, name string, value any) {
	if field := reflect.ValueOf(in).Elem().FieldByName(name); field.IsValid() && !reflect.ValueOf(value).IsZero() {
		field.Set(reflect.ValueOf(value).Convert(field.Type()))
	}
}
