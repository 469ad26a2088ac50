package provision

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// volumes are entries of one folder: a folder, or a sparse file and the loop device in front of it.
type volumes struct {
	data string
	// Open loop devices. They are set to vanish with their last user, which is this process: a lab that was killed
	// leaves none behind.
	loops map[string]*os.File
}

func newVolumes(data string) *volumes { return &volumes{data: data, loops: map[string]*os.File{}} }

// make gives the path that the volume offers; making it twice gives the same one.
func (v *volumes) make(name string, bytes int64, block bool) (string, error) {
	path := filepath.Join(v.data, name)
	if block {
		return v.makeBlock(name, path, bytes)
	}
	if err := os.Mkdir(path, 0o777); err != nil && !os.IsExist(err) {
		return "", err
	}
	return path, os.Chmod(path, 0o777) // for all, whatever the umask: pods write as any user
}

func (v *volumes) makeBlock(name, path string, bytes int64) (string, error) {
	if loop := v.loops[name]; loop != nil {
		return loop.Name(), nil
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer file.Close() //nolint:errcheck // the loop device holds it
	const sector = 512
	if err := file.Truncate((bytes + sector - 1) / sector * sector); err != nil {
		return "", err
	}
	loop, err := attach(file)
	if err != nil {
		return "", err
	}
	v.loops[name] = loop
	return loop.Name(), nil
}

// attach puts a free loop device before the file.
func attach(file *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) {
		return nil, errNoLoop
	}
	if err != nil {
		return nil, err
	}
	defer control.Close() //nolint:errcheck // only asked
	const attempts = 10   // another process may take the free device first
	for range attempts {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("free loop device: %w", err)
		}
		loop, err := openLoop(number)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(file.Fd())}
		config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
		copy(config.Info.File_name[:], file.Name())
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
		if err == nil {
			return loop, nil
		}
		loop.Close() //nolint:errcheck // not ours
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("configure %s: %w", loop.Name(), err)
		}
	}
	return nil, fmt.Errorf("no free loop device after %d attempts", attempts)
}

func openLoop(number int) (*os.File, error) {
	path := fmt.Sprintf("/dev/loop%d", number)
	loop, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrPermission) {
		return nil, errNoLoop
	}
	if errors.Is(err, os.ErrNotExist) { // the kernel has it, this /dev (a container's) does not show it
		if err := unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(7, uint32(number)))); err != nil {
			return nil, fmt.Errorf("node %s: %w", path, err)
		}
		return os.OpenFile(path, os.O_RDWR, 0)
	}
	return loop, err
}

// remove deletes the volume and what is on it.
func (v *volumes) remove(name string) error {
	if name == "" || strings.Contains(name, "/") {
		return fmt.Errorf("%q is no volume's name", name)
	}
	if loop := v.loops[name]; loop != nil {
		if err := loop.Close(); err != nil {
			return err
		}
		delete(v.loops, name)
	}
	return os.RemoveAll(filepath.Join(v.data, name))
}
