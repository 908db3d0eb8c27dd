package awsapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/internal/shape"
)

// all has a member of each kind.
type all struct {
	Text      string
	Blob      []byte
	Number    int32
	Long      *int64
	Flag      bool
	MaybeFlag *bool
	Time      time.Time
	Map       map[string]string
	List      []string
	Enums     []kms.KeySpec
	Nested    *inner
	Value     inner
	Elements  []inner
	Sent      []inner `kms:"emitzero"`
	SentFlag  bool    `kms:"emitzero"`
	SentText  string  `kms:"emitzero"`
	Never     *inner  `kms:"emitzero"` // nil is omitted nevertheless
}

type inner struct {
	Name  string
	Bytes []byte
}

func decodeAll(body string) (all, map[string]struct{}, error) {
	var in all
	empty, err := decode([]byte(body), shape.Of[all](), &in)
	return in, empty, err
}

func encodeAll(out all) string { return string(encode(nil, shape.Of[all](), &out)) }

func TestMembersAreDecodedByTheirExactNames(t *testing.T) {
	long, no := int64(-5), false
	for _, tt := range []struct {
		name, body string
		want       all
	}{
		{"nothing", `{}`, all{}},
		{"white space", " \t\r\n{ \"Text\" :\n\"a\" , \"Number\" : 1 } ", all{Text: "a", Number: 1}},
		{"every kind", `{"Text":"a","Blob":"AQI=","Number":7,"Long":-5,"Flag":true,"MaybeFlag":false,"Time":1.5,` +
			`"Map":{"a":"b"},"List":["x","y"],"Enums":["RSA_2048"],"Nested":{"Name":"n"},"Value":{"Bytes":"AA=="},"Elements":[{"Name":"1"},{}]}`,
			all{Text: "a", Blob: []byte{1, 2}, Number: 7, Long: &long, Flag: true, MaybeFlag: &no, Time: time.UnixMilli(1500).UTC(),
				Map: map[string]string{"a": "b"}, List: []string{"x", "y"}, Enums: []kms.KeySpec{kms.KeySpecRSA2048},
				Nested: &inner{Name: "n"}, Value: inner{Bytes: []byte{0}}, Elements: []inner{{Name: "1"}, {}}}},
		{"unknown members of all kinds", `{"a":1,"b":[{"Text":"x"},"]}",[]],"c":{"Text":{"Text":"x"}},"d":null,"e":true,"Text":"a"}`, all{Text: "a"}},
		{"names in another case", `{"text":"a","TEXT":"b"}`, all{}},
		{"an escaped name", `{"\u0054ext":"a"}`, all{Text: "a"}},
		{"null as absent", `{"Text":null,"Blob":null,"Number":null,"Long":null,"Flag":null,"Time":null,"Map":null,"List":null,"Nested":null,"Elements":null}`, all{}},
		{"null among elements", `{"List":["a",null,"b"],"Elements":[null,{"Name":null}],"Map":{"a":null,"b":"c"}}`,
			all{List: []string{"a", "b"}, Elements: []inner{{}}, Map: map[string]string{"a": "", "b": "c"}}},
		{"numbers as values of a map", `{"Map":{"a":1,"b":-1.50,"c":1E400}}`, all{Map: map[string]string{"a": "1", "b": "-1.50", "c": "1E400"}}},
		{"a fraction for an integer", `{"Number":1.9}`, all{Number: 1}},
		{"an exponent for an integer", `{"Number":1e3}`, all{Number: 1000}},
		{"a name in several objects", `{"Text":"a","Nested":{"Name":"a"},"Value":{"Name":"b"},"Elements":[{"Name":"c"},{"Name":"d"}]}`,
			all{Text: "a", Nested: &inner{Name: "a"}, Value: inner{Name: "b"}, Elements: []inner{{Name: "c"}, {Name: "d"}}}},
		{"an unknown name twice", `{"other":1,"other":2}`, all{}},
		{"escapes", `{"Text":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\uD83D\uDE00\\ud800\ufffd","Blob":"\u0041\/8="}`, all{Text: "\"\\/\b\f\n\r\té😀😀\\ud800\ufffd", Blob: []byte{3, 0xff}}},
		{"empty but present", `{"Text":"","Blob":"","Map":{},"List":[],"Elements":[]}`,
			all{Blob: []byte{}, Map: map[string]string{}, List: []string{}, Elements: []inner{}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, _, err := decodeAll(tt.body)
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
}

func TestEmptyMembersAreReported(t *testing.T) {
	_, empty, err := decodeAll(`{"Text":"","Nested":{"Name":""},"Value":{"Name":"x"},"Elements":[{},{"Name":""}],"List":[""],"Other":"","Flag":false,"SentFlag":true,"MaybeFlag":false}`)
	require.NoError(t, err)
	require.Equal(t, set("flag", "maybeFlag", "text", "nested.name", "elements.2.member.name"), empty)
}

func set(paths ...string) map[string]struct{} {
	s := map[string]struct{}{}
	for _, path := range paths {
		s[path] = struct{}{}
	}
	return s
}

// Whether AWS refuses these is not known. To keep one of two values, or another string than was
// sent, would be worse.
func TestWhatCannotBeKeptAsSentIsRefused(t *testing.T) {
	const twice, surrogate = "A name occurs twice in an object.", "A string contains an unpaired surrogate."
	for body, message := range map[string]string{
		`{"Text":"a","Text":"a"}`:                           twice,
		`{"Text":"a","Text":null}`:                          twice,
		`{"Text":null,"Text":"a"}`:                          twice,
		`{"Text":"a","\u0054ext":"b"}`:                      twice,
		`{"List":["a"],"List":["b"]}`:                       twice,
		`{"Map":{"a":"b"},"Map":{}}`:                        twice,
		`{"Map":{"a":"b","a":"b"}}`:                         twice,
		`{"Map":{"a":"b","c":"d","\u0061":1}}`:              twice,
		`{"Map":{"":"b","":"b"}}`:                           twice,
		`{"Nested":{"Name":"a","Name":"b"}}`:                twice,
		`{"Elements":[{"Name":"a"},{"Name":"","Name":""}]}`: twice,
		`{"Text":"\ud800"}`:                                 surrogate,
		`{"Text":"\udfff"}`:                                 surrogate,
		`{"Text":"a\uD83Db"}`:                               surrogate,
		`{"Text":"\ud83d\\ude00"}`:                          surrogate,
		`{"Text":"\ud83d\ud83d\ude00"}`:                     surrogate,
		`{"Text":"\ude00\ud83d"}`:                           surrogate,
		`{"Text":"\ud83d\n"}`:                               surrogate,
		`{"Map":{"\ud800":"a"}}`:                            surrogate,
		`{"Map":{"a":"\ud801"}}`:                            surrogate,
		`{"List":["\ud801"]}`:                               surrogate,
		`{"other\ud801":1}`:                                 surrogate,
		"{\"Map\":{\"a\":\"\xed\xa0\x80\"}}":                "",
		"{\"Map\":{\"\xff\":\"a\"}}":                        "",
	} {
		_, _, err := decodeAll(body)
		require.Equal(t, badRequest(serialization, message), err, body)
	}
}

// The decoder has 64 bits to note which members of a structure it has seen.
func TestStructuresHaveAtMost64Members(t *testing.T) {
	var check func(name string, s *shape.Struct)
	check = func(name string, s *shape.Struct) {
		for i := range s.Members {
			m := &s.Members[i]
			require.Less(t, m.Index, 64, name)
			if m.Nested != nil {
				check(name+"."+m.Name, m.Nested)
			}
		}
	}
	for _, op := range kms.Operations() {
		check(op.Name(), shape.OfType(reflect.TypeOf(op.NewInput()).Elem()))
	}
}

// The messages were observed at AWS services of this protocol, except those marked *.
func TestWrongTypesAreRefused(t *testing.T) {
	list, structure := "Start of list found where not expected", "Start of structure or map found where not expected."
	for body, message := range map[string]string{
		``: "", `{`: "", `null`: "", `"x"`: "", `1`: "", `true`: "", `{"Text":"a",}`: "", `{} {}`: "", "{\"Text\":\"\xff\"}": "", "{\"Text\":\"\n\"}": "",
		`[]`:                              list,
		`{"Text":1}`:                      "NUMBER_VALUE can not be converted to a String",
		`{"Text":true}`:                   "TRUE_VALUE can not be converted to a String",
		`{"Text":false}`:                  "FALSE_VALUE can not be converted to a String",
		`{"Text":[]}`:                     list,
		`{"Text":{}}`:                     structure,
		`{"Number":"1"}`:                  "STRING_VALUE can not be converted to an Integer",
		`{"Number":true}`:                 "TRUE_VALUE can not be converted to an Integer",
		`{"Number":[1]}`:                  list,
		`{"Number":{}}`:                   structure,
		`{"Number":3000000000}`:           "NUMBER_VALUE can not be converted to an Integer",  // *
		`{"Long":1e19}`:                   "NUMBER_VALUE can not be converted to a Long",      // *
		`{"Long":-1e999}`:                 "NUMBER_VALUE can not be converted to a Long",      // *
		`{"Flag":"true"}`:                 "STRING_VALUE can not be converted to a Boolean",   // *
		`{"Flag":1}`:                      "NUMBER_VALUE can not be converted to a Boolean",   // *
		`{"Time":"2026-01-01T00:00:00Z"}`: "STRING_VALUE can not be converted to a Timestamp", // *
		`{"Time":1e300}`:                  "NUMBER_VALUE can not be converted to a Timestamp", // *
		`{"Blob":1}`:                      "NUMBER_VALUE can not be converted to a Blob",      // *
		`{"List":"x"}`:                    "Expected list or null",
		`{"List":{}}`:                     structure,
		`{"List":[1]}`:                    "NUMBER_VALUE can not be converted to a String",
		`{"List":[["a"]]}`:                list,
		`{"Elements":["x"]}`:              "Expected null",
		`{"Nested":1}`:                    "Expected null",
		`{"Nested":{"Name":1}}`:           "NUMBER_VALUE can not be converted to a String",
		`{"Map":1}`:                       "Expected map or null", // *
		`{"Map":{"a":true}}`:              "TRUE_VALUE can not be converted to a String",
		`{"Map":{"a":{}}}`:                structure,
		`{"Blob":"AQI"}`:                  "The value is not valid base64.", // *
		`{"Blob":"AQJ="}`:                 "The value is not valid base64.",
		`{"Blob":"AQI=\n"}`:               "The value is not valid base64.",
		`{"Blob":"_-8="}`:                 "The value is not valid base64.",
	} {
		_, _, err := decodeAll(body)
		require.Equal(t, badRequest(serialization, message), err, body)
	}
}

func TestListsAndMapsAreBounded(t *testing.T) {
	full := `{"Elements":[` + strings.Repeat("{},", maxEntries-1) + `{}]}`
	in, _, err := decodeAll(full)
	require.NoError(t, err)
	require.Len(t, in.Elements, maxEntries)
	_, _, err = decodeAll(strings.Replace(full, "[", "[{},", 1))
	require.Equal(t, badRequest(serialization, ""), err)

	var pairs strings.Builder
	for i := range maxEntries {
		fmt.Fprintf(&pairs, `,"%d":""`, i)
	}
	in, _, err = decodeAll(`{"Map":{` + pairs.String()[1:] + `}}`)
	require.NoError(t, err)
	require.Len(t, in.Map, maxEntries)
	_, _, err = decodeAll(`{"Map":{"x":""` + pairs.String() + `}}`)
	require.Equal(t, badRequest(serialization, ""), err)
}

func TestZeroMembersAreLeftOut(t *testing.T) {
	require.Equal(t, `{"Sent":[],"SentFlag":false,"SentText":""}`, encodeAll(all{}))
	zero := int64(0)
	no := false
	require.Equal(t, `{"Blob":"","Long":0,"MaybeFlag":false,"List":[],"Nested":{},"Sent":[{},{"Name":"a"}],"SentFlag":true,"SentText":""}`,
		encodeAll(all{Blob: []byte{}, Long: &zero, MaybeFlag: &no, List: []string{}, Nested: &inner{}, Sent: []inner{{}, {Name: "a"}}, SentFlag: true}))
}

func TestOutputWithoutMembersHasNoBody(t *testing.T) {
	require.Empty(t, encode(nil, shape.Of[kms.EnableKeyOutput](), &kms.EnableKeyOutput{}))
}

func TestSecretsAreWrittenOnce(t *testing.T) {
	out := &kms.GenerateDataKeyOutput{KeyId: strings.Repeat("k", 100), Plaintext: make([]byte, 4096), CiphertextBlob: make([]byte, 6144), KeyMaterialId: strings.Repeat("m", 64)}
	s := shape.OfType(reflect.TypeOf(*out))
	buffer := make([]byte, 0, sizeHint(s, out))
	require.Same(t, &buffer[:1][0], &encode(buffer, s, out)[0])
}

func TestTimesAreSecondsWithMilliseconds(t *testing.T) {
	for ms, want := range map[int64]string{
		0: "0.0", 1: "0.001", 10: "0.01", 100: "0.1", 1000: "1.0", -1500: "-1.5", 9999999999: "9999999.999", 10000000000: "1.0E7",
		1795315059243: "1.795315059243E9", 1795315059000: "1.795315059E9", -1795315059000: "-1.795315059E9",
	} {
		at := time.UnixMilli(ms).Add(999_999)
		require.Equal(t, want, string(appendTime(nil, &at)))
		require.Equal(t, `{"Time":`+want+`,"Sent":[],"SentFlag":false,"SentText":""}`, encodeAll(all{Time: at}))
		in, _, err := decodeAll(`{"Time":` + want + `}`)
		require.NoError(t, err)
		require.Equal(t, ms, in.Time.UnixMilli())
	}
}

var sampleTime = time.UnixMilli(1795315059243).UTC()

// sample fills v with values that are not zero.
func sample(v reflect.Value, n int) {
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(sampleTime))
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		sample(v.Elem(), n)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			sample(v.Field(i), n+i)
		}
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		v.SetBytes([]byte{byte(n), 0xff, 0xfe})
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		sample(v.Index(0), n)
		sample(v.Index(1), n+1)
	case v.Kind() == reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"k\u00e9y\n": "v", "": "\"\\"}))
	case v.Kind() == reflect.String:
		v.SetString("text " + strings.Repeat("é", n))
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	default:
		v.SetInt(int64(n + 1))
	}
}

// The other side of the wire is encoding/json, which has its own rules for names and base64.
func TestMembersOfEveryOperationCrossTheWire(t *testing.T) {
	for _, op := range kms.Operations() {
		t.Run(op.Name(), func(t *testing.T) {
			in := op.NewInput()
			sample(reflect.ValueOf(in).Elem(), 1)
			body, err := json.Marshal(in)
			require.NoError(t, err)
			rfc3339, err := json.Marshal(sampleTime)
			require.NoError(t, err)
			body = bytes.ReplaceAll(body, rfc3339, []byte("1795315059.243")) // the API's form
			got := op.NewInput()
			empty, err := decode(body, shape.OfType(reflect.TypeOf(in).Elem()), got)
			require.NoError(t, err)
			require.Empty(t, empty)
			require.Equal(t, in, got)

			method, ok := reflect.TypeFor[*kms.Service]().MethodByName(op.Name())
			require.True(t, ok)
			s := shape.OfType(method.Type.Out(0).Elem())
			for _, full := range []bool{false, true} {
				out := reflect.New(s.Type)
				if full {
					sample(out.Elem(), 1)
				}
				body = encode(nil, s, out.Interface())
				if len(s.Members) == 0 {
					require.Empty(t, body)
					continue
				}
				again := reflect.New(s.Type)
				_, err = decode(body, s, again.Interface())
				require.NoError(t, err)
				var members map[string]any
				require.NoError(t, json.Unmarshal(body, &members))
				if op.Name() == "ListAliases" {
					require.True(t, has(members, "AliasCount")) // which the model does not have
					delete(members, "AliasCount")
				}
				if full {
					require.Equal(t, out.Interface(), again.Interface())
					require.Len(t, members, len(s.Members))
				}
				for _, m := range s.Members {
					require.Equal(t, full || m.EmitZero && !m.Pointer, has(members, m.Name), m.Name)
				}
			}
		})
	}
}

func has(m map[string]any, name string) bool { _, ok := m[name]; return ok }

// FuzzDecode compares the decoded input with what encoding/json decodes.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"EncryptionContext":{"\ud83d\ude00":"\ude00\ud83d","a":null},"EncryptionContext":{}}`, `{"KeyId":"a","Plaintext":"AQI=","EncryptionContext":{"a":"b","c":1},"GrantTokens":["x",null],"DryRun":true}`,
		`{"KeyId":"\ud800","x":[[{"a":"\\\""}]],"KeyId":null}`, `[`, `{"EncryptionContext":{"\u0061":"1"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var in kms.EncryptInput
		_, err := decode(body, shape.Of[kms.EncryptInput](), &in)
		var members map[string]json.RawMessage
		if err != nil {
			require.Equal(t, serialization, err.(*exception).code)
			return
		}
		require.NoError(t, json.Unmarshal(body, &members))
		var want struct {
			KeyId       *string
			Plaintext   []byte
			GrantTokens []*string
			DryRun      *bool
		}
		for name, into := range map[string]any{"KeyId": &want.KeyId, "Plaintext": &want.Plaintext, "GrantTokens": &want.GrantTokens, "DryRun": &want.DryRun} {
			if raw, ok := members[name]; ok {
				require.NoError(t, json.Unmarshal(raw, into))
			}
		}
		if want.KeyId == nil {
			require.Empty(t, in.KeyId)
		} else {
			require.Equal(t, *want.KeyId, in.KeyId)
		}
		require.Equal(t, want.Plaintext, in.Plaintext)
		require.Equal(t, want.DryRun != nil && *want.DryRun, in.DryRun)
		var tokens []string
		for _, token := range want.GrantTokens {
			if token != nil {
				tokens = append(tokens, *token)
			}
		}
		require.Equal(t, len(tokens), len(in.GrantTokens))
		for i := range tokens {
			require.Equal(t, tokens[i], in.GrantTokens[i])
		}
	})
}
