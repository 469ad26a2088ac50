"""Hypothesis strategies for the values that many tests share."""

from __future__ import annotations

from hypothesis import strategies as st

from mtv.model.plan import (
    Bandwidth,
    BootProof,
    NetworkTarget,
    Plan,
    PlannedVm,
    RateWindow,
    Source,
    StorageTarget,
    Target,
    VmOptions,
    Wave,
)
from mtv.plan.names import RESERVED, dns_label

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def dns_labels(max_size: int = 20) -> st.SearchStrategy[str]:
    """Valid DNS labels that are not reserved."""
    inner = st.text(_LETTERS + "0123456789-", max_size=max_size - 2)
    return st.builds(lambda a, b, c: a + b + c, st.sampled_from(_LETTERS), inner, st.sampled_from(_LETTERS)).filter(
        lambda name: name not in RESERVED
    )


def visible_text(min_size: int = 1, max_size: int = 30) -> st.SearchStrategy[str]:
    """What people call things: any script, blanks and punctuation inside, none at the ends."""
    characters = st.characters(exclude_categories=("C", "Zl", "Zp"))
    return st.text(characters, min_size=min_size, max_size=max_size).filter(lambda text: text == text.strip())


def vm_options() -> st.SearchStrategy[VmOptions]:
    """Options said at some level; most are left out."""
    return st.builds(
        VmOptions,
        type=st.none() | st.sampled_from(["cold", "warm"]),
        target_power_state=st.none() | st.sampled_from(["on", "off", "auto"]),
        storage_class=st.none() | dns_labels(),
        volume_mode=st.none() | st.sampled_from(["Filesystem", "Block"]),
        network=st.none() | st.sampled_from(["pod", "ignored", "finance/app-net"]),
        root_disk=st.none() | visible_text(),
        preserve_static_ips=st.none() | st.booleans(),
        skip_guest_conversion=st.none() | st.booleans(),
        customization_scripts=st.none() | st.sampled_from(["scripts", "./hardening"]),
        luks=st.none() | st.just("luks.keys"),
        virtio_win=st.none() | st.sampled_from(["/opt/virtio-win.iso", "claim:drivers/virtio-win.iso"]),
        inspect=st.none() | st.booleans(),
        preflight=st.none() | st.booleans(),
        verify=st.none() | st.sampled_from(["full", "sampled", "off"]),
        verify_source=st.none() | st.booleans(),
        preallocate=st.none() | st.booleans(),
        transport=st.none() | st.sampled_from(["auto", "datastore", "nfc"]),
        on_failure=st.none() | st.sampled_from(["rollback", "hold"]),
        shutdown_timeout_s=st.none() | st.integers(1, 100_000),
        boot_proof=st.none() | st.builds(BootProof, marker=visible_text(0), throw_away=st.booleans()),
    )


@st.composite
def plans(draw: st.DrawFn, max_vms: int = 8) -> Plan:
    """Whole plans that check."""
    names = draw(st.lists(visible_text(), min_size=1, max_size=max_vms, unique_by=dns_label))
    vms = [
        PlannedVm(id=dns_label(name), name=name, **draw(vm_options()).model_dump(exclude_none=True)) for name in names
    ]
    cuts = sorted(draw(st.sets(st.integers(1, len(vms)), max_size=3)) | {len(vms)})
    wave_names = draw(st.lists(dns_labels(), min_size=len(cuts), max_size=len(cuts), unique=True))
    waves = []
    for index, (name, begin, end) in enumerate(zip(wave_names, [0, *cuts], cuts, strict=False)):
        waves.append(
            Wave(
                name=name,
                vms=tuple(vms[begin:end]),
                defaults=draw(vm_options()),
                start_after=tuple(draw(st.lists(st.sampled_from(wave_names[:index]), unique=True)) if index else ()),
                max_vms_in_flight=draw(st.integers(1, 100)),
            )
        )
    networks = st.dictionaries(visible_text(), st.just(NetworkTarget(type="multus", name="a/b")), max_size=3)
    storages = st.dictionaries(visible_text(), st.builds(StorageTarget, storage_class=dns_labels()), max_size=3)
    rates = st.sampled_from(["off", "100M", "1.5GiB/s"])
    clocks = st.times().map("{:%H:%M}".format)
    windows = st.lists(st.builds(RateWindow, start=clocks, end=clocks, limit=rates), max_size=2).map(tuple)
    zones = st.sampled_from(["UTC", "Europe/Berlin"])
    return Plan(
        bandwidth=draw(st.builds(Bandwidth, limit=rates, windows=windows, timezone=zones)),
        name=draw(dns_labels()),
        description=draw(visible_text(0)),
        source=Source(connection=draw(dns_labels())),
        target=Target(connection=draw(dns_labels()), namespace=draw(dns_labels())),
        network_map=draw(networks),
        storage_map=draw(storages),
        scripts={"hardening": {"10_linux_run_x.sh": draw(visible_text())}},
        defaults=draw(vm_options()),
        waves=tuple(waves),
    )
