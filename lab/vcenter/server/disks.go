package main

import (
	"path/filepath"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// labVM is a VM with the methods that the simulator lacks or answers without substance.
type labVM struct {
	*simulator.VirtualMachine
	l *lab
}

// labSnapshot is a snapshot that can be exported.
type labSnapshot struct {
	*simulator.VirtualMachineSnapshot
	l *lab
}

func disks(devices []types.BaseVirtualDevice) (out []*types.VirtualDisk) {
	for _, d := range devices {
		if v, ok := d.(*types.VirtualDisk); ok {
			out = append(out, v)
		}
	}
	return
}

func diskFile(d *types.VirtualDisk) string {
	return d.Backing.(types.BaseVirtualDeviceFileBackingInfo).GetVirtualDeviceFileBackingInfo().FileName
}

// flat finds the file of a flat extent: "[ds] dir/x.vmdk" -> <folder of ds>/dir/x-flat.vmdk
func (l *lab) flat(name string) string {
	ds, path, _ := strings.Cut(strings.TrimPrefix(name, "["), "] ")
	if d := l.datastore(ds); d != nil {
		return filepath.Join(d.Summary.Url, strings.TrimSuffix(path, ".vmdk")+"-flat.vmdk")
	}
	return ""
}

func (l *lab) datastore(name string) *simulator.Datastore {
	for _, e := range l.reg.All("Datastore") {
		if d := e.(*simulator.Datastore); d.Name == name {
			return d
		}
	}
	return nil
}
