package main

import (
	"encoding/json"
	"io"
	"os"

	extv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"kubevirt.io/kubevirt/pkg/virt-operator/resource/generate/components"
	"kubevirt.io/kubevirt/pkg/virt-operator/resource/generate/rbac"
)

// manifests prints objects made by virt-operator's own generators, one JSON document per line.
func manifests(args []string) error {
	kinds := map[string]func() ([]any, error){"crds": crds, "rbac": roles, "webhooks": webhookConfigurations}
	if len(args) != 1 || kinds[args[0]] == nil {
		return errUsage
	}
	objects, err := kinds[args[0]]()
	if err != nil {
		return err
	}
	return writeLines(os.Stdout, objects)
}

func writeLines(w io.Writer, objects []any) error {
	encoder := json.NewEncoder(w)
	for _, object := range objects {
		if err := encoder.Encode(object); err != nil {
			return err
		}
	}
	return nil
}

func crds() (objects []any, err error) {
	for _, definition := range []func() (*extv1.CustomResourceDefinition, error){
		components.NewKubeVirtCrd,
		components.NewVirtualMachineCrd,
		components.NewVirtualMachineInstanceCrd,
		components.NewVirtualMachineInstanceMigrationCrd,
		components.NewMigrationPolicyCrd,
		components.NewPresetCrd,
		components.NewReplicaSetCrd,
		components.NewVirtualMachinePoolCrd,
		components.NewVirtualMachineCloneCrd,
		components.NewVirtualMachineExportCrd,
		components.NewVirtualMachineInstancetypeCrd,
		components.NewVirtualMachineClusterInstancetypeCrd,
		components.NewVirtualMachinePreferenceCrd,
		components.NewVirtualMachineClusterPreferenceCrd,
		components.NewVirtualMachineSnapshotCrd,
		components.NewVirtualMachineSnapshotContentCrd,
		components.NewVirtualMachineRestoreCrd,
		components.NewVirtualMachineBackupCrd,
		components.NewVirtualMachineBackupTrackerCrd,
	} {
		crd, err := definition()
		if err != nil {
			return nil, err
		}
		objects = append(objects, crd)
	}
	return objects, nil
}

// roles are the service accounts, roles and bindings of the components, and the roles kubevirt.io:admin, edit and view.
func roles() (objects []any, err error) {
	for _, object := range rbac.GetAllCluster() {
		objects = append(objects, object)
	}
	for _, object := range rbac.GetAllApiServer(namespace) {
		objects = append(objects, object)
	}
	for _, object := range rbac.GetAllController(namespace, false) { // the lab has no NetworkAttachmentDefinitions
		objects = append(objects, object)
	}
	for _, object := range rbac.GetAllHandler(namespace) {
		objects = append(objects, object)
	}
	return objects, nil
}

// webhookConfigurations point at the Service virt-api; the lab adds its port and the certificate authority.
func webhookConfigurations() ([]any, error) {
	return []any{
		components.NewVirtAPIMutatingWebhookConfiguration(namespace),
		components.NewVirtAPIValidatingWebhookConfiguration(namespace),
	}, nil
}
