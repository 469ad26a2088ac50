package cri

import (
	"context"
	"os"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/util/uuid"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// sandbox is a pod: only a record, as pods have no network or namespaces of their own here.
type sandbox struct {
	id      string
	config  *cri.PodSandboxConfig
	created int64 // ns
	ready   bool
}

func (s *sandbox) state() cri.PodSandboxState {
	if s.ready {
		return cri.PodSandboxState_SANDBOX_READY
	}
	return cri.PodSandboxState_SANDBOX_NOTREADY
}

// RunPodSandbox notes the pod, or refuses it if it asks for what this runtime does not have.
func (r *Runtime) RunPodSandbox(_ context.Context, q *cri.RunPodSandboxRequest) (*cri.RunPodSandboxResponse, error) {
	if err := refuseSandbox(q.Config, q.RuntimeHandler); err != nil {
		return nil, err
	}
	if folder := q.Config.LogDirectory; folder != "" {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, err
		}
	}
	s := &sandbox{id: string(uuid.NewUUID()), config: q.Config, created: time.Now().UnixNano(), ready: true}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sandboxes[s.id] = s
	return &cri.RunPodSandboxResponse{PodSandboxId: s.id}, nil
}

// StopPodSandbox kills what still runs in the pod.
func (r *Runtime) StopPodSandbox(_ context.Context, q *cri.StopPodSandboxRequest) (*cri.StopPodSandboxResponse, error) {
	for _, c := range r.containersOf(q.PodSandboxId) {
		if err := r.stop(c, 0); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sandboxes[q.PodSandboxId]; s != nil {
		s.ready = false
	}
	return &cri.StopPodSandboxResponse{}, nil
}

// RemovePodSandbox forgets the pod and its containers.
func (r *Runtime) RemovePodSandbox(_ context.Context, q *cri.RemovePodSandboxRequest) (*cri.RemovePodSandboxResponse, error) {
	for _, c := range r.containersOf(q.PodSandboxId) {
		if err := r.remove(c); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sandboxes, q.PodSandboxId)
	return &cri.RemovePodSandboxResponse{}, nil
}

// PodSandboxStatus shows one pod.
func (r *Runtime) PodSandboxStatus(_ context.Context, q *cri.PodSandboxStatusRequest) (*cri.PodSandboxStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sandboxes[q.PodSandboxId]
	if s == nil {
		return nil, status.Errorf(codes.NotFound, "no pod sandbox %s", q.PodSandboxId)
	}
	return &cri.PodSandboxStatusResponse{Status: &cri.PodSandboxStatus{
		Id: s.id, Metadata: s.config.Metadata, State: s.state(), CreatedAt: s.created,
		Network: &cri.PodSandboxNetworkStatus{Ip: r.podIP},
		Labels:  s.config.Labels, Annotations: s.config.Annotations,
		Linux: &cri.LinuxPodSandboxStatus{Namespaces: &cri.Namespace{
			Options: s.config.GetLinux().GetSecurityContext().GetNamespaceOptions(),
		}},
	}}, nil
}

// ListPodSandbox lists the pods that match the filter.
func (r *Runtime) ListPodSandbox(_ context.Context, q *cri.ListPodSandboxRequest) (*cri.ListPodSandboxResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &cri.ListPodSandboxResponse{}
	for _, s := range r.sandboxes {
		if s.matches(q.Filter) {
			out.Items = append(out.Items, &cri.PodSandbox{
				Id: s.id, Metadata: s.config.Metadata, State: s.state(), CreatedAt: s.created,
				Labels: s.config.Labels, Annotations: s.config.Annotations,
			})
		}
	}
	return out, nil
}

func (s *sandbox) matches(filter *cri.PodSandboxFilter) bool {
	if filter == nil {
		return true
	}
	return (filter.Id == "" || filter.Id == s.id) &&
		(filter.State == nil || filter.State.State == s.state()) &&
		haveLabels(s.config.Labels, filter.LabelSelector)
}

func haveLabels(have, want map[string]string) bool {
	for key, value := range want {
		if have[key] != value {
			return false
		}
	}
	return true
}

// UpdatePodSandboxResources has nothing to change: limits are those of the containers.
func (r *Runtime) UpdatePodSandboxResources(context.Context, *cri.UpdatePodSandboxResourcesRequest) (*cri.UpdatePodSandboxResourcesResponse, error) {
	return &cri.UpdatePodSandboxResourcesResponse{}, nil
}
