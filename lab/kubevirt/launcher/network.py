"""Network interfaces of a VMI: model, MAC and cable are the spec's, the network behind is QEMU's user-mode one."""

from __future__ import annotations

from typing import Any

from .draft import Draft, Unsupported

_MODELS = ("e1000", "e1000e", "igb", "ne2k_pci", "pcnet", "rtl8139")
# The addresses that KubeVirt's masquerade binding gives: guest 10.0.2.2, gateway 10.0.2.1.
_MASQUERADE = "net=10.0.2.0/24,host=10.0.2.1,dhcpstart=10.0.2.2,ipv6=off"


def add_interfaces(draft: Draft) -> None:
    """All interfaces, in the order of the spec."""
    pod_networks = {network["name"] for network in draft.spec.get("networks") or [] if "pod" in network}
    for index, interface in enumerate(draft.devices.get("interfaces") or []):
        if interface.get("state") != "absent":
            _add_interface(draft, index, interface, isolated=interface["name"] not in pod_networks)


def _add_interface(draft: Draft, index: int, interface: dict[str, Any], *, isolated: bool) -> None:
    name, model = interface["name"], interface.get("model") or "virtio"
    if "sriov" in interface:
        raise Unsupported(f"interface {name}: SR-IOV")
    if model != "virtio" and model not in _MODELS:
        raise Unsupported(f"interface {name}: model {model!r}")
    if isolated:
        draft.notes.append(f"interface {name}: an isolated network instead of the named one")
    draft.add("-netdev", f"user,id=net{index},{_MASQUERADE}{',restrict=on' if isolated else ''}")
    mac = interface.get("macAddress")
    draft.device(
        draft.virtio("net") if model == "virtio" else model,
        {
            "netdev": f"net{index}",
            "id": f"ua-{name}",
            "mac": mac.lower().replace("-", ":") if mac else None,
            "bootindex": interface.get("bootOrder"),
        },
    )
    if interface.get("state") == "down":
        draft.links_down.append(f"ua-{name}")
