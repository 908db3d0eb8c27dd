package kms_test

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	multierror "github.com/hashicorp/go-multierror"
	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

// violationsAt returns the violations of one member in err, in the API's words.
func violationsAt(err error, path string) (found []string) {
	var e *kms.Error
	var all *multierror.Error
	if !asError(err, &e) || e.Code != kms.ValidationException || !asError(e.Unwrap(), &all) {
		return nil
	}
	for _, v := range all.Errors {
		if strings.Contains(v.Error(), " at '"+path+"' failed") {
			found = append(found, v.Error())
		}
	}
	return found
}

func asError[E error](err error, target *E) bool {
	e, ok := err.(E)
	if ok {
		*target = e
	}
	return ok
}

func path(member string) string { return strings.ToLower(member[:1]) + member[1:] }

// patternBreakers are values that the API's patterns do not match.
var patternBreakers = map[string]string{"aliasName": "alias/a b", "marker": "\u0100", "materialDescription": "a+b", "materialID": strings.Repeat("g", 64), "policy": "{\x01}", "policyName": "a-b", "principal": "a b", "region": "us east", "xksKeyID": "a b"}

// The tags are those of the API's model, service-2.json of version 2014-11-01, with the narrower
// ranges in the documentation of some operations. The next test checks their effect.
func TestTheTagsHaveTheConstraintsOfTheModel(t *testing.T) {
	want, err := os.ReadFile("testdata/constraints.txt")
	require.NoError(t, err)
	var got strings.Builder
	var list func(prefix string, shape reflect.Type)
	list = func(prefix string, shape reflect.Type) {
		for i := range shape.NumField() {
			field := shape.Field(i)
			isDefault := func(option string) bool { return strings.HasPrefix(option, "default=") } // only for audit events
			if tag := strings.Join(slices.DeleteFunc(strings.Split(field.Tag.Get("kms"), ","), isDefault), ","); tag != "" {
				fmt.Fprintf(&got, "%s.%s %s\n", prefix, field.Name, tag)
			}
			nested := field.Type
			for nested.Kind() == reflect.Pointer || nested.Kind() == reflect.Slice {
				nested = nested.Elem()
			}
			if nested.Kind() == reflect.Struct && nested != reflect.TypeFor[time.Time]() {
				list(prefix+"."+field.Name, nested)
			}
		}
	}
	for _, op := range kms.Operations() {
		list(op.Name(), reflect.TypeOf(op.NewInput()).Elem())
	}
	require.Equal(t, string(want), got.String())
}

// Every constraint in the tags of every input is tested within and outside its bounds: an invalid
// value has exactly this violation, and a valid one has none.
func TestEveryConstraintOfEveryMemberIsChecked(t *testing.T) {
	svc, _ := newService(t)
	checked := 0
	for _, op := range kms.Operations() {
		shape := reflect.TypeOf(op.NewInput()).Elem()
		for i := range shape.NumField() {
			field := shape.Field(i)
			p := path(field.Name)
			violations := func(set func(f reflect.Value)) []string {
				in := op.NewInput()
				set(reflect.ValueOf(in).Elem().Field(i))
				out, err := op.Invoke(t.Context(), svc.As(kms.Principal{}), in) // nobody: nothing is done
				require.Error(t, err)
				require.Nil(t, out)
				return violationsAt(err, p)
			}
			violation := func(value, constraint string) []string {
				checked++
				return []string{"Value" + value + " at '" + p + "' failed to satisfy constraint: " + constraint}
			}
			t.Run(op.Name()+"."+field.Name, func(t *testing.T) {
				options := map[string]string{}
				for option := range strings.SplitSeq(field.Tag.Get("kms"), ",") {
					name, argument, _ := strings.Cut(option, "=")
					options[name] = argument
				}
				_, secret := options["secret"]
				quoted := func(value string) string {
					if secret {
						return ""
					}
					return " '" + value + "'"
				}
				if _, ok := options["required"]; ok {
					require.Equal(t, violation(" null", "Member must not be null"), violations(func(reflect.Value) {}))
				}
				low, high, _ := strings.Cut(options["len"]+options["range"], "..")
				least, _ := strconv.Atoi(low)
				most, _ := strconv.Atoi(high)
				const atLeast, atMost = "Member must have %s greater than or equal to %d", "Member must have %s less than or equal to %d"
				switch {
				case field.Type.Kind() == reflect.String && high != "":
					if options["pattern"] == "" || options["pattern"] == "aliasName" {
						require.Empty(t, violations(func(f reflect.Value) { f.SetString(strings.Repeat("a", most)) }))
					}
					if most < 5000 {
						long := strings.Repeat("a", most+1)
						require.Equal(t, violation(quoted(long), fmt.Sprintf(atMost, "length", most)),
							cut(violations(func(f reflect.Value) { f.SetString(long) }), 1))
					}
				case field.Type == reflect.TypeFor[[]byte]() && high != "":
					for size, want := range map[int][]string{
						0:          violation("", fmt.Sprintf(atLeast, "length", least)),
						least:      nil,
						most:       nil,
						most + 1:   violation("", fmt.Sprintf(atMost, "length", most)),
						100 * most: violation("", fmt.Sprintf(atMost, "length", most)),
					} {
						require.Equal(t, want, violations(func(f reflect.Value) { f.SetBytes(make([]byte, size)) }))
					}
				case field.Type == reflect.TypeFor[*int32]():
					for n, want := range map[int][]string{
						least - 1:  violation(quoted(strconv.Itoa(least-1)), fmt.Sprintf(atLeast, "value", least)),
						least:      nil,
						most:       nil,
						most + 1:   violation(quoted(strconv.Itoa(most+1)), fmt.Sprintf(atMost, "value", most)),
						-1 << 31:   violation(quoted("-2147483648"), fmt.Sprintf(atLeast, "value", least)),
						1<<31 - 1:  violation(quoted("2147483647"), fmt.Sprintf(atMost, "value", most)),
						-least - 1: violation(quoted(strconv.Itoa(-least-1)), fmt.Sprintf(atLeast, "value", least)),
					} {
						require.Equal(t, want, violations(func(f reflect.Value) { f.Set(reflect.ValueOf(new(int32(n)))) }))
					}
				case field.Type.Kind() == reflect.Slice && field.Type.Elem().Kind() == reflect.String && options["each"] != "":
					low, high, _ := strings.Cut(options["each"], "..")
					each, _ := strconv.Atoi(high)
					want := violation(quoted("[a, "+strings.Repeat("a", each+1)+"]"), "Member must satisfy constraint: [Member must have length less than or equal to "+
						high+", Member must have length greater than or equal to "+low+"]")
					require.Equal(t, want, violations(func(f reflect.Value) { f.Set(reflect.ValueOf([]string{"a", strings.Repeat("a", each+1)})) }))
					require.Empty(t, violations(func(f reflect.Value) { f.Set(reflect.ValueOf([]string{"a", strings.Repeat("a", each)})) }))
					if options["len"] != "" {
						tokens := make([]string, most+1)
						for i := range tokens {
							tokens[i] = "a"
						}
						require.Equal(t, violation("", fmt.Sprintf(atMost, "length", most)),
							violations(func(f reflect.Value) { f.Set(reflect.ValueOf(tokens)) }))
						require.Empty(t, violations(func(f reflect.Value) { f.Set(reflect.ValueOf(tokens[1:])) }))
					}
				}
				if broken, ok := patternBreakers[options["pattern"]]; ok {
					got := violations(func(f reflect.Value) { f.SetString(broken) })
					require.Len(t, got, 1)
					require.Contains(t, got[0], "Value '"+broken+"' at '"+p+"' failed to satisfy constraint: Member must satisfy regular expression pattern: ")
					checked++
				}
				if values := field.Type; values.Kind() == reflect.String {
					if m, ok := values.MethodByName("Values"); ok {
						all := m.Func.Call([]reflect.Value{reflect.Zero(values)})[0]
						for i := range all.Len() {
							require.Empty(t, violations(func(f reflect.Value) { f.Set(all.Index(i)) }))
						}
						require.Equal(t, violation(" 'nonsense'", "Member must satisfy enum value set: ["+
							strings.Join(strings.Fields(strings.Trim(fmt.Sprint(all), "[]")), ", ")+"]"),
							violations(func(f reflect.Value) { f.SetString("nonsense") }))
						require.Len(t, violations(func(f reflect.Value) { f.SetString(strings.ToLower(all.Index(0).String())) }), 1)
					}
				}
			})
		}
	}
	require.Greater(t, checked, 200)
}

func cut(list []string, n int) []string { return list[:min(n, len(list))] }

func TestAllViolationsAreReportedAtOnce(t *testing.T) {
	svc, _ := newService(t)
	_, err := svc.Encrypt(t.Context(), &kms.EncryptInput{
		Plaintext: make([]byte, 4097), EncryptionAlgorithm: "ROT13", GrantTokens: make([]string, 11)})
	const want = "3 validation errors detected: " +
		"Value null at 'keyId' failed to satisfy constraint: Member must not be null; " +
		"Value at 'plaintext' failed to satisfy constraint: Member must have length less than or equal to 4096; "
	var e *kms.Error
	require.ErrorAs(t, err, &e)
	require.True(t, strings.HasPrefix(e.Message, strings.Replace(want, "3", "4", 1)), e.Message)
	var all *multierror.Error
	require.ErrorAs(t, err, &all)
	require.Len(t, all.Errors, 4)
	require.Contains(t, e.Message, "; Value 'ROT13' at 'encryptionAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [")
	require.True(t, strings.HasSuffix(e.Message, "; Value at 'grantTokens' failed to satisfy constraint: Member must have length less than or equal to 10"), e.Message)
}

func TestNestedMembersHaveTheirPath(t *testing.T) {
	svc, _ := newService(t)
	_, err := svc.CreateKey(t.Context(), &kms.CreateKeyInput{Tags: []kms.Tag{
		{TagKey: "fit"}, {TagKey: strings.Repeat("k", 129), TagValue: strings.Repeat("v", 257)}, {}}})
	requireError(t, err, kms.ValidationException, "3 validation errors detected: "+
		"Value '%s' at 'tags.2.member.tagKey' failed to satisfy constraint: Member must have length less than or equal to 128; "+
		"Value '%s' at 'tags.2.member.tagValue' failed to satisfy constraint: Member must have length less than or equal to 256; "+
		"Value null at 'tags.3.member.tagKey' failed to satisfy constraint: Member must not be null",
		strings.Repeat("k", 129), strings.Repeat("v", 257))
	_, err = svc.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: new(int32(1)), Recipient: &kms.RecipientInfo{AttestationDocument: make([]byte, 262145)}})
	requireError(t, err, kms.ValidationException, "1 validation error detected: Value at 'recipient.attestationDocument' failed to satisfy constraint: Member must have length less than or equal to 262144")
}

func TestLengthsAreInCharacters(t *testing.T) {
	svc, _ := newService(t)
	k := createKey(t, svc, &kms.CreateKeyInput{Description: strings.Repeat("é", 8192)})
	_, err := svc.TagResource(t.Context(), &kms.TagResourceInput{KeyId: k.KeyId, Tags: []kms.Tag{{TagKey: strings.Repeat("鍵", 128), TagValue: strings.Repeat("é", 256)}}})
	require.NoError(t, err)
	_, err = svc.TagResource(t.Context(), &kms.TagResourceInput{KeyId: k.KeyId, Tags: []kms.Tag{{TagKey: strings.Repeat("鍵", 129)}}})
	require.ErrorIs(t, err, kms.ValidationException)
}

func TestMessagesAboutHugeValuesAreBounded(t *testing.T) {
	svc, _ := newService(t)
	huge := strings.Repeat("é", 1<<20)
	tags := make([]kms.Tag, 10_000)
	for i := range tags {
		tags[i] = kms.Tag{TagKey: huge, TagValue: huge}
	}
	keys := make([]string, 10_000)
	for i := range keys {
		keys[i] = huge
	}
	for _, tt := range []struct {
		operation string
		in        any
		most      int
	}{
		{"DescribeKey", &kms.DescribeKeyInput{KeyId: huge}, 5_000},
		{"CreateKey", &kms.CreateKeyInput{Description: huge, Policy: huge, KeySpec: kms.KeySpec(huge)}, 15_000},
		{"CreateAlias", &kms.CreateAliasInput{AliasName: huge, TargetKeyId: huge}, 15_000},
		{"CreateKey", &kms.CreateKeyInput{Tags: tags}, 250_000},
		{"UntagResource", &kms.UntagResourceInput{KeyId: "x", TagKeys: keys}, 5_000},
		{"Encrypt", &kms.EncryptInput{KeyId: "x", Plaintext: make([]byte, 1<<24), GrantTokens: keys}, 1_000},
	} {
		_, err := operationNamed(t, tt.operation).Invoke(t.Context(), svc, tt.in)
		require.ErrorIs(t, err, kms.ValidationException)
		require.Less(t, len(err.Error()), tt.most, tt.operation)
		require.Less(t, len(fmt.Sprintf("%+v", err)), tt.most)
	}
}

// Records and audit events are JSON, which cannot contain a string that is not UTF-8. Free text is
// refused for that reason, and other members because they name nothing or match no pattern.
func TestStringsThatAreNotUTF8AreRefused(t *testing.T) {
	const bad = "a\xff"
	text := map[string]bool{"Description": true, "Tags": true, "TagKeys": true, "EncryptionContext": true,
		"SourceEncryptionContext": true, "DestinationEncryptionContext": true, "Policy": true}
	s := new(trail)
	f := newFixture(t, func(c *kms.Config) { c.Audit = s })
	for _, op := range kms.Operations() {
		if op.Name() == "CancelKeyDeletion" {
			continue // it has a KeyId only
		}
		inputs := reflect.TypeOf(op.NewInput()).Elem()
		for i := range inputs.NumField() {
			for _, value := range stringsOf(inputs.Field(i).Type, bad) {
				name := inputs.Field(i).Name
				in := f.example(t, op.Name())
				reflect.ValueOf(in).Elem().Field(i).Set(value)
				s.take()
				out, err := op.Invoke(t.Context(), f.svc, in)
				require.Nil(t, out, "%s.%s", op.Name(), name)
				var e *kms.Error
				require.ErrorAs(t, err, &e)
				require.NotEqual(t, kms.KMSInternalException, e.Code)
				if text[name] {
					require.Equal(t, kms.ValidationException, e.Code, "%s.%s", op.Name(), name)
				}
				events := s.take()
				require.NotEmpty(t, events[len(events)-1].ErrorCode)
			}
		}
	}
}

// stringsOf returns values of a type, each with text in another of its strings.
func stringsOf(of reflect.Type, text string) (values []reflect.Value) {
	switch {
	case of.Kind() == reflect.String:
		values = append(values, reflect.ValueOf(text).Convert(of))
	case of == reflect.TypeFor[map[string]string]():
		values = append(values, reflect.ValueOf(map[string]string{text: "v"}), reflect.ValueOf(map[string]string{"k": text, "l": "v"}))
	case of.Kind() == reflect.Slice:
		for _, element := range stringsOf(of.Elem(), text) {
			values = append(values, reflect.Append(reflect.Zero(of), element))
		}
	case of.Kind() == reflect.Struct:
		for i := range of.NumField() {
			for _, member := range stringsOf(of.Field(i).Type, text) {
				v := reflect.New(of).Elem()
				for j := range of.NumField() {
					if v.Field(j).Kind() == reflect.String {
						v.Field(j).SetString("x")
					}
				}
				v.Field(i).Set(member)
				values = append(values, v)
			}
		}
	}
	return values
}
