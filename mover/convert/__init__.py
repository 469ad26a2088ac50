"""Guest conversion: virt-v2v in place on an overlay, committed through a journal.

copied disks ──overlay──▶ virt-v2v-in-place ──fsync──▶ commit_started ──qemu-img commit──▶ digests ──▶ committed
               (raw, untouched until here)             from here on the only way is this very commit
"""

from mover.convert.run import convert

__all__ = ["convert"]
