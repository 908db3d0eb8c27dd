//go:build unix && !solaris && !aix

package securefile

import "os"

// SyncDir makes the names of new files in a directory durable.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
