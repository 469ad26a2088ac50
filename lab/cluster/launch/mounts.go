package launch

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// mounts prepares what the components need, in this mount namespace only:
//   - nothing of ours reaches the machine's mounts (private), but the kubelet's volumes reach the runtime (shared)
//   - the scratch folder is a tmpfs: overlays need one in a user namespace
//   - the kubelet has a fixed path below /var/lib and writes links into /var/log: both get a layer of our own
func (p *plan) mounts() error {
	if err := mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := mount(p.Kubelet, p.Kubelet, "", syscall.MS_BIND, ""); err != nil {
		return err
	}
	if err := mount("", p.Kubelet, "", syscall.MS_SHARED, ""); err != nil {
		return err
	}
	if err := mount("tmpfs", p.Scratch, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	if err := ownVarLib(filepath.Join(p.Scratch, "varlib")); err != nil {
		return err
	}
	return mount("tmpfs", "/var/log", "tmpfs", 0, "mode=755,size=16m")
}

// ownVarLib shows a /var/lib with all that the machine's has, and an empty /var/lib/kubelet.
func ownVarLib(at string) error {
	if err := os.MkdirAll(filepath.Join(at, "kubelet"), 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir("/var/lib")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == "kubelet" {
			continue
		}
		from, to := filepath.Join("/var/lib", entry.Name()), filepath.Join(at, entry.Name())
		switch {
		case entry.Type()&os.ModeSymlink != 0:
			target, err := os.Readlink(from)
			if err != nil {
				return err
			}
			if err := os.Symlink(target, to); err != nil {
				return err
			}
			continue
		case entry.IsDir():
			err = os.Mkdir(to, 0o755)
		default:
			err = os.WriteFile(to, nil, 0o644)
		}
		if err != nil {
			return err
		}
		if err := mount(from, to, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
			return err
		}
	}
	return mount(at, "/var/lib", "", syscall.MS_BIND|syscall.MS_REC, "")
}

// The kubelet sets these, and the machine's own values are none of its business.
var shielded = map[string]string{"vm/overcommit_memory": "1", "kernel/panic": "10", "kernel/panic_on_oops": "1"}

// Shield runs `labkube shield FOLDER COMMAND…`: it puts plain files over the sysctls that the kubelet insists on and
// becomes the command. Only the kubelet gets this, in a mount namespace of its own: a partly covered /proc would stop
// containers from mounting theirs.
func Shield(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: unshare --mount --propagation unchanged labkube shield FOLDER COMMAND…")
	}
	if err := os.MkdirAll(args[0], 0o700); err != nil {
		return err
	}
	for name, value := range shielded {
		file := filepath.Join(args[0], filepath.Base(name))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o600); err != nil {
			return err
		}
		if err := mount(file, "/proc/sys/"+name, "", syscall.MS_BIND, ""); err != nil {
			return err
		}
	}
	path, err := lookPath(args[1])
	if err != nil {
		return err
	}
	return syscall.Exec(path, args[1:], os.Environ())
}

func mount(source, target, kind string, flags uintptr, data string) error {
	if err := syscall.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	return nil
}

func lookPath(name string) (string, error) { return exec.LookPath(name) }
