"""Command line of the guests: `python -m lab.guests build` makes disks, `boot` runs one and prints its console."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.guests.boot import BOOT_LINE, Machine
from lab.guests.hardware import Bus, Card, Hardware
from lab.guests.image import copy_image, guest_image
from lab.guests.spec import GuestSpec
from mtv.model.errors import MtvError

_EXAMPLES = """examples:
  python -m lab.guests build --out web-1.raw --hostname web-1
  python -m lab.guests build --out db.raw --data db-data.raw --hostname db-1 --data-mb 64
  python -m lab.guests boot db.raw db-data.raw --bus pvscsi --card vmxnet3
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lab.guests",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="write the root disk (and a data disk) as raw files")
    build.add_argument("--out", type=Path, required=True, help="file of the root disk")
    build.add_argument("--data", type=Path, help="file of the data disk (with --data-mb)")
    build.add_argument("--hostname", default="tiny")
    build.add_argument("--root-mb", type=int, default=192, help="size of the root disk in MiB")
    build.add_argument("--payload-mb", type=int, default=16, help="payload on the root disk in MiB")
    build.add_argument("--data-mb", type=int, default=0, help="size of the data disk in MiB, 0 for none")
    build.add_argument("--data-payload-mb", type=int, default=20, help="payload on the data disk in MiB")
    build.add_argument("--virtio", action="store_true", help="virtio drivers in the initramfs, as after a conversion")
    build.add_argument("--full", action="store_true", help="leave too little free space for a conversion")
    build.add_argument("--encrypted", action="store_true", help="root in LUKS; its key is 'sesame of HOSTNAME'")
    boot = commands.add_parser("boot", help="boot raw disks, print the console, power off again")
    boot.add_argument("disks", type=Path, nargs="+")
    boot.add_argument("--bus", type=Bus, choices=list(Bus), default=Bus.PVSCSI)
    boot.add_argument("--card", type=Card, choices=list(Card), default=Card.VMXNET3)
    boot.add_argument("--timeout", type=float, default=120, help="seconds until the boot must have worked")
    boot.add_argument("--keep-writes", action="store_true", help="let the guest write to the files")
    return parser


def _build(options: argparse.Namespace) -> None:
    if bool(options.data) != bool(options.data_mb):
        raise SystemExit("--data FILE and --data-mb MiB go together")
    spec = GuestSpec(
        hostname=options.hostname,
        root_mb=options.root_mb,
        payload_mb=options.payload_mb,
        data_mb=options.data_mb,
        data_payload_mb=options.data_payload_mb,
        virtio=options.virtio,
        full=options.full,
        encrypted=options.encrypted,
    )
    image = copy_image(guest_image(spec), options.out.parent / f".{options.out.name}.parts")
    image.root.replace(options.out)
    if image.data is not None:
        image.data.replace(options.data)
    shutil.rmtree(options.out.parent / f".{options.out.name}.parts")
    print(json.dumps(dict(image.payload), indent=1))


def _boot(options: argparse.Namespace) -> int:
    hardware = Hardware(options.bus, options.card)
    with Machine(options.disks, hardware, discard_writes=not options.keep_writes) as machine:
        try:
            machine.wait_for(BOOT_LINE, timeout_s=options.timeout)
            machine.wait_for(r"login: ", timeout_s=30)
            machine.press_power_button()
            machine.wait_until_off(timeout_s=60)
        except MtvError as error:
            print(machine.text)
            print(error, file=sys.stderr)
            return 1
        print(machine.text)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        if options.command == "build":
            _build(options)
            return 0
        return _boot(options)
    except MtvError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
