"""The options of the commands that people use by hand. Kept apart from what they do, which takes long to load."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mover.failure import EXIT_OK, EXIT_PERMANENT, EXIT_TEMPORARY
from mtv.model.transfer import SPEC_PATH, Verify

if TYPE_CHECKING:
    from mover.sources.uri import UriOptions
    from mtv.model.conversion import LuksKey

JOURNAL_SUFFIX = ".mtv-journal"
LIMIT_SUFFIX = ".limit"
LOCK_SUFFIX = ".lock"
COPY_EXAMPLES = """\
examples:
  mtv-mover copy --source file:/images/disk.raw --target /mnt/disk.img
  mtv-mover copy --source vmdk:/export/web-1.vmdk --target /mnt/disk.img
  mtv-mover copy --source 'ova:/export/web-1.ova!web-1-disk1.vmdk' --target /mnt/disk.img
  mtv-mover copy --source 'nbd+unix:///?socket=/run/disk.sock' --target /dev/vdb --journal /var/tmp/vdb.journal
  mtv-mover copy --source imageio:+/run/transfer.url --target /mnt/disk.img
  mtv-mover copy --source https://images.example.org/web-1.raw --target /mnt/disk.img \\
      --credentials /etc/mtv/images --header-file token --checksum sha256:9f86d08…

The target is overwritten. After any interruption the same command goes on where it was, as long as source and target
are the same. No secret is given on the command line: the folder of --credentials holds ca.pem (the authority to trust)
and the header file, one line such as `Authorization: Bearer …`.
The last line tells bytes_copied, bytes_skipped (holes, and what an earlier attempt had proven), digest and seconds.
"""
VERIFY_EXAMPLES = f"""\
example:
  mtv-mover verify --target /mnt/disk.img --journal /mnt/disk.img.mtv-journal

Reads the target from its medium and writes nothing. A guest that was converted or has run since has other bytes.

exit codes:
  {EXIT_OK}   every block is what the journal says
  {EXIT_PERMANENT}  a block differs: its offset and both digests are told
  {EXIT_TEMPORARY}  nothing differs, but the copy was not finished: start it again, it resumes
"""
PREFLIGHT_EXAMPLES = """\
examples:
  mtv-mover preflight --disk /disks/0/disk.img --disk /disks/1/disk.img
  mtv-mover preflight --source 'nbd+unix:///?socket=/run/disk.sock'
  mtv-mover preflight --disk win.img --virtio-win /usr/share/virtio-win/virtio-win.iso
  mtv-mover preflight --disk luks.img --credentials /run/mtv --key all=luks-passphrase

Disks in boot order. Nothing is written. The result names the guest and says by the same codes as a conversion why that
would fail; that the guest's own initrd can be rebuilt shows only in the conversion itself.
"""


def add_copy_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `copy`."""
    add_source_arguments(parser)
    parser.add_argument("--target", type=Path, required=True, metavar="PATH", help="a file (made sparse) or a device")
    parser.add_argument(
        "--journal", type=Path, metavar="PATH", help=f"where progress is kept (default: TARGET{JOURNAL_SUFFIX})"
    )
    parser.add_argument(
        "--verify",
        choices=[mode.value for mode in Verify],
        default=Verify.FULL.value,
        help="how much of the target is read back and compared (default: %(default)s)",
    )
    parser.add_argument(
        "--limit",
        default="off",
        metavar="RATE",
        help=f"read at most so much per second, e.g. 100M; a rate in the file JOURNAL{LIMIT_SUFFIX} changes it",
    )
    parser.add_argument(
        "--verify-source", action="store_true", help="read the source a second time and compare with the first"
    )
    parser.add_argument(
        "--preallocate", action="store_true", help="reserve all space of the target file before the copy begins"
    )


def add_source_arguments(parser: argparse.ArgumentParser, *, positional: str = "") -> None:
    """The options that say where a disk is read; `positional` is the name of an argument instead of `--source`."""
    if positional:
        parser.add_argument(positional, help="path, or source as for `copy`")
    else:
        parser.add_argument("--source", required=True, metavar="URI", help="file:, vmdk:, ova:, nbd:, https: … (below)")
    parser.add_argument(
        "--credentials",
        type=Path,
        default=Path(SPEC_PATH).parent,
        metavar="DIR",
        help="folder with ca.pem and what else the source needs (default: %(default)s)",
    )
    parser.add_argument("--header-file", default="", metavar="NAME", help="file there with a header for https:")
    parser.add_argument("--checksum", default="", metavar="ALGORITHM:HEX", help="of the source's bytes, compared too")
    parser.add_argument("--thumbprint", default="", metavar="HEX", help="of the server's certificate, instead of a CA")
    parser.add_argument("--insecure", action="store_true", help="trust any server, and plain HTTP")


def add_verify_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `verify`."""
    parser.add_argument("--target", type=Path, required=True, metavar="PATH", help="the file or device that was copied")
    parser.add_argument("--journal", type=Path, required=True, metavar="PATH", help="the journal of its copy")


def add_preflight_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `preflight`."""
    # One list for both, because their order on the command line is the boot order.
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--disk", "--source", action="append", dest="disks", metavar="PATH|URI")
    what.add_argument(
        "--spec", type=Path, metavar="PATH", help="disks of any source and all of the rest, as a pod has it"
    )
    parser.add_argument("--root-disk", default="", metavar="DEVICE", help="which root, if there are several: /dev/sda2")
    parser.add_argument(
        "--key", action="append", default=[], type=_key, metavar="DEVICE=FILE", help="LUKS key file; DEVICE may be all"
    )
    parser.add_argument("--credentials", type=Path, default=Path("/run/mtv"), help="folder of key files")
    parser.add_argument("--virtio-win", default="", metavar="PATH", help="ISO or folder (default: $VIRTIO_WIN)")
    parser.add_argument("--timeout", type=float, default=1800.0, metavar="SECONDS", help="(default: %(default)s)")
    parser.add_argument("--termination-log", type=Path, default=None, help="as of convert")


def _key(text: str) -> LuksKey:
    device, found, file = text.rpartition("=")
    if not found or not device or not file:
        raise argparse.ArgumentTypeError(f"{text!r} is not DEVICE=FILE")
    from mtv.model.conversion import LuksKey  # here: copies are made without it

    return LuksKey(device=device, file=file)


def uri_options(arguments: argparse.Namespace) -> UriOptions:
    """What was said beside the source's address."""
    from mover.sources.uri import UriOptions

    return UriOptions(
        checksum=arguments.checksum,
        header_file=arguments.header_file,
        thumbprint=arguments.thumbprint,
        insecure=arguments.insecure,
    )
