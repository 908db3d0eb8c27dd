// Count reads the output of `go test -json` from standard input, prints what `go test` would print,
// and ends with the numbers of tests and subtests that passed, failed and were skipped. A package
// that fails without a failed test counts as one failure. The exit status is 1 if anything failed
// or was skipped, or if no test passed.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

func main() {
	if !count(os.Stdin, os.Stdout) {
		os.Exit(1)
	}
}

// An event is one line of `go test -json`. See `go doc test2json`.
type event struct {
	Action, Package, Test, Output string
}

func count(in io.Reader, out io.Writer) (allPassed bool) {
	type test struct{ pkg, name string }
	output := map[test]string{} // of tests that have not ended
	broken := map[string]bool{} // packages in which a test failed
	var passed, failed, skipped int
	for d := json.NewDecoder(in); ; {
		var e event
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			fmt.Fprintf(out, "this is not what go test -json prints: %v\n", err)
			return false
		}
		t := test{e.Package, e.Test}
		switch ofTest := e.Test != ""; {
		case e.Action == "build-output", e.Action == "output" && !ofTest:
			if e.Output != "PASS\n" { // the line "ok" follows
				fmt.Fprint(out, e.Output)
			}
		case e.Action == "output":
			output[t] += e.Output
		case e.Action == "pass" && ofTest:
			passed++
			delete(output, t)
		case e.Action == "skip" && ofTest:
			skipped++
			fmt.Fprint(out, output[t])
			delete(output, t)
		case e.Action == "fail" && ofTest:
			failed++
			broken[e.Package] = true
			fmt.Fprint(out, output[t])
			delete(output, t)
		case e.Action == "fail" && !broken[e.Package]:
			failed++
		}
	}
	for t, o := range output { // their process ended before them
		fmt.Fprintf(out, "%s of %s did not end:\n%s", t.name, t.pkg, o)
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	return passed > 0 && failed == 0 && skipped == 0
}
