package cri

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A pod that would run otherwise than it asks is refused, with the reason in the pod's events. Known and accepted:
// pods share the machine's network, seccomp's RuntimeDefault and CPU limits are not applied.

func refusal(what string) error {
	return status.Errorf(codes.Unimplemented, "the lab's container runtime does not offer %s", what)
}

func refuseSandbox(config *cri.PodSandboxConfig, handler string) error {
	linux := config.GetLinux()
	security := linux.GetSecurityContext()
	namespaces := security.GetNamespaceOptions()
	switch {
	case config == nil || config.Metadata == nil:
		return status.Error(codes.InvalidArgument, "a pod sandbox needs a config with metadata")
	case handler != "":
		return refusal("runtime class handler " + handler)
	case len(linux.GetSysctls()) > 0:
		return refusal("sysctls of a pod")
	case namespaces.GetUsernsOptions() != nil && namespaces.UsernsOptions.Mode == cri.NamespaceMode_POD:
		return refusal("user namespaces of a pod (hostUsers: false)")
	}
	return refuseSecurity(security.GetSeccomp(), security.GetApparmor(), security.GetSelinuxOptions(), namespaces)
}

func refuseContainer(config *cri.ContainerConfig) error {
	security := config.GetLinux().GetSecurityContext()
	switch {
	case config.Tty:
		return refusal("a terminal (tty: true)")
	case config.Stdin:
		return refusal("standard input of a container (stdin: true)")
	case security.GetRunAsUsername() != "":
		return refusal("a user by name; give runAsUser a number")
	}
	for _, limit := range config.GetLinux().GetResources().GetHugepageLimits() {
		if limit.Limit > 0 {
			return refusal("huge pages")
		}
	}
	for _, mount := range config.Mounts {
		switch {
		case mount.Propagation == cri.MountPropagation_PROPAGATION_BIDIRECTIONAL:
			return refusal("mount propagation Bidirectional for " + mount.ContainerPath)
		case mount.RecursiveReadOnly:
			return refusal("recursive read-only mounts for " + mount.ContainerPath)
		case mount.GetImage().GetImage() != "":
			return refusal("image volumes for " + mount.ContainerPath)
		}
	}
	return refuseSecurity(security.GetSeccomp(), security.GetApparmor(), security.GetSelinuxOptions(), security.GetNamespaceOptions())
}

func refuseSecurity(seccomp, apparmor *cri.SecurityProfile, selinux *cri.SELinuxOption, namespaces *cri.NamespaceOption) error {
	switch {
	case seccomp.GetProfileType() == cri.SecurityProfile_Localhost:
		return refusal("seccomp profile " + seccomp.GetLocalhostRef())
	case apparmor.GetProfileType() == cri.SecurityProfile_Localhost:
		return refusal("AppArmor profile " + apparmor.GetLocalhostRef())
	case selinux.GetType() != "" || selinux.GetLevel() != "" || selinux.GetUser() != "" || selinux.GetRole() != "":
		return refusal("SELinux labels")
	case namespaces.GetPid() == cri.NamespaceMode_NODE:
		return refusal("the machine's process namespace (hostPID)")
	case namespaces != nil && namespaces.Pid == cri.NamespaceMode_POD:
		return refusal("one process namespace for the whole pod (shareProcessNamespace)")
	case namespaces.GetPid() == cri.NamespaceMode_TARGET:
		return refusal("another container's process namespace (kubectl debug --target)")
	case namespaces.GetIpc() == cri.NamespaceMode_NODE:
		return refusal("the machine's IPC namespace (hostIPC)")
	}
	return nil
}
