package bolt

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pocketkms/kms/internal/securefile"
	"github.com/pocketkms/kms/keystore"
)

// Replace puts a new file in the place of the one at path, which need not exist, and may be damaged.
// create is called with the name of a new, empty file beside it, which it opens, fills, checks and
// closes. If it returns nil, that file is renamed to path, and the renaming is made durable.
// Otherwise, and if the process is killed before, the file at path is what it was.
//
// From before create until after the renaming, the file at path is locked: no Backend can open it.
// The error is ErrLocked if one has it open. What a killed process leaves is an empty file at path,
// if there was none, and the file beside it, whose name begins with a period and ends with
// ".new" and digits.
func Replace(ctx context.Context, path string, create func(temporary string) error) (err error) {
	lockCtx, cancel := context.WithTimeoutCause(ctx, lockTimeout, keystore.ErrLocked)
	defer cancel()
	f, created, err := openLocked(lockCtx, path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer func() {
		if err != nil && created {
			_ = os.Remove(path)
		}
		_ = unlockAndClose(f) // perhaps for the second time
	}()
	// Of a symbolic link, the file that it leads to is replaced.
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(target), "."+filepath.Base(target)+".new*")
	if err != nil {
		return classify(err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temporary.Name())
		}
	}()
	if err := temporary.Close(); err != nil {
		return err
	}
	if err := create(temporary.Name()); err != nil {
		return err
	}
	unlockToReplace(f)
	if err := os.Rename(temporary.Name(), target); err != nil {
		return err
	}
	created = false // it is the new file now, even if its name may not be durable yet
	return securefile.SyncDir(filepath.Dir(target))
}
