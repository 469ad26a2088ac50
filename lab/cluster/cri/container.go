package cri

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/util/uuid"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// container is one container from its creation to its removal. Fields below `log` change under Runtime.mu.
type container struct {
	id      string
	sandbox string
	image   *image
	config  *cri.ContainerConfig
	user    user
	logPath string
	created int64         // ns
	done    chan struct{} // closed when it has ended

	log               *logFile
	state             cri.ContainerState
	pid               int // of its first process, as seen from here; 0 = never started
	started, finished int64
	exitCode          int32
	reason, message   string
}

// CreateContainer notes the container with its image as it is now, or refuses it.
func (r *Runtime) CreateContainer(_ context.Context, q *cri.CreateContainerRequest) (*cri.CreateContainerResponse, error) {
	if err := refuseContainer(q.Config); err != nil {
		return nil, err
	}
	found, err := r.images.find(q.Config.GetImage().GetImage())
	if err != nil {
		return nil, err
	}
	c := &container{
		id: string(uuid.NewUUID()), sandbox: q.PodSandboxId, image: found, config: q.Config,
		user:    newUser(q.Config.GetLinux().GetSecurityContext()),
		logPath: filepath.Join(q.SandboxConfig.GetLogDirectory(), q.Config.LogPath),
		created: time.Now().UnixNano(), done: make(chan struct{}), state: cri.ContainerState_CONTAINER_CREATED,
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sandboxes[q.PodSandboxId] == nil {
		return nil, status.Errorf(codes.NotFound, "no pod sandbox %s", q.PodSandboxId)
	}
	r.containers[c.id] = c
	return &cri.CreateContainerResponse{ContainerId: c.id}, nil
}

func (r *Runtime) find(id string) (*container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[id]; c != nil {
		return c, nil
	}
	return nil, status.Errorf(codes.NotFound, "no container %s", id)
}

func (r *Runtime) containersOf(sandbox string) (out []*container) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.containers {
		if c.sandbox == sandbox {
			out = append(out, c)
		}
	}
	return out
}

// StopContainer asks the container to end, and kills it after the timeout (seconds).
func (r *Runtime) StopContainer(_ context.Context, q *cri.StopContainerRequest) (*cri.StopContainerResponse, error) {
	c, err := r.find(q.ContainerId)
	if status.Code(err) == codes.NotFound {
		return &cri.StopContainerResponse{}, nil // CRI: stopping what is gone is no error
	}
	return &cri.StopContainerResponse{}, r.stop(c, time.Duration(q.Timeout)*time.Second)
}

// RemoveContainer kills the container if need be, and forgets it.
func (r *Runtime) RemoveContainer(_ context.Context, q *cri.RemoveContainerRequest) (*cri.RemoveContainerResponse, error) {
	c, err := r.find(q.ContainerId)
	if status.Code(err) == codes.NotFound {
		return &cri.RemoveContainerResponse{}, nil
	}
	return &cri.RemoveContainerResponse{}, r.remove(c)
}

func (r *Runtime) remove(c *container) error {
	if err := r.stop(c, 0); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.containers, c.id)
	if err := os.Remove(c.logPath); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

// ListContainers lists the containers that match the filter.
func (r *Runtime) ListContainers(_ context.Context, q *cri.ListContainersRequest) (*cri.ListContainersResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &cri.ListContainersResponse{}
	for _, c := range r.containers {
		if c.matches(q.Filter) {
			out.Containers = append(out.Containers, &cri.Container{
				Id: c.id, PodSandboxId: c.sandbox, Metadata: c.config.Metadata, State: c.state, CreatedAt: c.created,
				Image: c.config.Image, ImageRef: c.image.name, ImageId: c.image.name,
				Labels: c.config.Labels, Annotations: c.config.Annotations,
			})
		}
	}
	return out, nil
}

func (c *container) matches(filter *cri.ContainerFilter) bool {
	if filter == nil {
		return true
	}
	return (filter.Id == "" || filter.Id == c.id) &&
		(filter.PodSandboxId == "" || filter.PodSandboxId == c.sandbox) &&
		(filter.State == nil || filter.State.State == c.state) &&
		haveLabels(c.config.Labels, filter.LabelSelector)
}

// ContainerStatus shows one container.
func (r *Runtime) ContainerStatus(_ context.Context, q *cri.ContainerStatusRequest) (*cri.ContainerStatusResponse, error) {
	c, err := r.find(q.ContainerId)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return &cri.ContainerStatusResponse{Status: &cri.ContainerStatus{
		Id: c.id, Metadata: c.config.Metadata, State: c.state,
		CreatedAt: c.created, StartedAt: c.started, FinishedAt: c.finished,
		ExitCode: c.exitCode, Reason: c.reason, Message: c.message,
		Image: c.config.Image, ImageRef: c.image.name, ImageId: c.image.name,
		Labels: c.config.Labels, Annotations: c.config.Annotations, Mounts: c.config.Mounts, LogPath: c.logPath,
	}}, nil
}

// ReopenContainerLog goes on in a new log file: the kubelet has rotated the old one.
func (r *Runtime) ReopenContainerLog(_ context.Context, q *cri.ReopenContainerLogRequest) (*cri.ReopenContainerLogResponse, error) {
	c, err := r.find(q.ContainerId)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	log, running := c.log, c.state == cri.ContainerState_CONTAINER_RUNNING
	r.mu.Unlock()
	if !running || log == nil {
		return nil, status.Errorf(codes.FailedPrecondition, "container %s does not run", c.id)
	}
	return &cri.ReopenContainerLogResponse{}, log.reopen()
}

// UpdateContainerResources is refused: limits are set when a container starts.
func (r *Runtime) UpdateContainerResources(context.Context, *cri.UpdateContainerResourcesRequest) (*cri.UpdateContainerResourcesResponse, error) {
	return nil, refusal("changing the limits of a running container")
}

// ContainerStats has no figures: containers have no cgroups unless they have a memory limit.
func (r *Runtime) ContainerStats(context.Context, *cri.ContainerStatsRequest) (*cri.ContainerStatsResponse, error) {
	return &cri.ContainerStatsResponse{}, nil
}

// ListContainerStats is empty, see ContainerStats.
func (r *Runtime) ListContainerStats(context.Context, *cri.ListContainerStatsRequest) (*cri.ListContainerStatsResponse, error) {
	return &cri.ListContainerStatsResponse{}, nil
}

// ListPodSandboxStats is empty, see ContainerStats.
func (r *Runtime) ListPodSandboxStats(context.Context, *cri.ListPodSandboxStatsRequest) (*cri.ListPodSandboxStatsResponse, error) {
	return &cri.ListPodSandboxStatsResponse{}, nil
}
