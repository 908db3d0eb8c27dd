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

// block is a fenced block of a Markdown file. info is what follows the fence: "go", "text", "".
type block struct {
	file       string
	line       int // of the opening fence, from 1
	info, code string
}

// split returns the fenced blocks of a Markdown file, and the text without them.
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
	if open != nil { // as Markdown has it, the block reaches to the end
		blocks = append(blocks, *open)
	}
	return blocks, prose
}

func withoutCode(text string) string {
	_, prose := split("", text)
	return prose
}

// snippets finds the Go code of Markdown files that does not work. A Go block is a program, a file of
// tests, or a list of statements, which is run in a frame. Each has to build, run and succeed: there is
// no way to mark an exception. Signatures belong in doc comments, and pseudo-code in a block of text.
// The blocks of a page run in one directory, in their order, so that a later one finds the files that an
// earlier one has made, as it does for a reader who tries one after the other.
func snippets(t *testing.T, tree fs.FS) (violations []string) {
	eachText(t, tree, func(name, text string) {
		if path.Ext(name) != ".md" || isTestdata(name) {
			return
		}
		blocks, _ := split(name, text)
		page := t.TempDir()
		for _, b := range blocks {
			if language, _, _ := strings.Cut(b.info, " "); language != "go" && language != "golang" {
				continue
			}
			if err := run(t, page, b); err != nil {
				violations = append(violations, fmt.Sprintf("%s:%d: %v", b.file, b.line, err))
			}
		}
	})
	return violations
}

// run builds a block against the workspace, in a directory outside of it, where nothing internal can be
// imported, and runs it with nothing on standard input: tests in their directory, all else in that of
// the page.
func run(t *testing.T, page string, b block) error {
	code := b.code
	file, err := parser.ParseFile(token.NewFileSet(), b.file, code, parser.PackageClauseOnly)
	if err != nil {
		if code, err = frame(b); err != nil {
			return err
		}
		file = &ast.File{Name: ast.NewIdent("main")}
	}
	dir := t.TempDir()
	binary := filepath.Join(dir, "snippet")
	var source string
	var build, args []string
	switch pkg := file.Name.Name; {
	case pkg == "main":
		source, build = "snippet.go", []string{"build"}
	case strings.HasSuffix(pkg, "_test"):
		source, build, args, page = "snippet_test.go", []string{"test", "-c"}, []string{"-test.v"}, dir
	default:
		return fmt.Errorf("package %s is neither a program nor a file of tests", pkg)
	}
	source = filepath.Join(dir, source)
	require.NoError(t, os.WriteFile(source, []byte(code), 0o600))

	command := exec.CommandContext(t.Context(), "go", append(build, "-o", binary, source)...)
	command.Dir = repository
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("does not build: %w\n%s", err, output)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	command = exec.CommandContext(ctx, binary, args...)
	command.Dir = page
	output, err := command.CombinedOutput()
	if err != nil {
		return fmt.Errorf("does not succeed: %w\n%s", err, output)
	}
	if args != nil && !strings.Contains(string(output), "--- PASS") {
		return fmt.Errorf("tests nothing:\n%s", output)
	}
	return nil
}

// framePackages are the packages that statements in a frame may use, beside context, kms and log.
var framePackages = map[string]string{
	"audit":    module + "/audit",
	"aws":      "github.com/aws/aws-sdk-go-v2/aws",
	"awsapi":   module + "/awsapi",
	"awskms":   "github.com/aws/aws-sdk-go-v2/service/kms",
	"bolt":     module + "/keystore/bolt",
	"errors":   "errors",
	"fmt":      "fmt",
	"keystore": module + "/keystore",
	"os":       "os",
}

const (
	frameHead = `
func main() {
	svc, err := kms.New(kms.Config{})
	check(err)
	snippet(context.Background(), svc, []byte("correct horse battery staple"), nil)
	check(svc.Close())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func snippet(ctx context.Context, svc *kms.Service, passphrase []byte, err error) {
	{
//line `
	bodyHead = "package main\nfunc _() {\n"
)

// frame returns the program that runs a block of statements. They have ctx, svc, passphrase and err,
// which they may declare again. An error that is assigned to err ends the program, unless the next
// statement looks at it, and no variable counts as unused, so that a short snippet needs no lines for
// either.
func frame(b block) (program string, err error) {
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
	code := b.code
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

	program = "package main\n\nimport (\n\t\"context\"\n\t\"log\"\n\t\"" + module + "\"\n"
	for name, imported := range framePackages {
		if used[name] {
			program += "\t" + name + " \"" + imported + "\"\n"
		}
	}
	return program + ")\n" + frameHead + fmt.Sprintf("%s:%d\n%s\n\t}\n}\n", b.file, b.line+1, code), nil
}

// setsErr reports whether a statement assigns to err.
func setsErr(statement ast.Stmt) bool {
	s, ok := statement.(*ast.AssignStmt)
	return ok && slices.ContainsFunc(s.Lhs, func(e ast.Expr) bool { return isErr(e) })
}

// readsErr reports whether a statement looks at the err of the statement before it.
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

func TestGoInDocumentsRunsAsItStands(t *testing.T) {
	requireNone(t, snippets)
}

func TestGoThatDoesNotRunIsSeen(t *testing.T) {
	const missing = "_, err = svc.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: \"alias/missing\"})\n"
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
		t.Run(tt.name, func(t *testing.T) {
			firstLines := func(t *testing.T, tree fs.FS) (violations []string) {
				for _, v := range snippets(t, tree) {
					first, _, _ := strings.Cut(v, "\n")
					violations = append(violations, first)
				}
				return violations
			}
			doc := map[string]string{"docs/x.md": "# X\n\n```" + tt.info + "\n" + tt.code + "```\n\nEnd.\n"}
			if tt.violation == "" {
				requireFound(t, firstLines, doc)
			} else {
				requireFound(t, firstLines, doc, "docs/x.md:3: "+tt.violation)
			}
		})
	}
}

func TestProgramsOfAPageBuildUponOneAnother(t *testing.T) {
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

func TestGoInDocumentsHasNothingInternal(t *testing.T) {
	err := run(t, t.TempDir(), block{
		file: "x.md", code: "package main\n\nimport _ \"" + module + "/internal/archtest/count\"\n\nfunc main() {}\n",
	})

	require.ErrorContains(t, err, "use of internal package")
}
