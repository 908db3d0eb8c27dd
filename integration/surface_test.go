// Package integration_test holds this module against the real thing: the AWS SDK for Go, which the core does not import.
package integration_test

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/pocketkms/kms"
	"github.com/stretchr/testify/require"
)

// Every operation of ours is one of the SDK's and has the SDK's members, all of them and no more, down to the last
// structure and enumeration value. Only the Go types may differ: our members are plain values where the SDK's are pointers.
func TestOperationsHaveTheMembersOfTheSDK(t *testing.T) {
	ours, sdk := operations(t, reflect.TypeFor[*kms.Service]()), operations(t, reflect.TypeFor[*awskms.Client]())
	require.NotEmpty(t, ours)
	for name, op := range ours {
		t.Run(name, func(t *testing.T) {
			want, ok := sdk[name]
			require.True(t, ok, "the SDK has no such operation")
			requireSameShape(t, "input", op.input, want.input)
			requireSameShape(t, "output", op.output, want.output)
		})
	}
	absent := slices.Sorted(maps.Keys(sdk))
	absent = slices.DeleteFunc(absent, func(name string) bool { _, ok := ours[name]; return ok })
	require.Equal(t, missing, absent, "the list of the operations that are missing")
}

// missing are the operations of the SDK that the service does not have, and missingExceptions the
// exceptions that only they return. A name is removed when it arrives.
var (
	missing = []string{
		"ConnectCustomKeyStore", "CreateCustomKeyStore", "DeleteCustomKeyStore", "DescribeCustomKeyStores",
		"DisconnectCustomKeyStore", "UpdateCustomKeyStore",
	}
	missingExceptions = []string{
		"CloudHsmClusterInUseException", "CloudHsmClusterInvalidConfigurationException", "CloudHsmClusterNotActiveException",
		"CloudHsmClusterNotFoundException", "CloudHsmClusterNotRelatedException", "CustomKeyStoreHasCMKsException",
		"CustomKeyStoreInvalidStateException", "CustomKeyStoreNameInUseException",
		"IncorrectTrustAnchorException", "XksKeyAlreadyInUseException",
		"XksKeyInvalidConfigurationException", "XksKeyNotFoundException", "XksProxyIncorrectAuthenticationCredentialException",
		"XksProxyInvalidConfigurationException", "XksProxyInvalidResponseException", "XksProxyUriEndpointInUseException",
		"XksProxyUriInUseException", "XksProxyUriUnreachableException", "XksProxyVpcEndpointServiceInUseException",
		"XksProxyVpcEndpointServiceInvalidConfigurationException", "XksProxyVpcEndpointServiceNotFoundException",
	}
)

// unmodeled are the exceptions that the API returns and the SDK has no types for.
var unmodeled = []string{"AccessDeniedException", "ThrottlingException", "ValidationException"}

func TestExceptionsAreThoseOfTheSDK(t *testing.T) {
	ours := enumConstants(t, "../errors.go")["ErrorCode"]
	var sdk, absent []string
	for id := range awskms.TypeRegistry.Entries {
		_, name, _ := strings.Cut(id, "#")
		if err, ok := awskms.TypeRegistry.Entries[id].New().(error); ok {
			require.ErrorContains(t, err, name)
			sdk = append(sdk, name)
		}
	}
	require.NotEmpty(t, sdk)
	for _, name := range sdk {
		if !slices.Contains(ours, name) {
			absent = append(absent, name)
		}
	}
	require.ElementsMatch(t, missingExceptions, absent, "the list of the exceptions that are missing")
	for _, code := range ours {
		require.True(t, slices.Contains(sdk, code) != slices.Contains(unmodeled, code), "%s is no exception of the API", code)
	}
}

// Every enumeration of the SDK's operations is one of ours, by name. TestOperationsHaveTheMembersOfTheSDK
// compares their values.
func TestEnumerationsAreThoseOfTheSDK(t *testing.T) {
	enums := func(service reflect.Type) map[string]reflect.Type {
		found := map[string]reflect.Type{}
		for name, op := range operations(t, service) {
			if !slices.Contains(missing, name) {
				collectEnums(op.input, found)
				collectEnums(op.output, found)
			}
		}
		return found
	}
	ours, sdk := enums(reflect.TypeFor[*kms.Service]()), enums(reflect.TypeFor[*awskms.Client]())
	require.ElementsMatch(t, slices.Collect(maps.Keys(sdk)), slices.Collect(maps.Keys(ours)))
}

// Reflection sees what Values returns but not which constants there are, so those are read from the source.
func TestEnumValuesHaveOneConstantEach(t *testing.T) {
	constants := enumConstants(t, "../enums.go")
	enums := map[string]reflect.Type{}
	for _, op := range operations(t, reflect.TypeFor[*kms.Service]()) {
		collectEnums(op.input, enums)
		collectEnums(op.output, enums)
	}
	require.NotEmpty(t, enums)
	for name, enum := range enums {
		require.ElementsMatch(t, values(enum), constants[name], name)
	}
}

type operation struct{ input, output reflect.Type }

// operations returns the methods of service that are operations of the API, by name. Those are the ones that take an
// XInput as the second argument; such a method must be named X, take a context before and return an XOutput and an error.
func operations(t *testing.T, service reflect.Type) map[string]operation {
	found := map[string]operation{}
	for m := range service.Methods() {
		if m.Type.NumIn() < 3 || m.Type.NumOut() != 2 || !strings.HasSuffix(structName(m.Type.In(2)), "Input") {
			continue
		}
		require.Equal(t, m.Name+"Input", structName(m.Type.In(2)))
		require.Equal(t, reflect.TypeFor[context.Context](), m.Type.In(1), m.Name)
		require.Equal(t, m.Name+"Output", structName(m.Type.Out(0)), m.Name)
		require.Equal(t, reflect.TypeFor[error](), m.Type.Out(1), m.Name)
		found[m.Name] = operation{m.Type.In(2).Elem(), m.Type.Out(0).Elem()}
	}
	return found
}

// structName is the name of the structure that t points to, or empty.
func structName(t reflect.Type) string {
	if t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct {
		return ""
	}
	return t.Elem().Name()
}

func requireSameShape(t *testing.T, path string, ours, sdk reflect.Type) {
	ours, sdk = pointee(ours), pointee(sdk)
	require.Equal(t, sdk.Kind(), ours.Kind(), path)
	switch {
	case sdk == reflect.TypeFor[time.Time]():
		require.Equal(t, sdk, ours, path)
	case sdk.Kind() == reflect.Struct:
		want := members(sdk)
		got := members(ours)
		require.ElementsMatch(t, slices.Collect(maps.Keys(want)), slices.Collect(maps.Keys(got)), path)
		for name := range want {
			requireSameShape(t, path+"."+name, got[name], want[name])
		}
	case sdk.Kind() == reflect.Slice:
		requireSameShape(t, path+"[]", ours.Elem(), sdk.Elem())
	case sdk.Kind() == reflect.Map:
		requireSameShape(t, path+" key", ours.Key(), sdk.Key())
		requireSameShape(t, path+" value", ours.Elem(), sdk.Elem())
	default: // a scalar or an enumeration
		require.Equal(t, sdk.Name(), ours.Name(), path)
		require.ElementsMatch(t, values(sdk), values(ours), path)
	}
}

func pointee(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

// members are the API's members of a structure, by name.
func members(structure reflect.Type) map[string]reflect.Type {
	found := map[string]reflect.Type{}
	for f := range structure.Fields() {
		if f.IsExported() && f.Name != "ResultMetadata" { // the SDK's own, not the API's
			found[f.Name] = f.Type
		}
	}
	return found
}

// values returns what enum's method Values returns, as strings; nil for a type that is no enumeration.
func values(enum reflect.Type) []string {
	method, ok := enum.MethodByName("Values")
	if !ok {
		return nil
	}
	var found []string
	for _, v := range method.Func.Call([]reflect.Value{reflect.Zero(enum)})[0].Seq2() {
		found = append(found, v.String())
	}
	return found
}

// collectEnums adds to found the enumerations that t is made of, by name.
func collectEnums(t reflect.Type, found map[string]reflect.Type) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		collectEnums(t.Elem(), found)
	case reflect.Struct:
		for _, member := range members(t) {
			collectEnums(member, found)
		}
	case reflect.String:
		if values(t) != nil {
			found[t.Name()] = t
		}
	}
}

// enumConstants returns the values of a source file's string constants, by the name of their type.
func enumConstants(t *testing.T, file string) map[string][]string {
	source, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	require.NoError(t, err)
	found := map[string][]string{}
	ast.Inspect(source, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			typ, ok := spec.Type.(*ast.Ident)
			if !ok { // a variable
				return true
			}
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			require.NoError(t, err)
			found[typ.Name] = append(found[typ.Name], text)
		}
		return true
	})
	return found
}
