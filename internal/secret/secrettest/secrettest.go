// Package secrettest tells whether a value shows the secrets it holds to those who print, log or encode it.
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

// RequireHidden fails the test if value, or what it points to, shows a secret: alone or in an unexported field, under every
// fmt verb, in logs, encodings and test diffs. A secret has eleven bytes or more, and does not occur by chance.
func RequireHidden(t testing.TB, value any, secrets ...[]byte) {
	t.Helper()
	if shown := Shown(value, secrets...); len(shown) != 0 {
		t.Fatalf("%T shows its secret to %s", value, strings.Join(shown, ", ")) // by name alone: the text would show it again
	}
}

// Shown returns by what means value shows one of the secrets, as RequireHidden understands it.
func Shown(value any, secrets ...[]byte) []string {
	var shown []string
	for _, v := range guises(value) {
		for name, r := range renderings(v) {
			for _, s := range secrets {
				if shows(r.text, s, r.format) {
					shown = append(shown, name)
				}
			}
		}
	}
	return shown
}

// guises returns value in the places where a printer may meet it. What it points to is taken by value, as a
// careless dereference would.
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

// shows reports whether text holds the secret's first bytes in a usual encoding, or as the format would print them.
func shows(text string, secret []byte, format string) bool {
	forms := []string{new(big.Int).SetBytes(secret).String()}
	for i := range 3 { // base64 works in groups of three: one of these pieces begins with a group, wherever the secret does
		piece := secret[i : i+9]
		list := strings.Trim(fmt.Sprint(piece), "[]")
		forms = append(forms, string(piece), list, strings.ReplaceAll(list, " ", ","),
			base64.StdEncoding.EncodeToString(piece), hex.EncodeToString(piece), fmt.Sprintf("% x", piece),
			strings.TrimPrefix(strings.Trim(fmt.Sprintf("%#v", piece), "}"), "[]byte{"))
		if format != "" && !strings.ContainsAny(format, "Tp") { // those two print nothing of the bytes
			forms = append(forms, strings.Trim(fmt.Sprintf(format, piece), "[]{}\"` "))
		}
	}
	return slices.ContainsFunc(forms, func(form string) bool { return strings.Contains(text, form) })
}
