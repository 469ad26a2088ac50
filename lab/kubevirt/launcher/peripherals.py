"""Consoles, graphics, input, random numbers, TPM and the other small devices of a VMI."""

from __future__ import annotations

from .draft import Draft

_NOT_EMULATED = ("gpus", "hostDevices", "filesystems", "watchdog", "sound", "downwardMetrics")


def add_peripherals(draft: Draft) -> None:
    """Devices beside disks and networks. What cannot be given is noted, never left out in silence."""
    devices, run = draft.devices, draft.places.run
    if devices.get("autoattachSerialConsole", True):
        # virt-tail prints this log file as the pod's container guest-console-log.
        serial = f"path={run}/virt-serial0,server=on,wait=off,logfile={run}/virt-serial0-log"
        draft.add("-chardev", f"socket,id=serial0,{serial}")
        draft.device("isa-serial", {"chardev": "serial0"})
    draft.device(draft.virtio("serial"), {"id": "virtio-serial0"})
    draft.add("-chardev", f"socket,id=agent0,path={run}/guest-agent,server=on,wait=off")
    draft.device("virtserialport", {"chardev": "agent0", "name": "org.qemu.guest_agent.0"})
    draft.add("-display", "none")
    if devices.get("autoattachGraphicsDevice", True):
        draft.device("VGA")
        draft.add("-vnc", f"unix:{run}/virt-vnc")
    for item in devices.get("inputs") or []:
        draft.device("virtio-tablet-pci" if item.get("bus") == "virtio" else "usb-tablet")
    if devices.get("autoattachMemBalloon", True):
        draft.device(draft.virtio("balloon"))
    if "rng" in devices:
        draft.device(draft.virtio("rng"))
    _add_tpm(draft)
    draft.notes += [f"{key}: not emulated" for key in _NOT_EMULATED if devices.get(key)]


def _add_tpm(draft: Draft) -> None:
    tpm = draft.devices.get("tpm")
    if tpm is None or tpm.get("enabled") is False:
        return
    if not draft.host.tpm_emulator:
        draft.notes.append("tpm: swtpm is not installed on this machine, the guest has no TPM")
        return
    persistent = bool(tpm.get("persistent"))
    draft.tpm_state = draft.places.tpm if persistent else draft.places.run / "tpm"
    draft.add(
        "-chardev", f"socket,id=tpm0,path={draft.places.run}/swtpm.sock", "-tpmdev", "emulator,id=tpm,chardev=tpm0"
    )
    draft.device("tpm-crb" if persistent else "tpm-tis", {"tpmdev": "tpm"})
