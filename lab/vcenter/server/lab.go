package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"

	"github.com/vmware/govmomi/simulator"
	_ "github.com/vmware/govmomi/vapi/simulator" // tags and categories by REST
	"github.com/vmware/govmomi/vim25/types"
)

// lab is the simulator and all that it lacks. mu guards the maps; the simulator has its own locks.
type lab struct {
	model    *simulator.Model
	svc      *simulator.Service
	reg      *simulator.Registry
	inv      *Inventory
	dir      string // datastores, snapshots' copies, exports
	tagged   map[types.ManagedObjectReference]map[string]string
	machines map[types.ManagedObjectReference]*machine
	audit    *auditLog
	faults   *faults

	mu       sync.Mutex
	users    map[string]User
	sessions *sessions
	points   map[string]*point // change id -> what the disk held
	frozen   map[types.ManagedObjectReference][]frozenDisk
	exports  map[string]*lease // lease id -> lease
	host     *exportHost       // serves the exports, nil: the vCenter does
	seq      int               // numbers snapshots' disks and leases
}

func newLab(inv *Inventory, audit string) (*lab, error) {
	l := &lab{
		inv: inv, users: map[string]User{}, points: map[string]*point{}, exports: map[string]*lease{},
		frozen:   map[types.ManagedObjectReference][]frozenDisk{},
		tagged:   map[types.ManagedObjectReference]map[string]string{},
		machines: map[types.ManagedObjectReference]*machine{},
		sessions: newSessions(), faults: newFaults(),
	}
	for _, u := range inv.Users {
		l.users[u.Name] = u
	}
	var err error
	if l.audit, err = openAudit(audit); err != nil {
		return nil, err
	}
	l.model = simulator.VPX()
	l.model.ServiceContent.About.ApiVersion, l.model.ServiceContent.About.Version = "8.0.3.0", "8.0.3"
	l.model.Datacenter = 0 // an empty vCenter: build makes the rest
	if err := l.model.Create(); err != nil {
		return nil, err
	}
	l.svc, l.reg = l.model.Service, l.model.Map()
	if l.dir, err = os.MkdirTemp(inv.Scratch, "vcenter-"); err != nil {
		return nil, err
	}
	if err := l.build(context.Background(), inv); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *lab) close() {
	l.host.close()
	l.model.Remove()
	_ = os.RemoveAll(l.dir)
	l.audit.close()
}

// serveOn starts the HTTPS server and writes its certificate to cert.
func (l *lab) serveOn(ctx context.Context, listen, cert string) (*simulator.Server, error) {
	admin := l.inv.Users[0]
	l.reg.Handler = l.handle
	l.reg.AddHandler(taskNames{})
	l.reg.SessionManager().ValidLogin = func(r *types.Login) bool {
		u, ok := l.users[r.UserName]
		return ok && u.password == r.Password
	}
	l.svc.Listen = &url.URL{Host: listen, User: url.UserPassword(admin.Name, admin.password)}
	l.svc.RegisterEndpoints = true
	l.svc.TLS = new(tls.Config)
	l.svc.ServeMux = http.NewServeMux()
	l.svc.ServeMux.HandleFunc("GET /folder/", l.serveDatastore)
	l.svc.ServeMux.HandleFunc("GET /nfc/", l.serveExport)
	if l.inv.ExportHost {
		var err error
		if l.host, err = startExportHost(l.serveExport); err != nil {
			return nil, err
		}
	}
	for _, method := range []string{"PUT", "POST", "DELETE"} {
		l.svc.ServeMux.HandleFunc(method+" /folder/", l.refuseWrite)
		l.svc.ServeMux.HandleFunc(method+" /nfc/", l.refuseWrite)
	}
	l.svc.ServeMux.HandleFunc("POST /lab/fault", l.serveFault)
	s := l.svc.NewServer()
	if err := l.tag(ctx, s); err != nil {
		s.Close()
		return nil, fmt.Errorf("tags: %w", err)
	}
	file, err := s.CertificateFile()
	if err == nil {
		err = copyFile(file, cert)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return s, nil
}

func copyFile(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o644)
}

func port(host string) int {
	_, p, err := net.SplitHostPort(host)
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(p)
	return n
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// next numbers things; the caller holds no lock.
func (l *lab) next() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	return l.seq
}
