package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	watchEvery  = 250 * time.Millisecond
	hookTimeout = 60 * time.Second
)

// machine is a VM as the inventory file describes it and, if it runs for real, its process.
type machine struct {
	spec VM
	stop context.CancelFunc // ends the watch over the running process; nil while there is none
}

// running is the hook's answer to "on".
type running struct {
	Pid     int
	Console string // file that the serial port is written to
	Ready   string // what the console says once the guest is up
}

// callHook runs the power hook with a description of the VM on its stdin.
func (l *lab) callHook(op string, vm *simulator.VirtualMachine) (*running, error) {
	ask := struct {
		Name, UUID     string
		MemoryMB, CPUs int32
		Disks, MACs    []string
	}{Name: vm.Name, UUID: vm.Config.Uuid, MemoryMB: vm.Config.Hardware.MemoryMB, CPUs: vm.Config.Hardware.NumCPU}
	for _, d := range disks(vm.Config.Hardware.Device) {
		ask.Disks = append(ask.Disks, l.flat(diskFile(d)))
	}
	for _, d := range vm.Config.Hardware.Device {
		if nic, ok := d.(types.BaseVirtualEthernetCard); ok {
			ask.MACs = append(ask.MACs, nic.GetVirtualEthernetCard().MacAddress)
		}
	}
	stdin, err := json.Marshal(ask)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), hookTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, l.inv.Hook[0], append(l.inv.Hook[1:len(l.inv.Hook):len(l.inv.Hook)], op)...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(stdin), &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("power hook %s %s: %w: %s", op, vm.Name, err, strings.TrimSpace(stderr.String()))
	}
	answer := &running{}
	if op == "on" {
		if err := json.Unmarshal(out, answer); err != nil || answer.Pid == 0 {
			return nil, fmt.Errorf("power hook on %s answered %q", vm.Name, out)
		}
	}
	return answer, nil
}

func (l *lab) isReal(vm *simulator.VirtualMachine) bool {
	m := l.machines[vm.Self]
	return m != nil && m.spec.Real && len(l.inv.Hook) > 0
}

// startMachine starts the process of a real VM and watches it from now on.
func (l *lab) startMachine(vm *simulator.VirtualMachine) error {
	r, err := l.callHook("on", vm)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.machines[vm.Self].stop = cancel
	go l.watch(ctx, vm, r)
	return nil
}

func (l *lab) stopMachine(vm *simulator.VirtualMachine) error {
	if stop := l.machines[vm.Self].stop; stop != nil {
		stop()
	}
	_, err := l.callHook("off", vm)
	return err
}

// watch tells the vCenter what the process does: the guest is up, or it has ended by itself.
func (l *lab) watch(ctx context.Context, vm *simulator.VirtualMachine, r *running) {
	tools := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchEvery):
		}
		own := *l.svc.Context
		if !tools && r.Ready != "" && contains(r.Console, r.Ready) {
			tools = true
			l.reg.WithLock(&own, vm, func() { l.report(&own, vm, true, true) })
		}
		if alive(r.Pid) {
			continue
		}
		l.reg.WithLock(&own, vm, func() {
			if ctx.Err() != nil { // switched off meanwhile
				return
			}
			if _, err := l.callHook("gone", vm); err != nil {
				log.Print(err)
			}
			l.report(&own, vm, false, false)
		})
		return
	}
}

func contains(file, text string) bool {
	content, err := os.ReadFile(file)
	return err == nil && bytes.Contains(content, []byte(text))
}

// alive says whether a process runs; a zombie does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// report writes a VM's power and guest state; the caller holds the VM's lock.
func (l *lab) report(ctx *simulator.Context, vm *simulator.VirtualMachine, on, tools bool) {
	state, boot := types.VirtualMachinePowerStatePoweredOff, any(nil)
	if on {
		state, boot = types.VirtualMachinePowerStatePoweredOn, time.Now()
		if vm.Runtime.BootTime != nil {
			boot = *vm.Runtime.BootTime
		}
	}
	guest := guestInfo(l.machines[vm.Self].spec, vm.Config.GuestId, on, tools)
	ctx.Update(vm, []types.PropertyChange{
		{Name: "runtime.powerState", Val: state}, {Name: "summary.runtime.powerState", Val: state},
		{Name: "runtime.bootTime", Val: boot}, {Name: "summary.runtime.bootTime", Val: boot},
		{Name: "guest", Val: guest},
		{Name: "summary.guest", Val: &types.VirtualMachineGuestSummary{
			GuestId: guest.GuestId, GuestFullName: guest.GuestFullName, HostName: guest.HostName, IpAddress: guest.IpAddress,
			ToolsStatus: guest.ToolsStatus, ToolsRunningStatus: guest.ToolsRunningStatus}},
	})
	touch(ctx, vm)
}

// touch moves the version of the configuration, as every power operation and snapshot does on a host.
func touch(ctx *simulator.Context, vm *simulator.VirtualMachine) {
	now := time.Now()
	ctx.Update(vm, []types.PropertyChange{
		{Name: "config.changeVersion", Val: fmt.Sprint(now.UnixNano())},
		{Name: "config.modified", Val: now},
	})
}

// startGuests starts the real VMs that the inventory wants to be on.
func (l *lab) startGuests() error {
	for ref, m := range l.machines {
		vm := l.reg.Get(ref).(*simulator.VirtualMachine)
		if !m.spec.PowerOn || !l.isReal(vm) {
			continue
		}
		if err := l.startMachine(vm); err != nil {
			return err
		}
	}
	return nil
}

// PowerOnVMTask starts the guest's process first; if that fails, so does the task.
func (v *labVM) PowerOnVMTask(ctx *simulator.Context, r *types.PowerOnVM_Task) soap.HasFault {
	if v.Config.Template {
		return v.VirtualMachine.PowerOnVMTask(ctx, r)
	}
	task := simulator.CreateTask(v.VirtualMachine, "powerOnVMTask", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		if v.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn {
			return nil, &types.InvalidPowerState{RequestedState: types.VirtualMachinePowerStatePoweredOn, ExistingState: v.Runtime.PowerState}
		}
		real := v.l.isReal(v.VirtualMachine)
		if real {
			if err := v.l.startMachine(v.VirtualMachine); err != nil {
				log.Print(err)
				return nil, &types.SystemError{Reason: err.Error()}
			}
		}
		_, fault := v.inner(ctx, v.VirtualMachine.PowerOnVMTask(ctx, r).(*methods.PowerOnVM_TaskBody).Res.Returnval)
		if fault == nil {
			v.l.report(ctx, v.VirtualMachine, true, !real)
		}
		return nil, fault
	})
	return &methods.PowerOnVM_TaskBody{Res: &types.PowerOnVM_TaskResponse{Returnval: task.Run(ctx)}}
}

// PowerOffVMTask ends the guest's process, as if the plug were pulled.
func (v *labVM) PowerOffVMTask(ctx *simulator.Context, r *types.PowerOffVM_Task) soap.HasFault {
	task := simulator.CreateTask(v.VirtualMachine, "powerOffVMTask", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		if v.l.isReal(v.VirtualMachine) && v.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn {
			if err := v.l.stopMachine(v.VirtualMachine); err != nil {
				log.Print(err)
				return nil, &types.SystemError{Reason: err.Error()}
			}
		}
		_, fault := v.inner(ctx, v.VirtualMachine.PowerOffVMTask(ctx, r).(*methods.PowerOffVM_TaskBody).Res.Returnval)
		if fault == nil {
			v.l.report(ctx, v.VirtualMachine, false, false)
		}
		return nil, fault
	})
	return &methods.PowerOffVM_TaskBody{Res: &types.PowerOffVM_TaskResponse{Returnval: task.Run(ctx)}}
}

// ShutdownGuest answers at once; the VM is off when its guest has gone down. Only running tools can take the request.
func (v *labVM) ShutdownGuest(ctx *simulator.Context, _ *types.ShutdownGuest) soap.HasFault {
	body := &methods.ShutdownGuestBody{}
	if v.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
		body.Fault_ = simulator.Fault("The attempted operation cannot be performed in the current state.",
			&types.InvalidPowerState{RequestedState: types.VirtualMachinePowerStatePoweredOn, ExistingState: v.Runtime.PowerState})
		return body
	}
	if v.Guest == nil || v.Guest.ToolsRunningStatus != string(types.VirtualMachineToolsRunningStatusGuestToolsRunning) {
		body.Fault_ = simulator.Fault("VMware Tools is not running in the VM.", &types.ToolsUnavailable{})
		return body
	}
	if v.l.isReal(v.VirtualMachine) {
		if _, err := v.l.callHook("shutdown", v.VirtualMachine); err != nil {
			body.Fault_ = simulator.Fault(err.Error(), &types.SystemError{Reason: err.Error()})
			return body
		}
	} else {
		v.l.report(ctx, v.VirtualMachine, false, false)
	}
	body.Res = new(types.ShutdownGuestResponse)
	return body
}

// ResetVMTask and SuspendVMTask would only pretend for a guest that really runs.
func (v *labVM) ResetVMTask(ctx *simulator.Context, r *types.ResetVM_Task) soap.HasFault {
	if v.l.isReal(v.VirtualMachine) {
		return &methods.ResetVM_TaskBody{Fault_: simulator.Fault("not offered by the lab", &types.NotSupported{})}
	}
	return v.VirtualMachine.ResetVMTask(ctx, r)
}

// SuspendVMTask is refused for real guests, see ResetVMTask.
func (v *labVM) SuspendVMTask(ctx *simulator.Context, r *types.SuspendVM_Task) soap.HasFault {
	if v.l.isReal(v.VirtualMachine) {
		return &methods.SuspendVM_TaskBody{Fault_: simulator.Fault("not offered by the lab", &types.NotSupported{})}
	}
	return v.VirtualMachine.SuspendVMTask(ctx, r)
}
