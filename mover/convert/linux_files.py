"""Files that a Linux guest gets before its conversion: names of network cards, and scripts for the first boot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from mtv.model.conversion import GuestScript

FIRST_BOOT_FOLDER = "/usr/lib/mtv-firstboot"
FIRST_BOOT_UNIT = "/etc/systemd/system/mtv-firstboot.service"
FIRST_BOOT_LINK = "/etc/systemd/system/multi-user.target.wants/mtv-firstboot.service"
UDEV_RULES = "/etc/udev/rules.d/70-mtv-net.rules"

_RUNNER = f"""\
#!/bin/sh
# Runs each script once, in order; put here by the migration of this VM.
log=/var/log/mtv-firstboot.log
cd {FIRST_BOOT_FOLDER}/scripts || exit 0
mkdir -p ../done
for script in *; do
    [ -f "$script" ] || continue
    mv "$script" ../done/ || exit 1
    echo "=== $script" >>"$log"
    "../done/$script" >>"$log" 2>&1 || echo "=== $script failed: exit code $?" >>"$log"
done
"""
_UNIT = f"""\
[Unit]
Description=Scripts of the migration, once, at the first boot
After=network-online.target
Wants=network-online.target
ConditionDirectoryNotEmpty={FIRST_BOOT_FOLDER}/scripts

[Service]
Type=oneshot
ExecStart={FIRST_BOOT_FOLDER}/run
RemainAfterExit=yes
TimeoutStartSec=infinity

[Install]
WantedBy=multi-user.target
"""


class GuestFile(msgspec.Struct, frozen=True):
    """A file to put into the guest. `link_to` makes it a symbolic link instead."""

    path: str
    content: str
    mode: int = 0o644
    link_to: str = ""


def network_files(names: Mapping[str, str], *, systemd: bool) -> list[GuestFile]:
    """Files that give each card its old name: MAC → name.

    They are written before virt-v2v, whose own rebuild of the initrd takes them in: whoever comes first renames, and
    that is the initrd. `Type=ether` keeps bridges and VLANs that inherit the MAC out. A guest without systemd gets a
    udev rule too.
    """
    files = [
        GuestFile(
            f"/etc/systemd/network/10-mtv-{name.replace(':', '_')}.link",
            f"# The name that this card had before the migration.\n[Match]\nMACAddress={mac}\nType=ether\n\n"
            f"[Link]\nName={name}\n",
        )
        for mac, name in names.items()
    ]
    if names and not systemd:
        rules = "".join(
            f'SUBSYSTEM=="net", ACTION=="add", ATTR{{address}}=="{mac}", ATTR{{type}}=="1", NAME="{name}"\n'
            for mac, name in names.items()
        )
        files.append(GuestFile(UDEV_RULES, rules))
    return files


def first_boot_files(scripts: Iterable[GuestScript]) -> list[GuestFile]:
    """The scripts, the runner that starts each once, and the unit that starts the runner. Nothing without scripts."""
    # The runner goes by the shell's order of names, in which 10_ comes before 9_.
    files = [
        GuestFile(f"{FIRST_BOOT_FOLDER}/scripts/{number:04}-{script.name}", script.content, 0o755)
        for number, script in enumerate(scripts, start=1)
    ]
    if files:
        files.append(GuestFile(f"{FIRST_BOOT_FOLDER}/run", _RUNNER, 0o755))
        files.append(GuestFile(FIRST_BOOT_UNIT, _UNIT))
        files.append(GuestFile(FIRST_BOOT_LINK, "", link_to=FIRST_BOOT_UNIT))
    return files
