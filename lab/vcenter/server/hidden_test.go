package main

import (
	"testing"

	"github.com/vmware/govmomi/vim25/types"
)

func TestAHiddenPropertyIsMissingWithThePrivilegeAndTheOthersStay(t *testing.T) {
	vm := types.ManagedObjectReference{Type: "VirtualMachine", Value: "vm-1"}
	o := types.ObjectContent{Obj: vm}
	for _, name := range []string{"name", "config", "config.uuid", "configuration"} {
		o.PropSet = append(o.PropSet, types.DynamicProperty{Name: name, Val: "x"})
	}
	hidden{object: "web-1", paths: []string{"config"}, privilege: "System.Read"}.conceal(&o)
	if len(o.PropSet) != 2 || o.PropSet[0].Name != "name" || o.PropSet[1].Name != "configuration" {
		t.Errorf("told: %v", o.PropSet)
	}
	if len(o.MissingSet) != 2 || o.MissingSet[1].Path != "config.uuid" {
		t.Fatalf("missing: %v", o.MissingSet)
	}
	fault, ok := o.MissingSet[1].Fault.Fault.(*types.NoPermission)
	if !ok || fault.PrivilegeId != "System.Read" || *fault.Object != vm {
		t.Errorf("fault: %v", o.MissingSet[1].Fault)
	}
}
