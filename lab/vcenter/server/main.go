// vcenter-lab is a vCenter for tests. Real: bytes, disks, changed areas, guests in QEMU. Stand-in: govmomi's simulator
// answers the API, completed with what it lacks for migrations: changed block tracking, exports with content, sessions
// and privileges that are enforced, power tied to real guests, an audit of every change, and faults on demand.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// endpoint is what -ready writes once the server answers.
type endpoint struct {
	Port int
	VMs  int
	CA   string
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on; port 0 takes a free one")
	file := flag.String("inventory", "inventory.json", "inventory to serve")
	cert := flag.String("cert", "ca.pem", "file to write the server's certificate to")
	ready := flag.String("ready", "", "file to write the real port to, as JSON, once the server answers")
	audit := flag.String("audit", "", "file that every changing call is appended to, one JSON line each")
	flag.Parse()
	if err := run(*listen, *file, *cert, *ready, *audit); err != nil {
		log.Fatal(err)
	}
}

func run(listen, file, cert, ready, audit string) error {
	start := time.Now()
	inv, err := readInventory(file)
	if err != nil {
		return err
	}
	l, err := newLab(inv, audit)
	if err != nil {
		return err
	}
	defer l.close()
	s, err := l.serveOn(context.Background(), listen, cert)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := l.startGuests(); err != nil {
		return err
	}
	e := endpoint{Port: port(s.URL.Host), VMs: len(l.reg.All("VirtualMachine")), CA: cert}
	if ready != "" {
		if err := writeJSON(ready, e); err != nil {
			return err
		}
	}
	log.Printf("ready on port %d with %d VMs after %.2f s", e.Port, e.VMs, time.Since(start).Seconds())
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	<-stop
	return nil
}

// writeJSON writes a file in one step, so that a reader never sees half of it.
func writeJSON(path string, value any) error {
	content, err := json.Marshal(value)
	if err != nil {
		return err
	}
	draft := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.WriteFile(draft, content, 0o600); err != nil {
		return err
	}
	return os.Rename(draft, path)
}
