package cri

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/client-go/tools/remotecommand"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	utilexec "k8s.io/utils/exec"
)

// enter is a command that runs inside the container as the pod's user.
func (r *Runtime) enter(ctx context.Context, id string, argv []string) (*exec.Cmd, error) {
	c, err := r.find(id)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.state != cri.ContainerState_CONTAINER_RUNNING {
		return nil, status.Errorf(codes.FailedPrecondition, "container %s does not run", id)
	}
	args := []string{"--target", fmt.Sprint(c.pid), "--mount", "--pid", "--ipc", "--uts", "--root", "--wd"}
	args = append(args, "--", initInside, c.user.initWord())
	cmd := exec.CommandContext(ctx, "nsenter", append(args, argv...)...)
	for name, value := range c.environment(r.sandboxes[c.sandbox]) {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd, nil
}

// ExecSync runs a command in a container to its end: probes and hooks.
func (r *Runtime) ExecSync(ctx context.Context, q *cri.ExecSyncRequest) (*cri.ExecSyncResponse, error) {
	if q.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(q.Timeout)*time.Second)
		defer cancel()
	}
	cmd, err := r.enter(ctx, q.ContainerId, q.Cmd)
	if err != nil {
		return nil, err
	}
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	if ctx.Err() != nil {
		return nil, status.Errorf(codes.DeadlineExceeded, "%s took longer than %d s", q.Cmd[0], q.Timeout)
	}
	if cmd.ProcessState == nil {
		return nil, err
	}
	return &cri.ExecSyncResponse{
		Stdout: []byte(stdout.String()), Stderr: []byte(stderr.String()), ExitCode: exitCode(cmd.ProcessState),
	}, nil
}

// streams serves `kubectl exec` and `port-forward`.
type streams struct{ runtime *Runtime }

func (s streams) Exec(ctx context.Context, id string, argv []string, in io.Reader, out, errs io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize) error {
	cmd, err := s.runtime.enter(ctx, id, argv)
	if err != nil {
		return err
	}
	if in != nil {
		input, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		go func() {
			io.Copy(input, in) //nolint:errcheck // the command may end before it has read all
			input.Close()      //nolint:errcheck
		}()
	}
	if out != nil {
		cmd.Stdout = out
	}
	if errs != nil {
		cmd.Stderr = errs
	}
	err = cmd.Run()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return utilexec.CodeExitError{Err: err, Code: int(exitCode(failed.ProcessState))}
	}
	return err
}

func (s streams) Attach(context.Context, string, io.Reader, io.WriteCloser, io.WriteCloser, bool, <-chan remotecommand.TerminalSize) error {
	return refusal("attach")
}

func (s streams) PortForward(ctx context.Context, _ string, port int32, stream io.ReadWriteCloser) error {
	var dialer net.Dialer
	connection, err := dialer.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	defer connection.Close()       //nolint:errcheck // both directions are done
	go io.Copy(connection, stream) //nolint:errcheck // ends with the connection
	_, err = io.Copy(stream, connection)
	return err
}

// Exec gives the address where `kubectl exec` goes on.
func (r *Runtime) Exec(_ context.Context, q *cri.ExecRequest) (*cri.ExecResponse, error) {
	if q.Tty {
		return nil, refusal("a terminal for exec (-t)")
	}
	return r.stream.GetExec(q)
}

// Attach is refused.
func (r *Runtime) Attach(context.Context, *cri.AttachRequest) (*cri.AttachResponse, error) {
	return nil, refusal("attach")
}

// PortForward gives the address where `kubectl port-forward` goes on.
func (r *Runtime) PortForward(_ context.Context, q *cri.PortForwardRequest) (*cri.PortForwardResponse, error) {
	return r.stream.GetPortForward(q)
}
