"""How a mover ends: exit codes, and what an exception means to the one who started it."""

from __future__ import annotations

import errno
from pathlib import Path

from mtv.model.errors import MtvError, PermanentError, TemporaryError
from mtv.model.transfer import Failure

EXIT_OK = 0
EXIT_PERMANENT = 10
EXIT_TEMPORARY = 11
EXIT_VOLUME_HELD = 12


class VolumeHeld(TemporaryError):
    """Another mover holds the work volume, or a newer one has taken it over."""


class Interrupted(TemporaryError):
    """We were told to stop (SIGTERM); what was done is in the journal."""


def stopped(what: str) -> Interrupted:
    """The error for a copy of `what` that was told to stop."""
    return Interrupted(
        f"{what}: stopped on request", cure="start the step again: the copy resumes where it was", code="interrupted"
    )


class DigestMismatch(PermanentError):
    """The target does not hold the bytes that were read from the source, even after a second try."""

    def __init__(self, message: str, *, offset: int, cure: str = "", code: str = "") -> None:
        super().__init__(message, cure=cure, code=code or "target-mismatch", offset=offset)


class SourceUnstable(DigestMismatch):
    """Three reads of the same block of the source gave three different answers."""

    def __init__(self, message: str, *, offset: int) -> None:
        super().__init__(
            message,
            offset=offset,
            cure="somebody writes to the source, or its storage or network changes bytes: see which, then start again",
            code="source-unstable",
        )


_PERMANENT_ERRNOS = {
    errno.ENOSPC: ("full", "make the volume larger, then run the step again: the copy resumes"),
    errno.EDQUOT: ("full", "raise the quota, then run the step again: the copy resumes"),
    errno.EFBIG: ("too-large", "use a volume whose filesystem holds files of this size"),
    errno.EROFS: ("read-only", "mount the volume writable"),
    errno.EACCES: ("denied", "let user and group 107 open it (fsGroup, device ownership)"),
    errno.EPERM: ("denied", "let user and group 107 open it (fsGroup, device ownership)"),
    errno.ENOENT: ("missing", "check that the volume is mounted where the spec says"),
    errno.EINVAL: ("unsuitable", "give a regular file or a block device"),
    errno.ENODEV: ("missing", "check that the device is attached where the spec says"),
    errno.ENXIO: ("missing", "check that the device is attached where the spec says"),
}


def storage_error(error: OSError, *, where: str, what: str) -> MtvError:
    """A failed call on storage as an error that says whether a retry helps.

    `where` is the code's first word (target, work-volume, source), `what` names the file and the deed.
    """
    reason = error.strerror or str(error)
    known = _PERMANENT_ERRNOS.get(error.errno or 0)
    if known:
        return PermanentError(f"{what}: {reason}", cure=known[1], code=f"{where}-{known[0]}")
    return TemporaryError(f"{what}: {reason}", cure="look at the storage, then run the step again", code=f"{where}-io")


def failure_of(error: BaseException, *, disk: str = "") -> Failure:
    """The wire form of an exception. Unknown ones are faults of ours: permanent, with their type's name."""
    if isinstance(error, MtvError):
        return Failure.of(error, disk=disk)
    return Failure(code="internal", message=f"{type(error).__name__}: {error}", disk=disk)


def exit_code_of(failure: Failure | None) -> int:
    """The exit code that belongs to a failure (None: success)."""
    if failure is None:
        return EXIT_OK
    if failure.code == "volume-held":
        return EXIT_VOLUME_HELD
    return EXIT_TEMPORARY if failure.retryable else EXIT_PERMANENT


def would_overwrite(path: Path, what: str) -> PermanentError:
    """What is said of a path that a person gave for a journal or a lock (`what`, also the code) and that is none."""
    return PermanentError(
        f"{path} is no {what} of this mover, and would be overwritten",
        cure="name another journal; or remove the file, if nothing else needs it",
        code=what,
    )


def no_changes(why: str) -> PermanentError:
    """The error for a source that does not tell what changed since an earlier state."""
    return PermanentError(
        why, cure="copy the whole disk: leave out base_generation and dirty_context", code="source-no-changes"
    )
