package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// File is a [Sink] that appends events to a file, one line of JSON each, as [JSONLines] does. It is
// a [Syncer] and a [Borrower].
type File struct {
	path  string
	lines jsonLines // its lock guards file too
	file  *os.File
}

var (
	_ Sink     = (*File)(nil)
	_ Syncer   = (*File)(nil)
	_ Borrower = (*File)(nil)
)

// OpenFile opens the file at path to append events to it, and creates it with mode 0600 if it does
// not exist. If a process that was killed has left a line without an end, OpenFile ends it, unless
// the file may be written but not read. The path may be that of a named pipe, if somebody reads it.
// Close the File after the service that it is the sink of.
func OpenFile(path string) (*File, error) {
	file, err := openAppend(path)
	if err != nil {
		return nil, err
	}
	if err := terminateLastLine(file, os.Open); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &File{path: path, file: file, lines: jsonLines{w: file}}, nil
}

// Record appends an event. The operating system has it then; see [File.Sync].
func (f *File) Record(ctx context.Context, e *Event) error { return f.lines.Record(ctx, e) }

// BorrowsEvents returns true.
func (f *File) BorrowsEvents() bool { return true }

// Sync waits until what was recorded is on the disk.
func (f *File) Sync(context.Context) error {
	f.lines.mu.Lock()
	file := f.file
	f.lines.mu.Unlock()
	err := syncFile(file)
	if errors.Is(err, os.ErrClosed) { // by Reopen, which syncs it
		return nil
	}
	return err
}

// Reopen opens the path again and closes the file that was open: call it after the file was
// renamed, to rotate logs. Each event is in one of the two. If the path cannot be opened, events go
// on to the file that is open.
func (f *File) Reopen() error {
	file, err := openAppend(f.path)
	if err != nil {
		return err
	}
	before, err := f.replace(file)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	return errors.Join(syncFile(before), before.Close())
}

// replace makes events go to file, and returns the file that they went to. It looks at the last line
// under the lock: if both are the same file, Record may be writing that line.
func (f *File) replace(file *os.File) (before *os.File, err error) {
	f.lines.mu.Lock()
	defer f.lines.mu.Unlock()
	if err := terminateLastLine(file, os.Open); err != nil {
		return nil, err
	}
	before, f.file = f.file, file
	f.lines.w, f.lines.torn = file, false
	return before, nil
}

// Close syncs and closes the file.
func (f *File) Close() error {
	f.lines.mu.Lock()
	defer f.lines.mu.Unlock()
	return errors.Join(syncFile(f.file), f.file.Close())
}

// syncFile syncs a regular file. A pipe or a terminal has nothing to sync, which some systems
// report as an error.
func syncFile(file *os.File) error {
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	return file.Sync()
}

func openAppend(path string) (*os.File, error) {
	flags := os.O_WRONLY | os.O_APPEND | os.O_CREATE
	before, err := os.Stat(path)
	if err == nil && before.Mode()&fs.ModeNamedPipe != 0 {
		flags |= syscall.O_NONBLOCK // without it, to open a pipe waits for a reader
	}
	file, err := os.OpenFile(path, flags, 0o600)
	if errors.Is(err, syscall.ENXIO) {
		return nil, fmt.Errorf("%s is a named pipe that nobody reads: start its reader first", path)
	}
	if err != nil {
		return nil, err
	}
	if before == nil { // the file is as durable as its name in the directory
		err = syncDirectory(filepath.Dir(path))
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func syncDirectory(path string) error {
	d, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) { // who may write into a directory need not be able to read it
		return nil
	}
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) || errors.Is(err, fs.ErrPermission) {
		err = nil // not every file system syncs directories
	}
	return errors.Join(err, d.Close())
}

// terminateLastLine reads through a descriptor of its own: were file open for reading too, a named
// pipe whose reader has gone would not break, but fill up and block.
func terminateLastLine(file *os.File, open func(name string) (*os.File, error)) error {
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return err
	}
	written, err := open(file.Name())
	if errors.Is(err, fs.ErrPermission) { // who may append need not be able to read
		return nil
	}
	if err != nil {
		return err
	}
	defer written.Close()
	var last [1]byte
	if _, err := written.ReadAt(last[:], info.Size()-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err = file.WriteString("\n")
	return err
}
