package main

import (
	"bytes"
	"errors"
	"hash/maphash"
	"io"
	"os"
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	block    = 64 << 10 // granularity of changed block tracking, in bytes
	seekData = 3        // lseek(SEEK_DATA)
	maxAreas = 2000     // areas in one answer; the client asks again from startOffset+length
)

var (
	seed  = maphash.MakeSeed()
	zeros = make([]byte, block)
)

// point is what a disk held at one moment: a sum per block, 0 for zeros.
type point struct {
	size int64
	sums []uint64
}

// scan sums the blocks of a file; holes are not read.
func scan(file string) (*point, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	p := &point{st.Size(), make([]uint64, (st.Size()+block-1)/block)}
	buf := make([]byte, block)
	for off := int64(0); off < p.size; off += block {
		next, err := f.Seek(off, seekData)
		if err != nil { // only a hole is left
			break
		}
		off = next / block * block
		n, err := f.ReadAt(buf, off)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if !bytes.Equal(buf[:n], zeros[:n]) {
			p.sums[off/block] = maphash.Bytes(seed, buf[:n]) | 1
		}
	}
	return p, nil
}

// changedSince lists what differs from an older point, or what is not zero if old is nil, from startOffset on.
func (now *point) changedSince(old *point, startOffset int64) types.DiskChangeInfo {
	info := types.DiskChangeInfo{StartOffset: startOffset, Length: now.size - startOffset}
	for k := int(startOffset / block); k < len(now.sums); k++ {
		var was uint64
		if old != nil && k < len(old.sums) {
			was = old.sums[k]
		}
		if now.sums[k] == was {
			continue
		}
		off := int64(k) * block
		n := min(block, now.size-off)
		last := len(info.ChangedArea) - 1
		switch {
		case last >= 0 && info.ChangedArea[last].Start+info.ChangedArea[last].Length == off:
			info.ChangedArea[last].Length += n
		case last+1 == maxAreas:
			info.Length = off - startOffset
			return info
		default:
			info.ChangedArea = append(info.ChangedArea, types.DiskChangeExtent{Start: off, Length: n})
		}
	}
	return info
}

// QueryChangedDiskAreas answers as a host does: change id "*" asks for all that is in use; a change id that the host
// no longer knows is an InvalidArgument, on which a client has to start from nothing.
func (v *labVM) QueryChangedDiskAreas(_ *simulator.Context, r *types.QueryChangedDiskAreas) soap.HasFault {
	body := &methods.QueryChangedDiskAreasBody{}
	bad := func(property string) soap.HasFault {
		body.Fault_ = simulator.Fault("A specified parameter was not correct: "+property, &types.InvalidArgument{InvalidProperty: property})
		return body
	}
	devices, live := v.Config.Hardware.Device, r.Snapshot == nil
	if !live {
		snap, ok := v.l.reg.Get(*r.Snapshot).(*simulator.VirtualMachineSnapshot)
		if !ok {
			body.Fault_ = simulator.Fault("The object has already been deleted", &types.ManagedObjectNotFound{Obj: *r.Snapshot})
			return body
		}
		devices = snap.Config.Hardware.Device
	} else if v.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff {
		return bad("snapshot")
	}
	all := disks(devices)
	i := slices.IndexFunc(all, func(d *types.VirtualDisk) bool { return d.Key == r.DeviceKey })
	if i < 0 {
		return bad("deviceKey")
	}
	b, ok := all[i].Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	if !ok {
		return bad("deviceKey")
	}
	v.l.mu.Lock()
	now, old := v.l.points[b.ChangeId], v.l.points[r.ChangeId]
	v.l.mu.Unlock()
	if live {
		var err error
		if now, err = scan(v.l.flat(b.FileName)); err != nil {
			body.Fault_ = simulator.Fault(err.Error(), &types.FileFault{File: b.FileName})
			return body
		}
	}
	if now == nil || (old == nil && r.ChangeId != "*") {
		return bad("changeId")
	}
	if r.StartOffset < 0 || r.StartOffset >= now.size {
		return bad("startOffset")
	}
	body.Res = &types.QueryChangedDiskAreasResponse{Returnval: now.changedSince(old, r.StartOffset)}
	return body
}
