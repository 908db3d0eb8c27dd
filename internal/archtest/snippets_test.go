package archtest_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A block is a fenced block of a Markdown file. info is the text after the opening fence: "go",
// "text", "".
type block struct {
	file       string
	line       int // of the opening fence, from 1
	info, code string
}

// split returns the fenced blocks of a Markdown file, and the rest of its text.
func split(name, text string) (blocks []block, prose string) {
	var open *block
	var fence string
	n := 0
	for line := range strings.Lines(text) {
		n++
		trimmed := strings.TrimSpace(line)
		switch {
		case open == nil && strings.HasPrefix(trimmed, "```"):
			info := strings.TrimLeft(trimmed, "`")
			fence = trimmed[:len(trimmed)-len(info)]
			open = &block{file: name, line: n, info: strings.TrimSpace(info)}
		case open == nil:
			prose += line
		case trimmed == fence:
			blocks = append(blocks, *open)
			open = nil
		default:
			open.code += line
		}
	}
	if open != nil { // in Markdown, such a block extends to the end
		blocks = append(blocks, *open)
	}
	return blocks, prose
}

func withoutCode(text string) string {
	_, prose := split("", text)
	return prose
}

// snippets finds Go blocks of Markdown files that do not work. A Go block is a program, a test
// file, or a list of statements, which run in a frame. Each must build, run and succeed, without
// exception. Signatures belong in doc comments, and pseudo-code in text blocks. The blocks of a
// page run in one directory, in order, so that one finds the files that earlier ones have created,
// as for a reader who tries them in order.
func snippets(t *testing.T, tree fs.FS) (violations []string) {
	var all []*snippet
	eachText(t, tree, func(name, text string) {
		if path.Ext(name) != ".md" || isTestdata(name) {
			return
		}
		blocks, _ := split(name, text)
		page := t.TempDir()
		for _, b := range blocks {
			if language, _, _ := strings.Cut(b.info, " "); language == "go" || language == "golang" {
				all = append(all, &snippet{block: b, page: page})
			}
		}
	})
	build(t, all)
	for _, s := range all {
		err := s.err
		if err == nil {
			err = s.run(t)
		}
		if err != nil {
			violations = append(violations, fmt.Sprintf("%s:%d: %v", s.file, s.line, err))
		}
	}
	return violations
}

// A snippet is a Go block. It runs with an empty standard input: a test in its own directory, and
// everything else in the directory of the page.
type snippet struct {
	block
	page   string
	binary string // with args; empty if the snippet was not built
	args   []string
	err    error // why not
}

// build builds snippets against the workspace, in directories outside of it, where internal
// packages cannot be imported. To link takes longer than all the rest, so that lists of statements
// share a program, unless one of them does not compile.
func build(t *testing.T, all []*snippet) {
	var framed []*snippet
	for _, s := range all {
		file, err := parser.ParseFile(token.NewFileSet(), s.file, s.code, parser.PackageClauseOnly)
		if err != nil {
			framed = append(framed, s)
			continue
		}
		switch pkg := file.Name.Name; {
		case pkg == "main":
			s.binary, s.err = goBuild(t, map[string]string{"snippet.go": s.code}, "build")
		case strings.HasSuffix(pkg, "_test"):
			s.args = []string{"-test.v"}
			s.binary, s.err = goBuild(t, map[string]string{"snippet_test.go": s.code}, "test", "-c")
			s.page = filepath.Dir(s.binary)
		default:
			s.err = fmt.Errorf("package %s is neither a program nor a file of tests", pkg)
		}
	}
	framed = slices.DeleteFunc(framed, func(s *snippet) bool {
		_, s.err = frame(s.block, 0)
		return s.err != nil
	})
	if err := buildFramed(t, framed); err != nil {
		for _, s := range framed {
			s.err = buildFramed(t, []*snippet{s})
		}
	}
}

// buildFramed builds one program of statements in frames.
func buildFramed(t *testing.T, all []*snippet) error {
	if len(all) == 0 {
		return nil
	}
	sources := map[string]string{}
	names := make([]string, len(all))
	for i, s := range all {
		code, err := frame(s.block, i)
		require.NoError(t, err)
		names[i] = fmt.Sprintf("snippet%d", i)
		sources[names[i]+".go"] = code
	}
	sources["main.go"] = frameMain + strings.Join(names, ", ") + "}\n"
	binary, err := goBuild(t, sources, "build")
	for i, s := range all {
		s.binary, s.args = binary, []string{fmt.Sprint(i)}
	}
	return err
}

// goBuild runs the go command on files with this code.
func goBuild(t *testing.T, code map[string]string, command ...string) (binary string, err error) {
	dir := t.TempDir()
	binary = filepath.Join(dir, "snippet")
	args := append(command, "-ldflags=-w", "-o", binary)
	for name, text := range code {
		source := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(source, []byte(text), 0o600))
		args = append(args, source)
	}
	build := exec.CommandContext(t.Context(), "go", args...)
	build.Dir = repository
	if output, err := build.CombinedOutput(); err != nil {
		return binary, fmt.Errorf("does not build: %w\n%s", err, output)
	}
	return binary, nil
}

func (s *snippet) run(t *testing.T) error {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, s.binary, s.args...)
	command.Dir = s.page
	output, err := command.CombinedOutput()
	if err != nil {
		return fmt.Errorf("does not succeed: %w\n%s", err, output)
	}
	if slices.Contains(s.args, "-test.v") && !strings.Contains(string(output), "--- PASS") {
		return fmt.Errorf("tests nothing:\n%s", output)
	}
	return nil
}

// framePackages are the packages that statements in a frame can use besides context and kms.
var framePackages = map[string]string{
	"audit":     module + "/audit",
	"aws":       "github.com/aws/aws-sdk-go-v2/aws",
	"awsapi":    module + "/awsapi",
	"awsclient": module + "/awsclient",
	"awskms":    "github.com/aws/aws-sdk-go-v2/service/kms",
	"bolt":      module + "/keystore/bolt",
	"bytes":     "bytes",
	"crypto":    "crypto",
	"envelope":  module + "/envelope",
	"errors":    "errors",
	"fmt":       "fmt",
	"io":        "io",
	"keystore":  module + "/keystore",
	"log":       "log",
	"os":        "os",
	"strings":   "strings",
}

// frameMain is the program of frames, up to their names.
const frameMain = `package main

import (
	"context"
	"log"
	"os"
	"strconv"

	"` + module + `"
)

func main() {
	svc, err := kms.New(kms.Config{})
	check(err)
	i, err := strconv.Atoi(os.Args[1])
	check(err)
	snippets[i](context.Background(), svc, []byte("correct horse battery staple"), nil)
	check(svc.Close())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

var snippets = []func(context.Context, *kms.Service, []byte, error){`

const bodyHead = "package main\nfunc _() {\n"

// frame returns a file of frameMain's program with a block of statements, in the function snippetN.
// They can use ctx, svc, passphrase and err, or redeclare them. Snippets can leave out error checks
// and uses of variables: an error that is assigned to err ends the program, unless the next
// statement reads err, and unused variables are allowed.
func frame(b block, n int) (code string, err error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, b.file, bodyHead+b.code+"\n}\n", 0)
	if err != nil || len(file.Decls) != 1 {
		return "", errors.New("is neither a Go file nor a list of statements")
	}
	body := file.Decls[0].(*ast.FuncDecl).Body

	used, checks := map[string]bool{}, []int{}
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok {
				used[x.Name] = true
			}
		case *ast.BlockStmt:
			for i, statement := range n.List {
				if setsErr(statement) && (i+1 == len(n.List) || !readsErr(n.List[i+1])) {
					checks = append(checks, files.Position(statement.End()).Offset-len(bodyHead))
				}
			}
		}
		return true
	})
	code = b.code
	slices.Sort(checks)
	for _, at := range slices.Backward(checks) {
		code = code[:at] + "; check(err)" + code[at:]
	}
	for _, statement := range body.List {
		if s, ok := statement.(*ast.AssignStmt); ok && s.Tok == token.DEFINE {
			for _, variable := range s.Lhs {
				if name, ok := variable.(*ast.Ident); ok && name.Name != "_" {
					code += "\n_ = " + name.Name
				}
			}
		}
	}

	imports := ""
	for name, imported := range framePackages {
		if used[name] {
			imports += "\t" + name + " \"" + imported + "\"\n"
		}
	}
	return fmt.Sprintf("package main\n\nimport (\n\t\"context\"\n\t\"%s\"\n%s)\n\n"+
		"func snippet%d(ctx context.Context, svc *kms.Service, passphrase []byte, err error) {\n\t{\n//line %s:%d\n%s\n\t}\n}\n",
		module, imports, n, b.file, b.line+1, code), nil
}

// setsErr reports whether a statement assigns to err.
func setsErr(statement ast.Stmt) bool {
	s, ok := statement.(*ast.AssignStmt)
	return ok && slices.ContainsFunc(s.Lhs, func(e ast.Expr) bool { return isErr(e) })
}

// readsErr reports whether a statement reads the err that the statement before it has set.
func readsErr(statement ast.Stmt) bool {
	switch s := statement.(type) {
	case *ast.AssignStmt:
		return slices.ContainsFunc(s.Rhs, mentionsErr)
	case *ast.IfStmt:
		if s.Init != nil {
			return readsErr(s.Init)
		}
	}
	return mentionsErr(statement)
}

func mentionsErr[N ast.Node](node N) (found bool) {
	ast.Inspect(node, func(n ast.Node) bool {
		found = found || isErr(n)
		return !found
	})
	return found
}

func isErr(node ast.Node) bool {
	name, ok := node.(*ast.Ident)
	return ok && name.Name == "err"
}

func TestGoSnippetsWork(t *testing.T) {
	requireNone(t, snippets)
}

func TestAGoSnippetThatDoesNotWorkIsFound(t *testing.T) {
	const missing = "_, err = svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: \"alias/missing\"})\n"
	// Of two trees: snippets that compile share a program.
	type pages struct {
		files      map[string]string
		violations []string
	}
	builds, fails := pages{files: map[string]string{}}, pages{files: map[string]string{}}
	for _, tt := range []struct {
		name, info, code string
		violation        string // "" for none
	}{
		{"a program", "go", "package main\n\nfunc main() {}\n", ""},
		{"a program that would find the repository around it", "go", "package main\n\nimport \"os\"\n\n" +
			"func main() {\n\tif _, err := os.Stat(\"go.mod\"); err == nil {\n\t\tos.Exit(1)\n\t}\n}\n", ""},
		{"a file of tests", "go", "package x_test\n\nimport \"testing\"\n\nfunc TestX(*testing.T) {}\n", ""},
		{"another language", "sh", "exit 1\n", ""},
		{"statements", "go", "key, err := svc.EnsureKey(ctx, \"alias/x\", nil)\nfmt.Println(key.KeyId, passphrase)\n", ""},
		{"statements that declare what the frame has", "go", "svc, err := kms.New(kms.Config{})\nerr = svc.Close()\n", ""},
		{"a variable that is not used", "go", "x := 1 // why\n", ""},
		{"an error", "go", missing, "does not succeed: exit status 1"},
		{"an error before the last statement", "go", missing + "_, err = svc.ListKeys(ctx, nil)\n", "does not succeed: exit status 1"},
		{"an error in a block", "go", "for range 1 {\n" + missing + "}\n", "does not succeed: exit status 1"},
		{"an error that the next statement hides", "go", missing + "if err := ctx.Err(); err != nil {\n\tpanic(err)\n}\n",
			"does not succeed: exit status 1"},
		{"an error that is looked at", "go", missing + "if !errors.Is(err, kms.NotFoundException) {\n\tpanic(err)\n}\n", ""},
		{"statements that do not compile", "go", "svc.Nothing()\n", "does not build: exit status 1"},
		{"statements with a mark", "go ignore", "svc.Nothing()\n", "does not build: exit status 1"},
		{"statements with another package", "go", "strings.ToUpper(\"x\")\n", "does not build: exit status 1"},
		{"a declaration", "go", "func f() {}\n", "is neither a Go file nor a list of statements"},
		{"statements that leave the frame", "go", "}\n\nfunc f() {\n", "is neither a Go file nor a list of statements"},
		{"a library", "go", "package x\n", "package x is neither a program nor a file of tests"},
		{"a program that does not compile", "go", "package main\n\nfunc main() { x }\n", "does not build: exit status 1"},
		{"a program that fails", "go", "package main\n\nfunc main() { panic(1) }\n", "does not succeed: exit status 2"},
		{"a test that fails", "go", "package x_test\n\nimport \"testing\"\n\nfunc TestX(t *testing.T) { t.Fail() }\n",
			"does not succeed: exit status 1"},
		{"a test that is skipped", "go", "package x_test\n\nimport \"testing\"\n\nfunc TestX(t *testing.T) { t.SkipNow() }\n",
			"tests nothing:"},
		{"no tests", "go", "package x_test\n", "tests nothing:"},
	} {
		page := "docs/" + tt.name + ".md"
		tree := &builds
		if strings.HasPrefix(tt.violation, "does not build") {
			tree = &fails
		}
		tree.files[page] = "# X\n\n```" + tt.info + "\n" + tt.code + "```\n\nEnd.\n"
		if tt.violation != "" {
			tree.violations = append(tree.violations, page+":3: "+tt.violation)
		}
	}
	fails.files["docs/good statements beside bad ones.md"] = "```go\nkey, err := svc.EnsureKey(ctx, \"alias/x\", nil)\n```\n"
	firstLines := func(t *testing.T, tree fs.FS) (violations []string) {
		for _, v := range snippets(t, tree) {
			first, _, _ := strings.Cut(v, "\n")
			violations = append(violations, first)
		}
		return violations
	}
	requireFound(t, firstLines, builds.files, builds.violations...)
	requireFound(t, firstLines, fails.files, fails.violations...)
}

func TestSnippetsOfAPageShareADirectory(t *testing.T) {
	program := func(work string) string {
		return "```go\npackage main\n\nimport \"os\"\n\nfunc main() {\n\tif " + work + " != nil {\n\t\tos.Exit(1)\n\t}\n}\n```\n"
	}
	makes, needs := program(`os.Mkdir("made", 0o700)`), program(`os.Chdir("made")`)
	failures := func(t *testing.T, tree fs.FS) (lines []string) {
		for _, v := range snippets(t, tree) {
			where, _, _ := strings.Cut(v, ": ")
			lines = append(lines, where)
		}
		return lines
	}
	requireFound(t, failures, map[string]string{"a.md": makes + needs, "b.md": makes})
	requireFound(t, failures, map[string]string{"a.md": needs + makes, "b.md": needs}, "a.md:1", "b.md:1")
}

func TestSnippetsCannotImportInternalPackages(t *testing.T) {
	_, err := goBuild(t, map[string]string{
		"snippet.go": "package main\n\nimport _ \"" + module + "/internal/archtest/count\"\n\nfunc main() {}\n",
	}, "build")

	require.ErrorContains(t, err, "use of internal package")
}
