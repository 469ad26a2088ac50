"""Tiny guests that are real enough to migrate: Debian's own kernel, GRUB, ext4, VMware's paravirtual hardware.

`kernel` fetches the kernel, `image` makes disks out of it, `boot` runs them in QEMU. Real: kernel, boot loader, file
system, drivers, initramfs. Stand-in: the userland is busybox wearing Debian's identity, so that a boot takes seconds.
"""
