package iam

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// An Error is why a policy is refused: every problem that Parse found, in the order of the text.
type Error struct {
	// Problems has at least one element, and at most 100.
	Problems []Problem
}

// A Problem is one mistake in a policy.
type Problem struct {
	Kind ProblemKind

	// Element is the name of the element that the problem is about, such as "Action" or "Condition".
	// It is empty if the text as a whole is not a policy. If an element is missing, it is that
	// element, without its negation: "Action" if there is neither Action nor NotAction.
	Element string

	// Statement is the index of the statement, or -1 if the problem is outside of statements.
	Statement int

	// Path leads to the place from the top of the document:
	// Statement[2].Condition.StringEquals["aws:username"][0]. It is empty for the document itself, and
	// has no line ends.
	Path string

	// Line and Column are where the value or name at fault begins. Both count from 1; a column is one
	// character.
	Line, Column int

	// Message says what is wrong, in English. It quotes at most 100 bytes of the policy.
	Message string
}

// A ProblemKind classifies problems for programs that answer with messages of their own.
type ProblemKind uint8

const (
	// NotJSON: the text is not one JSON value in valid UTF-8.
	NotJSON ProblemKind = iota + 1
	// TooLarge: a limit of this package is exceeded.
	TooLarge
	// WrongType: a value has another JSON type than its element requires.
	WrongType
	// UnknownElement: an object has a name that the policy language does not have.
	UnknownElement
	// DuplicateElement: an object has a name twice, or a policy that must not has two equal Sids.
	DuplicateElement
	// MissingElement: a required element is missing.
	MissingElement
	// ConflictingElements: two elements exclude each other, such as Action and NotAction, or
	// NotPrincipal and the Effect Allow.
	ConflictingElements
	// ForbiddenElement: the kind of policy cannot have the element: an identity policy has no
	// Principal.
	ForbiddenElement
	// InvalidPrincipal: a principal has no valid form.
	InvalidPrincipal
	// UnknownOperator: a condition operator does not exist.
	UnknownOperator
	// InvalidValue: any other value that the policy language does not have, such as a Version, an
	// Effect, or a date.
	InvalidValue
)

var problemKinds = [...]string{
	NotJSON: "NotJSON", TooLarge: "TooLarge", WrongType: "WrongType", UnknownElement: "UnknownElement", DuplicateElement: "DuplicateElement",
	MissingElement: "MissingElement", ConflictingElements: "ConflictingElements", ForbiddenElement: "ForbiddenElement",
	InvalidPrincipal: "InvalidPrincipal", UnknownOperator: "UnknownOperator", InvalidValue: "InvalidValue",
}

// String returns the name of the constant.
func (k ProblemKind) String() string {
	if k == 0 || int(k) >= len(problemKinds) {
		return "ProblemKind(" + strconv.Itoa(int(k)) + ")"
	}
	return problemKinds[k]
}

// Error returns the problems, one on each line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("iam: the policy is not valid")
	for _, p := range e.Problems {
		b.WriteString("\n")
		b.WriteString(p.String())
	}
	return b.String()
}

// String returns the problem with its position: "3:15: Statement[0].Effect: ...".
func (p Problem) String() string {
	if p.Path == "" {
		return fmt.Sprintf("%d:%d: %s", p.Line, p.Column, p.Message)
	}
	return fmt.Sprintf("%d:%d: %.300s: %s", p.Line, p.Column, p.Path, p.Message)
}

// maxProblems bounds what a hostile policy makes a program print.
const maxProblems = 100

// A path is a place in a document. It becomes text only if there is a problem.
type path struct {
	parent *path
	name   string // of a member
	index  int    // of an item; -1 for a member
}

func (p *path) member(name string) *path { return &path{parent: p, name: name, index: -1} }

func (p *path) item(i int) *path { return &path{parent: p, index: i} }

func (p *path) String() string {
	if p == nil {
		return ""
	}
	parent := p.parent.String()
	switch {
	case p.index >= 0:
		return parent + "[" + strconv.Itoa(p.index) + "]"
	case !isWord(p.name):
		return parent + "[" + fmt.Sprintf("%.100q", p.name) + "]"
	case parent == "":
		return p.name
	}
	return parent + "." + p.name
}

// statement returns the index of the statement that the place is in, or -1.
func (p *path) statement() int {
	for ; p != nil; p = p.parent {
		if p.parent != nil && p.parent.parent == nil && p.parent.name == "Statement" && p.index >= 0 {
			return p.index
		}
	}
	return -1
}

func isWord(s string) bool {
	return s != "" && len(s) <= 100 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// A position is a place in a text. It moves forward without reading the text from the beginning,
// for a policy has thousands of places.
type position struct {
	text         string
	offset       int
	line, column int // from 0
}

// at returns the line and the column of an offset, from 1.
func (p *position) at(offset int) (line, column int) {
	if offset < p.offset {
		p.offset, p.line, p.column = 0, 0, 0
	}
	passed := p.text[p.offset:offset]
	p.offset = offset
	if i := strings.LastIndexByte(passed, '\n'); i >= 0 {
		p.line += strings.Count(passed, "\n")
		p.column = 0
		passed = passed[i+1:]
	}
	p.column += utf8.RuneCountInString(passed)
	return p.line + 1, p.column + 1
}
