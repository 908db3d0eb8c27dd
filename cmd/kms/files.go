package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/pocketkms/kms/internal/securefile"
)

// A conversion makes the content of a file of that of another.
type conversion struct {
	// rename returns the path of the new file of a directory.
	rename func(path string) (string, error)
	// bound returns the path that the encryption context of a file of a directory has.
	bound func(path string) string
	copy  func(ctx context.Context, dst io.Writer, src io.Reader, pairs map[string]string) error
}

// A tree is what --in names: a file, or the files and directories below a directory. Paths are
// relative to its root and have slashes.
type tree struct {
	root        *os.Root // nil for standard input
	isDirectory bool
	directories []entry
	files       []entry
	bytes       int64 // of all files; -1 if not known
}

type entry struct {
	path string
	mode fs.FileMode // permissions
}

// list returns what --in names. It refuses a directory with anything but files and directories:
// whoever decrypts it would miss the rest.
func (s *fileSettings) list() (*tree, error) {
	if s.in == "-" {
		return &tree{bytes: -1, files: []entry{{"-", 0o600}}}, nil
	}
	info, err := os.Stat(s.in)
	if err != nil {
		return nil, fmt.Errorf("--in: %w", err)
	}
	if !info.IsDir() {
		t := &tree{bytes: -1, files: []entry{{s.in, info.Mode().Perm()}}}
		if info.Mode().IsRegular() {
			t.bytes = info.Size()
		}
		return t, nil
	}
	switch _, taken := s.context[pathPair]; {
	case s.out == "-":
		return nil, usageError("--in is a directory, and --out has to be one, too")
	case taken:
		return nil, usageError("--context " + pathPair + " is the path of each file if --in is a directory")
	case isWithin(s.out, info):
		return nil, usageError("--out is in the directory that --in names")
	}
	root, err := os.OpenRoot(s.in)
	if err != nil {
		return nil, fmt.Errorf("--in: %w", err)
	}
	t := &tree{root: root, isDirectory: true}
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		switch {
		case err != nil:
			return err
		case d.IsDir():
			t.directories = append(t.directories, entry{name, info.Mode().Perm()})
		case d.Type().IsRegular():
			t.files = append(t.files, entry{name, info.Mode().Perm()})
			t.bytes += info.Size()
		default:
			return fmt.Errorf("%s is neither a file nor a directory", name)
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("--in: %s: %w", s.in, err), root.Close())
	}
	return t, nil
}

// isWithin reports whether path, of which the last parts need not exist, is in a directory, or is
// that directory.
func isWithin(path string, directory fs.FileInfo) bool {
	path, err := filepath.Abs(path)
	if err != nil {
		return false
	}
	for {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real
		}
		if info, err := os.Stat(path); err == nil && os.SameFile(info, directory) {
			return true
		}
		parent := filepath.Dir(path)
		if parent == path {
			return false
		}
		path = parent
	}
}

func (t *tree) Close() error {
	if t.root == nil {
		return nil
	}
	return t.root.Close()
}

// open opens a file of the tree.
func (t *tree) open(p *program, path string) (io.ReadCloser, error) {
	switch {
	case t.root != nil:
		return t.root.Open(path)
	case path == "-":
		return io.NopCloser(p.stdin), nil
	}
	return os.Open(path)
}

// A fileReport is the result of kms encrypt and kms decrypt as JSON.
type fileReport struct {
	Out   string `json:"out"`
	Files int    `json:"files"`
	Bytes int64  `json:"bytes"` // read
}

// convertFiles converts the files of a tree.
func (p *program) convertFiles(ctx context.Context, s *fileSettings, c *conversion, t *tree) (err error) {
	bar := p.byteProgress(t.bytes)
	defer bar.Exit()
	report := fileReport{Out: s.out}
	convert := func(e entry, dst io.Writer, pairs map[string]string) error {
		src, err := t.open(p, e.path)
		if err != nil {
			return err
		}
		defer src.Close()
		counted := &countingReader{src: src, ctx: ctx, bar: bar}
		if err := c.copy(ctx, dst, counted, pairs); err != nil {
			return err
		}
		report.Files, report.Bytes = report.Files+1, report.Bytes+counted.n
		return nil
	}
	switch {
	case s.out == "-":
		if err := convert(t.files[0], p.stdout, s.context); err != nil {
			return fmt.Errorf("%s: %w", s.in, err)
		}
		return nil
	case t.isDirectory:
		err = s.convertDirectory(c, t, convert)
	default:
		err = s.convertFile(t.files[0], convert)
	}
	if err != nil {
		return err
	}
	_ = bar.Exit()
	if !t.isDirectory {
		return p.report(s.asJSON, report, "%s: %d bytes read", report.Out, report.Bytes)
	}
	return p.report(s.asJSON, report, "%s: %d files, %d bytes read", report.Out, report.Files, report.Bytes)
}

// convertFile converts one file. If --out is a directory, that is a mistake.
func (s *fileSettings) convertFile(e entry, convert func(entry, io.Writer, map[string]string) error) error {
	out := filepath.Clean(s.out) // "directory/" has the name directory
	root, err := os.OpenRoot(filepath.Dir(out))
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	defer root.Close()
	name := filepath.Base(out)
	if err := checkNew(root, name, s.force); err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	err = writeFile(root, name, e.mode, s.force, func(w io.Writer) error { return convert(e, w, s.context) })
	if err != nil {
		return fmt.Errorf("%s: %w", s.in, err)
	}
	return nil
}

// convertDirectory converts all files of a directory into another one. It looks for what would fail
// before it begins.
func (s *fileSettings) convertDirectory(c *conversion, t *tree, convert func(entry, io.Writer, map[string]string) error) error {
	if err := os.MkdirAll(s.out, t.directories[0].mode|0o700); err != nil { // the first is the root
		return fmt.Errorf("--out: %w", err)
	}
	root, err := os.OpenRoot(s.out)
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	defer root.Close()
	names := make([]string, len(t.files))
	for i, e := range t.files {
		if names[i], err = c.rename(e.path); err == nil {
			err = checkNew(root, names[i], s.force)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(s.in, e.path), err)
		}
	}
	for _, d := range t.directories {
		if err := root.MkdirAll(d.path, d.mode|0o700); err != nil {
			return fmt.Errorf("--out: %w", err)
		}
	}
	for i, e := range t.files {
		pairs := maps.Clone(s.context)
		if pairs == nil {
			pairs = make(map[string]string, 1)
		}
		pairs[pathPair] = c.bound(e.path)
		err := writeFile(root, names[i], e.mode, s.force, func(w io.Writer) error { return convert(e, w, pairs) })
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(s.in, e.path), err)
		}
	}
	return nil
}

// checkNew returns an error if a file exists that may not be replaced, or cannot be.
func checkNew(root *os.Root, name string, replace bool) error {
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s exists, and is not a file", filepath.Join(root.Name(), name))
	case !replace:
		return fmt.Errorf("%s: %w: --force replaces it", filepath.Join(root.Name(), name), fs.ErrExist)
	}
	return nil
}

// writeFile writes a file under another name beside it, and gives it its name when all of it is on
// the disk. After a failure there is no new file. The file gets the mode, less what the umask takes
// away, when it is complete.
func writeFile(root *os.Root, name string, mode fs.FileMode, replace bool, write func(io.Writer) error) (err error) {
	temporary := path.Join(path.Dir(filepath.ToSlash(name)), ".new"+rand.Text()) // name may be as long as names can be
	f, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = root.Remove(temporary)
		}
	}()
	created, err := f.Stat()
	if err != nil {
		return err
	}
	if err := f.Chmod(0o600); err != nil {
		return err
	}
	if err := write(f); err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(created.Mode()), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := checkNew(root, name, replace); err != nil {
		return err
	}
	if err := rename(root, temporary, name, replace); err != nil {
		return err
	}
	return securefile.SyncDir(filepath.Join(root.Name(), filepath.Dir(name)))
}

// rename gives a file its name. If it may not replace another one, it does not do so even if that was
// made a moment ago, unless the file system has no links.
func rename(root *os.Root, temporary, name string, replace bool) error {
	if !replace {
		err := root.Link(temporary, name)
		switch {
		case err == nil:
			return root.Remove(temporary)
		case errors.Is(err, fs.ErrExist):
			return err
		}
	}
	return root.Rename(temporary, name)
}

// A countingReader moves a progress bar, and ends when its context does.
type countingReader struct {
	src io.Reader
	ctx context.Context
	bar *progressbar.ProgressBar
	n   int64
}

func (r *countingReader) Read(b []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	n, err := r.src.Read(b)
	r.n += int64(n)
	_ = r.bar.Add(n)
	return n, err
}

// byteProgress returns a bar for a number of bytes, or -1 if that is not known. It shows on a
// terminal only.
func (p *program) byteProgress(bytes int64) *progressbar.ProgressBar {
	return progressbar.NewOptions64(bytes,
		progressbar.OptionSetWriter(p.stderr),
		progressbar.OptionSetVisibility(p.terminal),
		progressbar.OptionShowBytes(true),
		progressbar.OptionShowTotalBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetSpinnerChangeInterval(0), // which would start a goroutine
		progressbar.OptionClearOnFinish(),
	)
}
