"""What is made on OpenStack to read a disk, and what goes again, where the lab's services cannot be brought to it.

The SDK is the real one; the service below it answers as glance does.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from keystoneauth1.noauth import NoAuth
from keystoneauth1.session import Session as KeystoneSession
from openstack.image.v2._proxy import Proxy
from requests.adapters import BaseAdapter

from mtv.model.connection import Connection
from mtv.model.errors import TemporaryError
from mtv.model.source import Firmware, PowerState, SourceDisk, SourceVm
from mtv.providers.openstack import export
from mtv.providers.openstack.export import Exports
from mtv.providers.openstack.session import Session

URL = "http://glance.test"
PAGE = 25


class Glance(BaseAdapter):
    """Images in pages of 25, by name if asked; a page after an image that is gone is a bad request."""

    def __init__(self, *images: dict[str, Any]) -> None:
        super().__init__()
        self.images = {image["id"]: {"status": "active", **image} for image in images}
        self.listed: list[str] = []

    def send(self, request: requests.PreparedRequest, *args: Any, **more: Any) -> requests.Response:
        url = urlsplit(str(request.url))
        key = url.path.removeprefix("/v2/images").strip("/")
        if key and key not in self.images:
            return answer(request, 404, {})
        if request.method == "DELETE":
            del self.images[key]
            return answer(request, 204, {})
        if key:
            return answer(request, 200, self.images[key])
        asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.listed.append(url.query)
        found = [image for image in self.images.values() if asked.get("name") in (None, image["name"])]
        after = asked.get("marker")
        if after is not None and after not in self.images:
            return answer(request, 400, {})
        start = next((at for at, image in enumerate(found, start=1) if image["id"] == after), 0)
        page: dict[str, Any] = {"images": found[start : start + PAGE]}
        if len(found) > start + PAGE:
            page["next"] = f"/v2/images?marker={found[start + PAGE - 1]['id']}"
        return answer(request, 200, page)

    def close(self) -> None:
        """Nothing is open."""


def answer(request: requests.PreparedRequest, status: int, body: dict[str, Any]) -> requests.Response:
    made = requests.Response()
    made.status_code, made.request, made.url = status, request, str(request.url)
    made.headers["Content-Type"] = "application/json"
    made._content = json.dumps(body).encode()
    return made


def exports(glance: Glance, cinder: Any = None) -> Exports:
    plain = requests.Session()
    plain.mount(URL, glance)
    image = Proxy(KeystoneSession(auth=NoAuth(endpoint=URL), session=plain), endpoint_override=f"{URL}/v2")
    image.service_type = "image"
    image._connection = SimpleNamespace(
        _global_request_id=None, cache_enabled=False, _api_cache_keys=set(), current_location=None
    )
    session = Session(Connection(conn_id="cloud", conn_type="openstack", host="https://cloud.test/v3"))
    session._cloud = SimpleNamespace(image=image, block_storage=cinder or Cinder())
    return Exports(session)


def disk(key: str, size_bytes: int = 1 << 30) -> SourceDisk:
    return SourceDisk(
        id=key,
        index=0,
        size_bytes=size_bytes,
        bus="virtio",
        identity=key,
        generation="g",
        storage="gold",
        locator={"kind": "volume", "volume": key},
    )


def server(*disks: SourceDisk) -> SourceVm:
    return SourceVm(
        provider="openstack",
        id="s1",
        name="web",
        uuid="s1",
        power=PowerState.OFF,
        cpu_count=1,
        cores_per_socket=1,
        memory_bytes=1 << 30,
        firmware=Firmware.BIOS,
        disks=disks,
    )


def image(key: str, name: str, **marks: str) -> dict[str, Any]:
    return {"id": key, "name": name, **marks}


def test_all_images_of_a_server_are_removed_however_many_and_none_of_anybody_else() -> None:
    ours = [image(f"o{i}", "mtv-s1-v1", mtv_server="s1", mtv_volume="v1") for i in range(PAGE + 5)]
    other = image("o", "mtv-s1-v2", mtv_server="s1", mtv_volume="v2")
    theirs = [image(f"t{i}", "debian") for i in range(PAGE)]
    borrowed = image("b", "mtv-s1-v1", mtv_server="s2")
    glance = Glance(*ours, *theirs, other, borrowed)
    assert len(exports(glance).remove_images(server(disk("v1"), disk("v2")))) == PAGE + 6
    assert set(glance.images) == {*(one["id"] for one in theirs), "b"}
    assert all("name=mtv-s1-v" in query for query in glance.listed if "marker" not in query), "others are not listed"


def test_older_images_of_a_disk_are_removed_while_the_right_one_is_looked_for() -> None:
    old = [image(f"o{i}", "mtv-s1-v1", mtv_server="s1", mtv_volume="v1", mtv_generation="f") for i in range(PAGE)]
    right = image("r", "mtv-s1-v1", mtv_server="s1", mtv_volume="v1", mtv_generation="g")
    glance = Glance(*old, right)
    assert exports(glance).image_of(server(disk("v1")), disk("v1")) == "r"
    assert set(glance.images) == {"r"}


class Cinder:
    """Snapshots and volumes that are at work for `LOOKS` looks before they are there, and before they are gone."""

    LOOKS = 3

    def __init__(self) -> None:
        self.made: dict[str, dict[str, Any]] = {"volume": {}, "snapshot": {}}

    def volumes(self) -> list[Any]:
        return list(self.made["volume"].values())

    def snapshots(self) -> list[Any]:
        return list(self.made["snapshot"].values())

    def create_snapshot(self, *, volume_id: str, name: str, metadata: dict[str, str], force: bool) -> Any:
        return self._create("snapshot", "snap", metadata, 1 << 10)

    def create_volume(self, *, size: int, metadata: dict[str, str], **more: Any) -> Any:
        return self._create("volume", "copy", metadata, size)

    def get_snapshot(self, key: str) -> Any:
        return self._look("snapshot", key)

    def get_volume(self, key: str) -> Any:
        return self._look("volume", key)

    def find_snapshot(self, key: str, *, ignore_missing: bool) -> Any:
        return self._look("snapshot", key)

    def find_volume(self, key: str, *, ignore_missing: bool) -> Any:
        return self._look("volume", key)

    def delete_snapshot(self, key: str, *, ignore_missing: bool) -> None:
        self._delete("snapshot", key)

    def delete_volume(self, key: str, *, ignore_missing: bool) -> None:
        self._delete("volume", key)

    def set_volume_image_metadata(self, key: str, **marks: str) -> None:
        """Kept by the image, which is made beforehand here."""

    def upload_volume_to_image(self, key: str, name: str, **more: Any) -> dict[str, str]:
        return {"image_id": "image"}

    def _create(self, kind: str, key: str, metadata: dict[str, str], size: int) -> Any:
        self.made[kind][key] = SimpleNamespace(id=key, metadata=metadata, size=size, status="creating", looks=0)
        return self.made[kind][key]

    def _delete(self, kind: str, key: str) -> None:
        self.made[kind][key].status, self.made[kind][key].looks = "deleting", 0

    def _look(self, kind: str, key: str) -> Any:
        found = self.made[kind].get(key)
        if found is None:
            return None
        found.looks += 1
        if found.looks > self.LOOKS and found.status == "creating":
            found.status = "available"
        if found.looks > self.LOOKS and found.status == "deleting":
            del self.made[kind][key]
            return None
        return found


def test_copies_and_their_removal_are_given_time_by_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "STEP_TIMEOUT_S", 0.0)
    monkeypatch.setattr(export, "POLL_S", 0.0)
    glance, cinder = Glance(image("image", "the upload")), Cinder()
    large = disk("v1", 1 << 40)
    assert exports(glance, cinder).image_of(server(large), large) == "image"
    assert cinder.made == {"volume": {}, "snapshot": {}}


def test_an_upload_whose_image_cinder_has_removed_has_failed_and_says_where_to_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(export, "POLL_S", 0.0)
    small = disk("v1")
    with pytest.raises(TemporaryError, match="quota") as caught:
        exports(Glance()).image_of(server(small), small)
    assert caught.value.code == "UploadFailed"
