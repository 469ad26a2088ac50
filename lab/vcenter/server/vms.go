package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

func (l *lab) create(ctx context.Context, s *site, v VM) (*object.Task, error) {
	ds := or(v.Datastore, s.datastore)
	devices, err := diskDevices(v, ds)
	if err != nil {
		return nil, err
	}
	for _, d := range v.Disks { // the VM's own folder is the simulator's affair, those on other datastores are not
		if d.Datastore == "" || d.Datastore == ds {
			continue
		}
		if l.datastore(d.Datastore) == nil {
			return nil, fmt.Errorf("no datastore %q", d.Datastore)
		}
		if err := os.MkdirAll(filepath.Join(l.datastore(d.Datastore).Summary.Url, v.Name), 0o700); err != nil {
			return nil, err
		}
	}
	for _, n := range v.NICs {
		back := s.nets[or(n.Network, "VM Network")]
		if back == nil {
			return nil, fmt.Errorf("no network %q", n.Network)
		}
		nic, err := devices.CreateEthernetCard(or(n.Model, "vmxnet3"), back)
		if err != nil {
			return nil, err
		}
		if card := nic.(types.BaseVirtualEthernetCard).GetVirtualEthernetCard(); n.MAC != "" {
			card.MacAddress, card.AddressType = n.MAC, "manual"
		}
		devices = append(devices, nic)
	}
	spec := types.VirtualMachineConfigSpec{
		Name: v.Name, GuestId: or(v.GuestID, "otherGuest64"), AlternateGuestName: v.GuestName,
		Uuid: v.UUID, InstanceUuid: v.InstanceUUID,
		Version: or(v.Version, "vmx-19"), Firmware: or(v.Firmware, "bios"), ChangeTrackingEnabled: &v.CBT,
		NumCPUs: max(v.CPUs, 1), NumCoresPerSocket: types.NewInt32(max(v.CoresPerSocket, 1)), MemoryMB: max(v.MemoryMB, 128),
		BootOptions: &types.VirtualMachineBootOptions{EfiSecureBootEnabled: &v.SecureBoot},
		Files:       &types.VirtualMachineFileInfo{VmPathName: "[" + ds + "]"},
	}
	if spec.DeviceChange, err = devices.ConfigSpec(types.VirtualDeviceConfigSpecOperationAdd); err != nil {
		return nil, err
	}
	host := s.first
	if v.Host != "" {
		host = s.hosts[v.Host]
	}
	folder := s.vmFolders[v.Folder]
	if host == nil || folder == nil {
		return nil, fmt.Errorf("no host %q or folder %q", v.Host, v.Folder)
	}
	pool, err := host.ResourcePool(ctx)
	if err != nil {
		return nil, err
	}
	return folder.CreateVM(ctx, spec, pool, host)
}

// diskDevices makes a VM's disks and one controller of each kind that they hang on.
func diskDevices(v VM, ds string) (object.VirtualDeviceList, error) {
	var devices object.VirtualDeviceList
	controllers := map[string]types.BaseVirtualController{}
	for i, d := range v.Disks {
		kind := or(d.Controller, "pvscsi")
		if controllers[kind] == nil {
			dev, err := controller(devices, kind)
			if err != nil {
				return nil, err
			}
			devices = append(devices, dev)
			controllers[kind] = dev.(types.BaseVirtualController)
		}
		suffix := ""
		if i > 0 {
			suffix = fmt.Sprintf("_%d", i)
		}
		name := fmt.Sprintf("[%s] %s/%s%s.vmdk", or(d.Datastore, ds), v.Name, v.Name, suffix)
		disk := devices.CreateDisk(controllers[kind], types.ManagedObjectReference{}, name)
		size := max(d.SizeMB, 1) << 20
		if d.File != "" {
			st, err := os.Stat(d.File)
			if err != nil {
				return nil, err
			}
			size = st.Size()
		}
		if size%1024 != 0 {
			return nil, fmt.Errorf("disk %d has %d bytes, no whole number of KiB", i, size)
		}
		disk.CapacityInKB, disk.CapacityInBytes = size>>10, size
		b := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		b.DiskMode, b.ThinProvisioned = or(d.Mode, "persistent"), types.NewBool(true)
		if d.Shared {
			b.Sharing = "sharingMultiWriter"
		}
		devices = append(devices, disk)
	}
	return devices, nil
}

func controller(devices object.VirtualDeviceList, kind string) (types.BaseVirtualDevice, error) {
	switch kind {
	case "ide":
		return devices.CreateIDEController()
	case "sata":
		return devices.CreateSATAController()
	case "nvme":
		return devices.CreateNVMEController()
	}
	return devices.CreateSCSIController(kind)
}

// finish sets what CreateVM cannot: real disk files, guest state, vTPM, RDM, power state, attributes, snapshots.
func (l *lab) finish(ctx context.Context, o *object.VirtualMachine, fields *object.CustomFieldsManager, vm *simulator.VirtualMachine, v VM) error {
	l.machines[vm.Self] = &machine{spec: v}
	l.nameOpaqueNetworks(vm)
	vm.Capability.ChangeTrackingSupported = true
	for _, r := range []*types.VirtualMachineRuntimeInfo{&vm.Runtime, &vm.Summary.Runtime} { // clients refuse empty enums
		r.FaultToleranceState, r.RecordReplayState = "notConfigured", "inactive"
	}
	vm.GuestHeartbeatStatus = "gray"
	for i, disk := range disks(vm.Config.Hardware.Device) {
		if err := l.backDisk(disk, v.Disks[i]); err != nil {
			return err
		}
	}
	if v.TPM {
		vm.Config.Hardware.Device = append(vm.Config.Hardware.Device, &types.VirtualTPM{VirtualDevice: types.VirtualDevice{
			Key: 11000, DeviceInfo: &types.Description{Label: "Virtual TPM", Summary: "Trusted Platform Module"}}})
	}
	if v.PowerOn {
		now := time.Now()
		vm.Runtime.PowerState, vm.Summary.Runtime.PowerState = "poweredOn", "poweredOn"
		vm.Runtime.BootTime, vm.Summary.Runtime.BootTime = &now, &now
	}
	g := guestInfo(v, vm.Config.GuestId, v.PowerOn, v.PowerOn && !l.isReal(vm))
	vm.Guest = g
	vm.Summary.Guest.HostName, vm.Summary.Guest.IpAddress, vm.Summary.Guest.ToolsStatus = g.HostName, g.IpAddress, g.ToolsStatus
	vm.Summary.Guest.ToolsRunningStatus = g.ToolsRunningStatus
	for name, value := range v.Attributes {
		key, err := fields.FindKey(ctx, name)
		if err != nil {
			def, err := fields.Add(ctx, name, "VirtualMachine", nil, nil)
			if err != nil {
				return err
			}
			key = def.Key
		}
		if err := fields.Set(ctx, vm.Self, key, value); err != nil {
			return err
		}
	}
	for _, name := range v.Snapshots {
		if _, err := l.wait(o.CreateSnapshot(ctx, name, "", false, false)); err != nil {
			return err
		}
	}
	if v.Template {
		return o.MarkAsTemplate(ctx)
	}
	return nil
}

// backDisk puts content behind a disk: a file of the inventory, or zeros in full size (the simulator leaves it empty).
func (l *lab) backDisk(disk *types.VirtualDisk, d Disk) error {
	b := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	flat := l.flat(b.FileName)
	if d.File == "" {
		if err := os.Truncate(flat, disk.CapacityInBytes); err != nil {
			return err
		}
	} else {
		path, err := filepath.Abs(d.File)
		if err != nil {
			return err
		}
		if err := os.Remove(flat); err != nil && !os.IsNotExist(err) {
			return err
		}
		if err := os.Symlink(path, flat); err != nil {
			return err
		}
	}
	if d.RDM != "" {
		mode, lun := "virtualMode", d.RDM
		if rest, ok := strings.CutPrefix(lun, "physical:"); ok {
			mode, lun = "physicalMode", rest
		}
		disk.Backing = &types.VirtualDiskRawDiskMappingVer1BackingInfo{
			VirtualDeviceFileBackingInfo: b.VirtualDeviceFileBackingInfo, LunUuid: lun, DeviceName: "vml." + lun,
			CompatibilityMode: mode, DiskMode: b.DiskMode, Sharing: b.Sharing, Uuid: b.Uuid}
	}
	return nil
}

// nameOpaqueNetworks fills what the simulator leaves empty in a VM's networks: those of its cards that are opaque.
func (l *lab) nameOpaqueNetworks(vm *simulator.VirtualMachine) {
	known := map[string]types.ManagedObjectReference{}
	for _, n := range l.reg.All("OpaqueNetwork") {
		known[n.(*mo.OpaqueNetwork).Summary.(*types.OpaqueNetworkSummary).OpaqueNetworkId] = n.Reference()
	}
	at := 0 // the simulator lists one network for each card, in their order
	for _, d := range vm.Config.Hardware.Device {
		card, ok := d.(types.BaseVirtualEthernetCard)
		if !ok {
			continue
		}
		if b, ok := card.GetVirtualEthernetCard().Backing.(*types.VirtualEthernetCardOpaqueNetworkBackingInfo); ok {
			vm.Network[at] = known[b.OpaqueNetworkId]
		}
		at++
	}
}

// guestInfo is what VMware Tools tell of a guest; little while they do not run.
func guestInfo(v VM, guestID string, on, tools bool) *types.GuestInfo {
	g := &types.GuestInfo{GuestState: "notRunning", ToolsRunningStatus: "guestToolsNotRunning", ToolsStatus: "toolsNotRunning",
		GuestId: guestID, GuestFullName: v.GuestName, HostName: v.Hostname}
	if !on || !tools {
		return g
	}
	g.GuestState, g.ToolsRunningStatus, g.ToolsStatus = "running", "guestToolsRunning", "toolsOk"
	for i, n := range v.NICs {
		nic := types.GuestNicInfo{Network: or(n.Network, "VM Network"), MacAddress: n.MAC, IpAddress: n.IPs, Connected: true,
			DeviceConfigId: 4000 + int32(i), IpConfig: &types.NetIpConfigInfo{}}
		for _, ip := range n.IPs {
			g.IpAddress = or(g.IpAddress, ip)
			address := types.NetIpConfigInfoIpAddress{IpAddress: ip, PrefixLength: 24, State: "preferred", Origin: n.Origin}
			nic.IpConfig.IpAddress = append(nic.IpConfig.IpAddress, address)
		}
		g.Net = append(g.Net, nic)
	}
	g.ToolsVersionStatus2 = v.ToolsVersion
	for _, fs := range v.FileSystems {
		told := types.GuestDiskInfo{DiskPath: fs.Path, FilesystemType: fs.Type, Capacity: fs.SizeBytes, FreeSpace: fs.FreeBytes}
		if fs.Disk != 0 {
			told.Mappings = []types.GuestInfoVirtualDiskMapping{{Key: fs.Disk}}
		}
		g.Disk = append(g.Disk, told)
	}
	return g
}
