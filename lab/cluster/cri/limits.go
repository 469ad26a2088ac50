package cri

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// limits enforces memory limits by cgroups, version 1 or 2. Without a cgroup to work in, a limit is not enforced:
// such a pod is refused, or started with a warning in this log.
type limits struct {
	folder string // "" = not enforced
	refuse bool
}

func newLimits(folder, unenforced string) (*limits, error) {
	if unenforced != "warn" && unenforced != "refuse" {
		return nil, fmt.Errorf("--unenforced-limits is %q, not warn or refuse", unenforced)
	}
	if folder != "" {
		if _, err := os.Stat(filepath.Join(folder, "cgroup.procs")); err != nil {
			return nil, fmt.Errorf("--memory-cgroup: %w", err)
		}
	}
	return &limits{folder: folder, refuse: unenforced == "refuse"}, nil
}

func (l *limits) String() string {
	switch {
	case l.folder != "":
		return "memory limits enforced in " + l.folder
	case l.refuse:
		return "pods with memory limits refused (no cgroup to enforce them)"
	}
	return "memory limits NOT enforced (no cgroup)"
}

// group makes the cgroup of one container; "" when there is no limit, or it is only warned about.
func (l *limits) group(id, name string, bytes int64) (string, error) {
	if bytes <= 0 {
		return "", nil
	}
	if l.folder == "" {
		if l.refuse {
			return "", status.Errorf(codes.FailedPrecondition, "container %s asks for a memory limit of %d bytes, which can not be enforced here: no cgroup rights", name, bytes)
		}
		log.Printf("WARNING: the memory limit of container %s (%d bytes) is NOT enforced: no cgroup rights", name, bytes)
		return "", nil
	}
	group := filepath.Join(l.folder, id)
	if err := os.Mkdir(group, 0o755); err != nil {
		return "", status.Errorf(codes.Internal, "cgroup for the memory limit of %s: %v", name, err)
	}
	file := filepath.Join(group, "memory.max")
	if _, err := os.Stat(file); err != nil {
		file = filepath.Join(group, "memory.limit_in_bytes") // version 1
	}
	if err := os.WriteFile(file, []byte(strconv.FormatInt(bytes, 10)), 0o644); err != nil {
		return "", status.Errorf(codes.Internal, "memory limit of %s: %v", name, err)
	}
	return group, nil
}

// wrap makes the command start inside the group: a shell moves itself there and becomes the command.
func wrap(group string, command []string) []string {
	if group == "" {
		return command
	}
	script := `echo $$ > "$0" && exec "$@"`
	return append([]string{"/bin/sh", "-c", script, filepath.Join(group, "cgroup.procs")}, command...)
}

// close removes the group and says if the kernel killed something in it for want of memory.
func closeGroup(group string) (killed bool) {
	if group == "" {
		return false
	}
	for _, name := range []string{"memory.oom_control", "memory.events"} {
		data, err := os.ReadFile(filepath.Join(group, name))
		if err == nil && oomKills(string(data)) > 0 {
			killed = true
		}
	}
	if err := os.Remove(group); err != nil {
		log.Printf("cgroup %s stays: %v", group, err)
	}
	return killed
}

func oomKills(text string) int {
	for _, line := range strings.Split(text, "\n") {
		if rest, found := strings.CutPrefix(line, "oom_kill "); found {
			if count, err := strconv.Atoi(strings.TrimSpace(rest)); err == nil {
				return count
			}
		}
	}
	return 0
}
