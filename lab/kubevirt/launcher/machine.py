"""Machine, CPU, memory, clock and firmware of a VMI."""

from __future__ import annotations

from .draft import Draft, Unsupported
from .quantity import cpus, size_mib

_HOST_MODELS = ("host-model", "host-passthrough")


def add_machine(draft: Draft) -> None:
    """Accelerator, machine type, CPU, memory, identity and clock."""
    domain = draft.domain
    draft.add("-accel", "kvm" if draft.host.kvm else "tcg,thread=multi")
    machine = (domain.get("machine") or {}).get("type") or "q35"
    if machine.startswith("pc-q35-rhel"):
        draft.notes.append(f"machine type {machine}: this QEMU has q35 only")
        machine = "q35"
    bios = _object(_object(_object(domain.get("firmware")).get("bootloader")).get("bios"))
    options = [
        machine,
        *(["smm=on"] if _wants_smm(draft) else []),
        *(["graphics=off"] if bios.get("useSerial") else []),
    ]
    draft.add("-machine", ",".join(options))  # graphics=off only tells the BIOS to use the serial console
    draft.add("-cpu", _cpu_model(draft))
    sockets, cores, threads = topology(domain)
    draft.add("-smp", f"{sockets * cores * threads},sockets={sockets},cores={cores},threads={threads}")
    draft.add("-m", f"{memory_mib(domain)}M")
    _add_identity(draft)
    _add_clock(draft)
    if (domain.get("features") or {}).get("hyperv"):
        draft.notes.append("features.hyperv: not passed to the guest")
    if (domain.get("memory") or {}).get("hugepages"):
        draft.notes.append("memory.hugepages: ordinary pages are used")


def topology(domain: dict[str, object]) -> tuple[int, int, int]:
    """Sockets, cores and threads; without a topology the requested CPUs become sockets, as in KubeVirt."""
    cpu = _object(domain.get("cpu"))
    if not any(key in cpu for key in ("sockets", "cores", "threads")):
        resources = _object(domain.get("resources"))
        for source in ("limits", "requests"):
            if "cpu" in _object(resources.get(source)):
                return cpus(str(_object(resources[source])["cpu"])), 1, 1
    return tuple(int(str(cpu.get(key) or 1)) for key in ("sockets", "cores", "threads"))  # type: ignore[return-value]


def memory_mib(domain: dict[str, object]) -> int:
    """Memory of the guest in MiB: memory.guest, else the request, else the limit."""
    resources = _object(domain.get("resources"))
    for source, key in ((domain.get("memory"), "guest"), (resources.get("requests"), "memory"),
                        (resources.get("limits"), "memory")):  # fmt: skip
        quantity = _object(source).get(key)
        if quantity:
            return size_mib(str(quantity))
    raise Unsupported("the spec says no memory size")


def add_firmware(draft: Draft) -> None:
    """BIOS (QEMU's default), or UEFI with its variables: new ones in each pod, or kept on the VM's state claim."""
    bootloader = _object(_object(draft.domain.get("firmware")).get("bootloader"))
    if "efi" not in bootloader:
        return
    efi = _object(bootloader["efi"])
    secure = efi.get("secureBoot", True)
    if secure and not _wants_smm(draft):
        raise Unsupported("secure boot needs features.smm")
    code = draft.places.firmware / ("OVMF_CODE_4M.secboot.fd" if secure else "OVMF_CODE_4M.fd")
    template = draft.places.firmware / ("OVMF_VARS_4M.ms.fd" if secure else "OVMF_VARS_4M.fd")
    variables = draft.places.run / "nvram.fd"
    if efi.get("persistent"):
        variables = draft.places.nvram / f"{draft.vmi['metadata']['name']}_VARS.fd"
    draft.copies.append((template, variables))
    draft.add("-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={code}")
    draft.add("-drive", f"if=pflash,format=raw,unit=1,file={variables}")
    if secure:
        draft.add("-global", "driver=cfi.pflash01,property=secure,value=on")


def _wants_smm(draft: Draft) -> bool:
    features = _object(draft.domain.get("features"))
    return "smm" in features and _object(features["smm"]).get("enabled") is not False


def _cpu_model(draft: Draft) -> str:
    cpu = _object(draft.domain.get("cpu"))
    model = str(cpu.get("model") or "host-model")
    if model in _HOST_MODELS:
        model = "host" if draft.host.kvm else "max"
    for feature in cpu.get("features") or []:  # type: ignore[attr-defined]  # a JSON document
        wanted = {"": "on", "force": "on", "require": "on", "disable": "off", "forbid": "off"}
        policy = feature.get("policy") or ""
        if policy in wanted:
            model += f",{feature['name']}={wanted[policy]}"
    if cpu.get("dedicatedCpuPlacement"):
        draft.notes.append("cpu.dedicatedCpuPlacement: CPUs are shared")
    return model


def _add_identity(draft: Draft) -> None:
    firmware, chassis = _object(draft.domain.get("firmware")), _object(draft.domain.get("chassis"))
    if firmware.get("uuid"):
        draft.add("-uuid", str(firmware["uuid"]))
    if firmware.get("serial"):
        draft.add("-smbios", "type=1,serial=" + str(firmware["serial"]).replace(",", ",,"))
    fields = {"manufacturer": "manufacturer", "version": "version", "serial": "serial", "asset": "asset", "sku": "sku"}
    words = [f"{qemu}={str(chassis[key]).replace(',', ',,')}" for key, qemu in fields.items() if chassis.get(key)]
    if words:
        draft.add("-smbios", ",".join(["type=3", *words]))
    if firmware.get("kernelBoot"):
        raise Unsupported("firmware.kernelBoot is not supported")


def _add_clock(draft: Draft) -> None:
    clock = _object(draft.domain.get("clock"))
    if clock.get("timezone"):
        draft.notes.append(f"clock.timezone {clock['timezone']}: the clock shows UTC")
    if _object(clock.get("utc")).get("offsetSeconds"):
        draft.notes.append("clock.utc.offsetSeconds: the clock shows UTC")
    draft.add("-rtc", "base=utc")


def _object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
