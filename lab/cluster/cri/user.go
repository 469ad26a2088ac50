package cri

import (
	"fmt"
	"slices"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// user is who a container's process becomes: bubblewrap mounts as root, then labinit switches to the pod's user.
type user struct {
	uid, gid int64
	groups   []int64
}

func newUser(security *cri.LinuxContainerSecurityContext) user {
	u := user{uid: security.GetRunAsUser().GetValue(), gid: security.GetRunAsGroup().GetValue()}
	for _, group := range security.GetSupplementalGroups() { // fsGroup is among them
		if !slices.Contains(u.groups, group) {
			u.groups = append(u.groups, group)
		}
	}
	return u
}

// initWord is labinit's USER argument.
func (u user) initWord() string {
	if u.uid == 0 && u.gid == 0 && len(u.groups) == 0 {
		return "-"
	}
	words := make([]string, len(u.groups))
	for i, group := range u.groups {
		words[i] = fmt.Sprint(group)
	}
	return fmt.Sprintf("%d:%d:%s", u.uid, u.gid, strings.Join(words, ","))
}

func (u user) home() string {
	if u.uid == 0 {
		return "/root"
	}
	return "/"
}

// args gives the bubblewrap arguments for user and capabilities.
func (u user) args(security *cri.LinuxContainerSecurityContext) (args []string) {
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
