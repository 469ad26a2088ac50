"""What validation last said: of each VM of an inventory, and of each plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import msgspec
from sqlalchemy import delete, select

from mtv.model.concern import Concern
from mtv.model.condition import Condition
from mtv.store.database import Database
from mtv.store.rows import Judgement, Standing
from mtv.store.tables import JudgementRecord, StandingRecord
from mtv.store.upsert import insert_or_replace, insert_or_replace_all


class Standings(Database):
    """The part of the store about what is known before a wave begins."""

    def judgements(self, source: str) -> dict[str, Judgement]:
        """Return what rules last said of the VMs of a source, by the VM's key in the inventory."""
        with self._reading() as session:
            return {
                record.key: Judgement(
                    digest=record.digest,
                    rules_version=record.rules_version,
                    concerns=msgspec.convert(record.concerns, tuple[Concern, ...]),
                )
                for record in session.scalars(select(JudgementRecord).where(JudgementRecord.source == source))
            }

    def put_judgements(self, source: str, judged: Mapping[str, Judgement], *, gone: Iterable[str] = ()) -> None:
        """Keep what rules say of some VMs, and forget those that are gone from the inventory."""
        now = datetime.now(UTC)
        rows = [
            {
                "source": source,
                "key": key,
                "digest": one.digest,
                "rules_version": one.rules_version,
                "concerns": msgspec.to_builtins(one.concerns),
                "judged_at": now,
            }
            for key, one in judged.items()
        ]
        with self._writing() as session:
            insert_or_replace_all(session, JudgementRecord, ("source", "key"), rows)
            for key in gone:
                session.execute(
                    delete(JudgementRecord).where(JudgementRecord.source == source, JudgementRecord.key == key)
                )

    def put_standing(self, plan_name: str, plan_hash: str, conditions: Iterable[Condition]) -> Standing:
        """Keep whether a plan is ready: it is unless a condition blocks. The one before is forgotten."""
        said = tuple(conditions)
        standing = Standing(
            plan_name=plan_name,
            plan_hash=plan_hash,
            is_ready=not any(condition.blocks for condition in said),
            conditions=said,
            judged_at=datetime.now(UTC),
        )
        values = {
            "plan_hash": plan_hash,
            "is_ready": standing.is_ready,
            "conditions": msgspec.to_builtins(said),
            "judged_at": standing.judged_at,
        }
        with self._writing() as session:
            insert_or_replace(session, StandingRecord, {"plan_name": plan_name}, values)
        return standing

    def standing(self, plan_name: str) -> Standing | None:
        """Return how a plan stood when it was last judged; None when it never was."""
        with self._reading() as session:
            record = session.get(StandingRecord, plan_name)
            if record is None:
                return None
            return Standing(
                plan_name=record.plan_name,
                plan_hash=record.plan_hash,
                is_ready=record.is_ready,
                conditions=msgspec.convert(record.conditions, tuple[Condition, ...]),
                judged_at=record.judged_at,
            )
