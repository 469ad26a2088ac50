package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// reading matches methods that change nothing. All others are changes, also those nobody thought of here.
var reading = regexp.MustCompile(`^(Retrieve|Query|Find|Get|Has|Fetch|Read|Search|Browse|Lookup|List|Estimate|Validate|Check|WaitFor|ContinueRetrieve|CancelWaitFor|CancelRetrieve)`)

// harmless methods belong to sessions, views, filters and leases; they leave the inventory and its disks alone.
var harmless = []string{
	"Login", "LoginByToken", "Logout", "CurrentTime", "SessionIsActive", "SetLocale", "CloneSession",
	"AcquireCloneTicket", "AcquireGenericServiceTicket",
	"CreateContainerView", "CreateListView", "CreateInventoryView", "DestroyView", "ModifyListView", "ResetListView",
	"CreateFilter", "DestroyPropertyFilter", "CreatePropertyCollector", "DestroyPropertyCollector",
	"CreateCollectorForEvents", "CreateCollectorForTasks", "DestroyCollector", "ResetCollector", "RewindCollector",
	"ReadNextTasks", "ReadNextEvents", "SetCollectorPageSize",
	"ExportVm", "ExportSnapshot", "CreateDescriptor", "HttpNfcLeaseProgress", "HttpNfcLeaseComplete",
	"HttpNfcLeaseAbort", "HttpNfcLeaseGetManifest",
}

// change is one line of the audit.
type change struct {
	Time    string
	Method  string
	Object  string // managed object id, such as vm-21
	Name    string // its name in the inventory
	User    string
	Outcome string // passed: given to the object; refused: the user lacks the privilege
	Detail  any    `json:",omitempty"`
}

type auditLog struct {
	mu   sync.Mutex
	file *os.File
}

// openAudit appends to path; an empty path keeps no audit.
func openAudit(path string) (*auditLog, error) {
	if path == "" {
		return &auditLog{}, nil
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return &auditLog{file: file}, err
}

func (a *auditLog) close() {
	if a.file != nil {
		_ = a.file.Close()
	}
}

func isChange(method string) bool {
	return !reading.MatchString(method) && !slices.Contains(harmless, method)
}

// call writes a line if the method changes anything.
func (a *auditLog) call(l *lab, user string, m *simulator.Method, outcome string) {
	if isChange(m.Name) {
		a.write(change{Method: m.Name, Object: m.This.Value, Name: l.nameOf(m.This), User: user, Outcome: outcome, Detail: detail(m.Body)})
	}
}

func (a *auditLog) write(c change) {
	if a.file == nil {
		return
	}
	c.Time = time.Now().UTC().Format(time.RFC3339Nano)
	line, err := json.Marshal(c)
	if err != nil {
		log.Print("audit: ", err)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, err := a.file.Write(append(line, '\n')); err != nil {
		log.Print("audit: ", err)
	}
}

// detail is what a test wants to know of a request. Other requests may hold passwords and are not written.
func detail(body types.AnyType) any {
	switch r := body.(type) {
	case *types.CreateSnapshot_Task:
		return map[string]any{"snapshot": r.Name, "memory": r.Memory, "quiesce": r.Quiesce}
	case *types.CreateSnapshotEx_Task:
		return map[string]any{"snapshot": r.Name, "memory": r.Memory, "quiesce": r.QuiesceSpec != nil}
	case *types.RemoveSnapshot_Task:
		return map[string]any{"children": r.RemoveChildren}
	case *types.ReconfigVM_Task:
		return r.Spec
	}
	return nil
}

// nameOf is the name of an entity; a snapshot goes by its VM's name and its own.
func (l *lab) nameOf(ref types.ManagedObjectReference) string {
	switch o := l.reg.Get(ref).(type) {
	case *simulator.VirtualMachineSnapshot:
		name := l.nameOf(o.Vm)
		if vm, ok := l.reg.Get(o.Vm).(*simulator.VirtualMachine); ok && vm.Snapshot != nil {
			name += "/" + snapshotName(vm.Snapshot.RootSnapshotList, ref)
		}
		return name
	case mo.Entity:
		return o.Entity().Name
	}
	return ""
}

func snapshotName(tree []types.VirtualMachineSnapshotTree, ref types.ManagedObjectReference) string {
	for _, t := range tree {
		if t.Snapshot == ref {
			return t.Name
		}
		if name := snapshotName(t.ChildSnapshotList, ref); name != "" {
			return name
		}
	}
	return ""
}

// refuseWrite answers uploads and deletions on datastores and leases: the lab's vCenter is a source and stays as it is.
func (l *lab) refuseWrite(w http.ResponseWriter, r *http.Request) {
	user, _ := l.webUser(r)
	l.audit.write(change{Method: r.Method + " " + r.URL.Path, Name: r.URL.Query().Get("dsName"), User: user, Outcome: "refused"})
	http.Error(w, "the lab's datastores are read-only", http.StatusForbidden)
}
