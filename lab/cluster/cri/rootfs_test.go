package cri

import (
	"os"
	"path/filepath"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// machine is a small system to lay images over: /bin is a link, /var/run too, /var/tmp is open to all.
func machine(t *testing.T) string {
	t.Helper()
	host := t.TempDir()
	for path, mode := range map[string]os.FileMode{"usr/bin": 0o755, "etc": 0o755, "var/tmp": 0o777 | os.ModeSticky, "home/me": 0o700} {
		must(t, makeDirectory(filepath.Join(host, path), mode))
	}
	must(t, os.Symlink("usr/bin", filepath.Join(host, "bin")))
	must(t, os.Symlink("/run", filepath.Join(host, "var/run")))
	must(t, os.WriteFile(filepath.Join(host, "etc/hosts"), nil, 0o644))
	return host
}

func overHost(t *testing.T) *rootfs {
	t.Helper()
	f, err := newRootfs(&image{name: "test", directory: t.TempDir(), OverHost: true}, machine(t), t.TempDir())
	must(t, err)
	return f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestLinksOfTheImageAreResolved(t *testing.T) {
	f := overHost(t)
	for asked, want := range map[string]string{
		"/var/run/secrets/token": "/run/secrets/token",
		"/bin/tool":              "/usr/bin/tool",
		"/etc/hosts":             "/etc/hosts",
		"/data/../etc":           "/etc",
		"/":                      "/",
	} {
		if got := f.inRoot(asked); got != want {
			t.Errorf("%s resolves to %s, not %s", asked, got, want)
		}
	}
}

func TestALinkThatPointsToItselfEnds(t *testing.T) {
	directory := t.TempDir()
	must(t, os.Symlink("loop", filepath.Join(directory, "loop")))
	f, err := newRootfs(&image{directory: directory}, "/", t.TempDir())
	must(t, err)
	f.inRoot("/loop/x")
}

func TestHomesOfTheMachineAreNotInTheImage(t *testing.T) {
	f := overHost(t)
	if _, err := os.Stat(filepath.Join(f.base, "root/home/me")); err == nil || f.layers["home"] != nil {
		t.Error("the machine's home directories show in the image")
	}
	info, err := os.Stat(filepath.Join(f.base, "root/tmp"))
	must(t, err)
	if info.Mode()&os.ModeSticky == 0 || info.Mode().Perm() != 0o777 {
		t.Errorf("/tmp has mode %v", info.Mode())
	}
}

func TestMountPointsAreMadeWhereTheImageHasNone(t *testing.T) {
	f := overHost(t)
	must(t, f.mountPoint("/etc/hosts", false))
	must(t, f.mountPoint("/usr/lib/new/file", false))
	must(t, f.mountPoint("/disks/0", true))
	for path, wanted := range map[string]bool{"up/etc/hosts": false, "up/usr/lib/new/file": true, "root/disks/0": true} {
		if _, err := os.Stat(filepath.Join(f.base, path)); (err == nil) != wanted {
			t.Errorf("%s: made %v, wanted %v", path, err == nil, wanted)
		}
	}
}

func TestParentsKeepTheModeThatTheImageGivesThem(t *testing.T) {
	f := overHost(t)
	must(t, f.mountPoint("/var/tmp/a/b", true))
	for path, mode := range map[string]os.FileMode{"up/var/tmp": 0o777, "up/var/tmp/a": 0o755} {
		info, err := os.Stat(filepath.Join(f.base, path))
		must(t, err)
		if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %v, not %v", path, info.Mode().Perm(), mode)
		}
	}
}

func TestCopiedCodeIsReadableByAllAndWithoutCaches(t *testing.T) {
	f, code := overHost(t), t.TempDir()
	must(t, os.MkdirAll(filepath.Join(code, "sub/__pycache__"), 0o700))
	must(t, os.WriteFile(filepath.Join(code, "sub/__pycache__/x.pyc"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(code, "sub/x.py"), []byte("code"), 0o600))
	f.image.Copy = map[string]string{"/usr/lib/app": code}
	must(t, f.copyFiles())
	info, err := os.Stat(filepath.Join(f.base, "up/usr/lib/app/sub/x.py"))
	must(t, err)
	if info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v", info.Mode())
	}
	if _, err := os.Stat(filepath.Join(f.base, "up/usr/lib/app/sub/__pycache__")); err == nil {
		t.Error("the cache was copied")
	}
}

func TestACopyOfSomethingMissingNamesTheImage(t *testing.T) {
	f := overHost(t)
	f.image.Copy = map[string]string{"/usr/lib/app": "/no/such/code"}
	if err := f.copyFiles(); err == nil {
		t.Error("no error")
	}
}

func TestAMountInsideAnotherOneGetsItsPointInThatOnesSource(t *testing.T) {
	f, outer, inner := overHost(t), t.TempDir(), t.TempDir()
	mounts := placeMounts(f, []*cri.Mount{
		{ContainerPath: "/data/in/deep", HostPath: inner}, {ContainerPath: "/data", HostPath: outer},
	})
	must(t, prepareMounts(f, mounts))
	if mounts[0].at != "/data" {
		t.Errorf("%s is mounted before /data", mounts[0].at)
	}
	if info, err := os.Stat(filepath.Join(outer, "in/deep")); err != nil || !info.IsDir() {
		t.Errorf("no mount point in the outer mount: %v", err)
	}
}

func TestAMountOfSomethingMissingIsRefused(t *testing.T) {
	f := overHost(t)
	if err := prepareMounts(f, placeMounts(f, []*cri.Mount{{ContainerPath: "/data", HostPath: "/no/such"}})); err == nil {
		t.Error("no error")
	}
}
