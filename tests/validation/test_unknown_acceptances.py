"""A plan that accepts what nobody says: a misspelt id must not pass in silence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mtv.model.plan import AcceptedConcern, Plan, Target, Wave
from mtv.validation.conditions import ids
from mtv.validation.conditions.acceptances import unknown_acceptances
from mtv.validation.conditions.ids import CONDITION_IDS

CODE = Path(ids.__file__).parent
RULES = Path(__file__).parents[2] / "include" / "validation_rules"


def accepting(id_: str) -> Plan:
    entry = AcceptedConcern(id=id_, by="jane", reason="tried out")
    return Plan(
        name="p", target=Target(connection="c", namespace="n"), waves=(Wave(name="w"),), accept_concerns=(entry,)
    )


def test_an_id_that_is_nobodys_is_told_with_the_one_that_may_be_meant() -> None:
    (said,) = unknown_acceptances(accepting("vmware.disk.rdm.detektet"), RULES)
    assert said.message.startswith(
        "The plan accepts vmware.disk.rdm.detektet, which no rule and no condition is called"
    )
    assert said.cure == "Is it vmware.disk.rdm.detected?"
    assert not said.blocks
    assert not said.vms


@pytest.mark.parametrize(
    "id_", ["vmware.disk.rdm.detected", "plan.storage.not_mapped", "plan.target.unknown_quotas", "my.own.rule"]
)
def test_ids_of_rules_of_any_folder_and_of_conditions_are_known(id_: str, tmp_path: Path) -> None:
    own = tmp_path / "ova"
    own.mkdir()
    example = next((RULES / "ova").glob("*.yaml")).read_text()
    (own / "mine.yaml").write_text(re.sub(r"^id: .*$", "id: my.own.rule", example, flags=re.MULTILINE))
    assert unknown_acceptances(accepting(id_), RULES, (tmp_path,)) == []


def test_the_known_ids_are_those_of_the_code() -> None:
    files = CODE.glob("*.py")
    written = {
        found
        for file in files
        if file.name != "ids.py"
        for found in re.findall(r'"((?:plan|mtv)\.[\w.]+)"', file.read_text())
    }
    # Two are made of a word that is chosen.
    assert written | {"plan.target.not_valid", "plan.target.not_ready"} == CONDITION_IDS
