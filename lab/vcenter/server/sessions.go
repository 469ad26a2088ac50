package main

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// privileges that methods need, from memory of the vSphere documentation; others need only a session.
// They are global here, not per object.
var privileges = map[string]string{
	"CreateSnapshot_Task":     "VirtualMachine.State.CreateSnapshot",
	"CreateSnapshotEx_Task":   "VirtualMachine.State.CreateSnapshot",
	"RemoveSnapshot_Task":     "VirtualMachine.State.RemoveSnapshot",
	"RemoveAllSnapshots_Task": "VirtualMachine.State.RemoveSnapshot",
	"PowerOnVM_Task":          "VirtualMachine.Interact.PowerOn",
	"PowerOffVM_Task":         "VirtualMachine.Interact.PowerOff",
	"ShutdownGuest":           "VirtualMachine.Interact.PowerOff",
	"ReconfigVM_Task":         "VirtualMachine.Config.Settings",
	"ExportVm":                "VApp.Export",
	"ExportSnapshot":          "VApp.Export",
	"QueryChangedDiskAreas":   "VirtualMachine.Provisioning.DiskRandomRead",
	"GET /folder":             "Datastore.Browse",
}

// anonymous methods need no session.
var anonymous = []string{"Login", "LoginByToken", "RetrieveServiceContent", "RetrieveInternalContent"}

// sessions knows who is behind a session key, for downloads, and which sessions are over.
type sessions struct {
	mu      sync.Mutex
	user    map[string]string
	used    map[string]time.Time
	expired map[string]bool
	idle    time.Duration // a session that is not used for so long is over; 0: never
}

func newSessions() *sessions {
	return &sessions{user: map[string]string{}, used: map[string]time.Time{}, expired: map[string]bool{}}
}

// touch notes that a session is used and says whether it may be.
func (s *sessions) touch(key, user string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last, known := s.used[key]; known && s.idle > 0 && time.Since(last) > s.idle {
		s.expired[key] = true
	}
	if s.expired[key] {
		return false
	}
	s.user[key], s.used[key] = user, time.Now()
	return true
}

// of returns the user of a session that is not over; it does not keep the session alive.
func (s *sessions) of(key string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.expired[key] || (s.idle > 0 && time.Since(s.used[key]) > s.idle) {
		return "", false
	}
	user, ok := s.user[key]
	return user, ok
}

func (s *sessions) end(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.user, key)
}

func (s *sessions) expireAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.user {
		s.expired[key] = true
	}
}

// labLogin notes new sessions, so that their cookies open downloads from the first moment on.
type labLogin struct {
	*simulator.SessionManager
	l *lab
}

// Login opens a session.
func (m *labLogin) Login(ctx *simulator.Context, req *types.Login) soap.HasFault {
	answer := m.SessionManager.Login(ctx, req)
	if answer.Fault() == nil && ctx.Session != nil {
		m.l.sessions.touch(ctx.Session.Key, ctx.Session.UserName)
	}
	return answer
}

// handle sees every SOAP call: session and privilege first, then the audit, then the object that answers.
func (l *lab) handle(ctx *simulator.Context, m *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	denied := types.NoPermission{Object: &m.This, PrivilegeId: "System.View"}
	open := slices.Contains(anonymous, m.Name)
	if ctx.Session == nil {
		if manager, ok := ctx.Map.Get(m.This).(*simulator.SessionManager); ok && open {
			return &labLogin{manager, l}, nil
		}
		if open {
			return nil, nil
		}
		return nil, &types.NotAuthenticated{NoPermission: denied}
	}
	user := ctx.Session.UserName
	if user != "" { // "": the in-process client that builds the inventory
		alive := l.sessions.touch(ctx.Session.Key, user)
		if m.Name == "Logout" {
			l.sessions.end(ctx.Session.Key)
		}
		if !alive && !open {
			return nil, &types.NotAuthenticated{NoPermission: denied}
		}
		if p := privileges[m.Name]; p != "" && l.lacks(user, p) {
			denied.PrivilegeId = p
			l.audit.call(l, user, m, "refused")
			return nil, &denied
		}
		l.audit.call(l, user, m, "passed")
	}
	// The session's registry goes before the shared one (an object returned from here would not), so our methods are
	// seen there, while the simulator's own code still finds its plain types.
	switch o := ctx.Map.Get(m.This).(type) {
	case *simulator.VirtualMachine:
		ctx.Session.Put(&labVM{o, l})
	case *simulator.VirtualMachineSnapshot:
		ctx.Session.Put(&labSnapshot{o, l})
	case *simulator.PropertyCollector:
		// One for the session, which keeps the filters that are made with it.
		if ctx.Session.Registry.Get(m.This) == nil {
			if own, ok := simulator.NewPropertyCollector(m.This).(*simulator.PropertyCollector); ok {
				ctx.Session.Put(&labCollector{own, l})
			}
		}
	case nil:
		if kind := m.This.Type; kind == "VirtualMachine" || kind == "VirtualMachineSnapshot" {
			return nil, &types.ManagedObjectNotFound{Obj: m.This}
		}
	}
	return nil, nil
}

func (l *lab) lacks(user, privilege string) bool {
	return slices.Contains(l.users[user].Deny, privilege)
}

// webUser is who asks for a file: by session cookie or by basic authentication.
func (l *lab) webUser(r *http.Request) (string, bool) {
	if c, err := r.Cookie(soap.SessionCookieName); err == nil {
		if u, ok := l.sessions.of(strings.Trim(c.Value, `"`)); ok {
			return u, true
		}
	}
	u, p, ok := r.BasicAuth()
	known, found := l.users[u]
	return u, ok && found && known.password == p
}

// taskNames gives tasks the method names of a real vCenter: clients that know methods by name (pyVim's WaitForTask)
// fail on a running task with another one.
type taskNames struct{}

func (taskNames) Reference() types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "TaskNames", Value: "lab"}
}

func (taskNames) PutObject(_ *simulator.Context, o mo.Reference) {
	if t, ok := o.(*simulator.Task); ok && !strings.HasSuffix(t.Info.Name, "_Task") {
		names := strings.NewReplacer("PowerOn", "PowerOnVM", "PowerOff", "PowerOffVM", "Vm", "VM")
		t.Info.Name = names.Replace(t.Info.Name) + "_Task"
	}
}
func (taskNames) UpdateObject(*simulator.Context, mo.Reference, []types.PropertyChange) {}
func (taskNames) RemoveObject(*simulator.Context, types.ManagedObjectReference)         {}
