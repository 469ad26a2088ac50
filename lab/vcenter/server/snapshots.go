package main

import (
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// frozenDisk is a disk as it was when a snapshot was taken: a sparse copy, kept until the snapshot is removed.
type frozenDisk struct{ flat, copy string }

// freeze copies a new snapshot's disks and, with change tracking on, gives them change ids. A guest that really runs
// stands still meanwhile, so that all disks are of one moment.
func (l *lab) freeze(vm *simulator.VirtualMachine, ref types.ManagedObjectReference) (err error) {
	if l.isReal(vm) && vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn {
		if _, err := l.callHook("stun", vm); err != nil {
			return err
		}
		defer func() {
			if _, failed := l.callHook("resume", vm); err == nil {
				err = failed
			}
		}()
	}
	snap := l.reg.Get(ref).(*simulator.VirtualMachineSnapshot)
	tracked := vm.Config.ChangeTrackingEnabled != nil && *vm.Config.ChangeTrackingEnabled
	for _, d := range disks(snap.Config.Hardware.Device) {
		b, ok := d.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		if !ok || strings.HasPrefix(b.DiskMode, "independent") {
			continue // snapshots leave raw mappings and independent disks out
		}
		n, flat := l.next(), l.flat(b.FileName)
		copied := filepath.Join(l.dir, fmt.Sprintf("snapshot-disk-%06d", n))
		if out, err := exec.Command("cp", "--sparse=always", "--reflink=auto", flat, copied).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		l.mu.Lock()
		l.frozen[ref] = append(l.frozen[ref], frozenDisk{flat, copied})
		l.mu.Unlock()
		if !tracked {
			continue
		}
		p, err := scan(copied)
		if err != nil {
			return err
		}
		b.ChangeId = fmt.Sprintf("52 de c0 d9 b9 43 9d 10-61 d5 4c 1b e9 7b 65 63/%d", n)
		l.mu.Lock()
		l.points[b.ChangeId] = p
		l.mu.Unlock()
	}
	return nil
}

// view is the file that a reader of a flat extent gets: the copy of the oldest snapshot while there is one, as the
// guest writes to a delta then. With only, it is that snapshot's copy.
func (l *lab) view(flat string, only *types.ManagedObjectReference) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	best := flat
	for ref, fixed := range l.frozen {
		gone := l.reg.Get(ref) == nil // the snapshot was removed
		if gone {
			delete(l.frozen, ref)
		}
		for _, f := range fixed {
			if gone {
				_ = os.Remove(f.copy)
				continue
			}
			if f.flat == flat && (only == nil || *only == ref) && (best == flat || f.copy < best) {
				best = f.copy
			}
		}
	}
	return best
}

func (v *labVM) snapshot(ctx *simulator.Context, req *types.CreateSnapshotEx_Task) types.ManagedObjectReference {
	return simulator.CreateTask(v.VirtualMachine, "createSnapshotTask", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		result, fault := v.inner(ctx, v.VirtualMachine.CreateSnapshotExTask(ctx, req).(*methods.CreateSnapshotEx_TaskBody).Res.Returnval)
		if fault != nil {
			return nil, fault
		}
		if err := v.l.freeze(v.VirtualMachine, result.(types.ManagedObjectReference)); err != nil {
			log.Print("snapshot: ", err)
			return nil, &types.FileFault{File: err.Error()}
		}
		touch(ctx, v.VirtualMachine)
		return result, nil
	}).Run(ctx)
}

// inner waits for a task that the simulator runs inside one of ours.
func (v *labVM) inner(ctx *simulator.Context, ref types.ManagedObjectReference) (types.AnyType, types.BaseMethodFault) {
	task := ctx.Map.Get(ref).(*simulator.Task)
	task.Wait()
	if task.Info.Error != nil {
		return nil, task.Info.Error.Fault
	}
	return task.Info.Result, nil
}

// CreateSnapshotTask keeps the disks' content of this moment.
func (v *labVM) CreateSnapshotTask(ctx *simulator.Context, r *types.CreateSnapshot_Task) soap.HasFault {
	ex := &types.CreateSnapshotEx_Task{This: r.This, Name: r.Name, Description: r.Description, Memory: r.Memory}
	if r.Quiesce {
		ex.QuiesceSpec = &types.VirtualMachineGuestQuiesceSpec{}
	}
	return &methods.CreateSnapshot_TaskBody{Res: &types.CreateSnapshot_TaskResponse{Returnval: v.snapshot(ctx, ex)}}
}

// CreateSnapshotExTask is the newer form of CreateSnapshotTask.
func (v *labVM) CreateSnapshotExTask(ctx *simulator.Context, r *types.CreateSnapshotEx_Task) soap.HasFault {
	return &methods.CreateSnapshotEx_TaskBody{Res: &types.CreateSnapshotEx_TaskResponse{Returnval: v.snapshot(ctx, r)}}
}

// RemoveSnapshotTask removes the snapshot and moves the version of the VM's configuration, as a host does.
func (s *labSnapshot) RemoveSnapshotTask(ctx *simulator.Context, r *types.RemoveSnapshot_Task) soap.HasFault {
	answer := s.VirtualMachineSnapshot.RemoveSnapshotTask(ctx, r)
	if vm, ok := s.l.reg.Get(s.Vm).(*simulator.VirtualMachine); ok && answer.Fault() == nil {
		s.l.reg.WithLock(ctx, vm, func() { touch(ctx, vm) })
	}
	return answer
}
