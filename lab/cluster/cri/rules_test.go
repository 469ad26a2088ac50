package cri

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func container1(security *cri.LinuxContainerSecurityContext) *cri.ContainerConfig {
	return &cri.ContainerConfig{Linux: &cri.LinuxContainerConfig{SecurityContext: security}}
}

func TestWhatCanNotBeEnforcedIsRefusedByName(t *testing.T) {
	namespaces := func(pid cri.NamespaceMode) *cri.LinuxContainerSecurityContext {
		return &cri.LinuxContainerSecurityContext{NamespaceOptions: &cri.NamespaceOption{Pid: pid}}
	}
	local := &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "mine.json"}
	for name, test := range map[string]struct {
		config *cri.ContainerConfig
		words  string
	}{
		"terminal":       {&cri.ContainerConfig{Tty: true}, "tty"},
		"standard input": {&cri.ContainerConfig{Stdin: true}, "stdin"},
		"seccomp file":   {container1(&cri.LinuxContainerSecurityContext{Seccomp: local}), "mine.json"},
		"SELinux":        {container1(&cri.LinuxContainerSecurityContext{SelinuxOptions: &cri.SELinuxOption{Level: "s0"}}), "SELinux"},
		"host processes": {container1(namespaces(cri.NamespaceMode_NODE)), "hostPID"},
		"pod processes":  {container1(namespaces(cri.NamespaceMode_POD)), "shareProcessNamespace"},
		"propagation": {&cri.ContainerConfig{Mounts: []*cri.Mount{
			{ContainerPath: "/m", Propagation: cri.MountPropagation_PROPAGATION_BIDIRECTIONAL},
		}}, "/m"},
	} {
		err := refuseContainer(test.config)
		if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestARestrictedPodIsAccepted(t *testing.T) {
	err := refuseContainer(container1(&cri.LinuxContainerSecurityContext{
		Seccomp:          &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault},
		NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER},
		RunAsUser:        &cri.Int64Value{Value: 107},
		Capabilities:     &cri.Capability{DropCapabilities: []string{"ALL"}},
	}))
	if err != nil {
		t.Error(err)
	}
}

func TestTheUserBringsItsGroups(t *testing.T) {
	u := newUser(&cri.LinuxContainerSecurityContext{
		RunAsUser: &cri.Int64Value{Value: 107}, RunAsGroup: &cri.Int64Value{Value: 108}, SupplementalGroups: []int64{107, 36, 107},
	})
	if got := u.initWord(); got != "107:108:107,36" {
		t.Error(got)
	}
	if got := newUser(nil).initWord(); got != "-" {
		t.Error(got)
	}
}

func TestRootKeepsOnlyTheCapabilitiesThatItIsLeft(t *testing.T) {
	root := user{}
	if got := root.capabilities(&cri.Capability{DropCapabilities: []string{"ALL"}, AddCapabilities: []string{"NET_BIND_SERVICE"}}); !slices.Equal(got, []string{"NET_BIND_SERVICE"}) {
		t.Error(got)
	}
	if got := root.capabilities(&cri.Capability{DropCapabilities: []string{"CAP_CHOWN"}}); slices.Contains(got, "CHOWN") || !slices.Contains(got, "KILL") {
		t.Error(got)
	}
	if got := (user{uid: 107}).capabilities(&cri.Capability{AddCapabilities: []string{"SYS_ADMIN"}}); slices.Contains(got, "SYS_ADMIN") {
		t.Error(got)
	}
}

func TestLogLinesAreWrittenAsTheKubeletReadsThem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	l, err := openLog(path)
	must(t, err)
	l.follow("stdout", strings.NewReader("one\n"+strings.Repeat("x", 16<<10)+"y\nend"))
	l.close()
	data, err := os.ReadFile(path)
	must(t, err)
	var got []string
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		fields := strings.SplitN(line, " ", 4)
		got = append(got, fields[1]+" "+fields[2]+" "+fields[3][:1])
	}
	if want := []string{"stdout F o", "stdout P x", "stdout F y", "stdout F e"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestALogGoesOnInANewFileAfterRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	l, err := openLog(path)
	must(t, err)
	l.write("stdout", []byte("old\n"), false)
	must(t, os.Rename(path, path+".1"))
	must(t, l.reopen())
	l.write("stdout", []byte("new\n"), false)
	l.close()
	for file, want := range map[string]string{path + ".1": "old", path: "new"} {
		data, err := os.ReadFile(file)
		must(t, err)
		if !strings.Contains(string(data), want) || strings.Count(string(data), "\n") != 1 {
			t.Errorf("%s: %q", file, data)
		}
	}
}

func TestAMemoryLimitThatCanNotBeEnforcedIsRefusedOrWarnedAbout(t *testing.T) {
	strict, err := newLimits("", "refuse")
	must(t, err)
	if _, err := strict.group("id", "ns/pod/main", 1<<20); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "ns/pod/main") {
		t.Error(err)
	}
	if group, err := strict.group("id", "ns/pod/main", 0); group != "" || err != nil {
		t.Errorf("no limit: %q, %v", group, err)
	}
	soft, err := newLimits("", "warn")
	must(t, err)
	if group, err := soft.group("id", "ns/pod/main", 1<<20); group != "" || err != nil {
		t.Errorf("warned: %q, %v", group, err)
	}
	if !strings.Contains(soft.String(), "NOT enforced") {
		t.Error(soft)
	}
}

func TestACgroupThatIsNoneIsRefused(t *testing.T) {
	if _, err := newLimits(t.TempDir(), "warn"); err == nil {
		t.Error("no error")
	}
}

func TestKillsForWantOfMemoryAreCounted(t *testing.T) {
	for text, want := range map[string]int{
		"low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 0\n": 2, // version 2
		"oom_kill_disable 0\nunder_oom 0\noom_kill 1\n":               1, // version 1
		"": 0,
	} {
		if got := oomKills(text); got != want {
			t.Errorf("%q: %d", text, got)
		}
	}
}

func TestAnImageIsReadAnewAtEachUse(t *testing.T) {
	folder := t.TempDir()
	first, second := filepath.Join(folder, "1"), filepath.Join(folder, "2")
	for _, directory := range []string{first, second} {
		must(t, os.Mkdir(directory, 0o755))
	}
	must(t, os.WriteFile(filepath.Join(second, imageManifest), []byte(`{"over_host": true, "env": {"A": "b"}}`), 0o644))
	list := &imageList{file: filepath.Join(folder, "images.json")}
	write := func(directory string) {
		must(t, os.WriteFile(list.file, []byte(`{"localhost/x:1": "`+directory+`"}`), 0o644))
	}
	write(first)
	found, err := list.find("localhost/x:1")
	must(t, err)
	if found.OverHost || found.directory != first {
		t.Error(found)
	}
	write(second)
	found, err = list.find("localhost/x:1")
	must(t, err)
	if !found.OverHost || found.Env["A"] != "b" {
		t.Error(found)
	}
	if _, err := list.find("localhost/y:1"); status.Code(err) != codes.NotFound {
		t.Error(err)
	}
	write(filepath.Join(folder, "gone"))
	if _, err := list.find("localhost/x:1"); status.Code(err) != codes.Internal {
		t.Error(err)
	}
}
