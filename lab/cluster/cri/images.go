package cri

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// An image is a directory of this machine. images.json lists them by name; it is read at each use, so a part of the
// lab can add an image, or point a name at a newer directory, while the runtime runs:
//
//	{"localhost/mtv-mover:1": "/…/mover-image", …}
//
// The directory's own .image.json says how it is used; all fields may be missing.

const imageManifest = ".image.json"

// image is one entry of images.json with its .image.json.
type image struct {
	name, directory string

	// OverHost lays the directory over this machine's own system directories, so that installed tools are in the image.
	OverHost bool `json:"over_host"`
	// Env is the environment that a container starts from.
	Env map[string]string `json:"env"`
	// Entrypoint is the command of a container that names none.
	Entrypoint []string `json:"entrypoint"`
	// Copy brings files or folders of this machine (values) to paths in the image (keys), as they are when a container
	// starts: code that changes often needs no new image. Everything becomes readable for all; caches are left out.
	Copy map[string]string `json:"copy"`
	// Bind shows files or folders of this machine (values) read-only at paths in the image (keys), without a copy.
	Bind map[string]string `json:"bind"`
}

// mounts are the image's own mounts, below those of the pod.
func (i *image) mounts() []*cri.Mount {
	out := make([]*cri.Mount, 0, len(i.Bind))
	for target, source := range i.Bind {
		out = append(out, &cri.Mount{ContainerPath: target, HostPath: source, Readonly: true})
	}
	return out
}

type imageList struct{ file string }

func (l *imageList) names() (map[string]string, error) {
	data, err := os.ReadFile(l.file)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "list of images: %v", err)
	}
	names := map[string]string{}
	if err := json.Unmarshal(data, &names); err != nil {
		return nil, status.Errorf(codes.Internal, "list of images %s: %v", l.file, err)
	}
	return names, nil
}

// find gives the image of this name as it is now; NotFound if nobody registered it.
func (l *imageList) find(name string) (*image, error) {
	names, err := l.names()
	if err != nil {
		return nil, err
	}
	directory, ok := names[name]
	if !ok {
		return nil, status.Errorf(codes.NotFound, "image %q is not in %s, and the lab pulls nothing from registries", name, l.file)
	}
	found := &image{name: name, directory: directory}
	data, err := os.ReadFile(filepath.Join(directory, imageManifest))
	if err == nil {
		if err := json.Unmarshal(data, found); err != nil {
			return nil, status.Errorf(codes.Internal, "image %s: %s: %v", name, imageManifest, err)
		}
	} else if !os.IsNotExist(err) {
		return nil, status.Errorf(codes.Internal, "image %s: %v", name, err)
	}
	if info, err := os.Stat(directory); err != nil || !info.IsDir() {
		return nil, status.Errorf(codes.Internal, "image %s: %s is not a directory", name, directory)
	}
	return found, nil
}

func describe(name string) *cri.Image {
	return &cri.Image{Id: name, RepoTags: []string{name}, Size: 1, Spec: &cri.ImageSpec{Image: name}}
}

// ListImages lists the registered images.
func (r *Runtime) ListImages(_ context.Context, q *cri.ListImagesRequest) (*cri.ListImagesResponse, error) {
	names, err := r.images.names()
	if err != nil {
		return nil, err
	}
	sorted := make([]string, 0, len(names))
	for name := range names {
		if wanted := q.GetFilter().GetImage().GetImage(); wanted == "" || wanted == name {
			sorted = append(sorted, name)
		}
	}
	sort.Strings(sorted)
	out := &cri.ListImagesResponse{}
	for _, name := range sorted {
		out.Images = append(out.Images, describe(name))
	}
	return out, nil
}

// ImageStatus says if the image is there; an empty answer means that it is not.
func (r *Runtime) ImageStatus(_ context.Context, q *cri.ImageStatusRequest) (*cri.ImageStatusResponse, error) {
	found, err := r.images.find(q.GetImage().GetImage())
	if status.Code(err) == codes.NotFound {
		return &cri.ImageStatusResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	return &cri.ImageStatusResponse{Image: describe(found.name)}, nil
}

// PullImage has nothing to do for a registered image and fails for any other.
func (r *Runtime) PullImage(_ context.Context, q *cri.PullImageRequest) (*cri.PullImageResponse, error) {
	found, err := r.images.find(q.GetImage().GetImage())
	if err != nil {
		return nil, err
	}
	return &cri.PullImageResponse{ImageRef: found.name}, nil
}

// RemoveImage is refused: the directories belong to the lab's cache.
func (r *Runtime) RemoveImage(_ context.Context, q *cri.RemoveImageRequest) (*cri.RemoveImageResponse, error) {
	return nil, refusal(fmt.Sprintf("removing images (%s)", q.GetImage().GetImage()))
}

// ImageFsInfo reports no use: images are directories that are there anyway.
func (r *Runtime) ImageFsInfo(context.Context, *cri.ImageFsInfoRequest) (*cri.ImageFsInfoResponse, error) {
	usage := []*cri.FilesystemUsage{{
		Timestamp: time.Now().UnixNano(), FsId: &cri.FilesystemIdentifier{Mountpoint: "/"},
		UsedBytes: &cri.UInt64Value{}, InodesUsed: &cri.UInt64Value{},
	}}
	return &cri.ImageFsInfoResponse{ImageFilesystems: usage, ContainerFilesystems: usage}, nil
}
