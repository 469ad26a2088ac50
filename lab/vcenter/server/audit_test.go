package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatCountsAsAChange(t *testing.T) {
	for method, want := range map[string]bool{
		"RetrievePropertiesEx": false, "QueryChangedDiskAreas": false, "WaitForUpdatesEx": false, "Login": false,
		"CreateContainerView": false, "ExportVm": false, "HttpNfcLeaseProgress": false, "FindByUuid": false,
		"CreateSnapshot_Task": true, "RemoveSnapshot_Task": true, "PowerOffVM_Task": true, "ShutdownGuest": true,
		"ReconfigVM_Task": true, "Destroy_Task": true, "Rename_Task": true, "SetCustomValue": true,
		"SomethingNobodyKnows": true, "MarkAsTemplate": true, "RevertToCurrentSnapshot_Task": true,
	} {
		if isChange(method) != want {
			t.Errorf("%s: change %v, want %v", method, !want, want)
		}
	}
}

func TestTheAuditAppendsToWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	for _, method := range []string{"First", "Second"} {
		a, err := openAudit(path)
		if err != nil {
			t.Fatal(err)
		}
		a.write(change{Method: method})
		a.close()
	}
	content, err := os.ReadFile(path)
	if err != nil || strings.Count(string(content), "\n") != 2 {
		t.Fatalf("%v: %s", err, content)
	}
}
