package archtest_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// layers has the packages that each package may import, as described in CONTRIBUTING.md. A name
// stands for a directory and everything below it that has no row of its own, including nested
// modules; "." is the root package.
var layers = map[string]string{
	"internal":            "internal",
	"internal/spec":       "crypto",
	"internal/ciphertext": "internal",
	"internal/jsontext":   "",
	"internal/keydb":      "internal internal/spec internal/ciphertext crypto keystore audit iam",
	"crypto":              "crypto internal",
	"keystore":            "keystore internal",
	"audit":               "audit internal/jsontext",
	"iam":                 "",

	".": "internal/keydb internal/spec internal/ciphertext crypto keystore audit iam internal",

	"awsapi":    ". crypto keystore audit internal internal/jsontext",
	"seed":      ". internal/spec internal",
	"kmstest":   ". awsapi seed crypto keystore audit internal/ciphertext internal",
	"envelope":  ". internal",
	"awsclient": ". awsapi envelope",
	"otel":      ". keystore audit",

	"cmd":         ". awsapi envelope otel seed kmstest crypto keystore audit iam internal",
	"examples":    ". awsapi awsclient envelope seed kmstest crypto keystore audit",
	"integration": ". awsapi awsclient envelope seed kmstest crypto keystore audit internal",
}

// storeFiles are the files of the root package that may import keystore. All others use keydb.
var storeFiles = []string{"kms.go"}

// exceptions are the files that may import a package against the layers.
var exceptions = map[string]string{
	// A Backend below keydb that delays the visibility of changes. It asks keydb which records
	// belong to keys and aliases, so that only keydb knows how records are named.
	"kmstest/consistency.go": "internal/keydb",
}

// bottom are the packages whose tests must follow the layers, too.
var bottom = []string{"internal", "internal/spec", "internal/ciphertext", "internal/jsontext", "internal/keydb", "crypto", "keystore", "audit"}

// testingPackage matches packages that only tests and packages of test helpers may import.
var testingPackage = regexp.MustCompile(`(^|/)(testing|testify|goleak|porcupine|wycheproof|\w*test|testenv|testutil)(/|$)`)

// layer returns the longest name in layers that contains a directory, or "" if there is none.
func layer(dir string) string {
	for d := dir; ; d = path.Dir(d) {
		if _, ok := layers[d]; ok && (d != "." || dir == ".") {
			return d
		}
		if d == "." {
			return ""
		}
	}
}

func imports(t *testing.T, tree fs.FS) (violations []string) {
	eachText(t, tree, func(name, text string) {
		if path.Ext(name) != ".go" || isTestdata(name) {
			return
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly)
		require.NoError(t, err)
		here := layer(path.Dir(name))
		if here == "" {
			violations = append(violations, name+" is in no layer")
			return
		}
		isTest := strings.HasSuffix(name, "_test.go")
		helpsTests := strings.HasSuffix(file.Name.Name, "test") || file.Name.Name == "testenv" || here == "kmstest" || here == "integration"
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			there, ours := "", imported == module || strings.HasPrefix(imported, module+"/")
			if ours {
				there = layer(path.Clean("./" + strings.TrimPrefix(imported, module)))
			}
			mayTest := isTest || helpsTests || there == "kmstest" // the layers say who may import kmstest
			if !mayTest && testingPackage.MatchString(imported) {
				violations = append(violations, fmt.Sprintf("%s imports %s, which is for tests", name, imported))
			}
			excepted := there != "" && exceptions[name] == there
			free := isTest && !slices.Contains(bottom, here)
			if ours && !free && !slices.Contains(strings.Fields(layers[here]), there) && here != there && !excepted {
				violations = append(violations, fmt.Sprintf("%s imports %s against the layers", name, imported))
			}
			if here == "." && there == "keystore" && !isTest && !slices.Contains(storeFiles, name) {
				violations = append(violations, fmt.Sprintf("%s imports %s around keydb", name, imported))
			}
		}
	})
	return violations
}

func TestImportsFollowTheLayers(t *testing.T) {
	requireNone(t, imports)
}

// plan finds packages that are in layers, or named in CONTRIBUTING.md, and do not exist.
func plan(t *testing.T, tree fs.FS) (violations []string) {
	named := slices.Collect(maps.Keys(layers))
	text, err := fs.ReadFile(tree, "CONTRIBUTING.md")
	require.NoError(t, err)
	for _, match := range regexp.MustCompile("`([a-z]+)/`").FindAllStringSubmatch(string(text), -1) {
		named = append(named, match[1])
	}
	slices.Sort(named)
	for _, name := range slices.Compact(named) {
		if _, err := fs.Stat(tree, name); err != nil {
			violations = append(violations, name+" is in the plan and does not exist")
		}
	}
	return violations
}

func TestEveryPackageOfThePlanExists(t *testing.T) {
	requireNone(t, plan)
}

func TestAPackageThatDoesNotExistIsFound(t *testing.T) {
	files := map[string]string{"CONTRIBUTING.md": "`audit/`, `attic/`"}
	for name := range layers {
		files[name+"/x.go"] = ""
	}
	delete(files, "./x.go")
	delete(files, "seed/x.go")
	requireFound(t, plan, files, "attic is in the plan and does not exist", "seed is in the plan and does not exist")
}

func TestAnImportAgainstTheLayersIsFound(t *testing.T) {
	const against, forTests, around = " against the layers", ", which is for tests", " around keydb"
	for _, tt := range []struct {
		file, imported string
		violation      string // "" for an import that is allowed
	}{
		{"crypto/aes.go", module, against},
		{"crypto/aes.go", module + "/keystore", against},
		{"crypto/aes.go", module + "/internal/secret", ""},
		{"crypto/aes_test.go", module, against},
		{"keystore/seal.go", module + "/crypto", against},
		{"keystore/etcd/etcd.go", module + "/keystore", ""},
		{"keystore/etcd/etcd.go", module + "/audit", against},
		{"audit/event.go", module + "/internal/secret", against},
		{"iam/policy.go", module, against},
		{"iam/principal.go", module + "/internal/arn", against},
		{"iam/bench_test.go", module + "/internal/benchtest", ""},
		{"authorize.go", module + "/iam", ""},
		{"internal/secret/secret.go", module + "/crypto", against},
		{"internal/secret/secret.go", module, against},
		{"kms.go", module + "/crypto", ""},
		{"kms.go", module + "/keystore/bolt", ""},
		{"kms.go", module + "/internal/keydb", ""},
		{"kms.go", module + "/internal/testhook", ""},
		{"aliases.go", module + "/internal/keydb", ""},
		{"aliases.go", module + "/keystore", around},
		{"aliases.go", module + "/keystore/bolt", around},
		{"aliases_test.go", module + "/keystore", ""},
		{"awsapi/http.go", module + "/internal/keydb", against},
		{"kmstest/kmstest.go", module + "/internal/keydb", against},
		{"kmstest/consistency.go", module + "/internal/keydb", ""},
		{"kmstest/consistency.go", module + "/cmd/kms", against},
		{"seed/consistency.go", module + "/internal/keydb", against},
		{"kmstest/faults.go", module + "/internal/ciphertext", ""},
		{"internal/keydb/key.go", module + "/keystore", ""},
		{"internal/keydb/key.go", module, against},
		{"internal/keydb/key_test.go", module, against},
		{"internal/spec/spec.go", module + "/crypto", ""},
		{"internal/spec/spec.go", module + "/internal/keydb", against},
		{"internal/uuid/uuid.go", module + "/internal/spec", against},
		{"kms.go", module + "/awsapi", against},
		{"kms.go", module + "/awsclient", against},
		{"kms.go", module + "/cmd/kms", against},
		{"kms.go", module + "/examples/encrypt", against},
		{"kms_test.go", module + "/kmstest", ""},
		{"awsapi/http.go", module, ""},
		{"awsapi/http.go", module + "/seed", against},
		{"seed/seed.go", module, ""},
		{"seed/seed.go", module + "/kmstest", against},
		{"kms.go", module + "/seed", against},
		{"cmd/kms/main.go", module + "/awsapi", ""},
		{"cmd/kms/main.go", module + "/seed", ""},
		{"examples/testing/main.go", module + "/kmstest", ""},

		{"envelope/header.go", module, ""},
		{"envelope/header.go", module + "/internal/secret", ""},
		{"envelope/header.go", module + "/internal/keydb", against},
		{"envelope/header.go", module + "/crypto", against},
		{"kms.go", module + "/envelope", against},

		{"kms.go", "testing", forTests},
		{"kms.go", "testing/fstest", forTests},
		{"kms.go", "net/http/httptest", forTests},
		{"kms.go", "crypto/mlkem/mlkemtest", forTests},
		{"kms.go", "github.com/stretchr/testify/require", forTests},
		{"kms.go", "go.uber.org/goleak", forTests},
		{"keystore/bolt/bolt.go", module + "/keystore/keystoretest", forTests},
		{"keystore/bolt/bolt_test.go", module + "/keystore/keystoretest", ""},
		{"keystore/keystoretest/suite.go", "testing", ""},
		{"kmstest/kmstest.go", "testing", ""},
		{"kmstest/conformance/conformance.go", "github.com/stretchr/testify/require", ""},
		{"integration/vectors.go", "testing", ""},
	} {
		t.Run(tt.file+" imports "+tt.imported, func(t *testing.T) {
			pkg := path.Base(path.Join("kms", path.Dir(tt.file)))
			files := map[string]string{tt.file: "package " + pkg + "\nimport _ \"" + tt.imported + "\"\n"}
			if tt.violation == "" {
				requireFound(t, imports, files)
			} else {
				requireFound(t, imports, files, tt.file+" imports "+tt.imported+tt.violation)
			}
		})
	}
	t.Run("a package outside of the layers", func(t *testing.T) {
		requireFound(t, imports, map[string]string{"attic/x.go": "package attic\n"}, "attic/x.go is in no layer")
	})
}

// names finds packages whose names say nothing, and modules whose path is not that of their
// directory.
func names(t *testing.T, tree fs.FS) (violations []string) {
	empty := []string{"util", "utils", "common", "helper", "helpers", "base", "misc"}
	eachText(t, tree, func(name, text string) {
		switch {
		case isTestdata(name):
		case path.Base(name) == "go.mod":
			want := path.Join(module, path.Dir(name))
			if first, _, _ := strings.Cut(text, "\n"); first != "module "+want {
				violations = append(violations, fmt.Sprintf("%s is not of module %s", name, want))
			}
		case path.Ext(name) == ".go":
			file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.PackageClauseOnly)
			require.NoError(t, err)
			pkg := strings.TrimSuffix(file.Name.Name, "_test")
			if slices.Contains(empty, pkg) || slices.Contains(empty, path.Base(path.Dir(name))) {
				violations = append(violations, name+" is of a package whose name says nothing")
			}
		}
	})
	return violations
}

func TestPackageAndModuleNames(t *testing.T) {
	requireNone(t, names)
}

func TestAPackageNameThatSaysNothingIsFound(t *testing.T) {
	requireFound(t, names, map[string]string{
		"internal/common/c.go":          "package shared\n",
		"crypto/hash/h.go":              "package util\n",
		"crypto/hash/h_test.go":         "package helpers_test\n",
		"crypto/aes.go":                 "package crypto\n",
		"crypto/testdata/base/in.go":    "package base\n",
		"go.mod":                        "module " + module + "\n",
		"keystore/etcd/go.mod":          "module " + module + "/keystore/etcd\n",
		"keystore/postgres/go.mod":      "module " + module + "/postgres\n",
		"keystore/postgres/postgres.go": "package postgres\n",
	},
		"internal/common/c.go is of a package whose name says nothing",
		"crypto/hash/h.go is of a package whose name says nothing",
		"crypto/hash/h_test.go is of a package whose name says nothing",
		"keystore/postgres/go.mod is not of module "+module+"/keystore/postgres",
	)
}
