"""A stand-in for nbdkit's vddk plugin, which needs VMware's closed library: a script for the sh plugin."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from mover.control.controls import Controls
from mover.sources.vddk import VddkSource, open_vddk
from mtv.model.transfer import Vddk

STAND_IN = """\
case "$1" in
  config) echo "$2=$3" >> {folder}/settings
    test "$2" != password || cat "${{3#+}}" > {folder}/password-read ;;
  config_complete|unload|close|load|get_ready|after_fork|preconnect|list_exports|default_export|export_description) ;;
  thread_model) echo parallel ;;
  open) test ! -s {folder}/says || {{ cat {folder}/says >&2; exit 1; }} ;;
  get_size) stat -L -c %s {folder}/disk ;;
  pread) echo "$3" >> {folder}/reads; dd if={folder}/disk iflag=skip_bytes,count_bytes skip="$4" count="$3" bs=1M ;;
  *) exit 2 ;;
esac
"""


def write_plugin(folder: Path) -> None:
    """Put the script into `folder`: it serves the file `disk` there and notes what it was told."""
    (folder / "plugin.sh").write_text("#!/bin/sh\n" + STAND_IN.format(folder=folder))
    (folder / "plugin.sh").chmod(0o755)


def open_stand_in(disk: Vddk, controls: Controls, folder: Path) -> VddkSource:
    """The source, with the script where the plugin would be."""
    return open_vddk(disk, controls, plugin=("sh", str(folder / "plugin.sh")))


def use_stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let copies of this test open their VDDK sources so."""
    monkeypatch.setattr("mover.sources.vddk.open_vddk", partial(open_stand_in, folder=folder))
