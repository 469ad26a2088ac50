package main

import (
	"os"
	"strings"
	"testing"
)

func TestCheckGivesTheVerdictsOfAnAPIServerWithKubeVirt(t *testing.T) {
	good, err := os.ReadFile("testdata/web.yaml")
	if err != nil {
		t.Fatal(err)
	}
	checker, err := newChecker(strings.Split(defaultGates, ","))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ from, to, stage, words string }{
		"as it is":            {"", "", "", ""},
		"unknown bus":         {"disk: {bus: virtio}", "disk: {bus: pvscsi}", "vm", "unrecognized bus pvscsi"},
		"short MAC address":   {"02:50:56:aa:00:01", "02:50:56:aa:00", "vm", "malformed MAC address"},
		"misspelled field":    {"bootloader:", "bootLoader:", "crd", "unknown field"},
		"no memory":           {"        memory: {guest: 4Gi}\n", "", "vmi", "memory"},
		"secure boot, no SMM": {", smm: {enabled: true}", "", "vm", "SMM"},
		"disk without volume": {"      - {name: data, persistentVolumeClaim: {claimName: web-data}}\n", "", "vm", "data"},
		"no template":         {"  template:\n", "  templates:\n", "decode", "missing"},
		"not YAML":            {"spec:\n", "spec: [\n", "decode", ""},
	} {
		t.Run(name, func(t *testing.T) {
			text := string(good)
			if test.from != "" && !strings.Contains(text, test.from) {
				t.Fatalf("the manifest does not contain %q", test.from)
			}
			if test.from != "" {
				text = strings.Replace(text, test.from, test.to, 1)
			}
			verdicts, err := checker.file("web.yaml", []byte(text))
			if err != nil || len(verdicts) != 1 {
				t.Fatalf("want one verdict, got %v, %v", verdicts, err)
			}
			got := verdicts[0]
			if test.stage == "" {
				if !got.Allowed || len(got.Causes) != 0 {
					t.Fatalf("want it allowed, got %+v", got)
				}
				return
			}
			for _, c := range got.Causes {
				if !got.Allowed && c.Stage == test.stage && strings.Contains(c.Message, test.words) {
					return
				}
			}
			t.Fatalf("want a refusal by stage %q with %q, got %+v", test.stage, test.words, got)
		})
	}
}

func TestEveryDocumentOfAFileGetsAVerdict(t *testing.T) {
	good, err := os.ReadFile("testdata/web.yaml")
	if err != nil {
		t.Fatal(err)
	}
	checker, err := newChecker(nil)
	if err != nil {
		t.Fatal(err)
	}
	bad := strings.Replace(string(good), "virtio", "ide", 1)
	verdicts, err := checker.file("two.yaml", []byte(string(good)+"---\n"+bad))
	if err != nil || len(verdicts) != 2 || !verdicts[0].Allowed || verdicts[1].Allowed {
		t.Fatalf("want allowed, refused; got %+v, %v", verdicts, err)
	}
}
