//go:build !unix || solaris || aix

package securefile

// SyncDir does nothing: this system cannot make the names of new files durable.
func SyncDir(string) error { return nil }
