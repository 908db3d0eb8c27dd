package archtest_test

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write docs/api.txt")

// published are the directories of the modules that have an API.
var published = []string{".", "awsclient", "otel"}

// docs/api.txt has the exported API of every package, one line for each name, so that a commit that
// changes the API shows it.
func TestTheAPIIsTheOneThatIsWrittenDown(t *testing.T) {
	const file = repository + "/docs/api.txt"
	var lines []string
	for _, dir := range published {
		lines = append(lines, moduleAPI(t, filepath.Join(repository, dir))...)
	}
	slices.Sort(lines)
	text := strings.Join(slices.Compact(lines), "\n") + "\n"
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	}
	written, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(written), text, "if the change is intended: go test ./internal/archtest -run TheAPI -update")
}

// moduleAPI returns the API of the packages of a module that others can import. It reads what the
// compiler has exported of them.
func moduleAPI(t *testing.T, dir string) (lines []string) {
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-export", "-f", "{{.ImportPath}}\t{{.Export}}\t{{.Name}}\t{{.DepOnly}}", "./...")
	list.Dir = dir
	var stderr bytes.Buffer
	list.Stderr = &stderr
	output, err := list.Output()
	require.NoError(t, err, "%s", &stderr)
	exports := map[string]string{}
	var paths []string
	for line := range strings.Lines(string(output)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		require.Len(t, f, 4)
		exports[f[0]] = f[1]
		if f[2] != "main" && f[3] == "false" && !strings.Contains(f[0], "/internal/") && !strings.Contains(f[0], "/examples/") {
			paths = append(paths, f[0])
		}
	}
	require.NotEmpty(t, paths)
	from := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exports[path])
	})
	for _, path := range paths {
		pkg, err := from.Import(path)
		require.NoError(t, err)
		lines = append(lines, packageAPI(pkg)...)
	}
	return lines
}

// packageAPI returns a line for each exported constant, variable, function, type, field and method.
func packageAPI(pkg *types.Package) (lines []string) {
	name := "kms" + strings.TrimPrefix(pkg.Path(), module)
	add := func(format string, args ...any) {
		lines = append(lines, name+": "+fmt.Sprintf(format, args...))
	}
	write := func(t types.Type) string {
		return types.TypeString(t, func(other *types.Package) string {
			switch {
			case other == pkg:
				return ""
			case other.Path() == module || strings.HasPrefix(other.Path(), module+"/"):
				return "kms" + strings.TrimPrefix(other.Path(), module)
			}
			return other.Path()
		})
	}
	method := func(receiver string, f *types.Func) {
		add("method (%s) %s%s", receiver, f.Name(), strings.TrimPrefix(write(f.Type()), "func"))
	}
	for _, name := range pkg.Scope().Names() {
		object := pkg.Scope().Lookup(name)
		if !object.Exported() {
			continue
		}
		switch object := object.(type) {
		case *types.Const:
			add("const %s %s = %s", name, write(object.Type()), object.Val().ExactString())
		case *types.Var:
			add("var %s %s", name, write(object.Type()))
		case *types.Func:
			add("func %s%s", name, strings.TrimPrefix(write(object.Type()), "func"))
		case *types.TypeName:
			typeAPI(object, add, write, method)
		}
	}
	return lines
}

func typeAPI(object *types.TypeName, add func(string, ...any), write func(types.Type) string, method func(string, *types.Func)) {
	name := object.Name()
	if object.IsAlias() {
		add("type %s = %s", name, write(types.Unalias(object.Type())))
		return
	}
	named := object.Type().(*types.Named)
	head := write(named)
	switch under := named.Underlying().(type) {
	case *types.Struct:
		add("type %s struct", head)
		for field := range under.Fields() {
			if field.Embedded() && field.Exported() {
				add("type %s struct: embedded %s", name, write(field.Type()))
			} else if field.Exported() {
				add("type %s struct: %s %s", name, field.Name(), write(field.Type()))
			} else if !types.Comparable(field.Type()) {
				add("type %s struct: is not comparable", name)
			}
		}
	case *types.Interface:
		add("type %s interface", head)
		for m := range under.Methods() {
			if m.Exported() {
				add("type %s interface: %s%s", name, m.Name(), strings.TrimPrefix(write(m.Type()), "func"))
			} else {
				add("type %s interface: has unexported methods", name)
			}
		}
		for e := range under.EmbeddedTypes() {
			if _, ok := e.(*types.Named); !ok {
				add("type %s interface: %s", name, write(e))
			}
		}
	default:
		add("type %s %s", head, write(under))
	}
	if types.IsInterface(named) {
		return
	}
	values := types.NewMethodSet(named)
	for selection := range types.NewMethodSet(types.NewPointer(named)).Methods() {
		f := selection.Obj().(*types.Func)
		if !f.Exported() || fromExported(named, selection) {
			continue
		}
		receiver := name
		if values.Lookup(f.Pkg(), f.Name()) == nil {
			receiver = "*" + name
		}
		method(receiver, f)
	}
}

// fromExported reports whether a method is that of an exported embedded field, which has a line.
func fromExported(named *types.Named, selection *types.Selection) bool {
	return len(selection.Index()) > 1 && named.Underlying().(*types.Struct).Field(selection.Index()[0]).Exported()
}

func TestEveryKindOfNameIsInTheAPI(t *testing.T) {
	const source = `package p
		const Limit = 8
		var Err error
		func New[T any](size int, rest ...T) (*Box[T], error) { return nil, nil }
		type Box[T any] struct { Size int; hidden []T; Embedded; inner }
		func (Box[T]) Get() T { panic(0) }
		func (*Box[T]) Put(T) {}
		func (Box[T]) secret() {}
		type Embedded struct{}
		func (Embedded) Promoted() {}
		type inner struct{}
		func (*inner) Close() error { return nil }
		type Name = string
		type State string
		type Number interface { ~int | ~uint }
		type Store interface { Load(key string) []byte; closed() }
		type unseen int`
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "p.go", source, 0)
	require.NoError(t, err)
	pkg, err := (&types.Config{}).Check(module+"/p", fset, []*ast.File{file}, nil)
	require.NoError(t, err)
	require.ElementsMatch(t, []string{
		"kms/p: const Limit untyped int = 8",
		"kms/p: var Err error",
		"kms/p: func New[T any](size int, rest ...T) (*Box[T], error)",
		"kms/p: type Box[T any] struct",
		"kms/p: type Box struct: Size int",
		"kms/p: type Box struct: is not comparable",
		"kms/p: type Box struct: embedded Embedded",
		"kms/p: method (Box) Get() T",
		"kms/p: method (*Box) Put(T)",
		"kms/p: method (*Box) Close() error",
		"kms/p: type Embedded struct",
		"kms/p: method (Embedded) Promoted()",
		"kms/p: type Name = string",
		"kms/p: type State string",
		"kms/p: type Number interface",
		"kms/p: type Number interface: ~int | ~uint",
		"kms/p: type Store interface",
		"kms/p: type Store interface: Load(key string) []byte",
		"kms/p: type Store interface: has unexported methods",
	}, packageAPI(pkg))
}
