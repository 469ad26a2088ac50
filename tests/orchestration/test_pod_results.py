"""What is read from a pod that has ended, and what its Secret looks like."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from mtv.kubevirt.pods import PodRequest, secret_of
from mtv.model.conversion import ConvertResult
from mtv.model.transfer import TransferResult
from mtv.orchestration.patience import END_TIMEOUT_S, LONGEST_LIFE_S, START_TIMEOUT_S
from mtv.orchestration.pods.lifecycle import PodKey, may_go_on, result_of, why

KEY = PodKey(namespace="ns", name="web-1-transfer-3", uid="u-1")


def pod(phase: str, *states: dict, **status) -> dict:
    return {"status": {"phase": phase, "containerStatuses": [{"state": state} for state in states], **status}}


def test_the_movers_own_words_are_passed_on_unchanged():
    message = '{"ok":true,"disks":[]}'
    ended = {"terminated": {"exitCode": 0, "message": message}}
    assert result_of(pod("Succeeded", {"running": {}}, ended), KEY) == message


@pytest.mark.parametrize("kind", [TransferResult, ConvertResult])
@pytest.mark.parametrize(
    ("found", "code", "word"),
    [
        pytest.param(None, "PodVanished", "vanished", id="gone"),
        pytest.param(
            pod("Failed", {"terminated": {"reason": "OOMKilled", "exitCode": 137}}),
            "PodLeftNoResult",
            "OOMKilled (exit code 137)",
            id="out-of-memory",
        ),
        pytest.param(pod("Failed", reason="Evicted", message="disk"), "PodLeftNoResult", "Evicted", id="evicted"),
        pytest.param(
            pod("Pending", {"waiting": {"reason": "ImagePullBackOff"}}), "PodLeftNoResult", "ImagePull", id="no-image"
        ),
        pytest.param(
            pod("Failed", {"terminated": {"exitCode": 1, "message": "exec format error"}}),
            "PodLeftNoResult",
            "exit code 1",
            id="not-json",
        ),
    ],
)
def test_a_pod_without_a_result_is_a_failure_that_a_retry_may_mend(found, code, word, kind):
    result = msgspec.json.decode(result_of(found, KEY), type=kind)
    assert result.ok is False
    assert result.failure.code == code
    assert result.failure.retryable is True
    assert word in result.failure.message


def test_a_pod_that_finds_no_node_says_so():
    condition = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
    assert "0/3 nodes are available" in why(pod("Pending", conditions=[condition]))


@pytest.mark.parametrize(
    ("phase", "limit_s"), [("Pending", START_TIMEOUT_S), ("Running", LONGEST_LIFE_S), ("Unknown", LONGEST_LIFE_S)]
)
def test_a_pod_that_has_not_ended_goes_on_up_to_an_age(phase, limit_s):
    found = {**pod(phase), "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}}
    limit = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=limit_s)
    assert may_go_on(found, limit - timedelta(seconds=1))
    assert not may_go_on(found, limit)


def test_a_pod_that_is_being_deleted_and_does_not_go_is_not_watched_for_a_fortnight():
    asked = datetime(2026, 1, 1, tzinfo=UTC)
    metadata = {"creationTimestamp": "2025-12-31T23:00:00Z", "deletionTimestamp": "2026-01-01T00:00:00Z"}
    found = {**pod("Running"), "metadata": metadata}
    assert may_go_on(found, asked + timedelta(seconds=END_TIMEOUT_S - 1))
    assert not may_go_on(found, asked + timedelta(seconds=END_TIMEOUT_S))


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_does_not_go_on(phase):
    found = {**pod(phase), "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}}
    assert not may_go_on(found, datetime(2026, 1, 1, tzinfo=UTC))


def test_the_secret_is_owned_by_its_pod_and_never_shows_its_content():
    request = PodRequest(
        namespace="ns",
        pod={"metadata": {"name": "web-1-transfer-3", "labels": {"mtv/vm": "web-1"}}},
        secret_name="web-1-transfer-3",
        secret_files={"password": "canary"},
        connection_id="dst",
    )
    secret = secret_of(request, KEY.uid)
    assert secret["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Pod", "name": "web-1-transfer-3", "uid": "u-1"}
    ]
    assert secret["immutable"] is True
    assert "canary" not in repr(request)
