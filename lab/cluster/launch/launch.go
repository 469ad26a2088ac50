// Package launch is the first process inside the lab's own mount and process namespaces. It prepares the mounts,
// starts the components in order and ends everything as soon as one of them ends: a cluster that lost a part must not
// look alive. When it exits, the kernel kills whatever else lives in the process namespace and drops the mounts.
package launch

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// plan is what to start, as written by the lab (lab/cluster/components.py).
type plan struct {
	Folder    string      `json:"folder"`  // ended.json is written here
	Kubelet   string      `json:"kubelet"` // the kubelet's root folder
	Scratch   string      `json:"scratch"` // becomes a tmpfs
	Processes []component `json:"processes"`
}

type component struct {
	Name  string   `json:"name"`
	Argv  []string `json:"argv"`
	Env   []string `json:"env"` // added to ours
	Log   string   `json:"log"`
	Ready *ready   `json:"ready"` // wait for it before the next one starts
}

type ready struct {
	URL      string  `json:"url"`
	CA       string  `json:"ca"`
	Cert     string  `json:"cert"`
	Key      string  `json:"key"`
	TimeoutS float64 `json:"timeout_s"`
}

// ending is the reason that `lab status` shows.
type ending struct {
	Component string `json:"component"`
	Reason    string `json:"reason"`
}

// Main runs `labkube launch PLAN` until a component ends (an error) or SIGTERM comes.
func Main(args []string) error {
	if len(args) != 1 || os.Getpid() != 1 {
		return fmt.Errorf("usage: unshare --mount --pid --fork … labkube launch PLAN.json (as first process of the namespace)")
	}
	data, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var what plan
	if err := json.Unmarshal(data, &what); err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	end, err := what.run()
	if err != nil {
		end = &ending{"launch", err.Error()}
	}
	if end == nil {
		return nil
	}
	text, err := json.Marshal(end)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(what.Folder, "ended.json"), text, 0o600); err != nil {
		return err
	}
	return fmt.Errorf("%s: %s", end.Component, end.Reason)
}

// supervisor knows which process is which component.
type supervisor struct {
	names map[int]string
	exits chan exit
	stop  chan os.Signal
}

type exit struct {
	pid    int
	status syscall.WaitStatus
}

// run gives nil when SIGTERM asked for the end.
func (p *plan) run() (*ending, error) {
	s := supervisor{names: map[int]string{}, exits: make(chan exit), stop: make(chan os.Signal, 1)}
	signal.Notify(s.stop, syscall.SIGTERM, syscall.SIGINT)
	if err := p.mounts(); err != nil {
		return nil, err
	}
	go s.reap()
	for _, part := range p.Processes {
		pid, err := part.start()
		if err != nil {
			return &ending{part.Name, err.Error()}, nil
		}
		s.names[pid] = part.Name
		log.Printf("%s started, pid %d here", part.Name, pid)
		if part.Ready == nil {
			continue
		}
		answer := make(chan error, 1)
		go func() { answer <- part.Ready.wait() }()
		answered, end := s.watch(answer)
		if !answered {
			return end, nil
		}
		if err := <-answer; err != nil {
			return &ending{part.Name, err.Error()}, nil
		}
		log.Printf("%s ready", part.Name)
	}
	_, end := s.watch(nil)
	return end, nil
}

// watch waits for the answer, the end of a component, or the order to stop (not answered and no ending).
func (s *supervisor) watch(answer chan error) (answered bool, end *ending) {
	for {
		select {
		case err := <-answer:
			answer <- err
			return true, nil
		case gone := <-s.exits:
			if name, ours := s.names[gone.pid]; ours {
				return false, &ending{name, words(gone.status)}
			}
		case <-s.stop:
			return false, nil
		}
	}
}

// reap takes the exit status of every process that ends here: components, and orphans, which come to us as we are
// the first process.
func (s *supervisor) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if err == nil {
			s.exits <- exit{pid, status}
		} else if err == syscall.ECHILD {
			time.Sleep(50 * time.Millisecond) // nothing is started yet
		}
	}
}

func (c *component) start() (int, error) {
	output, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer output.Close() //nolint:errcheck // the child has its own copy
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close() //nolint:errcheck
	path, err := lookPath(c.Argv[0])
	if err != nil {
		return 0, err
	}
	process, err := os.StartProcess(path, c.Argv, &os.ProcAttr{
		Env: append(os.Environ(), c.Env...), Files: []*os.File{null, output, output},
	})
	if err != nil {
		return 0, err
	}
	pid := process.Pid
	return pid, process.Release() // reap() waits for it
}

func words(status syscall.WaitStatus) string {
	if status.Signaled() {
		return fmt.Sprintf("killed by signal %d (%s)", status.Signal(), status.Signal())
	}
	return fmt.Sprintf("ended with exit code %d", status.ExitStatus())
}

// wait asks the URL until it answers 200.
func (r *ready) wait() error {
	authority, err := os.ReadFile(r.CA)
	if err != nil {
		return err
	}
	certificate, err := tls.LoadX509KeyPair(r.Cert, r.Key)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{
		RootCAs: pool, Certificates: []tls.Certificate{certificate},
	}}}
	defer client.CloseIdleConnections()
	last := "no answer"
	for end := time.Now().Add(time.Duration(r.TimeoutS * float64(time.Second))); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		response, err := client.Get(r.URL)
		if err != nil {
			last = err.Error()
			continue
		}
		response.Body.Close() //nolint:errcheck // only the status counts
		if response.StatusCode == http.StatusOK {
			return nil
		}
		last = response.Status
	}
	return fmt.Errorf("not ready after %g s: %s", r.TimeoutS, last)
}
