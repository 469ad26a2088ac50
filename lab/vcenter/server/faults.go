package main

import (
	"encoding/json"
	"net/http"
	"reflect"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

const defaultLease = 300 * time.Second

// order is the body of POST /lab/fault; unset fields do nothing.
type order struct {
	// A SOAP fault: Method, or Method on Object (a name), answers Fault. Count 0 means every time; Skip lets so many
	// calls pass first; DelayMS waits before.
	Method, Object, Fault string
	Count, Skip, DelayMS  int

	Hide      []string // properties of the objects called Object (and what lies below them) that nobody may read
	Privilege string   // what is missing to read them; default System.Read

	DropAfter    *int64 // cut each of the next Count downloads after so many bytes
	CorruptAt    *int64 // flip a bit at this byte of each of the next Count downloads (counted in what is sent)
	RefuseStatus int    // answer the next Count downloads with this HTTP status
	RateBytes    *int64 // bytes per second of each download; 0: as fast as it goes

	ExpireSessions  bool    // every session so far is over
	SessionIdleMS   *int    // sessions end after so long without a call; 0: never
	LeaseTimeoutMS  *int    // later leases end after so long without progress; 0: back to 300 s
	Thumbprint      *string // later leases tell this one of the ExportHost instead of its own; "": none
	ForgetChangeIDs bool    // as after a host's crash: no change id is known any more
	Clear           bool    // disarm all of the above (sessions stay expired)
}

// faults holds what is armed for downloads and leases; SOAP faults live in the simulator.
type faults struct {
	mu      sync.Mutex
	drop    armed
	corrupt armed
	refuse  armed
	rate    int64
	lease   time.Duration
	hidden  []hidden
	lie     *string // told as the thumbprint of the exports' host
}

type armed struct {
	value int64
	count int
}

// take uses up one of the armed times.
func (a *armed) take() (int64, bool) {
	if a.count == 0 {
		return 0, false
	}
	a.count--
	return a.value, true
}

func newFaults() *faults { return &faults{lease: defaultLease} }

func (f *faults) leaseTimeout() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lease
}

// thumbprint is what leases tell of the host that serves them; own is the right one.
func (f *faults) thumbprint(own string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lie != nil {
		return *f.lie
	}
	return own
}

// download wraps a response with the faults armed for it; false if the request is refused already.
func (f *faults) download(w http.ResponseWriter) (http.ResponseWriter, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if status, ok := f.refuse.take(); ok {
		http.Error(w, "refused on demand", int(status))
		return w, false
	}
	out := &faulty{ResponseWriter: w, dropAfter: -1, corruptAt: -1, rate: f.rate}
	if after, ok := f.drop.take(); ok {
		out.dropAfter = after
	}
	if at, ok := f.corrupt.take(); ok {
		out.corruptAt = at
	}
	return out, true
}

// faulty is a response that is cut, flipped or slowed down.
type faulty struct {
	http.ResponseWriter
	sent, dropAfter, corruptAt, rate int64
}

func (c *faulty) Write(b []byte) (int, error) {
	if c.rate > 0 {
		time.Sleep(time.Duration(int64(len(b)) * int64(time.Second) / c.rate))
	}
	if at := c.corruptAt - c.sent; c.corruptAt >= 0 && at >= 0 && at < int64(len(b)) {
		b = append([]byte(nil), b...) // the buffer is the caller's
		b[at] ^= 1
	}
	if left := c.dropAfter - c.sent; c.dropAfter >= 0 && left < int64(len(b)) {
		_, _ = c.ResponseWriter.Write(b[:max(left, 0)])
		panic(http.ErrAbortHandler) // the server's way to cut a connection
	}
	n, err := c.ResponseWriter.Write(b)
	c.sent += int64(n)
	return n, err
}

func (l *lab) serveFault(w http.ResponseWriter, r *http.Request) {
	var o order
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&o); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if o.Method != "" {
		kind, ok := types.TypeFunc()(o.Fault)
		if !ok {
			http.Error(w, "no fault "+o.Fault, http.StatusBadRequest)
			return
		}
		fault, ok := reflect.New(kind).Interface().(types.BaseMethodFault)
		if !ok {
			http.Error(w, o.Fault+" is no fault", http.StatusBadRequest)
			return
		}
		l.svc.AddFaultRule(&simulator.FaultInjectionRule{
			MethodName: o.Method, ObjectType: "*", ObjectName: or(o.Object, "*"), Probability: 1, Enabled: true,
			FaultType: simulator.FaultTypeCustom, Fault: fault, Message: "injected by the lab",
			MaxCount: o.Count, SkipCount: o.Skip, Delay: o.DelayMS,
		})
	}
	if o.Clear {
		l.svc.ClearFaultRules()
	}
	l.sessions.obey(o)
	l.faults.obey(o)
	if o.ForgetChangeIDs {
		l.mu.Lock()
		clear(l.points)
		l.mu.Unlock()
	}
	w.WriteHeader(http.StatusNoContent)
}

func (f *faults) obey(o order) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if o.Clear {
		f.drop, f.corrupt, f.refuse, f.rate, f.lease = armed{}, armed{}, armed{}, 0, defaultLease
		f.hidden, f.lie = nil, nil
	}
	if len(o.Hide) > 0 {
		// A new slice each time: a reader may still hold the old one.
		f.hidden = append(append([]hidden(nil), f.hidden...), hidden{o.Object, o.Hide, or(o.Privilege, "System.Read")})
	}
	times := max(o.Count, 1)
	if o.DropAfter != nil {
		f.drop = armed{*o.DropAfter, times}
	}
	if o.CorruptAt != nil {
		f.corrupt = armed{*o.CorruptAt, times}
	}
	if o.RefuseStatus != 0 {
		f.refuse = armed{int64(o.RefuseStatus), times}
	}
	if o.RateBytes != nil {
		f.rate = *o.RateBytes
	}
	if o.Thumbprint != nil {
		f.lie = o.Thumbprint
	}
	if o.LeaseTimeoutMS != nil {
		f.lease = time.Duration(*o.LeaseTimeoutMS) * time.Millisecond
		if f.lease == 0 {
			f.lease = defaultLease
		}
	}
}

func (s *sessions) obey(o order) {
	if o.ExpireSessions {
		s.expireAll()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.Clear {
		s.idle = 0
	}
	if o.SessionIdleMS != nil {
		s.idle = time.Duration(*o.SessionIdleMS) * time.Millisecond
	}
}
