"""A mover that is told to stop (SIGTERM, before the kill that follows) ends soon, whatever it waits for."""

from __future__ import annotations

import io
import os
import shutil
import threading
from pathlib import Path

import msgspec
import pytest

from mover.events import Events
from mover.halt import Halt
from mover.transfer import transfer
from mtv.model.transfer import TransferResult
from tests.mover import moving
from tests.mover.moving import MIB
from tests.mover.vcenter import SIZE, vcenter_server


def test_a_disk_whose_turn_comes_after_the_stop_is_not_opened(tmp_path: Path) -> None:
    nowhere = f"nbd+unix:///?socket={tmp_path / 'none.sock'}"
    disks = [moving.disk_of(nowhere, MIB, tmp_path / f"t{number}", id=str(number)) for number in range(2)]
    halt = Halt()
    halt.set()
    result = transfer(moving.spec_of(tmp_path / "w", *disks), Events(io.StringIO()), halt)
    assert result.failure is not None
    assert result.failure.code == "interrupted"
    assert result.failure.retryable
    assert not list(tmp_path.glob("t*"))


SLOW_EXPORT = """\
#!/bin/sh
case "$*" in *streamOptimized*) : > {asked}; read -r _ < {gate}; exit 1 ;; esac
exec {qemu_img} "$@"
"""


@pytest.mark.lab
def test_a_mover_that_waits_for_an_export_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, gate, program = tmp_path / "asked", tmp_path / "gate", tmp_path / "bin" / "qemu-img"
    os.mkfifo(gate)
    program.parent.mkdir()
    program.write_text(SLOW_EXPORT.format(asked=asked, gate=gate, qemu_img=shutil.which("qemu-img")))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    (tmp_path / "vcenter").mkdir()
    halt, results = Halt(), list[TransferResult]()
    with vcenter_server(tmp_path / "vcenter") as vcenter:
        spec = moving.spec_of(tmp_path / "w", moving.disk_of(vcenter.nfc(), SIZE, tmp_path / "t"))
        spec = msgspec.structs.replace(spec, credentials_dir=str(vcenter.secrets))
        mover = threading.Thread(
            target=lambda: results.append(transfer(spec, Events(io.StringIO()), halt)), daemon=True
        )
        mover.start()
        moving.wait_for(asked.exists, "an export that takes its time")
        halt.set()
        mover.join(timeout=120)  # the export itself would be waited for five times as long
        gate.write_text("go on\n")
    [result] = results
    assert result.failure is not None
    assert result.failure.code == "interrupted"
