// Package secrettest checks that a value does not show its secrets when it is printed, logged or
// encoded.
package secrettest

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// RequireHidden fails the test if value, or the value it points to, shows one of the secrets: by
// itself or in a field of another value, with any fmt verb, in a log, an encoding or a test diff. A
// secret must have at least eleven bytes that do not occur by chance.
func RequireHidden(t testing.TB, value any, secrets ...[]byte) {
	t.Helper()
	if shown := Shown(value, secrets...); len(shown) != 0 {
		t.Fatalf("%T shows its secret to %s", value, strings.Join(shown, ", ")) // only names: the text would show the secret again
	}
}

// Shown returns the names of the formats, loggers and encoders with which value shows one of the
// secrets, as defined by RequireHidden.
func Shown(value any, secrets ...[]byte) []string {
	var shown []string
	byFormat := map[string][]string{}
	for _, v := range guises(value) {
		for name, r := range renderings(v) {
			forms, ok := byFormat[r.format]
			if !ok {
				for _, s := range secrets {
					forms = append(forms, formsOf(s, r.format)...)
				}
				slices.Sort(forms)
				forms = slices.Compact(forms)
				byFormat[r.format] = forms
			}
			if slices.ContainsFunc(forms, func(form string) bool { return strings.Contains(r.text, form) }) {
				shown = append(shown, name)
			}
		}
	}
	return shown
}

// guises returns value in the places in which it can be printed: by itself, in fields and in
// collections. If it is a pointer, the value that it points to is among them, because a caller can
// dereference it by mistake.
func guises(value any) []any {
	type holder struct{ unexported any }
	type Holder struct{ Exported any }
	guises := []any{value, holder{value}, &holder{value}, Holder{value}, []any{value}, map[string]any{"key": value}}
	if v := reflect.ValueOf(value); v.Kind() == reflect.Pointer {
		field := reflect.New(reflect.StructOf([]reflect.StructField{{Name: "Exported", Type: v.Type().Elem()}})).Elem()
		field.Field(0).Set(v.Elem())
		guises = append(guises, v.Elem().Interface(), field.Interface(), field.Addr().Interface())
	}
	return guises
}

type rendering struct{ text, format string }

func renderings(v any) map[string]rendering {
	all := make(map[string]rendering)
	for _, verb := range "vTtbcdoOqxXUeEfFgGsp" {
		for _, flags := range []string{"", "+", "#", "# ", "0", "200", "-200.100"} {
			format := "%" + flags + string(verb)
			all[format] = rendering{fmt.Sprintf(format, v), format}
		}
	}
	add := func(name, text string) { all[name] = rendering{text, ""} }
	add("Sprint", fmt.Sprint(v))
	add("Errorf", fmt.Errorf("failed: %v", v).Error())

	var text, lines, packed bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Info("message", "value", v)
	slog.New(slog.NewJSONHandler(&lines, nil)).Info("message", "value", v)
	add("slog text", text.String())
	add("slog JSON", lines.String())
	encoded, err := json.Marshal(v)
	add("json", string(encoded)+fmt.Sprint(err))
	encoded, err = xml.Marshal(v)
	add("xml", string(encoded)+fmt.Sprint(err))
	err = gob.NewEncoder(&packed).Encode(v)
	add("gob", packed.String()+fmt.Sprint(err))

	var diff recorder
	assert.Equal(&diff, v, "another")
	add("testify", diff.String())
	return all
}

type recorder struct{ strings.Builder }

func (r *recorder) Errorf(format string, args ...any) { fmt.Fprintf(r, format, args...) }

// formsOf returns the secret's first bytes in common encodings, and as format prints them.
func formsOf(secret []byte, format string) []string {
	forms := []string{new(big.Int).SetBytes(secret).String()}
	for i := range 3 { // base64 encodes groups of three bytes: one of the pieces begins at a group
		piece := secret[i : i+9]
		list := strings.Trim(fmt.Sprint(piece), "[]")
		forms = append(forms, string(piece), list, strings.ReplaceAll(list, " ", ","),
			base64.StdEncoding.EncodeToString(piece), hex.EncodeToString(piece), fmt.Sprintf("% x", piece),
			strings.TrimPrefix(strings.Trim(fmt.Sprintf("%#v", piece), "}"), "[]byte{"))
		if format != "" && !strings.ContainsAny(format, "Tp") { // %T and %p do not print the bytes
			forms = append(forms, strings.Trim(fmt.Sprintf(format, piece), "[]{}\"` "))
		}
	}
	return forms
}
