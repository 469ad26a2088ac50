"""No condition goes without a test of both of its sides: when it is set, and when it is not."""

from __future__ import annotations

import re
from pathlib import Path

from tests.validation import test_conditions_of_features as features
from tests.validation import test_typed_conditions as typed

FOLDER = Path(__file__).parents[2] / "plugins" / "mtv" / "validation" / "conditions"
MADE = re.compile(r'\b(?:critical|warning|advisory|make)\(\s*"(?P<type>\w+)",\s*f?"(?P<id>[^"]+)"')
IN_TESTS_OF_THEIR_OWN = {
    "DuplicateVM",  # test_plan_conditions
    "VMMultipleAttachmentMappings",
    "VMStorageNotSupported",
    "DestinationNetworkNotValid",
    "ServiceAccountNotValid",  # test_typed_conditions
    "VMCriticalConcerns",
    "IpConflicts",  # test_conditions_of_features
    "StorageClassNearlyFull",
    "SourceProviderNotReady",  # tests/steps/test_inventory_steps
    "ConnectionInsecure",
    "VMChangedSinceApproval",  # tests/steps/test_acceptance
    "PlanChangedSinceApproval",
    "AcceptedConcernUnknown",  # test_unknown_acceptances
}


def test_every_type_of_condition_has_a_test_of_both_sides() -> None:
    tested = {row[0] for row in (*typed.OF_VMS, *typed.OF_TARGET, *features.CASES)}
    made = {match["type"] for file in FOLDER.glob("*.py") for match in MADE.finditer(file.read_text())}
    assert len(made) > 40, "the search for conditions finds them"
    assert made - tested - IN_TESTS_OF_THEIR_OWN == set()


def test_ids_say_whether_a_condition_is_about_the_plan_or_a_pitfall_of_our_own_list() -> None:
    ids = {match["id"] for file in FOLDER.glob("*.py") for match in MADE.finditer(file.read_text())}
    assert {one.partition(".")[0] for one in ids} == {"plan", "mtv"}
