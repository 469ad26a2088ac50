"""The manifest (`.mf`): a digest per file. The small files are checked at once, the disks when they are read."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from mtv.providers.ova.members import Member
from mtv.providers.ova.refusal import Refused

_LINE = re.compile(r"^(?P<kind>SHA1|SHA256|SHA512)\s*\((?P<name>.+)\)\s*=\s*(?P<digest>[0-9a-f]+)\s*$", re.IGNORECASE)
_HEX_DIGITS = {"sha1": 40, "sha256": 64, "sha512": 128}
_MAX_BYTES = 1 << 20
_CHUNK = 1 << 20


def read_manifest(member: Member) -> dict[str, str]:
    """Return file name → "sha256:<hex>" (or sha1, sha512). Raises `Refused` for a line that is none."""
    text = member.read(_MAX_BYTES).decode("utf-8", errors="replace")
    digests: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = _LINE.match(line.strip())
        if match is None or len(match["digest"]) != _HEX_DIGITS[match["kind"].lower()]:
            raise Refused(f"line {number} of its manifest {member.name} is no digest")
        name, digest = match["name"], f"{match['kind'].lower()}:{match['digest'].lower()}"
        if digests.setdefault(name, digest) != digest:
            raise Refused(f"its manifest {member.name} gives two digests for {name}")
    return digests


def digest_of(member: Member, kind: str) -> str:
    """Return "<kind>:<hex>" of a member's bytes, read in chunks."""
    hasher = hashlib.new(kind, usedforsecurity=False)
    with member.path.open("rb") as file:
        file.seek(member.offset)
        left = member.length
        while left:
            chunk = file.read(min(_CHUNK, left))
            if not chunk:
                raise Refused(f"{member.name} ends early", cure="copy the file again")
            hasher.update(chunk)
            left -= len(chunk)
    return f"{kind}:{hasher.hexdigest()}"


def mismatches(digests: Mapping[str, str], members: Mapping[str, Member]) -> list[str]:
    """Return one sentence for each listed file that is missing or differs; all bytes are read."""
    found: list[str] = []
    for name, wanted in sorted(digests.items()):
        if name not in members:
            found.append(f"{name} is in the manifest but not in the appliance")
        elif digest_of(members[name], wanted.partition(":")[0]) != wanted:
            found.append(f"{name} differs from the manifest")
    return found
