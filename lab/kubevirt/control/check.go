package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	extv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/tools/cache"
	v1 "kubevirt.io/api/core/v1"

	virtconfig "kubevirt.io/kubevirt/pkg/virt-config"
	"kubevirt.io/kubevirt/pkg/virt-operator/resource/generate/components"
)

// defaultGates are the feature gates of the lab's KubeVirt CR.
const defaultGates = "HostDevices,PersistentReservation"

// check prints a verdict for every VirtualMachine document of the named files, without a cluster.
func check(args []string) error {
	flags := flag.NewFlagSet("check", flag.ExitOnError)
	gates := flags.String("gates", defaultGates, "feature gates of the target's KubeVirt CR")
	if err := flags.Parse(args); err != nil {
		return err
	}
	checker, err := newChecker(strings.Split(*gates, ","))
	if err != nil {
		return err
	}
	var outcome error
	for _, file := range flags.Args() {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		verdicts, err := checker.file(file, data)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		for _, verdict := range verdicts {
			if !verdict.Allowed {
				outcome = errRefused
			}
			if err := json.NewEncoder(os.Stdout).Encode(verdict); err != nil {
				return err
			}
		}
	}
	return outcome
}

// checker holds what admission needs to know of a cluster: KubeVirt's settings and the VirtualMachine's schema.
type checker struct {
	config *virtconfig.ClusterConfig
	schema *structural.Structural
}

func newChecker(gates []string) (*checker, error) {
	kv := &v1.KubeVirt{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "kubevirt", ResourceVersion: "1"}}
	kv.Spec.Configuration.DeveloperConfiguration = &v1.DeveloperConfiguration{FeatureGates: gates}
	// KubeVirt ignores a CR without a phase, and knows no architecture without this default.
	kv.Status.Phase, kv.Status.DefaultArchitecture = v1.KubeVirtPhaseDeployed, "amd64"
	kvs := cache.NewSharedIndexInformer(&cache.ListWatch{}, kv, 0, cache.Indexers{})
	definitions := cache.NewSharedIndexInformer(&cache.ListWatch{}, &extv1.CustomResourceDefinition{}, 0, cache.Indexers{})
	if err := kvs.GetStore().Add(kv); err != nil {
		return nil, err
	}
	config, err := virtconfig.NewClusterConfigWithCPUArch(definitions, kvs, namespace, "amd64")
	if err != nil {
		return nil, err
	}
	crd, err := components.NewVirtualMachineCrd()
	if err != nil {
		return nil, err
	}
	internal := apiextensions.JSONSchemaProps{}
	schema := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	if err := extv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(schema, &internal, nil); err != nil {
		return nil, err
	}
	structured, err := structural.NewStructural(&internal)
	if err != nil {
		return nil, err
	}
	return &checker{config: config, schema: structured}, nil
}

// file gives one verdict per YAML document.
func (c *checker) file(name string, data []byte) (verdicts []*verdict, err error) {
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return verdicts, nil
		}
		if err != nil {
			return nil, err
		}
		v := &verdict{File: name}
		if err := c.admit(v, document); err != nil {
			return nil, err
		}
		v.Allowed = len(v.Causes) == 0
		verdicts = append(verdicts, v)
	}
}
