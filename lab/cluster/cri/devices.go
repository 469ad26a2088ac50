package cri

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// deviceArgs shows the container's devices to it. The pod's user gets nodes of its own to open (what other runtimes
// call device_ownership_from_security_context), so that the machine's /dev stays as it is.
func deviceArgs(base string, devices []*cri.Device, u user) ([]string, error) {
	var args []string
	for i, device := range devices {
		node, err := ownNode(filepath.Join(base, fmt.Sprintf("dev%d", i)), device.HostPath, u)
		if err != nil {
			return nil, err
		}
		args = append(args, "--dev-bind", node, device.ContainerPath)
	}
	return args, nil
}

// ownNode makes a node of the same device that the user may open.
func ownNode(at, host string, u user) (string, error) {
	var facts syscall.Stat_t
	if err := syscall.Stat(host, &facts); err != nil {
		return "", status.Errorf(codes.FailedPrecondition, "device %s: %v", host, err)
	}
	if u.uid == 0 {
		return host, nil
	}
	if err := syscall.Mknod(at, facts.Mode, int(facts.Rdev)); err != nil {
		return "", status.Errorf(codes.PermissionDenied,
			"device %s can not be given to user %d: making a node of it: %v (run the lab as root for block volumes)", host, u.uid, err)
	}
	if err := os.Chown(at, int(u.uid), int(u.gid)); err != nil {
		return "", err
	}
	return at, os.Chmod(at, 0o660)
}
