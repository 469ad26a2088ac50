"""The right to read a disk from an ovirt-imageio server: given as a URL, or asked of the engine and kept alive.

    engine: POST imagetransfers ──▶ transferring ──▶ extend, extend, … ──▶ finalize (or cancel)
                                        │ ticket refused (403)
                                        ▼
                       extend │ resume a paused transfer │ make a new one

A transfer that nobody uses for `INACTIVITY_S` is cancelled by the engine, so that a mover that was killed does not
lock the disk for long.
"""

from __future__ import annotations

import threading
import time
import urllib.parse
import xml.etree.ElementTree as ET
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

from mover.control.endpoint import Endpoint, Location
from mover.control.keeper import Keeper
from mover.control.ovirt_engine import Conflict, NotThere, OvirtEngine
from mtv.model.errors import ConnectionRefused, MtvError, PermanentError, TemporaryError
from mtv.model.transfer import OvirtDisk

EXTEND_EVERY_S = 20.0
INACTIVITY_S = 60
READY_WITHIN_S = 20.0
"""A transfer that is not ready by then is an error that may be tried again; the next try goes on waiting for it."""
ENDED_WITHIN_S = 20.0
_FIRST_POLL_S = 0.05
_LONGEST_POLL_S = 2.0
_UNDER_WAY = ("initializing", "transferring", "resuming", "paused_system", "paused_user")
_HAS_ENDED = ("finished", "cancelled")


class ImageioTicket(ABC):
    """The right to read one disk. Safe from several threads."""

    name: str
    """What to call the disk in messages; holds no secret."""

    @abstractmethod
    def location(self) -> Location:
        """Where the disk can be read now. Raises `MtvError`."""

    @abstractmethod
    def renew(self, refused: Location, *, again: bool) -> Location:
        """Where to read after `refused` was refused; `again` when what a renewal gave was refused too."""

    @abstractmethod
    def close(self, *, well: bool) -> None:
        """The copy has ended; never raises."""


def location_of(url: str, *, thumbprint: str, insecure: bool, ca_file: Path | None) -> Location:
    """Where the URL of a transfer leads. `PermanentError` (source-url) does not repeat it: its path is the ticket."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port or 443
    except ValueError:
        host = None
    if not host or parts.scheme != "https" or not parts.path.strip("/"):
        raise PermanentError(
            "the URL of the image transfer is not like https://HOST:54322/images/TICKET", code="source-url"
        )
    endpoint = Endpoint(host=host, port=port, thumbprint=thumbprint, insecure=insecure, ca_file=ca_file)
    return Location(endpoint, parts.path.rstrip("/"))


class GivenTicket(ImageioTicket):
    """A transfer that somebody else made, keeps and ends."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self.name = f"image transfer on {location.endpoint.host}"

    def location(self) -> Location:
        """The one that was given."""
        return self._location

    def renew(self, refused: Location, *, again: bool) -> Location:  # noqa: ARG002 - there is no other way to answer
        """Nothing can be done here: whoever made the transfer has to make another."""
        raise ConnectionRefused(
            f"{self.name}: the ticket has expired or was taken back",
            cure="make a new image transfer and give its URL: the copy then resumes",
            code="source-ticket",
        )

    def close(self, *, well: bool) -> None:
        """Its owner ends it."""


class EngineTicket(ImageioTicket):
    """A transfer made through the engine when first needed, extended in the background, finalized or cancelled."""

    def __init__(self, engine: OvirtEngine, where: OvirtDisk, *, extend_every_s: float = EXTEND_EVERY_S) -> None:
        self._engine = engine
        self._where = where
        self.name = f"disk {where.snapshot or where.disk} of oVirt engine {where.host}"
        self._lock = threading.Lock()
        self._transfer = ""
        self._location: Location | None = None
        self._stop = threading.Event()
        self._keeper = Keeper("imageio-ticket", self._keep_alive, every_s=extend_every_s, stop=self._stop)

    def location(self) -> Location:
        """Where the transfer serves the disk; it is made if there is none."""
        with self._lock:
            return self._location or self._ready()

    def renew(self, refused: Location, *, again: bool) -> Location:
        """Extend the transfer, resume it if it was paused, or make another if it has ended or did not help before."""
        with self._lock:
            if self._location is not None and self._location != refused:
                return self._location  # another thread has done it
            self._location = None
            if again:
                self._end("cancel")
            return self._ready()

    def close(self, *, well: bool) -> None:
        """Finalize the transfer if all went well, else cancel it, and wait a little until the disk is unlocked."""
        self._stop.set()
        with self._lock:
            self._location = None
            try:
                self._end("finalize" if well else "cancel")
            except MtvError:
                return  # the engine ends it by itself when it has been idle for INACTIVITY_S

    def _ready(self) -> Location:
        """Wait until the transfer, an old or a new one, serves the disk."""
        phase, locked = "", None
        for wait_s in _polls(READY_WITHIN_S):
            try:
                answer = self._answer()
            except Conflict as error:  # the disk is locked, perhaps by the transfer of a mover that was killed
                locked = error
                if self._stop.wait(wait_s):
                    break
                continue
            before, phase = phase, answer.findtext("phase") or ""
            if phase == "transferring" and self._extend():
                self._location = self._location_in(answer)
                self._keeper.ensure_running()
                return self._location
            if phase.startswith("paused") and not before.startswith("paused"):
                self._act("resume")
            elif phase not in _UNDER_WAY:
                self._transfer = ""  # it has ended, the next answer is of another one
            if self._stop.wait(wait_s):
                break
        raise locked or TemporaryError(
            f"{self.name}: the image transfer is not ready but {phase or 'without a phase'}",
            cure="see the engine's events",
            code="source-ticket",
        )

    def _extend(self) -> bool:
        """Whether the transfer could be extended; one that cannot is dead whatever its phase says, and is ended."""
        try:
            self._act("extend")
        except Conflict:
            self._end("cancel")
            return False
        return True

    def _answer(self) -> ET.Element:
        if self._transfer:
            try:
                return self._engine.call("GET", f"imagetransfers/{self._transfer}")
            except NotThere:
                self._transfer = ""
        answer = self._engine.call("POST", "imagetransfers", self._wish())
        self._transfer = answer.get("id") or ""
        if not self._transfer:
            raise TemporaryError(f"{self.name}: the engine made no image transfer", code="source-protocol")
        return answer

    def _wish(self) -> ET.Element:
        wish = ET.Element("image_transfer")
        if self._where.backup:
            ET.SubElement(wish, "backup", id=self._where.backup)
        if self._where.snapshot:
            ET.SubElement(wish, "snapshot", id=self._where.snapshot)
        else:
            ET.SubElement(wish, "disk", id=self._where.disk)
        for name, text in (
            ("direction", "download"),
            ("format", "raw"),
            ("inactivity_timeout", str(INACTIVITY_S)),
            ("timeout_policy", "cancel"),
        ):
            ET.SubElement(wish, name).text = text
        return wish

    def _location_in(self, answer: ET.Element) -> Location:
        url = answer.findtext("proxy_url" if self._where.use_proxy else "transfer_url") or ""
        # The host's certificate is signed by the engine's authority; a thumbprint would be the engine's own.
        ca_file, insecure = self._engine.endpoint.ca_file, self._engine.endpoint.insecure
        return location_of(url, thumbprint="", insecure=insecure, ca_file=ca_file)

    def _act(self, action: str) -> None:
        self._engine.call("POST", f"imagetransfers/{self._transfer}/{action}", ET.Element("action"))

    def _end(self, action: str) -> None:
        if not self._transfer:
            return
        for wait_s in _polls(ENDED_WITHIN_S):
            try:
                phase = self._engine.call("GET", f"imagetransfers/{self._transfer}").findtext("phase") or ""
                if phase.startswith(_HAS_ENDED):
                    self._transfer = ""
                    return
                if not phase.startswith("finalizing"):
                    self._act(action)
            except NotThere:
                self._transfer = ""
                return
            except TemporaryError:
                pass  # tried again until the time is up
            time.sleep(wait_s)
        raise TemporaryError(f"{self.name}: the image transfer does not end", code="source-ticket")

    def _keep_alive(self) -> None:
        with self._lock:
            if self._location is None:
                return
            try:
                self._act("extend")
            except MtvError:
                return  # whoever reads next is refused, renews, and reports what it meets


def _polls(within_s: float) -> Iterator[float]:
    """How long to wait before each next look, ever longer; ends when the time is up."""
    deadline, pause_s = time.monotonic() + within_s, _FIRST_POLL_S
    while time.monotonic() < deadline:
        yield pause_s
        pause_s = min(2 * pause_s, _LONGEST_POLL_S)
