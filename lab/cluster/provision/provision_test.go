package provision

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	core "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func claim() *core.PersistentVolumeClaim {
	class := "lab-fs"
	return &core.PersistentVolumeClaim{
		ObjectMeta: meta.ObjectMeta{Name: "c", Namespace: "n", UID: "u1", Annotations: map[string]string{claimAnnotation: Name}},
		Spec: core.PersistentVolumeClaimSpec{
			StorageClassName: &class, AccessModes: []core.PersistentVolumeAccessMode{core.ReadWriteOnce},
			Resources: core.VolumeResourceRequirements{Requests: core.ResourceList{core.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
}

func newProvisioner(t *testing.T) *provisioner {
	t.Helper()
	policy := core.PersistentVolumeReclaimDelete
	class := &storage.StorageClass{ObjectMeta: meta.ObjectMeta{Name: "lab-fs"}, Provisioner: Name, ReclaimPolicy: &policy}
	return &provisioner{client: fake.NewClientset(class), volumes: newVolumes(t.TempDir()), node: "localhost"}
}

func TestOnlyClaimsThatAreOursToServeAreServed(t *testing.T) {
	group := "example"
	source := core.TypedLocalObjectReference{APIGroup: &group, Kind: "Populator", Name: "p"}
	for name, change := range map[string]func(*core.PersistentVolumeClaim){
		"another provisioner":  func(c *core.PersistentVolumeClaim) { c.Annotations[claimAnnotation] = "other" },
		"nobody was named yet": func(c *core.PersistentVolumeClaim) { c.Annotations = nil },
		"has a volume":         func(c *core.PersistentVolumeClaim) { c.Spec.VolumeName = "v" },
		"has a data source":    func(c *core.PersistentVolumeClaim) { c.Spec.DataSource = &source },
		"has a data source reference": func(c *core.PersistentVolumeClaim) {
			c.Spec.DataSourceRef = &core.TypedObjectReference{APIGroup: &group, Kind: "Populator", Name: "p"}
		},
		"is being deleted": func(c *core.PersistentVolumeClaim) { now := meta.Now(); c.DeletionTimestamp = &now },
	} {
		changed := claim()
		change(changed)
		if wanted(changed) {
			t.Errorf("a claim that %s is served", name)
		}
	}
	if !wanted(claim()) {
		t.Error("a plain claim is not served")
	}
}

func TestAFilesystemClaimGetsAFolderThatEverybodyMayWrite(t *testing.T) {
	p, ctx := newProvisioner(t), context.Background()
	for range 2 { // the second look at the same claim changes nothing
		if err := p.provision(ctx, claim()); err != nil {
			t.Fatal(err)
		}
	}
	volume, err := p.client.CoreV1().PersistentVolumes().Get(ctx, "pvc-u1", meta.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(volume.Spec.Local.Path)
	if err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("%v, %v", info, err)
	}
	if reference := volume.Spec.ClaimRef; reference.UID != "u1" || reference.Namespace != "n" {
		t.Error(reference)
	}
}

func TestAReleasedVolumeOfOursIsDeletedWithItsData(t *testing.T) {
	p, ctx := newProvisioner(t), context.Background()
	if err := p.provision(ctx, claim()); err != nil {
		t.Fatal(err)
	}
	volume, err := p.client.CoreV1().PersistentVolumes().Get(ctx, "pvc-u1", meta.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	path := volume.Spec.Local.Path
	if err := os.WriteFile(filepath.Join(path, "disk.img"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	volume.Status.Phase = core.VolumeBound
	if err := p.reclaim(ctx, volume); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal("a bound volume was deleted")
	}
	volume.Status.Phase = core.VolumeReleased
	volume.Spec.PersistentVolumeReclaimPolicy = core.PersistentVolumeReclaimRetain
	if err := p.reclaim(ctx, volume); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal("a volume to retain was deleted")
	}
	volume.Spec.PersistentVolumeReclaimPolicy = core.PersistentVolumeReclaimDelete
	if err := p.reclaim(ctx, volume); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the data is still there: %v", err)
	}
}

func TestOnlyNamesOfVolumesAreDeleted(t *testing.T) {
	for _, name := range []string{"", "../elsewhere", "a/b"} {
		if newVolumes(t.TempDir()).remove(name) == nil {
			t.Errorf("%q was accepted", name)
		}
	}
}
