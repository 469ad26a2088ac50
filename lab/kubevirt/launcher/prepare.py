"""What must be there before QEMU starts: overlays, empty disks, firmware variables, a TPM emulator."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from .disks import claim_of, path_of
from .draft import Draft, Host, NewImage, Places, Unsupported
from .host import has_tpm_emulator, kvm_works, supports_direct_io, wait_for_file


def look_at_host(vmi: dict[str, Any], volume_modes: dict[str, str], places: Places) -> tuple[Host, str]:
    """What this pod's machine offers, and why there is no KVM if there is none."""
    works, why = kvm_works()
    direct = set()
    for volume in vmi["spec"].get("volumes") or []:
        mode = volume_modes.get(volume["name"], "")
        if claim_of(volume) and supports_direct_io(path_of(volume["name"], mode, places.claims, places.devices)):
            direct.add(volume["name"])
    return Host(kvm=works, tpm_emulator=has_tpm_emulator(), direct_io=frozenset(direct)), "" if works else why


def make_files(draft: Draft) -> None:
    """Create images and copy firmware variables that are not there yet (kept ones stay as they are)."""
    for image in draft.images:
        if not image.path.exists():
            _make_image(image)
    for template, target in draft.copies:
        if not template.exists():
            raise Unsupported(f"firmware {template} is not installed on this machine")
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_suffix(".new")
            shutil.copyfile(template, partial)
            partial.replace(target)


def start_tpm(draft: Draft) -> subprocess.Popen[bytes] | None:
    """Start the TPM emulator if the draft asks for one. It ends by itself when QEMU closes its connection."""
    if draft.tpm_state is None:
        return None
    draft.tpm_state.mkdir(parents=True, exist_ok=True)
    control = draft.places.run / "swtpm.sock"
    emulator = subprocess.Popen(
        ["swtpm", "socket", "--tpm2", "--terminate", "--tpmstate", f"dir={draft.tpm_state}",
         "--ctrl", f"type=unixio,path={control}"],
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if not wait_for_file(control, timeout_s=10):
        emulator.kill()
        emulator.wait()
        raise Unsupported("swtpm did not start within 10 s")
    return emulator


def _make_image(image: NewImage) -> None:
    image.path.parent.mkdir(parents=True, exist_ok=True)
    partial = image.path.with_suffix(".new")
    command = ["qemu-img", "create", "-q", "-f", "qcow2"]
    if image.backing is not None:
        command += ["-b", str(image.backing), "-F", "raw", str(partial)]
    else:
        command += [str(partial), str(image.size_bytes)]
    _run(command)
    partial.replace(image.path)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise Unsupported(f"{Path(command[0]).name}: {done.stderr.strip() or done.returncode}")
