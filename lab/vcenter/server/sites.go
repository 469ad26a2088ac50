package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/types"
)

// site is a datacenter under construction.
type site struct {
	folders   *object.DatacenterFolders
	vmFolders map[string]*object.Folder
	datastore string // the first one
	hosts     map[string]*object.HostSystem
	first     *object.HostSystem
	nets      map[string]types.BaseVirtualDeviceBackingInfo
}

// wait waits on the simulator's own task object: a client's WaitForResult costs 20 ms a task.
func (l *lab) wait(t *object.Task, err error) (types.AnyType, error) {
	if err != nil {
		return nil, err
	}
	task := l.reg.Get(t.Reference()).(*simulator.Task)
	task.Wait()
	if task.Info.Error != nil {
		return nil, fmt.Errorf("%s: %#v", task.Info.Name, task.Info.Error.Fault)
	}
	return task.Info.Result, nil
}

// build makes the inventory through an in-process client. All VMs are started first and then waited for.
func (l *lab) build(ctx context.Context, inv *Inventory) error {
	c, err := vim25.NewClient(ctx, l.svc)
	if err != nil {
		return err
	}
	sites := map[string]*site{}
	for _, dc := range inv.Datacenters {
		if sites[dc.Name], err = l.site(ctx, c, dc); err != nil {
			return fmt.Errorf("datacenter %s: %w", dc.Name, err)
		}
	}
	type pending struct {
		vm   VM
		task *object.Task
	}
	var todo []pending
	for _, v := range inv.VMs {
		s := sites[or(v.Datacenter, inv.Datacenters[0].Name)]
		if s == nil {
			return fmt.Errorf("VM %s: no datacenter %q", v.Name, v.Datacenter)
		}
		for i := range max(v.Count, 1) {
			one := v
			if v.Count > 1 {
				one.Name = fmt.Sprintf(v.Name, i)
			}
			t, err := l.create(ctx, s, one)
			if err != nil {
				return fmt.Errorf("VM %s: %w", one.Name, err)
			}
			todo = append(todo, pending{one, t})
		}
	}
	fields, err := object.GetCustomFieldsManager(c)
	if err != nil {
		return err
	}
	for _, p := range todo {
		ref, err := l.wait(p.task, nil)
		if err != nil {
			return fmt.Errorf("VM %s: %w", p.vm.Name, err)
		}
		vm := l.reg.Get(ref.(types.ManagedObjectReference)).(*simulator.VirtualMachine)
		if err := l.finish(ctx, object.NewVirtualMachine(c, vm.Self), fields, vm, p.vm); err != nil {
			return fmt.Errorf("VM %s: %w", p.vm.Name, err)
		}
		l.tagged[vm.Self] = p.vm.Tags
	}
	return nil
}

func (l *lab) site(ctx context.Context, c *vim25.Client, dc Datacenter) (*site, error) {
	d, err := object.NewRootFolder(c).CreateDatacenter(ctx, dc.Name)
	if err != nil {
		return nil, err
	}
	s := &site{hosts: map[string]*object.HostSystem{}, nets: map[string]types.BaseVirtualDeviceBackingInfo{}}
	if s.folders, err = d.Folders(ctx); err != nil {
		return nil, err
	}
	s.vmFolders = map[string]*object.Folder{"": s.folders.VmFolder}
	if len(dc.Datastores) == 0 || len(dc.Clusters) == 0 || len(dc.Clusters[0].Hosts) == 0 {
		return nil, fmt.Errorf("at least one datastore and one cluster with a host are needed")
	}
	s.datastore = dc.Datastores[0]
	for _, cl := range dc.Clusters {
		cluster, err := s.folders.HostFolder.CreateCluster(ctx, cl.Name, types.ClusterConfigSpecEx{})
		if err != nil {
			return nil, err
		}
		for _, h := range cl.Hosts {
			ref, err := l.wait(cluster.AddHost(ctx, types.HostConnectSpec{HostName: h}, true, nil, nil))
			if err != nil {
				return nil, err
			}
			s.hosts[h] = object.NewHostSystem(c, ref.(types.ManagedObjectReference))
			if s.first == nil {
				s.first = s.hosts[h]
			}
		}
	}
	for _, name := range dc.Datastores {
		if err := l.addDatastore(ctx, s, dc.Name, name); err != nil {
			return nil, err
		}
	}
	if err := l.addNetworks(ctx, c, s, dc); err != nil {
		return nil, err
	}
	for _, name := range dc.Folders { // parents first: "prod", "prod/web"
		parent := s.vmFolders[strings.TrimPrefix(filepath.Dir(name), ".")]
		if parent == nil {
			return nil, fmt.Errorf("no parent of VM folder %s", name)
		}
		if s.vmFolders[name], err = parent.CreateFolder(ctx, filepath.Base(name)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (l *lab) addDatastore(ctx context.Context, s *site, dc, name string) error {
	path := filepath.Join(l.dir, dc, name)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	for _, h := range s.hosts {
		sys, err := h.ConfigManager().DatastoreSystem(ctx)
		if err != nil {
			return err
		}
		if _, err = sys.CreateLocalDatastore(ctx, name, path); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) addNetworks(ctx context.Context, c *vim25.Client, s *site, dc Datacenter) error {
	sys, err := s.first.ConfigManager().NetworkSystem(ctx)
	if err != nil {
		return err
	}
	for _, name := range dc.Networks {
		if name == "VM Network" { // every host has it from the start
			continue
		}
		if err := sys.AddPortGroup(ctx, types.HostPortGroupSpec{Name: name, VswitchName: "vSwitch0"}); err != nil {
			return err
		}
	}
	if len(dc.Portgroups)+len(dc.Segments) > 0 {
		if err := l.addSwitch(ctx, c, s, dc); err != nil {
			return err
		}
	}
	nets := l.reg.Get(s.folders.NetworkFolder.Reference()).(*simulator.Folder)
	for _, name := range dc.Opaque {
		// Of the type nsx.LogicalSwitch the simulator would make the card's backing a portgroup.
		if err := nets.AddOpaqueNetwork(l.svc.Context, types.OpaqueNetworkSummary{
			NetworkSummary: types.NetworkSummary{Name: name}, OpaqueNetworkType: "lab.Switch"}); err != nil {
			return err
		}
	}
	for _, ref := range nets.ChildEntity {
		var n object.NetworkReference
		var name string
		switch ref.Type {
		case "Network":
			o := object.NewNetwork(c, ref)
			n = o
			name, err = o.ObjectName(ctx)
		case "DistributedVirtualPortgroup":
			o := object.NewDistributedVirtualPortgroup(c, ref)
			n = o
			name, err = o.ObjectName(ctx)
		case "OpaqueNetwork":
			o := object.NewOpaqueNetwork(c, ref)
			n = o
			name, err = o.ObjectName(ctx)
		default:
			continue
		}
		if err != nil {
			return err
		}
		if s.nets[name], err = n.EthernetCardBackingInfo(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) addSwitch(ctx context.Context, c *vim25.Client, s *site, dc Datacenter) error {
	spec := types.DVSCreateSpec{ConfigSpec: &types.VMwareDVSConfigSpec{DVSConfigSpec: types.DVSConfigSpec{Name: "dvs-" + dc.Name}}}
	ref, err := l.wait(s.folders.NetworkFolder.CreateDVS(ctx, spec))
	if err != nil {
		return err
	}
	dvs := object.NewDistributedVirtualSwitch(c, ref.(types.ManagedObjectReference))
	for _, h := range s.hosts {
		member := types.DistributedVirtualSwitchHostMemberConfigSpec{Operation: "add", Host: h.Reference()}
		config := &types.DVSConfigSpec{Host: []types.DistributedVirtualSwitchHostMemberConfigSpec{member}}
		if _, err := l.wait(dvs.Reconfigure(ctx, config)); err != nil {
			return err
		}
	}
	specs := []types.DVPortgroupConfigSpec{}
	for _, name := range dc.Portgroups {
		specs = append(specs, types.DVPortgroupConfigSpec{Name: name, Type: "earlyBinding", NumPorts: 8})
	}
	for _, name := range dc.Segments {
		nsx := types.DVPortgroupConfigSpec{Name: name, Type: "ephemeral", BackingType: "nsx", SegmentId: "/infra/segments/" + name}
		specs = append(specs, nsx)
	}
	for _, spec := range specs {
		if _, err := l.wait(dvs.AddPortgroup(ctx, []types.DVPortgroupConfigSpec{spec})); err != nil {
			return err
		}
	}
	return nil
}

// tag attaches the VMs' tags (category -> tag) through the REST API of the running server.
func (l *lab) tag(ctx context.Context, s *simulator.Server) error {
	c, err := govmomi.NewClient(ctx, s.URL, true)
	if err != nil {
		return err
	}
	r := rest.NewClient(c.Client)
	if err := r.Login(ctx, s.URL.User); err != nil {
		return err
	}
	m, seen := tags.NewManager(r), map[string]string{}
	id := func(key string, make func() (string, error)) (string, error) {
		if seen[key] != "" {
			return seen[key], nil
		}
		made, err := make()
		seen[key] = made
		return made, err
	}
	for ref, kv := range l.tagged {
		for category, tag := range kv {
			cid, err := id(category, func() (string, error) {
				return m.CreateCategory(ctx, &tags.Category{Name: category, Cardinality: "MULTIPLE"})
			})
			if err != nil {
				return err
			}
			tid, err := id(category+"/"+tag, func() (string, error) {
				return m.CreateTag(ctx, &tags.Tag{Name: tag, CategoryID: cid})
			})
			if err != nil {
				return err
			}
			if err := m.AttachTag(ctx, tid, ref); err != nil {
				return err
			}
		}
	}
	return c.Logout(ctx)
}
