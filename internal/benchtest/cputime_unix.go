//go:build unix

package benchtest

import (
	"syscall"
	"time"
)

// cpuTime returns the processor time that the program has used itself, or 0 if it is not known.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()) // the kernel only guesses how much is of which
}
