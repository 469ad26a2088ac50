"""Stand-in for virt-launcher: runs one VirtualMachineInstance in QEMU, inside the pod that KubeVirt made for it.

It is copied into the pod's image and run there by the system's Python, so it imports the standard library only and
uses relative imports. What is real: the guest sees the devices, buses, addresses and firmware of the VMI's spec, or
the instance fails. What is not: no libvirt, no migration, no hotplug, and networks are QEMU's user-mode ones.
"""
