"""The command `mtv-mover`: what a pod runs, and what a person may run by hand."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mover import command_options, failure
from mover.events import Events
from mover.halt import Halt
from mover.termination import leave_message
from mtv.model.errors import NOT_UNDERSTOOD, MtvError, PermanentError
from mtv.model.transfer import SPEC_PATH, TERMINATION_LOG, TransferResult

if TYPE_CHECKING:
    from mtv.model.conversion import ConvertResult, PreflightResult

_EXIT_CODES = """\
exit codes:
  0   done
  10  failed; a retry does not help until somebody changes something
  11  failed or interrupted; start it again, it resumes
  12  another mover holds the work volume
"""
_TRANSFER_EXAMPLE = f"""\
example:
  mtv-mover transfer --spec spec.json

  {{"plan": "dc1", "run": "1", "vm": "web-1", "epoch": 1, "work_dir": "/var/tmp/web-1", "disks": [
    {{"id": "0", "size_bytes": 1073741824, "identity": "disk-a", "generation": "1",
     "source": {{"type": "nbd", "uri": "nbd+unix:///?socket=/run/disk.sock"}},
     "target": {{"path": "/var/tmp/disk.img"}}}}]}}

Progress, log and result are JSON lines; on a terminal, bars and sentences.
The work volume keeps a journal per disk: after any interruption the same command goes on where it was.

{_EXIT_CODES}"""
_CONVERT_EXAMPLE = f"""\
example:
  mtv-mover convert --spec spec.json

  {{"plan": "dc1", "run": "1", "vm": "web-1", "epoch": 2, "work_dir": "/var/tmp/web-1", "disks": [
    {{"id": "0", "path": "/var/tmp/disk.img", "block": false, "size_bytes": 1073741824, "digest": ""}}]}}

virt-v2v works on an overlay; the disks are changed only when all of it went well. `digest` is what the transfer said
("": not known); the epoch must not be older than the transfer's.

{_EXIT_CODES}"""
_DIGEST_EXAMPLE = """\
examples:
  mtv-mover digest /disks/0/disk.img
  mtv-mover digest /dev/mtv-disk-0 --size 1073741824
  mtv-mover digest 'nbd+unix:///?socket=/run/disk.sock'
  mtv-mover digest 'ova:/export/web-1.ova!web-1-disk1.vmdk'

The digest is the same however zeros are stored: blocks of 4 MiB (the last may be shorter) are hashed with BLAKE3;
the root is BLAKE3 over "mtv root digest v1\\n", the size as u64 and the block size as u32 (little-endian), and the
32-byte digests of all blocks in order.
"""
_PREFLIGHT_EXAMPLE = """\
example:
  mtv-mover preflight-block /dev/mtv-disk-0

Writes one page with O_DIRECT, reads it back and puts the old bytes back. Not for a device that is in use.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    arguments = _parser().parse_args(argv)
    command = {
        "transfer": _transfer,
        "copy": _copy,
        "verify": _verify,
        "convert": _convert,
        "digest": _digest,
        "preflight": _preflight,
        "preflight-block": _preflight_block,
    }[arguments.command]
    try:
        return command(arguments)
    except MtvError as error:
        found = failure.failure_of(error)
        Events().error(found)
        return failure.exit_code_of(found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mtv-mover",
        description="Copies disks so that every byte is proven and any interruption is survived.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str, epilog: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=text, description=text, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    for name, text, epilog in (
        ("transfer", "copy all disks of a VM as a spec says", _TRANSFER_EXAMPLE),
        ("convert", "make the copied guest bootable on KubeVirt, in place", _CONVERT_EXAMPLE),
    ):
        command = add(name, text, epilog)
        command.add_argument("--spec", type=Path, default=Path(SPEC_PATH), help="the spec, JSON (default: %(default)s)")
        command.add_argument(
            "--termination-log",
            type=Path,
            default=None,
            help=f"leave a result of at most 4096 bytes there (default: {TERMINATION_LOG} if it exists)",
        )
        command.add_argument(
            "--takeover-wait",
            type=float,
            default=30.0,
            metavar="SECONDS",
            help="how long a mover with an older epoch may take to let go of the work volume (default: %(default)s)",
        )
        if name == "transfer":
            command.add_argument(
                "--limit",
                metavar="RATE",
                help="read at most so much per second over all disks, e.g. 100M, 1.5GiB, off; while it runs, write a"
                " rate into the file `limit` in the work directory",
            )
            command.add_argument(
                "--metrics",
                default="",
                metavar="PORT|HOST:PORT|PATH",
                help="serve progress for Prometheus there: a port of loopback, an address, or a Unix socket",
            )
            command.add_argument(
                "--verify-source",
                action="store_true",
                help="read every source a second time and compare, even if the spec does not ask for it",
            )
    command_options.add_copy_arguments(
        add("copy", "copy one disk, resumable and proven", command_options.COPY_EXAMPLES + _EXIT_CODES)
    )
    command_options.add_verify_arguments(
        add("verify", "compare a target with the journal of its copy", command_options.VERIFY_EXAMPLES)
    )
    digest = add("digest", "print the root digest of a file, device or any source read at an offset", _DIGEST_EXAMPLE)
    command_options.add_source_arguments(digest, positional="disk")
    digest.add_argument("--size", type=int, default=None, help="bytes to digest (default: all)")
    command_options.add_preflight_arguments(
        add(
            "preflight",
            "can these disks be converted? asked before copying",
            command_options.PREFLIGHT_EXAMPLES,
        )
    )
    preflight = add("preflight-block", "prove that this user can write a block device", _PREFLIGHT_EXAMPLE)
    preflight.add_argument("path", type=Path)
    return parser


def _transfer(arguments: argparse.Namespace) -> int:
    from mover.transfer import read_spec, transfer

    events = Events()
    try:
        spec = read_spec(arguments.spec)
        if arguments.limit is not None:
            from mtv.model.rates import parse_rate

            spec = msgspec.structs.replace(spec, limit_bytes_per_s=parse_rate(arguments.limit), limits=())
    except MtvError as error:
        events.error(failure.failure_of(error))
        return _end(events, TransferResult(ok=False, failure=failure.failure_of(error)), arguments)
    if arguments.verify_source:
        spec = msgspec.structs.replace(spec, verify_source=True)
    halt = _halt_on_signals()
    result = transfer(spec, events, halt, takeover_wait_s=arguments.takeover_wait, metrics=arguments.metrics)
    return _end(events, result, arguments)


def _convert(arguments: argparse.Namespace) -> int:
    from mover.convert import convert
    from mover.measure import digest_of_path
    from mover.transfer import write_result
    from mover.worklock import work_lock
    from mtv.model.conversion import ConvertResult, ConvertSpec

    events = Events()
    result: ConvertResult
    try:
        try:
            spec = msgspec.json.decode(arguments.spec.read_bytes(), type=ConvertSpec)
        except (OSError, *NOT_UNDERSTOOD) as error:
            raise PermanentError(f"{arguments.spec} is not a conversion spec: {error}", code="spec") from error
        with work_lock(Path(spec.work_dir), spec.epoch, takeover_wait_s=arguments.takeover_wait) as lock:
            result = convert(
                spec,
                emit=lambda reading: events.progress([reading]),
                say=events.log,
                digest=lambda disk: digest_of_path(Path(disk.path), size_bytes=disk.size_bytes),
                halt=_halt_on_signals(),
                check_lock=lock.check,
            )
            lock.check()
            try:
                write_result(Path(spec.work_dir) / "convert-result.json", result)
            except MtvError as error:
                if result.ok:
                    raise
                events.error(failure.failure_of(error))  # and goes on: what the conversion failed of matters more
    except MtvError as error:
        result = ConvertResult(ok=False, failure=failure.failure_of(error))
    if result.failure:
        events.error(result.failure)
    return _end(events, result, arguments)


def _copy(arguments: argparse.Namespace) -> int:
    from mover.copy_command import copy

    return copy(arguments, Events(), _halt_on_signals())


def _verify(arguments: argparse.Namespace) -> int:
    from mover.verify_command import verify

    return verify(arguments, Events(), _halt_on_signals())


def _digest(arguments: argparse.Namespace) -> int:
    from mover.digest_command import digest_of

    print(digest_of(arguments))
    return failure.EXIT_OK


def _preflight(arguments: argparse.Namespace) -> int:
    from mover.convert.preflight import preflight

    events = Events()
    if arguments.spec:
        result = _preflight_of_spec(arguments.spec, events)
    else:
        result = preflight(
            arguments.disks,
            say=events.log,
            root_disk=arguments.root_disk,
            luks_keys=arguments.key,
            credentials_dir=arguments.credentials,
            windows_drivers=arguments.virtio_win,
            timeout_s=arguments.timeout,
            halt=_halt_on_signals(),
        )
    if result.failure:
        events.error(result.failure)
    return _end(events, result, arguments)


def _preflight_of_spec(path: Path, events: Events) -> PreflightResult:
    from mover.convert.preflight import preflight_spec
    from mtv.model.conversion import PreflightResult, PreflightSpec

    try:
        spec = msgspec.json.decode(path.read_bytes(), type=PreflightSpec)
    except (OSError, *NOT_UNDERSTOOD) as error:
        wrong = PermanentError(f"{path} is not a preflight spec: {error}", code="spec")
        return PreflightResult(ok=False, failure=failure.failure_of(wrong))
    return preflight_spec(spec, say=events.log, halt=_halt_on_signals())


def _preflight_block(arguments: argparse.Namespace) -> int:
    from mover.preflight_block import preflight_block

    print(msgspec.json.encode(preflight_block(arguments.path)).decode())
    return failure.EXIT_OK


def _end(
    events: Events, result: TransferResult | ConvertResult | PreflightResult, arguments: argparse.Namespace
) -> int:
    if not isinstance(result, TransferResult) and result.inspection:
        events.inspection(result.inspection)
    events.result(result)
    path = arguments.termination_log or (Path(TERMINATION_LOG) if os.access(TERMINATION_LOG, os.W_OK) else None)
    if path:
        try:
            leave_message(path, result)
        except OSError as error:
            print(f"{path}: {error.strerror}", file=sys.stderr)
    return failure.exit_code_of(result.failure)


def _halt_on_signals() -> Halt:
    halt = Halt()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: halt.set())
        # "Read your limits again": they are read every second anyway, so it only must not end us.
        for number in (signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, lambda _number, _frame: None)
    return halt
