// labkube is one multi-call binary with the parts of a real Kubernetes and what the lab adds to them:
//
//	labkube etcd|apiserver|controller-manager|scheduler|kubelet|kubectl [flags]   upstream commands, unchanged
//	labkube runtime      container runtime (CRI v1) over bubblewrap        package cri
//	labkube provisioner  volumes for claims of the lab's storage classes   package provision
//	labkube launch       first process of the lab's namespaces             package launch
//	labkube shield       files in place of sysctls, then the kubelet       package launch
//
// A symbolic link named kubectl to the binary works too.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	_ "time/tzdata" // CronJob time zones

	"go.etcd.io/etcd/server/v3/etcdmain"

	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"

	"mtv.lab/cluster/cri"
	"mtv.lab/cluster/launch"
	"mtv.lab/cluster/provision"
)

var commands = map[string]func(){
	"etcd":               func() { etcdmain.Main(os.Args) },
	"apiserver":          func() { os.Exit(cli.Run(apiserver.NewAPIServerCommand())) },
	"controller-manager": func() { os.Exit(cli.Run(controllers.NewControllerManagerCommand())) },
	"scheduler":          func() { os.Exit(cli.Run(scheduler.NewSchedulerCommand())) },
	"kubelet":            func() { os.Exit(cli.Run(kubelet.NewKubeletCommand(context.Background()))) },
	"kubectl":            runKubectl,
	"runtime":            func() { report(cri.Main(os.Args[1:])) },
	"provisioner":        func() { report(provision.Main(os.Args[1:])) },
	"launch":             func() { report(launch.Main(os.Args[1:])) },
	"shield":             func() { report(launch.Shield(os.Args[1:])) },
}

func runKubectl() {
	if _, err := logs.GlogSetter(kubectl.GetLogVerbosity(os.Args)); err != nil {
		report(err)
	}
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
	}
}

func report(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "labkube %s: %v\n", filepath.Base(os.Args[0]), err)
		os.Exit(1)
	}
}

func main() {
	run, ok := commands[filepath.Base(os.Args[0])]
	if !ok && len(os.Args) > 1 {
		if run, ok = commands[os.Args[1]]; ok {
			os.Args = os.Args[1:]
		}
	}
	if !ok {
		names := make([]string, 0, len(commands))
		for name := range commands {
			names = append(names, name)
		}
		sort.Strings(names)
		fmt.Fprintf(os.Stderr, "usage: labkube %s [flags]\n", strings.Join(names, "|"))
		os.Exit(2)
	}
	run()
}
