"""An inventory holds its result and one page of vSphere's objects, never all of them."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from mtv.model.connection import Connection
from mtv.providers.registry import open_provider
from mtv.providers.vmware import collect, reading
from mtv.providers.vmware.build import Draft, drafts_of


def _beyond_the_result(connection: Connection, vms: int) -> int:
    """Bytes that reading so many VMs takes at its peak, less what the result takes."""
    names = [f"load-{number:03d}" for number in range(vms)]
    with open_provider(connection) as provider:
        provider.vms(names[:1])  # what is loaded once
        gc.collect()
        tracemalloc.start()
        try:
            found = provider.vms(names)
            gc.collect()
            held, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert len(found) == vms
    return peak - held


@pytest.mark.lab
def test_what_a_reading_takes_beyond_its_result_grows_with_the_page_and_not_with_the_vms(
    connect: Callable[..., Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    def swept(*arguments: Any) -> list[Draft]:
        """Make drafts, then do what Python does by itself when enough has gathered: sweep objects in circles away."""
        made = drafts_of(*arguments)
        del arguments
        gc.collect()
        return made

    monkeypatch.setattr(reading, "drafts_of", swept)
    monkeypatch.setattr(collect, "PAGE_OBJECTS", 10)
    few, many = _beyond_the_result(connect(), 30), _beyond_the_result(connect(), 130)
    assert many < 1.3 * few
    monkeypatch.setattr(collect, "PAGE_OBJECTS", 130)
    assert _beyond_the_result(connect(), 130) > 2 * many
