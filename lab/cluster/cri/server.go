// Package cri is a container runtime (CRI v1) whose containers are bubblewrap processes and whose images are
// directories of this machine. It keeps no state: containers die with it.
//
// What it can not enforce it refuses (refuse.go), or says so loudly in its log (limits.go).
// It is for trusted code in tests and demos, not a security border.
package cri

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"sync"

	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/kubelet/pkg/cri/streaming"
)

// Runtime serves both CRI services.
type Runtime struct {
	cri.UnimplementedRuntimeServiceServer
	cri.UnimplementedImageServiceServer

	images  *imageList
	limits  *limits
	scratch string // on a tmpfs: what containers write into their root
	init    string // the labinit binary
	podIP   string // shown for every pod: pods share this machine's network
	stream  streaming.Server

	mu         sync.Mutex // guards the maps and the changing fields of their values
	sandboxes  map[string]*sandbox
	containers map[string]*container
}

// Main runs `labkube runtime` until it is killed.
func Main(args []string) error {
	flags := flag.NewFlagSet("runtime", flag.ExitOnError)
	socket := flags.String("socket", "cri.sock", "Unix socket to serve on")
	images := flags.String("images", "images.json", "file with image names and their directories, read again at each use")
	scratch := flags.String("scratch", "scratch", "directory on a tmpfs, for what containers write into their root")
	podIP := flags.String("pod-ip", "127.0.0.1", "address shown for every pod")
	group := flags.String("memory-cgroup", "", "cgroup directory for memory limits; empty: limits are not enforced")
	unenforced := flags.String("unenforced-limits", "warn", "what happens to a pod with a memory limit that is not enforced: warn or refuse")
	if err := flags.Parse(args); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	runtime := &Runtime{
		images: &imageList{file: *images}, scratch: *scratch, podIP: *podIP, init: filepath.Join(filepath.Dir(self), "labinit"),
		sandboxes: map[string]*sandbox{}, containers: map[string]*container{},
	}
	if runtime.limits, err = newLimits(*group, *unenforced); err != nil {
		return err
	}
	if err := runtime.startStreaming(); err != nil {
		return err
	}
	return runtime.serve(*socket)
}

func (r *Runtime) serve(socket string) error {
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	cri.RegisterRuntimeServiceServer(server, r)
	cri.RegisterImageServiceServer(server, r)
	log.Printf("serving on %s, images from %s, %s", socket, r.images.file, r.limits)
	return server.Serve(listener)
}

func (r *Runtime) startStreaming() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("no port for exec and port-forward: %w", err)
	}
	config := streaming.DefaultConfig
	config.Addr = listener.Addr().String()
	if err := listener.Close(); err != nil {
		return err
	}
	if r.stream, err = streaming.NewServer(config, streams{r}); err != nil {
		return err
	}
	go func() {
		// Without it `kubectl exec` fails with a refused connection; the rest of the runtime still works.
		log.Printf("streaming server ended: %v", r.stream.Start(true))
	}()
	return nil
}

// Version names the runtime.
func (r *Runtime) Version(context.Context, *cri.VersionRequest) (*cri.VersionResponse, error) {
	return &cri.VersionResponse{Version: "0.1.0", RuntimeName: "mtv-lab-bwrap", RuntimeVersion: "0.1.0", RuntimeApiVersion: "v1"}, nil
}

// Status is always ready: there is no daemon or network plugin behind it.
func (r *Runtime) Status(context.Context, *cri.StatusRequest) (*cri.StatusResponse, error) {
	return &cri.StatusResponse{Status: &cri.RuntimeStatus{Conditions: []*cri.RuntimeCondition{
		{Type: cri.RuntimeReady, Status: true}, {Type: cri.NetworkReady, Status: true},
	}}}, nil
}

// RuntimeConfig tells the kubelet which cgroup driver to use; it makes no cgroups of its own here.
func (r *Runtime) RuntimeConfig(context.Context, *cri.RuntimeConfigRequest) (*cri.RuntimeConfigResponse, error) {
	return &cri.RuntimeConfigResponse{Linux: &cri.LinuxRuntimeConfiguration{CgroupDriver: cri.CgroupDriver_CGROUPFS}}, nil
}

// UpdateRuntimeConfig brings the pod network range, which pods on the machine's network do not need.
func (r *Runtime) UpdateRuntimeConfig(context.Context, *cri.UpdateRuntimeConfigRequest) (*cri.UpdateRuntimeConfigResponse, error) {
	return &cri.UpdateRuntimeConfigResponse{}, nil
}
