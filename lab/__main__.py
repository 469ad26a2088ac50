"""`python -m lab`: the data centre in a box. `check` and `apt-line` need nothing but Python itself."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

EXAMPLES = """examples:
  python3 -m lab check                 is this machine fit for the lab? (system Python, before any venv)
  python3 -m lab apt-line              the apt command that installs what is missing
  python -m lab build                  fill the cache, start nothing
  python -m lab up                     everything: cluster, KubeVirt, vCenter, OVA files, Airflow
  python -m lab up cluster             only the target cluster
  python -m lab up openstack           what is left out unless it is named
  python -m lab status                 what is up, what is real, what is a stand-in, where to reach it
  python -m lab logs cluster           the last lines of every log of the cluster
  python -m lab down                   stop all; also cleans up after a crash
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it worked, 1 with a message on stderr if not."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command == "check":
        from lab import packages

        lacks = packages.report_problems() | packages.report_missing()
        if not lacks:
            print("lab: this machine is fit")
        return lacks
    if arguments.command == "apt-line":
        from lab import packages

        print(packages.apt_line())
        return 0
    if arguments.state is None and (named := os.environ.get("MTV_LAB_STATE")):
        try:
            _folder(named)
        except argparse.ArgumentTypeError as error:
            parser.error(f"MTV_LAB_STATE: {error}")
    return _run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lab",
        description="A data centre in a box: Kubernetes with KubeVirt, a vCenter, OVA files, Airflow, all on loopback.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("build", "build what `up` needs: binaries, images, disks; slow the first time"),
        ("up", "build what is missing, start parts and wait until they answer"),
        ("down", "stop parts and undo what they did to the machine"),
        ("status", "table of the parts; exit code 1 if one is broken"),
        ("logs", "last lines of the parts' logs"),
    ):
        command = commands.add_parser(name, help=text, description=text, epilog=EXAMPLES)
        command.formatter_class = argparse.RawDescriptionHelpFormatter
        command.add_argument("part", nargs="*", help="cluster, kubevirt, vcenter, ova, airflow; openstack if named")
        command.add_argument(
            "--state", type=_folder, metavar="DIR", help="folder of this lab (default: $MTV_LAB_STATE or var/lab)"
        )
        if name == "logs":
            command.add_argument("-n", "--lines", type=_count, default=20, help="lines per log (default: %(default)s)")
    commands.add_parser("check", help="is this machine fit for the lab? one line per problem, with its cure")
    commands.add_parser("apt-line", help="print the apt command that installs the missing packages")
    return parser


def _folder(text: str) -> Path:
    path = Path(text).absolute()
    there = next(known for known in (path, *path.parents) if known.exists())
    if not there.is_dir():
        raise argparse.ArgumentTypeError(f"{there} is no folder")
    return path


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _run(arguments: argparse.Namespace) -> int:
    try:
        from lab import control
        from lab.state import State, default_state_folder
        from lab.terminal import print_logs, print_status
        from mtv.model.errors import MtvError
    except ModuleNotFoundError as missing:
        print(f"lab: {missing}: run it with the project's Python (.venv/bin/python -m lab …)", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `up` then stops what it started
    state = State((arguments.state or default_state_folder()).resolve())
    try:
        if arguments.command == "build":
            control.build(arguments.part)
        elif arguments.command == "up":
            control.up(state, arguments.part)
            print_status(control.status(state, arguments.part))
        elif arguments.command == "down":
            control.down(state, arguments.part)
        elif arguments.command == "logs":
            print_logs(state, arguments.part, arguments.lines)
        else:
            found = control.status(state, arguments.part)
            print_status(found)
            return int(any(part.state == "broken" for part in found))
    except MtvError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted; what had been started is stopped again", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
