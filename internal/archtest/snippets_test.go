package archtest_test

import (
	"context"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
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

// snippets finds the Go code of Markdown files that a reader could not run as it stands: every Go block is a whole
// program, or a whole file of tests, and succeeds. There are no exceptions and so no way to mark one; signatures belong
// into doc comments, and pseudo-code is a block of text. The programs of a page run in one directory, in their order: a
// later one finds the files that an earlier one made, as it does with a reader who tries one after the other.
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
			if err := run(t, page, b.code); err != nil {
				violations = append(violations, fmt.Sprintf("%s:%d: %v", b.file, b.line, err))
			}
		}
	})
	return violations
}

// run builds a program or tests against the workspace, as files of a directory outside of it, from where nothing
// internal can be imported, and runs them with nothing on standard input: a program in the directory of its page, tests in
// theirs.
func run(t *testing.T, page, code string) error {
	file, err := parser.ParseFile(token.NewFileSet(), "snippet.go", code, parser.PackageClauseOnly)
	if err != nil {
		return errors.New("is not a whole Go file")
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

func TestGoInDocumentsRunsAsItStands(t *testing.T) {
	requireNone(t, snippets)
}

func TestGoThatDoesNotRunIsSeen(t *testing.T) {
	for _, tt := range []struct {
		name, info, code string
		violation        string // "" for none
	}{
		{"a program", "go", "package main\n\nfunc main() {}\n", ""},
		{"a program that would find the repository around it", "go", "package main\n\nimport \"os\"\n\n" +
			"func main() {\n\tif _, err := os.Stat(\"go.mod\"); err == nil {\n\t\tos.Exit(1)\n\t}\n}\n", ""},
		{"a file of tests", "go", "package x_test\n\nimport \"testing\"\n\nfunc TestX(*testing.T) {}\n", ""},
		{"another language", "sh", "exit 1\n", ""},
		{"a fragment", "go", "x := 1\n", "is not a whole Go file"},
		{"a fragment with a mark", "go fragment", "x := 1\n", "is not a whole Go file"},
		{"a library", "go", "package x\n", "package x is neither a program nor a file of tests"},
		{"a program that does not compile", "go", "package main\n\nfunc main() { x }\n", "does not build: exit status 1"},
		{"a program that fails", "go", "package main\n\nfunc main() { panic(1) }\n", "does not succeed: exit status 2"},
		{"a test that fails", "go", "package x_test\n\nimport \"testing\"\n\nfunc TestX(t *testing.T) { t.Fail() }\n",
			"does not succeed: exit status 1"},
		{"a test that is skipped", "go", "package x_test\n\nimport \"testing\"\n\nfunc TestX(t *testing.T) { t.SkipNow() }\n",
			"tests nothing:"},
		{"tests that are none", "go", "package x_test\n", "tests nothing:"},
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
	err := run(t, t.TempDir(), "package main\n\nimport _ \""+module+"/internal/archtest/count\"\n\nfunc main() {}\n")

	require.ErrorContains(t, err, "use of internal package")
}
