from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mover.convert import space
from mtv.kubevirt import claims, labels
from mtv.kubevirt.claims import MIB, Claim
from mtv.model.conversion import ConvertDisk
from mtv.model.overlay_space import overlay_bytes
from tests.kubevirt.values import GIB, disk

SIZES = st.integers(min_value=1, max_value=64 * 1024**4)


@pytest.mark.parametrize(
    ("size_bytes", "mode", "expected"),
    [
        pytest.param(GIB, "Block", GIB, id="block-aligned"),
        pytest.param(GIB + 1, "Block", GIB + MIB, id="block-rounded-up"),
        pytest.param(1, "Block", MIB, id="block-at-least-one-mib"),
        pytest.param(GIB, "Filesystem", 1193046472, id="filesystem-ceil-of-a-ninth-more"),
        pytest.param(9 * MIB, "Filesystem", 10 * MIB, id="filesystem-exact"),
        pytest.param(9 * MIB - 1, "Filesystem", 10 * MIB, id="filesystem-aligned-first"),
    ],
)
def test_a_claim_is_aligned_and_leaves_room_for_its_filesystem(size_bytes: int, mode: str, expected: int) -> None:
    assert claims.claim_bytes(size_bytes, mode) == expected  # type: ignore[arg-type]


@given(SIZES, st.fractions(min_value=0, max_value=Fraction(9, 10)))
def test_what_a_filesystem_leaves_always_holds_the_disk_and_a_byte_less_would_not(size: int, share: Fraction) -> None:
    requested = claims.claim_bytes(size, "Filesystem", overhead=share)
    assert requested * (1 - share) >= claims.align_up(size)
    assert (requested - 1) * (1 - share) < claims.align_up(size)


@pytest.mark.parametrize("overhead", [Fraction(1), Fraction(-1, 10)])
def test_an_impossible_overhead_is_refused(overhead: Fraction) -> None:
    with pytest.raises(ValueError, match="overhead"):
        claims.claim_bytes(GIB, "Filesystem", overhead=overhead)


@given(st.lists(SIZES, min_size=1, max_size=5))
def test_the_work_volume_holds_the_root_overlay_when_every_cluster_is_written(sizes: list[int]) -> None:
    disks = [disk(index, size_bytes=size) for index, size in enumerate(sizes)]
    whole = claims.work_bytes(disks, disks[0].id, converts=True)
    assert whole >= claims.journal_bytes(disks) + overlay_bytes(sizes[0])
    assert claims.work_bytes(disks, disks[0].id, converts=False) < whole


@pytest.mark.parametrize(
    ("other", "counted"),
    [
        pytest.param(300 * MIB, 300 * MIB, id="all-of-a-small-disk"),
        pytest.param(20 * GIB, GIB, id="what-a-conversion-writes-to-a-system"),
        pytest.param(640 * GIB, 20 * GIB, id="a-share-of-a-large-disk"),
    ],
)
def test_the_work_volume_has_room_for_a_system_on_another_disk_than_the_one_that_boots(
    other: int, counted: int
) -> None:
    disks = [disk(0), disk(1, size_bytes=other)]
    overlays = overlay_bytes(GIB) + overlay_bytes(counted)
    without = claims.work_bytes(disks, disks[0].id, converts=False)
    assert claims.work_bytes(disks, disks[0].id, converts=True) == without + overlays
    as_the_mover_sees_them = [
        ConvertDisk(id=found.id, path="", block=False, size_bytes=found.size_bytes, digest="") for found in disks
    ]
    assert space.worst_case_bytes(as_the_mover_sees_them) == overlays


def test_a_raw_copy_needs_a_work_volume_for_its_journal_only() -> None:
    assert claims.work_bytes([disk(size_bytes=1024 * GIB)], "disk-2000", converts=False) < 128 * MIB


def test_a_disk_claim_says_which_source_disk_it_is_for() -> None:
    claim = Claim(name="c", storage_class="s", size_bytes=MIB, disk_id="disk-2000", index=0, identity="uuid/2000")
    manifest = claims.manifest(claim, namespace="demo", object_labels={"mtv/plan": "p"})
    assert manifest["metadata"]["annotations"] == {labels.DISK_SOURCE: "uuid/2000", labels.DISK_INDEX: "0"}
    assert manifest["spec"] == {
        "storageClassName": "s",
        "accessModes": ["ReadWriteOnce"],
        "volumeMode": "Filesystem",
        "resources": {"requests": {"storage": str(MIB)}},
    }
