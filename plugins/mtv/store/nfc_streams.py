"""NFC streams of ESXi hosts: how many each VM under way may hold, counted over all plans and runs.

A count belongs to the run that holds the VM. It ends when the copy has ended, and by itself when the VM is released or
held by another run: whoever settles a VM has seen its pods gone, so nothing has to be given back after a crash.
"""

from __future__ import annotations

from sqlalchemy import and_, delete, exists, select, text
from sqlalchemy.orm import Session

from mtv.model.errors import PermanentError
from mtv.store.database import Database
from mtv.store.errors import NfcStreamsTaken, StaleHolder
from mtv.store.tables import NfcStreamsRecord, VmRecord

_OF_ITS_HOLDER = and_(
    VmRecord.plan_name == NfcStreamsRecord.plan_name,
    VmRecord.vm_id == NfcStreamsRecord.vm_id,
    VmRecord.holder == NfcStreamsRecord.run_id,
)


class NfcStreams(Database):
    """The part of the store about NFC streams."""

    def take_nfc_streams(
        self, plan_name: str, vm_id: str, run_id: str, *, host: str, wanted: int, capacity: int
    ) -> int:
        """Count at most `wanted` streams of `host` for the VM and return how many: what others leave of `capacity`.

        Streams that the VM had before are given back first, so it must have no mover any more. Raises
        `NfcStreamsTaken` naming who has them while none is left, `StaleHolder` when the run does not hold the VM.
        """
        if wanted < 1:
            raise PermanentError(f"{wanted} NFC streams were asked for", code="NfcStreamsWanted")
        with self._writing() as session:
            self._keep_others_waiting(session)
            vm = session.get(VmRecord, (plan_name, vm_id))
            if vm is None or vm.holder != run_id:
                raise StaleHolder(
                    f"VM {vm_id} of plan {plan_name} cannot be read for run {run_id}: that run does not hold it",
                    cure="clear the task `prepare` of this VM if this run is to go on",
                )
            mine = and_(NfcStreamsRecord.plan_name == plan_name, NfcStreamsRecord.vm_id == vm_id)
            session.execute(delete(NfcStreamsRecord).where(mine | ~exists().where(_OF_ITS_HOLDER)))
            held = _held(session, host)
            granted = min(wanted, capacity - sum(held.values()))
            if granted > 0:
                session.add(
                    NfcStreamsRecord(plan_name=plan_name, vm_id=vm_id, run_id=run_id, host=host, streams=granted)
                )
        if granted <= 0:
            holders = ", ".join(f"{plan}/{vm} ({streams})" for (plan, vm), streams in held.items())
            raise NfcStreamsTaken(
                f"the {capacity} NFC streams of host {host} are taken by {holders}",
                cure="it goes on when one of them is copied or settled",
                host=host,
                capacity=capacity,
            )
        return granted

    def release_nfc_streams(self, plan_name: str, vm_id: str, run_id: str) -> None:
        """Give back what the VM holds for this run. Repeating it is harmless."""
        with self._writing() as session:
            session.execute(
                delete(NfcStreamsRecord).where(
                    NfcStreamsRecord.plan_name == plan_name,
                    NfcStreamsRecord.vm_id == vm_id,
                    NfcStreamsRecord.run_id == run_id,
                )
            )

    def nfc_streams(self, host: str) -> dict[tuple[str, str], int]:
        """Return the streams of a host that are held, by plan and VM id."""
        with self._reading() as session:
            return _held(session, host)

    def _keep_others_waiting(self, session: Session) -> None:
        """Let one at a time count; on SQLite every writing transaction does. Reading goes on."""
        if self.dialect == "postgresql":
            session.execute(text(f"LOCK TABLE {NfcStreamsRecord.__tablename__} IN EXCLUSIVE MODE"))


def _held(session: Session, host: str) -> dict[tuple[str, str], int]:
    query = (
        select(NfcStreamsRecord)
        .where(NfcStreamsRecord.host == host, exists().where(_OF_ITS_HOLDER))
        .order_by(NfcStreamsRecord.plan_name, NfcStreamsRecord.vm_id)
    )
    return {(record.plan_name, record.vm_id): record.streams for record in session.scalars(query)}
