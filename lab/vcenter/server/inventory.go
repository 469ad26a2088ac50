package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// Inventory is the file that describes the vCenter to be. The first user is its administrator.
type Inventory struct {
	Users       []User
	Datacenters []Datacenter
	VMs         []VM
	Scratch     string   // folder for datastores, snapshots and exports; default: the system's
	ExportHost  bool     // exports are served at another port under another certificate, as by an ESXi host
	Hook        []string // command for power operations of real VMs; on, off, shutdown, gone, stun or resume is appended
}

// User may log in; Deny lists the ids of privileges that the user lacks.
type User struct {
	Name, PasswordFile string
	Deny               []string
	password           string
}

// Datacenter has clusters of hosts that share all its datastores and networks.
type Datacenter struct {
	Name                                      string
	Folders, Datastores, Networks, Portgroups []string // Networks: standard; Portgroups: on one distributed switch
	Segments, Opaque                          []string // NSX's on that switch; networks of a switch that vCenter does not manage
	Clusters                                  []Cluster
}

// Cluster is a cluster and the names of its hosts.
type Cluster struct {
	Name  string
	Hosts []string
}

// VM is a virtual machine, or Count of them.
type VM struct {
	Name                                          string
	Count                                         int // more than 1: Name is a format such as "load-%04d"
	Datacenter, Folder, Host, Datastore           string
	PowerOn, SecureBoot, TPM, CBT, Template, Real bool // Real: the power hook runs it
	GuestID, GuestName, Firmware, Hostname        string
	UUID, InstanceUUID                            string
	Version                                       string // default vmx-19
	CPUs, CoresPerSocket                          int32
	MemoryMB                                      int64
	NICs                                          []NIC
	Disks                                         []Disk
	ToolsVersion                                  string // how the tools of a running VM judge their own age
	FileSystems                                   []FileSystem
	Snapshots                                     []string
	Tags, Attributes                              map[string]string
}

// NIC is a network card; Model defaults to vmxnet3.
type NIC struct {
	MAC, Network, Model string
	IPs                 []string
	Origin              string // of the addresses: manual, dhcp …
}

// FileSystem is what the tools of a running VM tell of one; Disk is the key of the virtual disk, 0 for none.
type FileSystem struct {
	Path, Type           string
	SizeBytes, FreeBytes int64
	Disk                 int32
}

// Disk is a virtual disk.
type Disk struct {
	File       string // raw file served as the flat extent; empty: a new sparse one of SizeMB
	SizeMB     int64
	Datastore  string // default: the VM's
	Controller string // pvscsi, lsilogic, lsilogic-sas, buslogic, ide, sata, nvme
	Mode       string // persistent, independent_persistent, …
	Shared     bool
	RDM        string // LUN uuid; "physical:" before it for physical mode
}

// readInventory reads and checks the file; unknown fields are errors.
func readInventory(path string) (*Inventory, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	inv := &Inventory{}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(inv); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(inv.Users) == 0 || len(inv.Datacenters) == 0 {
		return nil, fmt.Errorf("%s: at least one user and one datacenter are needed", path)
	}
	for i := range inv.Users {
		u := &inv.Users[i]
		secret, err := os.ReadFile(u.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("%s: password of %s: %w", path, u.Name, err)
		}
		u.password = strings.TrimRight(string(secret), "\r\n")
		if u.password == "" {
			return nil, fmt.Errorf("%s: password file of %s is empty", path, u.Name)
		}
	}
	return inv, nil
}
