"""A file of an appliance that its writer has cut up: `disk1.vmdk.000000000`, `disk1.vmdk.000000001`, and so on."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mtv.providers.ova.envelope import FileReference
from mtv.providers.ova.members import Member, check_name
from mtv.providers.ova.refusal import Refused

_COPY_ALL = "copy the appliance with all its files"


def pieces_of(reference: FileReference, members: Mapping[str, Member]) -> tuple[Member, ...]:
    """Return the members that make up a file, in order: one, or the pieces of a file that is split.

    Raises `Refused` when one is missing or has not the size that the OVF says.
    """
    check_name(reference.href)
    if reference.chunk_bytes is None:
        member = members.get(reference.href)
        if member is None:
            raise Refused(f"it lacks its file {reference.href!r}", cure=_COPY_ALL)
        return (member,)
    numbered = re.compile(re.escape(reference.href) + r"\.([0-9]{9})")
    found = sorted((int(match[1]), name) for name in members if (match := numbered.fullmatch(name)))
    pieces = tuple(members[name] for _, name in found)
    missing = next((at for at, (number, _) in enumerate(found) if at != number), None if found else 0)
    if missing is not None:
        raise Refused(f"it lacks the piece {reference.href}.{missing:09d}", cure=_COPY_ALL)
    _check_sizes(reference, pieces)
    return pieces


def _check_sizes(reference: FileReference, pieces: tuple[Member, ...]) -> None:
    wanted = reference.chunk_bytes or 0
    for piece in pieces:
        last = piece is pieces[-1]
        if not piece.length or piece.length > wanted or (piece.length < wanted and not last):
            raise Refused(
                f"its piece {piece.name!r} has {piece.length} bytes, pieces have {wanted}", cure="copy it again"
            )
    total = sum(piece.length for piece in pieces)
    if reference.size_bytes is not None and total != reference.size_bytes:
        raise Refused(
            f"the pieces of {reference.href!r} have {total} bytes together instead of {reference.size_bytes}",
            cure=_COPY_ALL,
        )
