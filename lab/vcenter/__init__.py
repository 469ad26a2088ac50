"""A vCenter for the lab: `server` is the Go program, `part` starts it, `demo` says what is in it, `hook` runs guests.

Real: bytes on disk, changed areas, exports, guests in QEMU on VMware's paravirtual hardware.
Stand-in: the API itself is govmomi's simulator.
"""
