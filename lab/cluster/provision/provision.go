// Package provision makes volumes for claims of the lab's storage classes, as an external provisioner does:
// a folder for Filesystem claims, a sparse file behind a loop device for Block claims (root only).
// A claim with a data source is left to whoever populates it.
package provision

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/workqueue"
)

// Name is what storage classes name as their provisioner.
const Name = "lab.mtv/local"

const (
	claimAnnotation = "volume.kubernetes.io/storage-provisioner" // set by the controller-manager: whose turn it is
	ownAnnotation   = "pv.kubernetes.io/provisioned-by"
)

type provisioner struct {
	client  kubernetes.Interface
	volumes *volumes
	node    string
}

// Main runs `labkube provisioner` until it is killed.
func Main(args []string) error {
	flags := flag.NewFlagSet("provisioner", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "how to reach the cluster")
	data := flags.String("data", "", "folder for the volumes")
	node := flags.String("node", "localhost", "name of the node that has the folder")
	if err := flags.Parse(args); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*data, 0o755); err != nil {
		return err
	}
	p := &provisioner{client: client, volumes: newVolumes(*data), node: *node}
	return p.run(context.Background())
}

func (p *provisioner) run(ctx context.Context) error {
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](200*time.Millisecond, 10*time.Second))
	factory := informers.NewSharedInformerFactory(p.client, time.Minute)
	claims, persistent := factory.Core().V1().PersistentVolumeClaims(), factory.Core().V1().PersistentVolumes()
	enqueue := func(prefix string) cache.ResourceEventHandlerFuncs {
		add := func(object any) {
			if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object); err == nil {
				queue.Add(prefix + key)
			}
		}
		return cache.ResourceEventHandlerFuncs{AddFunc: add, UpdateFunc: func(_, object any) { add(object) }}
	}
	if _, err := claims.Informer().AddEventHandler(enqueue("claim:")); err != nil {
		return err
	}
	if _, err := persistent.Informer().AddEventHandler(enqueue("volume:")); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	log.Printf("provisioning for %s", Name)
	for {
		key, shutdown := queue.Get()
		if shutdown {
			return errors.New("work queue was shut down")
		}
		var err error
		if name, ok := cutPrefix(key, "claim:"); ok {
			namespace, claim, _ := cache.SplitMetaNamespaceKey(name)
			if object, missing := claims.Lister().PersistentVolumeClaims(namespace).Get(claim); missing == nil {
				err = p.provision(ctx, object)
			}
		} else if name, ok := cutPrefix(key, "volume:"); ok {
			if object, missing := persistent.Lister().Get(name); missing == nil {
				err = p.reclaim(ctx, object)
			}
		}
		if err != nil {
			log.Printf("%s: %v", key, err)
			queue.AddRateLimited(key)
		} else {
			queue.Forget(key)
		}
		queue.Done(key)
	}
}

// wanted says if it is our turn to make a volume for the claim.
func wanted(claim *core.PersistentVolumeClaim) bool {
	return claim.DeletionTimestamp == nil && claim.Spec.VolumeName == "" && claim.Annotations[claimAnnotation] == Name &&
		claim.Spec.DataSource == nil && claim.Spec.DataSourceRef == nil
}

func (p *provisioner) provision(ctx context.Context, claim *core.PersistentVolumeClaim) error {
	if !wanted(claim) {
		return nil
	}
	class, err := p.client.StorageV1().StorageClasses().Get(ctx, *claim.Spec.StorageClassName, meta.GetOptions{})
	if err != nil {
		return err
	}
	volume := p.volumeFor(claim)
	volume.Spec.PersistentVolumeReclaimPolicy = *class.ReclaimPolicy
	size := claim.Spec.Resources.Requests.Storage().Value()
	path, err := p.volumes.make(volume.Name, size, isBlock(claim))
	if err != nil {
		p.event(ctx, claim, err)
		return err
	}
	volume.Spec.Local = &core.LocalVolumeSource{Path: path} // which the kubelet gives to the pod's fsGroup
	_, err = p.client.CoreV1().PersistentVolumes().Create(ctx, volume, meta.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil // made on an earlier look at the claim, the binder has not bound it yet
	}
	return err
}

func (p *provisioner) volumeFor(claim *core.PersistentVolumeClaim) *core.PersistentVolume {
	return &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{
			Name: "pvc-" + string(claim.UID), Annotations: map[string]string{ownAnnotation: Name},
		},
		Spec: core.PersistentVolumeSpec{
			Capacity:         core.ResourceList{core.ResourceStorage: *claim.Spec.Resources.Requests.Storage()},
			AccessModes:      claim.Spec.AccessModes,
			VolumeMode:       claim.Spec.VolumeMode,
			StorageClassName: *claim.Spec.StorageClassName,
			ClaimRef: &core.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID, ResourceVersion: claim.ResourceVersion,
			},
			NodeAffinity: &core.VolumeNodeAffinity{Required: &core.NodeSelector{NodeSelectorTerms: []core.NodeSelectorTerm{{
				MatchExpressions: []core.NodeSelectorRequirement{{
					Key: core.LabelHostname, Operator: core.NodeSelectorOpIn, Values: []string{p.node},
				}},
			}}}},
		},
	}
}

// reclaim deletes a released volume of ours, as its reclaim policy says.
func (p *provisioner) reclaim(ctx context.Context, volume *core.PersistentVolume) error {
	ours := volume.Annotations[ownAnnotation] == Name && volume.Status.Phase == core.VolumeReleased
	if !ours || volume.Spec.PersistentVolumeReclaimPolicy != core.PersistentVolumeReclaimDelete || volume.DeletionTimestamp != nil {
		return nil
	}
	if err := p.volumes.remove(volume.Name); err != nil {
		return err
	}
	err := p.client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, meta.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// event tells the claim's owner why there is no volume: `kubectl describe pvc` shows it.
func (p *provisioner) event(ctx context.Context, claim *core.PersistentVolumeClaim, why error) {
	now := meta.Now()
	_, err := p.client.CoreV1().Events(claim.Namespace).Create(ctx, &core.Event{
		ObjectMeta: meta.ObjectMeta{GenerateName: claim.Name + ".", Labels: labels.Set{}},
		InvolvedObject: core.ObjectReference{
			APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
		},
		Reason: "ProvisioningFailed", Message: why.Error(), Type: core.EventTypeWarning,
		Source: core.EventSource{Component: Name}, FirstTimestamp: now, LastTimestamp: now, Count: 1,
	}, meta.CreateOptions{})
	if err != nil {
		log.Printf("event for claim %s/%s: %v", claim.Namespace, claim.Name, err)
	}
}

func isBlock(claim *core.PersistentVolumeClaim) bool {
	return claim.Spec.VolumeMode != nil && *claim.Spec.VolumeMode == core.PersistentVolumeBlock
}

func cutPrefix(text, prefix string) (string, bool) {
	if len(text) >= len(prefix) && text[:len(prefix)] == prefix {
		return text[len(prefix):], true
	}
	return "", false
}

var errNoLoop = fmt.Errorf("block volumes need a loop device, and so root: use class lab-fs, or run the lab as root")
