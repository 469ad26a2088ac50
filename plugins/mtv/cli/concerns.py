"""What was found about a wave, for people: each concern once, gravest first, with the VMs that have it behind it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from mtv.cli.columns import paragraph
from mtv.model.concern import Acceptance, Category, Concern
from mtv.model.condition import Condition
from mtv.model.text import count_of

_INDENT = "    "


def about_plan(wave: str, conditions: Iterable[Condition]) -> Iterator[str]:
    """Yield for each condition of the plan as a whole what it says, then its id and what to do."""
    for condition in conditions:
        yield _line(wave, condition.category, f"{condition.message}{_by(condition.accepted)}")
        yield _remark(condition.id, condition.cure)


def about_vms(wave: str, concerns: Mapping[str, Iterable[Concern]]) -> Iterator[str]:
    """Yield for each concern its labels with their VMs, then its id and its assessment, once.

    `concerns` are by the names of VMs. Labels of one concern may differ by VM, and some VMs may have it accepted.
    """
    found: dict[tuple[Category, str, str], dict[str, list[str]]] = {}
    for vm, said in concerns.items():
        for concern in said:
            labels = found.setdefault((concern.category, concern.id, concern.assessment), {})
            vms = labels.setdefault(f"{concern.label}{_by(concern.accepted)}", [])
            if vm not in vms:
                vms.append(vm)
    for category, id_, assessment in sorted(found, key=lambda key: (key[0].rank, *key[1:])):
        for label, vms in found[category, id_, assessment].items():
            count = f" ({count_of(len(vms), 'VM')})" if len(vms) > 1 else ""
            yield _line(wave, category, f"{label}{count}: {', '.join(vms)}")
        yield _remark(id_, assessment)


def _line(wave: str, category: str, text: str) -> str:
    return paragraph(f"wave {wave}: {category}: {text}", rest=_INDENT * 2)


def _remark(id_: str, text: str) -> str:
    return paragraph(f"{id_}: {text}", first=_INDENT, rest=_INDENT)


def _by(accepted: Acceptance | None) -> str:
    return f" (accepted by {accepted.by}: {accepted.reason})" if accepted else ""
