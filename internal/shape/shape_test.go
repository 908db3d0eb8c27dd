package shape

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type colour string

func (colour) Values() []colour { return []colour{"RED", "GREEN"} }

type label struct {
	Name  string `kms:"required,len=1..3"`
	Value string `kms:"len=..2,emitzero"`
}

type sample struct {
	KeyId    string            `kms:"required,len=1..5"`
	AWSThing string            `kms:"len=2..4"`
	Alias    string            `kms:"len=1..20,pattern=aliasName"`
	Hidden   string            `kms:"len=..3,secret"`
	Data     []byte            `kms:"len=1..4,secret"`
	Number   *int32            `kms:"range=2..9"`
	Colour   colour            //
	Colours  []colour          //
	Tokens   []string          `kms:"len=..2,each=1..3,secret"`
	Names    []string          `kms:"each=1..3"`
	Context  map[string]string `kms:"len=..2"`
	Label    *label            //
	Labels   []label           `kms:"len=..60"`
	Flag     bool              `kms:"emitzero"`
	When     time.Time         //
	Size     *int64            //
	Mode     string            `kms:"default=AUTO"`
	On       bool              `kms:"default=false"`
}

func valid() *sample {
	return &sample{KeyId: "k", AWSThing: "ab", Alias: "alias/x", Hidden: "h", Data: []byte("d"), Number: new(int32(2)), Colour: "RED",
		Colours: []colour{"GREEN"}, Tokens: []string{"t"}, Names: []string{"n"}, Context: map[string]string{"c": "v"}, Label: &label{Name: "l"},
		Labels: []label{{"a", "b"}}, Flag: true, When: time.Date(2026, 3, 1, 15, 4, 5, 0, time.UTC), Size: new(int64(7))}
}

func TestFieldReadsItsMember(t *testing.T) {
	s := valid()
	require.Equal(t, "k", FieldOf[sample, string]("KeyId").Of(s))
	require.Equal(t, []string{"t"}, FieldOf[sample, []string]("Tokens").Of(s))
	require.True(t, FieldOf[sample, bool]("Flag").Of(s))
	require.False(t, FieldOf[sample, bool]("DryRun").Of(s), "a member that does not exist")
	require.PanicsWithValue(t, "shape: member Colour has type shape.colour and not string", func() { FieldOf[sample, string]("Colour") })
}

func TestCheckFindsAllViolationsAndNoOthers(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(s *sample)
		want  []string
	}{
		"valid":               {func(s *sample) {}, nil},
		"no optional members": {func(s *sample) { *s = sample{KeyId: "k"} }, nil},
		"at the upper bounds": {func(s *sample) {
			s.KeyId, s.AWSThing, s.Data, s.Number = "kkkkk", "abcd", []byte("1234"), new(int32(9))
		}, nil},
		"in characters":             {func(s *sample) { s.KeyId, s.AWSThing = "ééééé", "鍵鍵" }, nil},
		"absent":                    {func(s *sample) { s.KeyId = "" }, []string{"Value null at 'keyId' failed to satisfy constraint: Member must not be null"}},
		"too long":                  {func(s *sample) { s.KeyId = "kkkkkk" }, []string{"Value 'kkkkkk' at 'keyId' failed to satisfy constraint: Member must have length less than or equal to 5"}},
		"too long in characters":    {func(s *sample) { s.KeyId = "éééééé" }, []string{"Value 'éééééé' at 'keyId' failed to satisfy constraint: Member must have length less than or equal to 5"}},
		"too short":                 {func(s *sample) { s.AWSThing = "a" }, []string{"Value 'a' at 'aWSThing' failed to satisfy constraint: Member must have length greater than or equal to 2"}},
		"too short in characters":   {func(s *sample) { s.AWSThing = "é" }, []string{"Value 'é' at 'aWSThing' failed to satisfy constraint: Member must have length greater than or equal to 2"}},
		"a pattern":                 {func(s *sample) { s.Alias = "a b" }, []string{"Value 'a b' at 'alias' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$"}},
		"a pattern with a line end": {func(s *sample) { s.Alias = "ab\n" }, []string{"Value 'ab\n' at 'alias' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$"}},
		"a secret":                  {func(s *sample) { s.Hidden = "hush" }, []string{"Value at 'hidden' failed to satisfy constraint: Member must have length less than or equal to 3"}},
		"a blob":                    {func(s *sample) { s.Data = []byte("12345") }, []string{"Value at 'data' failed to satisfy constraint: Member must have length less than or equal to 4"}},
		"an empty blob":             {func(s *sample) { s.Data = []byte{} }, []string{"Value at 'data' failed to satisfy constraint: Member must have length greater than or equal to 1"}},
		"a small number":            {func(s *sample) { s.Number = new(int32(1)) }, []string{"Value '1' at 'number' failed to satisfy constraint: Member must have value greater than or equal to 2"}},
		"a pointer to zero":         {func(s *sample) { s.Number = new(int32(0)) }, []string{"Value '0' at 'number' failed to satisfy constraint: Member must have value greater than or equal to 2"}},
		"a large number":            {func(s *sample) { s.Number = new(int32(10)) }, []string{"Value '10' at 'number' failed to satisfy constraint: Member must have value less than or equal to 9"}},
		"an enumeration":            {func(s *sample) { s.Colour = "red" }, []string{"Value 'red' at 'colour' failed to satisfy constraint: Member must satisfy enum value set: [RED, GREEN]"}},
		"a list of an enumeration":  {func(s *sample) { s.Colours = []colour{"RED", "BLUE"} }, []string{"Value '[RED, BLUE]' at 'colours' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [RED, GREEN]]"}},
		"many entries":              {func(s *sample) { s.Tokens = []string{"a", "b", "c"} }, []string{"Value at 'tokens' failed to satisfy constraint: Member must have length less than or equal to 2"}},
		"an invalid entry":          {func(s *sample) { s.Tokens = []string{"a", "long"} }, []string{"Value at 'tokens' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 3, Member must have length greater than or equal to 1]"}},
		"an empty entry":            {func(s *sample) { s.Names = []string{""} }, []string{"Value '[]' at 'names' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 3, Member must have length greater than or equal to 1]"}},
		"a large map":               {func(s *sample) { s.Context = map[string]string{"a": "", "b": "", "c": ""} }, []string{"Value at 'context' failed to satisfy constraint: Member must have length less than or equal to 2"}},
		"a member of a structure":   {func(s *sample) { s.Label.Name = "" }, []string{"Value null at 'label.name' failed to satisfy constraint: Member must not be null"}},
		"a member of one in a list": {func(s *sample) { s.Labels = []label{{"a", ""}, {"b", "abc"}} }, []string{"Value 'abc' at 'labels.2.member.value' failed to satisfy constraint: Member must have length less than or equal to 2"}},
		"several": {func(s *sample) { s.KeyId, s.Colour, s.Data = "", "x", []byte{} }, []string{
			"Value null at 'keyId' failed to satisfy constraint: Member must not be null",
			"Value at 'data' failed to satisfy constraint: Member must have length greater than or equal to 1",
			"Value 'x' at 'colour' failed to satisfy constraint: Member must satisfy enum value set: [RED, GREEN]",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := valid()
			tt.spoil(s)
			var got []string
			for _, v := range Of[sample]().Check(s) {
				got = append(got, v.Error())
			}
			require.Equal(t, tt.want, got)
		})
	}
}

func TestCheckDoesNotAllocateForAValidInput(t *testing.T) {
	s, shape := &sample{KeyId: "k", Data: []byte("d"), Colour: "RED"}, Of[sample]()
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if shape.Check(s) != nil {
			panic("a valid input has violations")
		}
	}))
}

func TestTheNumberAndSizeOfViolationsAreBounded(t *testing.T) {
	s := valid()
	s.Labels = slices.Repeat([]label{{strings.Repeat("é", 1<<16), strings.Repeat("v", 1<<16)}}, 60)
	violations := Of[sample]().Check(s)
	require.GreaterOrEqual(t, len(violations), maxViolations)
	require.LessOrEqual(t, len(violations), maxViolations+2)
	for _, v := range violations {
		require.Less(t, len(v.Error()), maxPrinted+200)
		require.True(t, strings.HasPrefix(v.Error(), "Value"))
		require.NotContains(t, v.Error(), "\ufffd", "the value is cut between characters")
	}
}

func TestAListThatIsTooLongIsNotWalked(t *testing.T) {
	s := valid()
	s.Labels, s.Tokens = make([]label, 61), []string{"a", "b", "long"}
	var got []string
	for _, v := range Of[sample]().Check(s) {
		got = append(got, v.Error())
	}
	require.Equal(t, []string{
		"Value at 'tokens' failed to satisfy constraint: Member must have length less than or equal to 2",
		"Value at 'labels' failed to satisfy constraint: Member must have length less than or equal to 60",
	}, got)
}

// visits is a Visitor that records its calls.
type visits []string

func (v *visits) add(name, value string) { *v = append(*v, name+"="+value) }

func (v *visits) String(name, value string)                  { v.add(name, strconv.Quote(value)) }
func (v *visits) Int(name string, value int64)               { v.add(name, strconv.FormatInt(value, 10)) }
func (v *visits) Bool(name string, value bool)               { v.add(name, strconv.FormatBool(value)) }
func (v *visits) Time(name string, value time.Time)          { v.add(name, value.Format(time.RFC3339)) }
func (v *visits) StringMap(name string, m map[string]string) { v.add(name, fmt.Sprint(m)) }
func (v *visits) BeginObject(name string)                    { v.add(name, "{") }
func (v *visits) BeginList(name string)                      { v.add(name, "[") }
func (v *visits) End()                                       { v.add("", "end") }

func TestALoggableMemberIsVisitedIfItIsPresent(t *testing.T) {
	for name, tt := range map[string]struct {
		in   *sample
		want string
	}{
		"all": {valid(), `aWSThing="ab" alias="alias/x" colour="RED" colours=[ ="GREEN" =end context=map[c:v] flag=true keyId="k"` +
			` label={ name="l" value="" =end labels=[ ={ name="a" value="b" =end =end mode="AUTO" names=[ ="n" =end number=2 on=false size=7 when=2026-03-01T15:04:05Z`},
		"none": {new(sample), `flag=false mode="AUTO" on=false`},
		"empty ones": {&sample{Number: new(int32), Colours: []colour{}, Context: map[string]string{}, Label: &label{}, Labels: []label{}, Mode: "MANUAL", Size: new(int64)},
			`colours=[ =end context=map[] flag=false label={ value="" =end labels=[ =end mode="MANUAL" number=0 on=false size=0`},
		"several elements": {&sample{Labels: []label{{"a", "1"}, {"b", "2"}, {"c", "3"}}},
			`flag=false labels=[ ={ name="a" value="1" =end ={ name="b" value="2" =end ={ name="c" value="3" =end =end mode="AUTO" on=false`},
	} {
		t.Run(name, func(t *testing.T) {
			var got, sent visits
			Of[sample]().VisitLoggableWithDefaults(tt.in, &got)
			require.Equal(t, tt.want, strings.Join(got, " "))
			Of[sample]().VisitLoggable(tt.in, &sent)
			require.Equal(t, strings.ReplaceAll(strings.ReplaceAll(tt.want, ` mode="AUTO"`, ""), ` on=false`, ""), strings.Join(sent, " "))
		})
	}
}

func TestAVisitOfAnotherTypeIsRefused(t *testing.T) {
	require.Panics(t, func() { Of[sample]().VisitLoggable(&label{}, new(visits)) })
	require.Panics(t, func() { Of[sample]().VisitLoggable(sample{}, new(visits)) })
}

func TestEraseOverwritesBlobs(t *testing.T) {
	s := valid()
	data := s.Data
	Of[sample]().Erase(s)
	require.Equal(t, []byte{0}, data)

	type inner struct{ Blob []byte }
	outer := struct {
		One, None *inner
		Value     inner
		List      []inner
	}{One: &inner{[]byte("1")}, Value: inner{[]byte("2")}, List: []inner{{[]byte("3")}, {}}}
	OfType(reflect.TypeOf(outer)).Erase(&outer)
	require.Equal(t, []byte{0, 0, 0}, slices.Concat(outer.One.Blob, outer.Value.Blob, outer.List[0].Blob))
}

func TestMembersAreFoundByName(t *testing.T) {
	shape := Of[sample]()
	require.Same(t, shape, Of[sample]())
	m, ok := shape.Member("Data")
	require.True(t, ok)
	require.Equal(t, Blob, m.Kind)
	require.True(t, m.Secret)
	_, ok = shape.Member("data")
	require.False(t, ok)
}

func TestAnInvalidTagPanics(t *testing.T) {
	for name, compile := range map[string]func(){
		"an unknown option": func() {
			Of[struct {
				A string `kms:"size=1"`
			}]()
		},
		"an unknown pattern": func() {
			Of[struct {
				A string `kms:"pattern=none"`
			}]()
		},
		"no bounds": func() {
			Of[struct {
				A string `kms:"len="`
			}]()
		},
		"empty bounds": func() {
			Of[struct {
				A string `kms:"len=.."`
			}]()
		},
		"one number": func() {
			Of[struct {
				A string `kms:"len=1"`
			}]()
		},
		"bounds of letters": func() {
			Of[struct {
				A string `kms:"len=a..b"`
			}]()
		},
		"an unknown type": func() { Of[struct{ A float64 }]() },
		"an array":        func() { Of[struct{ A [3]byte }]() },
	} {
		t.Run(name, func(t *testing.T) { require.Panics(t, compile) })
	}
}

func TestAnotherTypeIsRefused(t *testing.T) {
	require.Panics(t, func() { Of[sample]().Check(&label{}) })
}

func FuzzCheck(f *testing.F) {
	f.Add("k", "ab", "alias/x", []byte("d"), int32(2), "RED", "t", 1)
	f.Add("", "\xff", "\n", []byte{}, int32(-1), "", "", 0)
	f.Add(strings.Repeat("é", 9), "é", "", []byte(nil), int32(0), "BLUE", "long", 70)
	f.Fuzz(func(t *testing.T, keyID, thing, alias string, data []byte, number int32, c, token string, n int) {
		s := &sample{KeyId: keyID, AWSThing: thing, Alias: alias, Data: data, Number: &number, Colour: colour(c), Colours: []colour{colour(c)},
			Tokens: slices.Repeat([]string{token}, n&3), Labels: slices.Repeat([]label{{token, thing}}, n&127)}
		shape := Of[sample]()
		violations := shape.Check(s)
		// fastValid and check agree.
		require.Equal(t, shape.check(reflect.ValueOf(s).Elem(), "", nil, nil), violations)
		for _, v := range violations {
			require.Less(t, len(v.Error()), maxPrinted+300)
		}
	})
}
