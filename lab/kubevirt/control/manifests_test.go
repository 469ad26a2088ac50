package main

import (
	"bytes"
	"encoding/json"
	"testing"

	"kubevirt.io/kubevirt/pkg/virt-operator/resource/generate/components"
)

type object struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	Webhooks []struct {
		ClientConfig struct {
			Service struct{ Name, Namespace string }
		}
	}
}

func printed(t *testing.T, make func() ([]any, error)) (out []object) {
	t.Helper()
	objects, err := make()
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := writeLines(&text, objects); err != nil {
		t.Fatal(err)
	}
	for decoder := json.NewDecoder(&text); decoder.More(); {
		var o object
		if err := decoder.Decode(&o); err != nil {
			t.Fatal(err)
		}
		out = append(out, o)
	}
	return out
}

func TestEveryManifestSaysWhatItIs(t *testing.T) {
	seen := map[string]bool{}
	for _, make := range []func() ([]any, error){crds, roles, webhookConfigurations} {
		for _, o := range printed(t, make) {
			key := o.Kind + "/" + o.Metadata.Namespace + "/" + o.Metadata.Name
			if o.Kind == "" || o.Metadata.Name == "" {
				t.Errorf("an object without kind or name: %s", key)
			}
			if seen[key] {
				t.Errorf("twice: %s", key)
			}
			seen[key] = true
		}
	}
	for _, account := range []string{components.ApiServiceAccountName, components.ControllerServiceAccountName, components.HandlerServiceAccountName} {
		if !seen["ServiceAccount/"+namespace+"/"+account] {
			t.Errorf("no service account %s", account)
		}
	}
}

func TestAllWebhooksGoToVirtAPI(t *testing.T) {
	for _, configuration := range printed(t, webhookConfigurations) {
		if len(configuration.Webhooks) == 0 {
			t.Errorf("%s has no webhooks", configuration.Metadata.Name)
		}
		for _, webhook := range configuration.Webhooks {
			if s := webhook.ClientConfig.Service; s.Name != "virt-api" || s.Namespace != namespace {
				t.Errorf("%s: a webhook goes to %s/%s", configuration.Metadata.Name, s.Namespace, s.Name)
			}
		}
	}
}
