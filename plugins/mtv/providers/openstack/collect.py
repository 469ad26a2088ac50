"""Reading: every list once and in pages, whole kinds instead of one object after another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from openstack.exceptions import raise_from_response

from mtv.model.errors import PermanentError
from mtv.providers.openstack.session import Session

_SERVER_VERSION = "2.79"
"""Of nova's API: the flavor is in the answer as it was when the server was made, and so are its tags."""

_PAGE = 500


@dataclass(frozen=True)
class Surroundings:
    """What servers refer to, by id."""

    volumes: dict[str, dict[str, Any]] = field(default_factory=dict)
    volume_types: dict[str, dict[str, Any]] = field(default_factory=dict)
    snapshots: dict[str, dict[str, Any]] = field(default_factory=dict)
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    flavors: dict[str, dict[str, Any]] = field(default_factory=dict)
    networks: dict[str, dict[str, Any]] = field(default_factory=dict)
    subnets: dict[str, dict[str, Any]] = field(default_factory=dict)
    ports: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """By server."""


def servers(session: Session) -> list[dict[str, Any]]:
    """Every server of the project, as nova tells it."""
    return session.run(
        lambda cloud: _pages(cloud.compute, "/servers/detail", "servers", version=_SERVER_VERSION),
        doing="list the servers",
    )


def server(session: Session, server_id: str, name: str) -> dict[str, Any]:
    """One server. Raises `PermanentError` (ObjectGone) when there is none."""

    def read(cloud: Any) -> dict[str, Any]:
        answer = cloud.compute.get(f"/servers/{server_id}", microversion=_SERVER_VERSION)
        raise_from_response(answer)
        found: dict[str, Any] = answer.json()["server"]
        return found

    return session.run(read, doing=f"read {name}")


def surroundings(session: Session) -> Surroundings:
    """All that servers refer to."""

    def read(cloud: Any) -> Surroundings:
        ports: dict[str, list[dict[str, Any]]] = {}
        for port in _pages(cloud.network, "/ports", "ports"):
            ports.setdefault(port.get("device_id", ""), []).append(port)
        return Surroundings(
            volumes=_by_id(_pages(cloud.block_storage, "/volumes/detail", "volumes")),
            volume_types=_by_id(_pages(cloud.block_storage, "/types", "volume_types")),
            snapshots=_by_id(_pages(cloud.block_storage, "/snapshots/detail", "snapshots")),
            images=_by_id(_pages(cloud.image, "/images", "images")),
            flavors=_by_id(_pages(cloud.compute, "/flavors/detail", "flavors", version="2.61")),
            networks=_by_id(_pages(cloud.network, "/networks", "networks")),
            subnets=_by_id(_pages(cloud.network, "/subnets", "subnets")),
            ports=ports,
        )

    return session.run(read, doing="list volumes, images, flavors and networks")


def _pages(service: Any, path: str, key: str, *, version: str | None = None) -> list[dict[str, Any]]:
    """Ask by marker, page after page: every service knows that, whatever links it writes."""
    found: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": _PAGE}
    while True:
        answer = service.get(path, params=query, microversion=version)
        raise_from_response(answer)
        page = answer.json()
        rows: list[dict[str, Any]] = page[key]
        found += rows
        # A service may give less than it was asked for; its link to the next page then says so.
        if not rows or (len(rows) < _PAGE and not (page.get(f"{key}_links") or page.get("next"))):
            return found
        if rows[-1]["id"] == query.get("marker"):
            raise PermanentError(
                f"the service gives the same page of {path} again and again",
                cure="see whether something before the service drops the query's marker",
                code="PagesEndless",
            )
        query["marker"] = rows[-1]["id"]


def _by_id(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {entry["id"]: entry for entry in found}
