"""Who owns what on the target, and what that asks of the cluster."""

from __future__ import annotations

from mtv.kubevirt import pods
from mtv.kubevirt.resources import CLAIMS
from mtv.steps import prepare, settle, transfer
from tests.steps.conftest import through_validation
from tests.steps.walk import MakeRun, migrate
from tests.steps.world import World


def test_no_owner_reference_asks_to_block_the_deletion_of_its_owner(make_run: MakeRun, world: World) -> None:
    """Where owner references are checked, that takes a right on the owner's finalizers, which nothing else needs."""
    vm = through_validation(make_run())
    prepare.prepare(vm)
    request = transfer.pod_request(vm)
    assert request is not None
    settle.settle(vm)
    migrate(through_validation(make_run("r2")), world)
    owned = [*world.all(CLAIMS), pods.secret_of(request, "uid-of-the-pod")]
    references = [reference for item in owned for reference in item["metadata"]["ownerReferences"]]
    assert len(references) == 3
    assert all("blockOwnerDeletion" not in reference for reference in references)
