package main

import (
	"context"
	"encoding/json"
	"errors"

	jsonpatch "github.com/evanphx/json-patch"
	admissionv1 "k8s.io/api/admission/v1"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	k8sfield "k8s.io/apimachinery/pkg/util/validation/field"
	v1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"kubevirt.io/kubevirt/pkg/defaults"
	netadmitter "kubevirt.io/kubevirt/pkg/network/admitter"
	"kubevirt.io/kubevirt/pkg/virt-api/webhooks"
	"kubevirt.io/kubevirt/pkg/virt-api/webhooks/mutating-webhook/mutators"
	"kubevirt.io/kubevirt/pkg/virt-api/webhooks/validating-webhook/admitters"
	virtconfig "kubevirt.io/kubevirt/pkg/virt-config"
)

// cause is one reason for a refusal, and the stage that gave it: decode, crd, vm-mutate, vm or vmi.
type cause struct {
	Stage   string `json:"stage"`
	Field   string `json:"field,omitempty"`
	Message string `json:"message"`
}

type verdict struct {
	File     string   `json:"file"`
	Name     string   `json:"name"`
	Allowed  bool     `json:"allowed"`
	Causes   []cause  `json:"causes,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

// record takes an admission response and says whether the next stage makes sense.
func (v *verdict) record(stage string, response *admissionv1.AdmissionResponse) bool {
	v.Warnings = append(v.Warnings, response.Warnings...)
	if response.Allowed {
		return true
	}
	if response.Result.Details == nil || len(response.Result.Details.Causes) == 0 {
		v.Causes = append(v.Causes, cause{stage, "", response.Result.Message})
		return false
	}
	for _, c := range response.Result.Details.Causes {
		v.Causes = append(v.Causes, cause{stage, c.Field, c.Message})
	}
	return false
}

// admit puts a manifest through what an API server with KubeVirt does: schema, VM defaults, VM validation, and
// the validation of the VMI that virt-controller would make of it.
func (c *checker) admit(v *verdict, document []byte) error {
	vm, object := &v1.VirtualMachine{}, map[string]any{}
	if err := errors.Join(yaml.Unmarshal(document, vm), yaml.Unmarshal(document, &object)); err != nil {
		v.Causes = append(v.Causes, cause{"decode", "", err.Error()})
		return nil
	}
	v.Name = vm.Name
	if vm.Spec.Template == nil {
		v.Causes = append(v.Causes, cause{"decode", "spec.template", "missing"})
		return nil
	}
	// KubeVirt's Go types do not find unknown fields: their decoding is lenient, and takes bootLoader for bootloader.
	unknown := structural.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	for _, field := range pruning.PruneWithOptions(object, c.schema, true, unknown) {
		v.Causes = append(v.Causes, cause{"crd", field, "unknown field"})
	}
	request, err := review(vm, webhooks.VirtualMachineGroupVersionResource)
	if err != nil {
		return err
	}
	response := mutators.NewVMsMutator(c.config, nil).Mutate(request)
	if !v.record("vm-mutate", response) {
		return nil
	}
	patch, err := jsonpatch.DecodePatch(response.Patch)
	if err != nil {
		return err
	}
	if request.Request.Object.Raw, err = patch.Apply(request.Request.Object.Raw); err != nil {
		return err
	}
	admitter := admitters.NewVMsAdmitter(c.config, nil, &webhooks.Informers{}, nil)
	if !v.record("vm", admitter.Admit(context.Background(), request)) {
		return nil
	}
	if err := json.Unmarshal(request.Request.Object.Raw, vm); err != nil {
		return err
	}
	return c.admitInstance(v, vm)
}

// admitInstance checks the instance that virt-controller would create for an admitted VM.
func (c *checker) admitInstance(v *verdict, vm *v1.VirtualMachine) error {
	vmi := v1.NewVMIReferenceFromNameWithNS(vm.Namespace, vm.Name)
	vmi.Labels, vmi.Annotations = vm.Spec.Template.ObjectMeta.Labels, vm.Spec.Template.ObjectMeta.Annotations
	vmi.Spec = vm.Spec.Template.Spec
	if err := defaults.SetDefaultVirtualMachineInstance(c.config, vmi); err != nil {
		return err
	}
	request, err := review(vmi, webhooks.VirtualMachineInstanceGroupVersionResource)
	if err != nil {
		return err
	}
	create := &admitters.VMICreateAdmitter{ClusterConfig: c.config, SpecValidators: []admitters.SpecValidator{network}}
	v.record("vmi", create.Admit(context.Background(), request))
	return nil
}

func network(f *k8sfield.Path, spec *v1.VirtualMachineInstanceSpec, config *virtconfig.ClusterConfig) []metav1.StatusCause {
	return netadmitter.ValidateCreation(f, spec, config)
}

func review(object any, resource metav1.GroupVersionResource) (*admissionv1.AdmissionReview, error) {
	raw, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	return &admissionv1.AdmissionReview{Request: &admissionv1.AdmissionRequest{
		Operation: admissionv1.Create, Resource: resource, Object: runtime.RawExtension{Raw: raw}}}, nil
}
