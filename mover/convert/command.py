"""The command `mtv-mover preflight`: its options, and what they mean."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from mover.convert.preflight import preflight
from mover.halt import Halt
from mtv.model.conversion import LuksKey, PreflightResult

EXAMPLES = """\
examples:
  mtv-mover preflight --disk /disks/0/disk.img --disk /disks/1/disk.img
  mtv-mover preflight --source 'nbd+unix:///?socket=/run/disk.sock'
  mtv-mover preflight --disk win.img --virtio-win /usr/share/virtio-win/virtio-win.iso
  mtv-mover preflight --disk luks.img --credentials /run/mtv --key all=luks-passphrase

Disks in boot order. Nothing is written. The result names the guest and says by the same codes as a conversion why that
would fail; that the guest's own initrd can be rebuilt shows only in the conversion itself.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    # One list for both, because their order on the command line is the boot order.
    parser.add_argument("--disk", "--source", action="append", required=True, dest="disks", metavar="PATH|URI")
    parser.add_argument("--root-disk", default="", metavar="DEVICE", help="which root, if there are several: /dev/sda2")
    parser.add_argument(
        "--key", action="append", default=[], type=_key, metavar="DEVICE=FILE", help="LUKS key file; DEVICE may be all"
    )
    parser.add_argument("--credentials", type=Path, default=Path("/run/mtv"), help="folder of key files")
    parser.add_argument("--virtio-win", default="", metavar="PATH", help="ISO or folder (default: $VIRTIO_WIN)")
    parser.add_argument("--timeout", type=float, default=1800.0, metavar="SECONDS", help="(default: %(default)s)")


def run(arguments: argparse.Namespace, *, say: Callable[[str], None], halt: Halt) -> PreflightResult:
    """Do what the options ask for."""
    return preflight(
        arguments.disks,
        say=say,
        root_disk=arguments.root_disk,
        luks_keys=arguments.key,
        credentials_dir=arguments.credentials,
        windows_drivers=arguments.virtio_win,
        timeout_s=arguments.timeout,
        halt=halt,
    )


def _key(text: str) -> LuksKey:
    device, found, file = text.rpartition("=")
    if not found or not device or not file:
        raise argparse.ArgumentTypeError(f"{text!r} is not DEVICE=FILE")
    return LuksKey(device=device, file=file)
