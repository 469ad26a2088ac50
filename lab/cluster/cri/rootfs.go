package cri

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
)

// rootfs is the root directory of one container: its image under a writable layer on the runtime's tmpfs.
//
//	<base>/up/…     what is written, and mount points that the image does not have
//	<base>/work/…   the overlay's own
//	<base>/root/    what becomes / of the container
//
// A plain image is one overlay. An image over the machine's system is one overlay per system directory: an overlay
// over / itself is refused in a user namespace, and would show all of the machine (home directories, other mounts).
type rootfs struct {
	image   *image
	host    string // where the machine's system directories are: "/" except in tests
	base    string
	layers  map[string][]string // top directory ("" for a plain image) to its read-only layers, topmost first
	mounted []string
	args    []string // bubblewrap arguments that finish the root
}

// System directories of this machine that an image over it shows. Home, /run, /tmp, /mnt are fresh and empty.
var systemDirectories = []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "opt", "srv", "boot", "etc", "var"}

var freshDirectories = map[string]fs.FileMode{
	"tmp": 0o777 | fs.ModeSticky, "run": 0o755, "root": 0o700, "home": 0o755, "mnt": 0o755, "media": 0o755,
}

// Below /var, what programs of this machine have left there is not for pods.
var hiddenDirectories = map[string]fs.FileMode{"var/tmp": 0o777 | fs.ModeSticky, "var/log": 0o755}

func newRootfs(img *image, host, base string) (*rootfs, error) {
	f := &rootfs{image: img, host: host, base: base, layers: map[string][]string{}}
	for _, folder := range []string{"up", "work", "root"} {
		if err := os.MkdirAll(filepath.Join(base, folder), 0o755); err != nil {
			return nil, err
		}
	}
	if !img.OverHost {
		f.layers[""] = []string{img.directory}
		return f, nil
	}
	for _, top := range systemDirectories {
		if target, err := os.Readlink(filepath.Join(host, top)); err == nil {
			f.args = append(f.args, "--symlink", target, "/"+top)
			continue
		}
		var layers []string
		for _, layer := range []string{img.directory, host} {
			if info, err := os.Stat(filepath.Join(layer, top)); err == nil && info.IsDir() {
				layers = append(layers, filepath.Join(layer, top))
			}
		}
		if layers != nil {
			f.layers[top] = layers
		}
	}
	for name, mode := range freshDirectories {
		if err := makeDirectory(filepath.Join(base, "root", name), mode); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// inRoot resolves the image's own symbolic links (/var/run -> /run, /bin -> usr/bin) in an absolute path.
func (f *rootfs) inRoot(path string) string {
	resolved := "/"
	parts := strings.Split(strings.Trim(filepath.Clean(path), "/"), "/")
	for links := 0; len(parts) > 0; {
		next := filepath.Join(resolved, parts[0])
		parts = parts[1:]
		target, found := f.readlink(next)
		if !found || links > 20 {
			resolved = next
			continue
		}
		links++
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(next), target)
		}
		resolved = "/"
		parts = append(strings.Split(strings.Trim(filepath.Clean(target), "/"), "/"), parts...)
	}
	return resolved
}

func (f *rootfs) readlink(path string) (string, bool) {
	sources := []string{f.image.directory}
	if f.image.OverHost && contains(systemDirectories, topOf(path)) {
		sources = append(sources, f.host)
	}
	for _, source := range sources {
		if target, err := os.Readlink(filepath.Join(source, path)); err == nil {
			return target, true
		}
	}
	return "", false
}

// place says where a file at this (resolved) path of the container can be made before the root is mounted, and if
// a read-only layer already has it.
func (f *rootfs) place(path string) (writable string, exists bool) {
	top, below := "", path
	if f.image.OverHost {
		top = topOf(path)
		below = strings.TrimPrefix(path, "/"+top)
	}
	layers, ok := f.layers[top]
	if !ok {
		writable = filepath.Join(f.base, "root", path)
		_, err := os.Lstat(writable)
		return writable, err == nil
	}
	for _, layer := range layers {
		if _, err := os.Lstat(filepath.Join(layer, below)); err == nil {
			exists = true
		}
	}
	return filepath.Join(f.base, "up", path), exists
}

// parents makes the directories above a path in the writable layer, each with the mode that the image gives it:
// bubblewrap would make them with mode 0700, closed to the pod's user.
func (f *rootfs) parents(path string) error {
	for _, parent := range ancestors(path) {
		writable, _ := f.place(parent)
		if _, err := os.Stat(writable); err == nil {
			continue
		}
		mode := fs.FileMode(0o755)
		for _, source := range []string{f.image.directory, f.host} {
			if info, err := os.Stat(filepath.Join(source, parent)); err == nil && (source != f.host || f.image.OverHost) {
				mode = info.Mode() & (fs.ModePerm | fs.ModeSticky)
				break
			}
		}
		if err := makeDirectory(writable, mode); err != nil {
			return err
		}
	}
	return nil
}

// mountPoint makes sure that something can be mounted at the path.
func (f *rootfs) mountPoint(path string, directory bool) error {
	writable, exists := f.place(path)
	if exists {
		return nil
	}
	if err := f.parents(path); err != nil {
		return err
	}
	return makeNode(writable, directory)
}

// copyFiles brings the image's `copy` entries in.
func (f *rootfs) copyFiles() error {
	targets := make([]string, 0, len(f.image.Copy))
	for target := range f.image.Copy {
		targets = append(targets, target)
	}
	sort.Strings(targets)
	for _, target := range targets {
		path := f.inRoot(target)
		if err := f.parents(path); err != nil {
			return err
		}
		writable, _ := f.place(path)
		if err := copyTree(f.image.Copy[target], writable); err != nil {
			return fmt.Errorf("image %s: copy to %s: %w", f.image.name, target, err)
		}
	}
	return nil
}

// mount lays the overlays and gives the bubblewrap arguments for the root. Call it after the mount points are made.
func (f *rootfs) mount() ([]string, error) {
	tops := make([]string, 0, len(f.layers))
	for top := range f.layers {
		tops = append(tops, top)
	}
	sort.Strings(tops)
	for _, top := range tops {
		up, work, at := filepath.Join(f.base, "up", top), filepath.Join(f.base, "work", top), filepath.Join(f.base, "root", top)
		for _, folder := range []string{up, work, at} {
			if err := os.MkdirAll(folder, 0o755); err != nil {
				return nil, err
			}
		}
		options := "userxattr,lowerdir=" + strings.Join(f.layers[top], ":") + ",upperdir=" + up + ",workdir=" + work
		if err := syscall.Mount("overlay", at, "overlay", 0, options); err != nil {
			return nil, fmt.Errorf("overlay for /%s of image %s: %w", top, f.image.name, err)
		}
		f.mounted = append(f.mounted, at)
	}
	args := append([]string{"--bind", filepath.Join(f.base, "root"), "/"}, f.args...)
	if f.image.OverHost {
		for name, mode := range hiddenDirectories {
			fresh := filepath.Join(f.base, "hidden", name)
			if err := makeDirectory(fresh, mode); err != nil {
				return nil, err
			}
			if _, err := os.Stat(filepath.Join(f.host, name)); err == nil {
				args = append(args, "--bind", fresh, "/"+name)
			}
		}
	}
	return args, nil
}

// remove undoes everything.
func (f *rootfs) remove() error {
	for _, at := range f.mounted {
		if err := syscall.Unmount(at, syscall.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", at, err)
		}
	}
	f.mounted = nil
	return os.RemoveAll(f.base)
}

func makeDirectory(path string, mode fs.FileMode) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

func makeNode(path string, directory bool) error {
	if directory {
		return os.MkdirAll(path, 0o755)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return file.Close()
}

// copyTree copies a file or folder; all of it becomes readable for everybody, Python's caches are left out.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		info, err := os.Stat(path) // follows links: what the link names, not the link, is wanted in the image
		switch {
		case err != nil:
			return err
		case info.IsDir() && entry.Name() == "__pycache__":
			return filepath.SkipDir
		case info.IsDir():
			return makeDirectory(target, 0o755)
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s is neither file nor folder", path)
		}
		return copyFile(path, target, 0o644|info.Mode().Perm()&0o111)
	})
}

func copyFile(from, to string, mode fs.FileMode) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close() //nolint:errcheck // only read
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, source); err != nil {
		target.Close() //nolint:errcheck // the copy's error is the one to tell
		return err
	}
	return target.Close()
}

func topOf(path string) string {
	top, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return top
}

// ancestors of /a/b/c are /a and /a/b.
func ancestors(path string) (out []string) {
	for at := filepath.Dir(path); at != "/" && at != "."; at = filepath.Dir(at) {
		out = append([]string{at}, out...)
	}
	return out
}

func contains(list []string, wanted string) bool {
	for _, item := range list {
		if item == wanted {
			return true
		}
	}
	return false
}
