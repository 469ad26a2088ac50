package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// lease is an export: streamOptimized files behind URLs that need no further login, for as long as progress is reported.
type lease struct {
	mo.HttpNfcLease
	l *lab

	mu      sync.Mutex
	files   map[string]string // name in the URL -> file
	touched time.Time
	over    bool
}

func (n *lease) touch() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.touched = time.Now()
}

// file finds what a URL of the lease stands for; nothing once the lease is over.
func (n *lease) file(name string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.over {
		return ""
	}
	return n.files[name]
}

func (n *lease) end() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.over = true
	for _, f := range n.files {
		_ = os.Remove(f)
	}
}

// HttpNfcLeaseProgress keeps the lease alive.
func (n *lease) HttpNfcLeaseProgress(_ *simulator.Context, r *types.HttpNfcLeaseProgress) soap.HasFault {
	body := &methods.HttpNfcLeaseProgressBody{}
	if n.State != types.HttpNfcLeaseStateReady {
		body.Fault_ = simulator.Fault("The lease is not ready", &types.InvalidState{})
		return body
	}
	n.touch()
	n.TransferProgress = r.Percent
	body.Res = new(types.HttpNfcLeaseProgressResponse)
	return body
}

// HttpNfcLeaseComplete ends the lease; its files are gone.
func (n *lease) HttpNfcLeaseComplete(*simulator.Context, *types.HttpNfcLeaseComplete) soap.HasFault {
	n.State = types.HttpNfcLeaseStateDone
	n.end()
	return &methods.HttpNfcLeaseCompleteBody{Res: new(types.HttpNfcLeaseCompleteResponse)}
}

// HttpNfcLeaseAbort ends the lease as failed.
func (n *lease) HttpNfcLeaseAbort(*simulator.Context, *types.HttpNfcLeaseAbort) soap.HasFault {
	n.State = types.HttpNfcLeaseStateError
	n.end()
	return &methods.HttpNfcLeaseAbortBody{Res: new(types.HttpNfcLeaseAbortResponse)}
}

// export makes a lease that becomes ready when qemu-img has written the disks as streamOptimized files.
func (l *lab) export(ctx *simulator.Context, entity types.ManagedObjectReference, devices []types.BaseVirtualDevice, snap *types.ManagedObjectReference) types.ManagedObjectReference {
	n := &lease{l: l, files: map[string]string{}, touched: time.Now()}
	n.Self = types.ManagedObjectReference{Type: "HttpNfcLease", Value: fmt.Sprintf("session-lease-%d", l.next())}
	n.State = types.HttpNfcLeaseStateInitializing
	ctx.Map.Put(n)
	l.mu.Lock()
	l.exports[n.Self.Value] = n
	l.mu.Unlock()
	// Every file is chosen now: the lease stands for this moment, whatever becomes of the snapshot later.
	later, timeout := *ctx, l.faults.leaseTimeout()
	go func() {
		info, err := l.writeExport(n, entity, devices, snap, timeout)
		if err != nil {
			log.Print("export: ", err)
			fault := &types.LocalizedMethodFault{Fault: &types.FileFault{File: err.Error()}, LocalizedMessage: err.Error()}
			l.reg.AtomicUpdate(&later, n, []types.PropertyChange{{Name: "error", Val: fault}, {Name: "state", Val: types.HttpNfcLeaseStateError}})
			return
		}
		n.touch()
		l.reg.AtomicUpdate(&later, n, []types.PropertyChange{{Name: "info", Val: info}, {Name: "state", Val: types.HttpNfcLeaseStateReady}})
		l.watchLease(&later, n, timeout)
	}()
	return n.Self
}

func (l *lab) writeExport(n *lease, entity types.ManagedObjectReference, devices []types.BaseVirtualDevice, snap *types.ManagedObjectReference, timeout time.Duration) (*types.HttpNfcLeaseInfo, error) {
	info := &types.HttpNfcLeaseInfo{Lease: n.Self, Entity: entity, LeaseTimeout: int32(timeout.Seconds())}
	address, thumbprint := l.svc.Listen.Host, ""
	if l.host != nil {
		address, thumbprint = l.host.address, l.faults.thumbprint(l.host.thumbprint)
	}
	for i, d := range disks(devices) {
		name := fmt.Sprintf("disk-%d.vmdk", i)
		out := filepath.Join(l.dir, n.Self.Value+"-"+name)
		source := l.view(l.flat(diskFile(d)), snap)
		// -U: the file may belong to a running guest if the disk is no part of the snapshot.
		msg, err := exec.Command("qemu-img", "convert", "-U", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", source, out).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("%s: %w: %s", diskFile(d), err, msg)
		}
		st, err := os.Stat(out)
		if err != nil {
			return nil, err
		}
		n.mu.Lock()
		n.files[name] = out
		n.mu.Unlock()
		info.TotalDiskCapacityInKB += d.CapacityInKB
		info.DeviceUrl = append(info.DeviceUrl, types.HttpNfcLeaseDeviceUrl{
			Key: fmt.Sprintf("/%s/VirtualDisk:%d", entity.Value, d.Key), ImportKey: name, TargetId: name,
			Url: "https://" + address + "/nfc/" + n.Self.Value + "/" + name, SslThumbprint: thumbprint,
			Disk: types.NewBool(true), FileSize: st.Size(),
		})
	}
	return info, nil
}

// watchLease fails a lease whose client reports no progress in time.
func (l *lab) watchLease(ctx *simulator.Context, n *lease, timeout time.Duration) {
	for {
		time.Sleep(min(timeout/4, 5*time.Second))
		n.mu.Lock()
		idle, over := time.Since(n.touched), n.over
		n.mu.Unlock()
		if over {
			return
		}
		if idle > timeout {
			n.end()
			fault := &types.LocalizedMethodFault{Fault: &types.Timedout{}, LocalizedMessage: "The lease timed out"}
			l.reg.AtomicUpdate(ctx, n, []types.PropertyChange{{Name: "error", Val: fault}, {Name: "state", Val: types.HttpNfcLeaseStateError}})
			return
		}
	}
}

// ExportVm exports a VM that is off.
func (v *labVM) ExportVm(ctx *simulator.Context, _ *types.ExportVm) soap.HasFault {
	body := &methods.ExportVmBody{}
	if v.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff {
		body.Fault_ = simulator.Fault("The attempted operation cannot be performed in the current state (Powered on).",
			&types.InvalidPowerState{RequestedState: types.VirtualMachinePowerStatePoweredOff, ExistingState: v.Runtime.PowerState})
		return body
	}
	body.Res = &types.ExportVmResponse{Returnval: v.l.export(ctx, v.Self, v.Config.Hardware.Device, nil)}
	return body
}

// ExportSnapshot exports the disks as they were when the snapshot was taken.
func (s *labSnapshot) ExportSnapshot(ctx *simulator.Context, r *types.ExportSnapshot) soap.HasFault {
	ref := s.l.export(ctx, s.Vm, s.Config.Hardware.Device, &r.This)
	return &methods.ExportSnapshotBody{Res: &types.ExportSnapshotResponse{Returnval: ref}}
}

// serveExport answers GET /nfc/LEASE/FILE; the URL itself is the ticket.
func (l *lab) serveExport(w http.ResponseWriter, r *http.Request) {
	id, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/nfc/"), "/")
	l.mu.Lock()
	n := l.exports[id]
	l.mu.Unlock()
	if n == nil || n.file(name) == "" {
		http.NotFound(w, r)
		return
	}
	l.serveFile(w, r, n.file(name))
}
