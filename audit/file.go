package audit

import (
	"errors"
	"io/fs"
	"os"
)

// OpenFile opens a file for [JSONLines], to append to, and makes it with mode 0600 if there is none. A line at its end that a
// process which was cut off has left unfinished is ended first, unless the file may be written but not read. The caller closes
// the file.
func OpenFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := endLine(file, os.Open); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// endLine reads through a descriptor of its own: were file opened for reading too, a named pipe whose reader is gone would
// not break, but fill up and block.
func endLine(file *os.File, open func(name string) (*os.File, error)) error {
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return err
	}
	written, err := open(file.Name())
	if errors.Is(err, fs.ErrPermission) { // one who may append need not be one who may read
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
