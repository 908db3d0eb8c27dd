package archtest_test

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"testing"
)

// The brackets keep each expression from matching itself.
var (
	marker      = regexp.MustCompile(`\b(TO[D]O|FIX[M]E|XX[X]|HAC[K])\b`)
	machinePath = regexp.MustCompile(`(^|[^\w.$})-])/(home|Users|root|work|workspace)/`)
)

// text finds markers of unfinished work, and paths that exist only on one machine.
func text(t *testing.T, tree fs.FS) (violations []string) {
	eachText(t, tree, func(name, text string) {
		if isTestdata(name) {
			return
		}
		n := 0
		for line := range strings.Lines(text) {
			n++
			if m := marker.FindString(line); m != "" {
				violations = append(violations, fmt.Sprintf("%s:%d: %s", name, n, m))
			}
			if machinePath.MatchString(line) {
				violations = append(violations, fmt.Sprintf("%s:%d: a path of one machine", name, n))
			}
		}
	})
	return violations
}

func TestTextHasNoMarkersAndNoMachinePaths(t *testing.T) {
	requireNone(t, text)
}

func TestMarkersAndMachinePathsAreFound(t *testing.T) {
	todo, home, work := "TO"+"DO", "/ho"+"me/alice/kms", "/wo"+"rk/kms"
	requireFound(t, text, map[string]string{
		"a.go":           "package a\n\n// " + todo + ": finish\n",
		"b.md":           "Run `" + home + "/kms`.\n",
		".ci/run":        "cd " + work + "\n" + work + "\n",
		"c.md":           "https://example.com" + home + " and role" + work + " and ." + work + " and MASTO" + todo + "N\n",
		"testdata/d.txt": todo + "\n",
		"binary":         "\x00" + todo,
		".git/HEAD":      todo,
	},
		"a.go:3: "+todo,
		"b.md:1: a path of one machine",
		".ci/run:1: a path of one machine",
		".ci/run:2: a path of one machine",
	)
}

var (
	codeSpan = regexp.MustCompile("`[^`\n]*`")
	link     = regexp.MustCompile(`\]\(([^()\s]+)[^()]*\)|(?m)^\[[^\]]+\]:\s*(\S+)`)
	scheme   = regexp.MustCompile(`^[a-z][a-z0-9+.-]*:`)
)

// links finds relative links in Markdown files whose target does not exist in the repository.
func links(t *testing.T, tree fs.FS) (violations []string) {
	eachText(t, tree, func(name, text string) {
		if path.Ext(name) != ".md" || isTestdata(name) {
			return
		}
		for _, m := range link.FindAllStringSubmatch(codeSpan.ReplaceAllString(withoutCode(text), ""), -1) {
			target, _, _ := strings.Cut(m[1]+m[2], "#")
			if target == "" || scheme.MatchString(target) {
				continue
			}
			if _, err := fs.Stat(tree, path.Join(path.Dir(name), target)); err != nil {
				violations = append(violations, name+" links to "+target)
			}
		}
	})
	return violations
}

func TestLinksHaveTargets(t *testing.T) {
	requireNone(t, links)
}

func TestADeadLinkIsFound(t *testing.T) {
	requireFound(t, links, map[string]string{
		"README.md": "[a](docs/a.md) [b](docs/b.md#part) [c](https://example.com/c.md) [d](#d) [e](LICENSE \"title\")\n" +
			"[docs](docs) `[f](f.md)`\n\n```text\n[g](g.md)\n```\n\n[h]: h.md\n[i]: docs/a.md\n",
		"docs/a.md": "[up](../README.md) [out](../../README.md) ![picture](p.png)\n",
	},
		"README.md links to docs/b.md",
		"README.md links to LICENSE",
		"README.md links to h.md",
		"docs/a.md links to ../../README.md",
		"docs/a.md links to p.png",
	)
}
