// Command kubevirt is KubeVirt 1.8.4's own control plane, built from KubeVirt's modules for the lab.
//
//	kubevirt manifests crds|rbac|webhooks    the objects that virt-operator would install, one JSON document per line
//	kubevirt check [-gates A,B] FILE…        one JSON line per VirtualMachine manifest; exit code 1 if any is refused
//	kubevirt virt-api …                      the real virt-api (admission and subresources), with its own flags
//	kubevirt virt-controller …               the real virt-controller, with its own flags
//
// Nothing in here is a stand-in. KubeVirt's node part (virt-handler, virt-launcher) is not in here: it needs libvirt.
package main

import (
	"errors"
	"fmt"
	"os"
)

// namespace is where KubeVirt lives, as in every installation.
const namespace = "kubevirt"

const usage = `usage: kubevirt COMMAND

  manifests crds|rbac|webhooks   objects that virt-operator would install, one JSON document per line
  check [-gates A,B] FILE…       what an API server with KubeVirt says to VirtualMachine manifests, offline
  virt-api FLAGS…                the real virt-api
  virt-controller FLAGS…         the real virt-controller`

var (
	errRefused = errors.New("refused") // a manifest was refused: said on stdout already
	errUsage   = errors.New(usage)
)

func main() {
	commands := map[string]func([]string) error{
		"manifests": manifests, "check": check, "virt-api": virtAPI, "virt-controller": virtController,
	}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	switch err := commands[os.Args[1]](os.Args[2:]); {
	case errors.Is(err, errRefused):
		os.Exit(1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "kubevirt:", err)
		os.Exit(2)
	}
}
