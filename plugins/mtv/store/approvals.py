"""Approvals: what somebody agreed to, with each VM pinned as it was then."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, select

from mtv.store.database import Database
from mtv.store.rows import Approval
from mtv.store.tables import ApprovalRecord


class Approvals(Database):
    """The part of the store about approved waves."""

    def approve(
        self, *, plan_name: str, wave: str, plan_hash: str, by: str, vms: Mapping[str, tuple[str, dict[str, Any]]]
    ) -> None:
        """Pin the VMs of a wave (id → fingerprint and document); what was approved of it before is replaced."""
        now = datetime.now(UTC)
        with self._writing() as session:
            session.execute(
                delete(ApprovalRecord).where(ApprovalRecord.plan_name == plan_name, ApprovalRecord.wave == wave)
            )
            for vm_id, (fingerprint, document) in vms.items():
                session.add(
                    ApprovalRecord(
                        plan_name=plan_name,
                        wave=wave,
                        vm_id=vm_id,
                        plan_hash=plan_hash,
                        approved_by=by,
                        fingerprint=fingerprint,
                        document=document,
                        approved_at=now,
                    )
                )

    def approvals(self, plan_name: str, wave: str) -> dict[str, Approval]:
        """Return what was approved of a wave, by VM id; nothing when nobody did."""
        with self._reading() as session:
            found = session.scalars(
                select(ApprovalRecord).where(ApprovalRecord.plan_name == plan_name, ApprovalRecord.wave == wave)
            )
            return {
                record.vm_id: Approval(
                    vm_id=record.vm_id,
                    plan_hash=record.plan_hash,
                    by=record.approved_by,
                    fingerprint=record.fingerprint,
                    document=record.document,
                    approved_at=record.approved_at,
                )
                for record in found
            }
