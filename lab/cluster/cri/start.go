package cri

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	startTimeout   = 60 * time.Second
	killTimeout    = 10 * time.Second
	startErrorCode = 128 // what other runtimes report for a container that never started
	searchPath     = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	initInside     = "/.labinit"
)

// run is a container while it runs: what has to be undone afterwards.
type run struct {
	root  *rootfs
	group string // its cgroup, "" without a limit
	cmd   *exec.Cmd
	pipes [2]*os.File // its stdout and stderr
}

// StartContainer starts the command, and returns only when it really runs or failed to.
func (r *Runtime) StartContainer(_ context.Context, q *cri.StartContainerRequest) (*cri.StartContainerResponse, error) {
	c, err := r.find(q.ContainerId)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	s, state := r.sandboxes[c.sandbox], c.state
	r.mu.Unlock()
	if s == nil || state != cri.ContainerState_CONTAINER_CREATED {
		return nil, status.Errorf(codes.FailedPrecondition, "container %s can not start: it is %s", c.id, state)
	}
	if err := r.start(c, s); err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		c.state, c.exitCode, c.reason, c.message = cri.ContainerState_CONTAINER_EXITED, startErrorCode, "StartError", err.Error()
		c.started, c.finished = time.Now().UnixNano(), time.Now().UnixNano()
		close(c.done)
		return nil, err
	}
	return &cri.StartContainerResponse{}, nil
}

func (r *Runtime) start(c *container, s *sandbox) (err error) {
	at := &run{}
	defer func() {
		if err != nil {
			err = errors.Join(err, at.undo())
		}
	}()
	name := c.config.GetMetadata().GetName()
	memory := c.config.GetLinux().GetResources().GetMemoryLimitInBytes()
	if at.group, err = r.limits.group(c.id, s.config.Metadata.Namespace+"/"+s.config.Metadata.Name+"/"+name, memory); err != nil {
		return err
	}
	if at.root, err = newRootfs(c.image, "/", filepath.Join(r.scratch, c.id)); err != nil {
		return err
	}
	args, err := r.bubblewrap(c, s, at.root)
	if err != nil {
		return err
	}
	output, err := openLog(c.logPath)
	if err != nil {
		return err
	}
	r.mu.Lock()
	c.log = output
	r.mu.Unlock()
	return r.execute(c, at, wrap(at.group, append([]string{"bwrap"}, args...)))
}

// bubblewrap gives the arguments for a container: root, user, /proc and /dev, the pod's mounts and devices, command.
func (r *Runtime) bubblewrap(c *container, s *sandbox, root *rootfs) ([]string, error) {
	security := c.config.GetLinux().GetSecurityContext()
	mounts := placeMounts(root, append(c.image.mounts(), c.config.Mounts...))
	if err := root.copyFiles(); err != nil {
		return nil, err
	}
	for path, directory := range map[string]bool{"/proc": true, "/dev": true, "/sys": true, initInside: false} {
		if err := root.mountPoint(path, directory); err != nil {
			return nil, err
		}
	}
	if err := prepareMounts(root, mounts); err != nil {
		return nil, err
	}
	rootArgs, err := root.mount()
	if err != nil {
		return nil, err
	}
	devices, err := deviceArgs(root.base, c.config.Devices, c.user)
	if err != nil {
		return nil, err
	}
	command := c.config.Command
	if len(command) == 0 {
		command = c.image.Entrypoint
	}
	command = append(slices.Clone(command), c.config.Args...)
	if len(command) == 0 {
		return nil, status.Errorf(codes.InvalidArgument, "container has no command, and image %s no entrypoint", c.image.name)
	}
	args := []string{
		"--unshare-pid", "--unshare-ipc", "--unshare-uts", "--hostname", s.config.Metadata.Name,
		"--die-with-parent", "--as-pid-1", "--clearenv", "--info-fd", "3",
	}
	args = append(args, rootArgs...)
	args = append(args, c.user.args(security)...)
	args = append(args, "--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/dev/shm", "--ro-bind", "/sys", "/sys")
	args = append(args, mountArgs(mounts)...)
	args = append(args, devices...)
	args = append(args, "--ro-bind", r.init, initInside)
	if security.GetReadonlyRootfs() {
		args = append(args, "--remount-ro", "/")
	}
	for name, value := range c.environment(s) {
		args = append(args, "--setenv", name, value)
	}
	directory := c.config.WorkingDir
	if directory == "" {
		directory = "/"
	}
	args = append(args, "--chdir", directory, "--", initInside, c.user.initWord())
	return append(args, command...), nil
}

// environment is the runtime's own, then the image's, then the pod's.
func (c *container) environment(s *sandbox) map[string]string {
	environment := map[string]string{"PATH": searchPath, "HOME": c.user.home(), "HOSTNAME": s.config.Metadata.Name}
	maps.Copy(environment, c.image.Env)
	for _, variable := range c.config.Envs {
		environment[variable.Key] = variable.Value
	}
	return environment
}

// execute starts the command line, waits for labinit's report and leaves a goroutine that waits for the end.
func (r *Runtime) execute(c *container, at *run, command []string) error {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var theirs []*os.File
	defer func() {
		for _, file := range theirs {
			file.Close() //nolint:errcheck // our copies of the child's ends
		}
	}()
	pipe := func() (*os.File, *os.File, error) {
		read, write, err := os.Pipe()
		if err == nil {
			theirs = append(theirs, write)
		}
		return read, write, err
	}
	for i := range at.pipes {
		read, write, err := pipe()
		if err != nil {
			return err
		}
		at.pipes[i] = read
		// The pod's user may open /dev/stdout again.
		if err := write.Chown(int(c.user.uid), int(c.user.gid)); err != nil {
			return fmt.Errorf("give the output to user %d: %w", c.user.uid, err)
		}
	}
	cmd.Stdout, cmd.Stderr = theirs[0], theirs[1]
	info, infoWrite, err := pipe()
	if err != nil {
		return err
	}
	defer info.Close() //nolint:errcheck // only read
	report, reportWrite, err := pipe()
	if err != nil {
		return err
	}
	defer report.Close() //nolint:errcheck // only read
	cmd.ExtraFiles = []*os.File{infoWrite, reportWrite}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start bubblewrap: %w", err)
	}
	at.cmd = cmd
	for _, file := range theirs {
		file.Close() //nolint:errcheck // the child has them now, and their end must be seen
	}
	theirs = nil
	streams := r.follow(c, at)
	pid, err := awaitStart(info, report)
	if err != nil {
		killGroupOf(cmd)
		streams.Wait()
		cmd.Wait() //nolint:errcheck // it was killed
		if errors.Is(err, errSilent) {
			return fmt.Errorf("bubblewrap: %s", c.log.lastLine())
		}
		return err
	}
	r.mu.Lock()
	c.pid, c.started, c.state = pid, time.Now().UnixNano(), cri.ContainerState_CONTAINER_RUNNING
	r.mu.Unlock()
	go func() {
		streams.Wait()
		r.ended(c, at, cmd.Wait())
	}()
	return nil
}

// follow writes both outputs to the log until they end.
func (r *Runtime) follow(c *container, at *run) *sync.WaitGroup {
	var streams sync.WaitGroup
	for i, name := range []string{"stdout", "stderr"} {
		streams.Add(1)
		go func() {
			defer streams.Done()
			c.log.follow(name, at.pipes[i])
			at.pipes[i].Close() //nolint:errcheck // only read
		}()
	}
	return &streams
}

var errSilent = errors.New("ended before it said anything")

// awaitStart reads the pid from bubblewrap and the verdict from labinit.
func awaitStart(info, report *os.File) (int, error) {
	deadline := time.Now().Add(startTimeout)
	for _, file := range []*os.File{info, report} {
		if err := file.SetReadDeadline(deadline); err != nil {
			return 0, err
		}
	}
	data, err := io.ReadAll(io.LimitReader(info, 4096))
	if err != nil {
		return 0, fmt.Errorf("bubblewrap's start: %w", err)
	}
	var facts struct {
		Pid int `json:"child-pid"`
	}
	if json.Unmarshal(data, &facts) != nil || facts.Pid == 0 {
		return 0, errSilent
	}
	verdict, err := io.ReadAll(io.LimitReader(report, 4096))
	if err != nil {
		return 0, fmt.Errorf("labinit's start: %w", err)
	}
	switch string(verdict) {
	case "ok":
		return facts.Pid, nil
	case "":
		return 0, errSilent
	}
	return 0, errors.New(string(verdict))
}

// ended notes how the container ended and undoes what its start did.
func (r *Runtime) ended(c *container, at *run, err error) {
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		log.Printf("container %s: %v", c.id, err)
	}
	outOfMemory := closeGroup(at.group)
	at.group = ""
	if err := at.undo(); err != nil {
		log.Printf("container %s: clean-up: %v", c.id, err)
	}
	c.log.close()
	r.mu.Lock()
	defer r.mu.Unlock()
	c.exitCode = exitCode(at.cmd.ProcessState)
	switch {
	case outOfMemory:
		c.reason = "OOMKilled"
	case c.exitCode == 0:
		c.reason = "Completed"
	default:
		c.reason = "Error"
	}
	c.finished, c.state = time.Now().UnixNano(), cri.ContainerState_CONTAINER_EXITED
	close(c.done)
}

func exitCode(state *os.ProcessState) int32 {
	if wait, ok := state.Sys().(syscall.WaitStatus); ok && wait.Signaled() {
		return 128 + int32(wait.Signal())
	}
	return int32(state.ExitCode())
}

func (at *run) undo() error {
	closeGroup(at.group)
	if at.root == nil {
		return nil
	}
	return at.root.remove()
}

func killGroupOf(cmd *exec.Cmd) {
	// It leads its own session, so this reaches bubblewrap and what it started; containers end with it.
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		log.Printf("kill %d: %v", cmd.Process.Pid, err)
	}
}

// stop ends a running container: SIGTERM, then after the grace SIGKILL.
func (r *Runtime) stop(c *container, grace time.Duration) error {
	r.mu.Lock()
	running, pid := c.state == cri.ContainerState_CONTAINER_RUNNING, c.pid
	r.mu.Unlock()
	if !running {
		return nil
	}
	steps := []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGTERM, grace}, {syscall.SIGKILL, killTimeout}}
	for _, step := range steps {
		if step.wait == 0 {
			continue
		}
		if err := syscall.Kill(pid, step.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
		select {
		case <-c.done:
			return nil
		case <-time.After(step.wait):
		}
	}
	return status.Errorf(codes.DeadlineExceeded, "container %s does not end even when killed", c.id)
}
