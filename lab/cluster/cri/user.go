package cri

import (
	"fmt"
	"os"
	"slices"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// user is who a container's process becomes, and how.
//
// Where several user ids exist here (root, or a user namespace with subordinate ids) bubblewrap mounts as root and
// labinit switches the user afterwards. Where only one id is mapped, every pod user is that one person under another
// number: bubblewrap makes a user namespace that shows the number.
type user struct {
	uid, gid int64
	groups   []int64
	oneID    bool
	renamed  bool // shown under another number: the one-id way
}

func newUser(security *cri.LinuxContainerSecurityContext, oneID bool) user {
	u := user{uid: security.GetRunAsUser().GetValue(), gid: security.GetRunAsGroup().GetValue(), oneID: oneID}
	for _, group := range security.GetSupplementalGroups() { // fsGroup is among them
		if !slices.Contains(u.groups, group) {
			u.groups = append(u.groups, group)
		}
	}
	u.renamed = oneID && u.uid != 0
	return u
}

// initWord is labinit's USER argument.
func (u user) initWord() string {
	if u.oneID || u.uid == 0 && u.gid == 0 && len(u.groups) == 0 {
		return "-"
	}
	words := make([]string, len(u.groups))
	for i, group := range u.groups {
		words[i] = fmt.Sprint(group)
	}
	return fmt.Sprintf("%d:%d:%s", u.uid, u.gid, strings.Join(words, ","))
}

// fileOwner is the uid that files made for the pod's user get, as seen by the runtime.
func (u user) fileOwner() (uid, gid int) {
	if u.renamed {
		return 0, 0
	}
	return int(u.uid), int(u.gid)
}

func (u user) home() string {
	if u.uid == 0 {
		return "/root"
	}
	return "/"
}

// args gives the bubblewrap arguments for user and capabilities.
func (u user) args(security *cri.LinuxContainerSecurityContext) (args []string) {
	if u.renamed {
		args = append(args, "--unshare-user", "--uid", fmt.Sprint(u.uid), "--gid", fmt.Sprint(u.gid))
	}
	if security.GetPrivileged() {
		return args
	}
	args = append(args, "--cap-drop", "ALL")
	for _, name := range u.capabilities(security.GetCapabilities()) {
		args = append(args, "--cap-add", "CAP_"+name)
	}
	return args
}

// What container runtimes give to root by default, less what needs device nodes or raw sockets.
var defaultCapabilities = []string{
	"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "SETFCAP",
}

func (u user) capabilities(asked *cri.Capability) []string {
	if u.renamed {
		return nil
	}
	if u.uid != 0 { // labinit needs these two, and loses them when it changes the user
		return []string{"SETUID", "SETGID"}
	}
	var out []string
	for _, name := range append(slices.Clone(defaultCapabilities), asked.GetAddCapabilities()...) {
		name = strings.TrimPrefix(strings.ToUpper(name), "CAP_")
		added := hasCapability(asked.GetAddCapabilities(), name)
		dropped := hasCapability(asked.GetDropCapabilities(), name) || hasCapability(asked.GetDropCapabilities(), "ALL")
		if (added || !dropped) && name != "ALL" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

func hasCapability(list []string, name string) bool {
	return slices.ContainsFunc(list, func(item string) bool {
		return strings.TrimPrefix(strings.ToUpper(item), "CAP_") == name
	})
}

// onlyOneID says if /proc/self/uid_map maps a single user id.
func onlyOneID(uidMap string) bool {
	var inside, outside, count int64
	lines := strings.Split(strings.TrimSpace(uidMap), "\n")
	parsed, err := fmt.Sscan(lines[0], &inside, &outside, &count)
	return err == nil && parsed == 3 && len(lines) == 1 && count == 1
}

func readUIDMap() string {
	data, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return "" // no such file: no user namespaces, all ids exist
	}
	return string(data)
}
