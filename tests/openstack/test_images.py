"""Images of a real image service, with tokens of a real identity service: checked, and renewed when they end."""

from __future__ import annotations

import hashlib
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
import openstack
import pytest

from lab.process import wait_until
from mover.control.keystone import KeystoneSession
from mover.geometry import Extent
from mover.sources.base import Reader, ReadRequest
from mover.sources.glance import keystone_scope, open_glance
from mtv.model.transfer import GlanceImage, Proof
from tests.mover import moving
from tests.mover.moving import MIB

pytestmark = pytest.mark.openstack


@pytest.fixture
def secrets(cloud: dict[str, Any], tmp_path: Path) -> Path:
    """Credential files as in a pod."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "user").write_text(cloud["user"])
    (folder / "password").write_text(Path(cloud["password_file"]).read_text())
    (folder / "ca.pem").write_text(Path(cloud["ca_file"]).read_text())
    return folder


def image(cloud: dict[str, Any], name: str = "guest") -> GlanceImage:
    return GlanceImage(
        endpoint=cloud["image_url"],
        image=cloud["images"].get(name, name),
        auth_url=cloud["auth_url"],
        project=cloud["project"],
    )


def copy(tmp_path: Path, source: GlanceImage, size: int, **changed: Any) -> moving.Ran:
    spec = moving.spec_of(tmp_path / "w", moving.disk_of(source, size, tmp_path / "t"))
    return moving.run(msgspec.structs.replace(spec, credentials_dir=str(tmp_path / "secrets"), **changed))


def read(reader: Reader, offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    request = ReadRequest(memoryview(buffer), offset, [Extent(offset, length)])
    reader.begin(request)
    reader.complete(request)
    return bytes(buffer)


def refused(url: str, token: str, ca_file: str) -> bool:
    context = ssl.create_default_context(cafile=ca_file)
    request = urllib.request.Request(url, headers={"X-Auth-Token": token})  # noqa: S310  the lab's own address
    try:
        urllib.request.urlopen(request, timeout=30, context=context).close()  # noqa: S310
    except urllib.error.HTTPError as error:
        return error.code == 401
    return False


def code_of(ran: moving.Ran) -> str:
    assert ran.result.failure is not None
    return ran.result.failure.code


def test_an_image_arrives_checked_against_the_services_own_hash(
    cloud: dict[str, Any], secrets: Path, tmp_path: Path
) -> None:
    guest = Path(cloud["guest"]["path"])
    size = guest.stat().st_size
    ran = copy(tmp_path, image(cloud), size)
    assert ran.result.ok, ran.lines
    [done] = ran.result.disks
    assert done.proof is Proof.SOURCE_CHECKED
    assert done.source_digest == f"sha512:{cloud['guest']['sha512']}"
    assert moving.same_bytes(guest, tmp_path / "t", size)


def test_a_revoked_token_is_replaced_in_the_middle_of_a_disk(
    cloud: dict[str, Any], secrets: Path, user: openstack.connection.Connection
) -> None:
    where = image(cloud)
    session = KeystoneSession(keystone_scope(where, secrets / "ca.pem"), secrets)
    source = open_glance(where, session, secrets / "ca.pem")
    reader = source.open_reader()
    first = read(reader, 0, 4 * MIB)
    token = session.token()
    user.session.delete(f"{cloud['auth_url']}/auth/tokens", headers={"X-Subject-Token": token})
    record = f"{cloud['image_url']}/v2/images/{where.image}"
    wait_until(
        lambda: refused(record, token, cloud["ca_file"]), timeout_s=300, what="the end of the token", interval_s=0.5
    )
    rest = read(reader, 4 * MIB, source.size_bytes - 4 * MIB)
    reader.close()
    source.close()
    assert session.token() != token
    assert hashlib.sha512(first + rest).hexdigest() == cloud["guest"]["sha512"]


@pytest.mark.long
def test_a_copy_of_three_minutes_outlives_tokens_that_end_every_twenty_seconds(
    cloud: dict[str, Any],
    secrets: Path,
    tmp_path: Path,
    user: openstack.connection.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokens: list[str] = []
    log_in = KeystoneSession._log_in
    monkeypatch.setattr(KeystoneSession, "_log_in", lambda session: tokens.append(log_in(session)) or tokens[-1])
    revoked: list[str] = []

    def revoke() -> None:
        if tokens and tokens[-1] not in revoked:
            revoked.append(tokens[-1])
            user.session.delete(f"{cloud['auth_url']}/auth/tokens", headers={"X-Subject-Token": tokens[-1]})

    size = 40 * MIB  # ten blocks, so that one is asked for about as often as a token ends
    dense = moving.make_disk(tmp_path / "dense.img", size, [(0, size)])
    with dense.open("rb") as data:
        made = user.image.create_image(
            tmp_path.name, data=data, disk_format="raw", container_format="bare", allow_duplicates=True
        )
    try:
        with moving.again_and_again(revoke, 20.0):
            ran = copy(tmp_path, image(cloud, made.id), size, limit_bytes_per_s=size // 180)
    finally:
        user.image.delete_image(made)
    assert ran.result.ok, ran.lines
    assert ran.result.disks[0].proof is Proof.SOURCE_CHECKED
    assert moving.same_bytes(dense, tmp_path / "t", size)
    assert len(tokens) > 4


def test_an_application_credential_is_enough(
    cloud: dict[str, Any], secrets: Path, tmp_path: Path, user: openstack.connection.Connection
) -> None:
    credential = user.identity.create_application_credential(user.current_user_id, tmp_path.name)
    for name in ("user", "password"):
        (secrets / name).unlink()
    (secrets / "application-credential-id").write_text(credential.id)
    (secrets / "application-credential-secret").write_text(credential.secret)
    try:
        ran = copy(tmp_path, image(cloud), Path(cloud["guest"]["path"]).stat().st_size)
    finally:
        user.identity.delete_application_credential(user.current_user_id, credential)
    assert ran.result.ok, ran.lines


def test_what_the_services_refuse_is_told_without_the_secret(
    cloud: dict[str, Any], secrets: Path, tmp_path: Path
) -> None:
    assert code_of(copy(tmp_path, image(cloud, "00000000-0000-0000-0000-000000000000"), MIB)) == "source-missing"
    (secrets / "password").write_text("canary-Passw0rd")
    ran = copy(tmp_path, image(cloud), MIB)
    assert code_of(ran) == "source-login"
    assert not any("canary" in str(line) for line in ran.lines)
    (secrets / "ca.pem").unlink()
    assert code_of(copy(tmp_path, image(cloud), MIB)) == "source-certificate"


def test_an_image_of_another_format_or_without_data_is_refused(
    cloud: dict[str, Any], secrets: Path, tmp_path: Path, user: openstack.connection.Connection
) -> None:
    small = tmp_path / "small.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", small, "1M"], check=True)
    queued = user.image.create_image(tmp_path.name, disk_format="raw", container_format="bare", allow_duplicates=True)
    other = user.image.create_image(
        f"{tmp_path.name}-qcow2", data=small.read_bytes(), disk_format="qcow2", container_format="bare", wait=True
    )
    try:
        assert code_of(copy(tmp_path, image(cloud, queued.id), MIB)) == "source-missing"
        assert code_of(copy(tmp_path, image(cloud, other.id), MIB)) == "source-format"
    finally:
        user.image.delete_image(queued)
        user.image.delete_image(other)
