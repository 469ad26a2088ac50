package cri

import (
	"os"
	"path/filepath"
	"sort"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// placedMount is a kubelet-made mount with its path in the container resolved.
type placedMount struct {
	*cri.Mount
	at string
}

// placeMounts resolves and sorts the mounts: outer ones first.
func placeMounts(f *rootfs, mounts []*cri.Mount) []placedMount {
	placed := make([]placedMount, 0, len(mounts))
	for _, mount := range mounts {
		placed = append(placed, placedMount{mount, f.inRoot(mount.ContainerPath)})
	}
	sort.SliceStable(placed, func(i, j int) bool {
		return strings.Count(placed[i].at, "/") < strings.Count(placed[j].at, "/")
	})
	return placed
}

// prepareMounts makes every mount point: in the root, or, for a mount inside another mount, in that one's source.
func prepareMounts(f *rootfs, mounts []placedMount) error {
	for i, mount := range mounts {
		info, err := os.Stat(mount.HostPath)
		if err != nil {
			return status.Errorf(codes.FailedPrecondition, "source of the mount at %s: %v", mount.ContainerPath, err)
		}
		if outer := outerMount(mounts[:i], mount.at); outer != nil {
			point := filepath.Join(outer.HostPath, strings.TrimPrefix(mount.at, outer.at))
			if _, err := os.Lstat(point); err == nil {
				continue
			}
			if err := os.MkdirAll(filepath.Dir(point), 0o755); err != nil {
				return err
			}
			if err := makeNode(point, info.IsDir()); err != nil {
				return err
			}
			continue
		}
		if err := f.mountPoint(mount.at, info.IsDir()); err != nil {
			return err
		}
	}
	return nil
}

func mountArgs(mounts []placedMount) (args []string) {
	for _, mount := range mounts {
		kind := "--bind"
		if mount.Readonly {
			kind = "--ro-bind"
		}
		args = append(args, kind, mount.HostPath, mount.at)
	}
	return args
}

// outerMount is the innermost of the mounts that holds the path; nil if none does.
func outerMount(mounts []placedMount, path string) *placedMount {
	var found *placedMount
	for i := range mounts {
		if strings.HasPrefix(path, strings.TrimSuffix(mounts[i].at, "/")+"/") && (found == nil || len(mounts[i].at) > len(found.at)) {
			found = &mounts[i]
		}
	}
	return found
}
