package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func inventoryFile(t *testing.T, content string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"inventory": strings.ReplaceAll(content, "DIR", dir), "secret": "pw\n", "empty": "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "inventory")
}

const (
	oneUser = `"Users": [{"Name": "u", "PasswordFile": "DIR/secret"}]`
	oneSite = `"Datacenters": [{"Name": "dc", "Datastores": ["ds"], "Clusters": [{"Name": "c", "Hosts": ["h"]}]}]`
)

func TestPasswordsComeFromFiles(t *testing.T) {
	inv, err := readInventory(inventoryFile(t, "{"+oneUser+","+oneSite+"}"))
	if err != nil || inv.Users[0].password != "pw" {
		t.Fatalf("%v, %+v", err, inv)
	}
}

func TestAWrongInventoryIsRefused(t *testing.T) {
	for name, content := range map[string]string{
		"unknown field": "{" + oneUser + "," + oneSite + `, "Machines": []}`,
		"no oneUser":    "{" + oneSite + "}",
		"no datacenter": "{" + oneUser + "}",
		"empty secret":  strings.Replace("{"+oneUser+","+oneSite+"}", "secret", "empty", 1),
		"no secret":     strings.Replace("{"+oneUser+","+oneSite+"}", "secret", "none", 1),
		"no JSON":       "{",
	} {
		if _, err := readInventory(inventoryFile(t, content)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestAVMThatCannotBeMadeIsNamed(t *testing.T) {
	for name, vm := range map[string]string{
		"no such file":      `"Disks": [{"File": "/does/not/exist"}]`,
		"no such network":   `"NICs": [{"Network": "nowhere"}]`,
		"no such host":      `"Host": "nobody"`,
		"no such folder":    `"Folder": "nowhere"`,
		"no such datastore": `"Disks": [{"SizeMB": 1, "Datastore": "nowhere"}]`,
	} {
		inv, err := readInventory(inventoryFile(t, "{"+oneUser+","+oneSite+`, "VMs": [{"Name": "odd", `+vm+`}]}`))
		if err != nil {
			t.Fatal(err)
		}
		inv.Scratch = t.TempDir()
		l, err := newLab(inv, "")
		if err == nil {
			l.close()
			t.Errorf("%s: made", name)
		} else if !strings.Contains(err.Error(), "odd") {
			t.Errorf("%s: %v does not name the VM", name, err)
		}
	}
}

func TestManyVMsFromOneEntry(t *testing.T) {
	inv, err := readInventory(inventoryFile(t, "{"+oneUser+","+oneSite+`, "VMs": [{"Name": "load-%03d", "Count": 25, "Disks": [{"SizeMB": 1}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	inv.Scratch = t.TempDir()
	l, err := newLab(inv, "")
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	if n := len(l.reg.All("VirtualMachine")); n != 25 {
		t.Fatalf("%d VMs", n)
	}
}
