// labinit is the first program in a container: it becomes the pod's user and runs the container's command.
//
//	labinit USER COMMAND…      USER is UID:GID:GROUP,GROUP… or - (stay who we are)
//
// The runtime mounts a container's volumes as root, as the kubelet's volume folders are open to nobody else; only
// after that may the pod's user take over. On file descriptor 4 it tells the runtime how that went: "ok" right before
// the command takes its place, else the reason in words.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

const reportFD = 4

func main() {
	report := os.NewFile(reportFD, "report")
	syscall.CloseOnExec(reportFD)
	path, err := prepare(os.Args)
	if err != nil {
		if _, failed := fmt.Fprint(report, err); failed != nil { // an exec into the container: nobody reads reports
			fmt.Fprintln(os.Stderr, "labinit:", err)
		}
		os.Exit(127)
	}
	fmt.Fprint(report, "ok") //nolint:errcheck // an exec into the container has nobody who reads it
	err = syscall.Exec(path, os.Args[2:], os.Environ())
	fmt.Fprintf(os.Stderr, "labinit: %s: %v\n", path, err)
	os.Exit(126)
}

// prepare becomes the user and finds the program.
func prepare(args []string) (string, error) {
	if len(args) < 3 {
		return "", fmt.Errorf("usage: labinit USER COMMAND…")
	}
	if args[1] != "-" {
		if err := become(args[1]); err != nil {
			return "", err
		}
	}
	return exec.LookPath(args[2])
}

func become(user string) error {
	parts := strings.Split(user, ":")
	if len(parts) != 3 {
		return fmt.Errorf("user %q is not UID:GID:GROUPS", user)
	}
	uid, err := strconv.Atoi(parts[0])
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(parts[1])
	if err != nil {
		return err
	}
	groups := []int{}
	for _, word := range strings.FieldsFunc(parts[2], func(r rune) bool { return r == ',' }) {
		group, err := strconv.Atoi(word)
		if err != nil {
			return err
		}
		groups = append(groups, group)
	}
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("set groups %v: %w", groups, err)
	}
	if err := syscall.Setresgid(gid, gid, gid); err != nil {
		return fmt.Errorf("become group %d: %w", gid, err)
	}
	// Leaving uid 0 drops every capability.
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return fmt.Errorf("become user %d: %w", uid, err)
	}
	return nil
}
