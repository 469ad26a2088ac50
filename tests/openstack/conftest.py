"""The lab's OpenStack for the tests of this folder, which are a lane of their own: `make test-openstack`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openstack
import pytest

from tests.openstack.kit import connect


@pytest.fixture(scope="session")
def cloud(lab: Any) -> dict[str, Any]:
    """Endpoints of the lab's OpenStack; its demo project is for reading, what a test adds it removes."""
    return lab.endpoints("openstack")


@pytest.fixture
def user(cloud: dict[str, Any]) -> Iterator[openstack.connection.Connection]:
    """A session as the demo project's user."""
    with connect(cloud) as opened:
        yield opened
