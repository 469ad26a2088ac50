"""Images on web servers and in Glance: ranges, logins that run out, servers that break or lie, redirects."""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mover.measure import digest_of_path
from mover.sources.http_range import name_of
from mtv.model.transfer import DiskSource, GlanceImage, HttpRange, Proof, Verify
from tests.mover import moving, web
from tests.mover.moving import MIB
from tests.mover.web import IMAGE, Web

SIZE = 26 * MIB + 700
AREAS = [(0, 5 * MIB), (9 * MIB + 512, 70000), (13 * MIB, 8 * MIB), (SIZE - 900, 900)]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving.make_disk(tmp_path_factory.mktemp("disk") / "disk.img", SIZE, AREAS)


@pytest.fixture
def server(disk: Path, tmp_path: Path) -> Iterator[Web]:
    with web.serve(disk, tmp_path / "secrets") as running:
        yield running


def image(server: Web, **options: str | bool) -> HttpRange:
    return HttpRange(url=f"{server.url}/disk.raw", format="raw", **options)  # type: ignore[arg-type]


def copy(tmp_path: Path, source: DiskSource, *, verify: Verify = Verify.FULL) -> moving.Ran:
    spec = moving.spec_of(tmp_path / "w", moving.disk_of(source, SIZE, tmp_path / "t"), verify=verify)
    (tmp_path / "secrets").mkdir(exist_ok=True)
    return moving.run(msgspec.structs.replace(spec, credentials_dir=str(tmp_path / "secrets")))


def assert_arrived(ran: moving.Ran, disk: Path, tmp_path: Path, proof: Proof = Proof.AS_READ) -> None:
    assert ran.result.ok, ran.lines
    [done] = ran.result.disks
    assert (done.digest, done.proof) == (digest_of_path(disk), proof)
    assert moving.same_bytes(disk, tmp_path / "t", SIZE)


def code_of(ran: moving.Ran) -> str:
    assert ran.result.failure is not None
    assert ran.result.failure.cure or ran.result.failure.retryable
    return ran.result.failure.code


def sha256(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_an_image_arrives_over_several_connections_and_is_not_read_again(
    server: Web, disk: Path, tmp_path: Path
) -> None:
    assert_arrived(copy(tmp_path, image(server)), disk, tmp_path)
    asked = len(server.requests)
    again = copy(tmp_path, image(server))
    assert_arrived(again, disk, tmp_path)
    assert again.result.disks[0].bytes_read == 0
    assert len(server.requests) == asked + 1


def test_the_images_own_checksum_is_compared_with_what_arrived(server: Web, disk: Path, tmp_path: Path) -> None:
    source = image(server, checksum=sha256(disk))
    ran = copy(tmp_path, source)
    assert_arrived(ran, disk, tmp_path, Proof.SOURCE_CHECKED)
    assert ran.result.disks[0].source_digest == sha256(disk)


def test_a_byte_that_was_flipped_before_it_was_read_is_found_and_read_again(
    server: Web, disk: Path, tmp_path: Path
) -> None:
    source = image(server, checksum=sha256(disk))
    server.flip_at = 14 * MIB
    assert code_of(copy(tmp_path, source)) == "source-checksum"
    server.flip_at = -1
    again = copy(tmp_path, source)
    assert_arrived(again, disk, tmp_path, Proof.SOURCE_CHECKED)
    assert again.result.disks[0].bytes_read == SIZE


def test_a_checksum_of_an_unknown_kind_is_refused_before_anything_is_copied(server: Web, tmp_path: Path) -> None:
    for checksum in ("crc32:00000000", "sha256:00", "nonsense"):
        assert code_of(copy(tmp_path, image(server, checksum=checksum))) == "source-checksum-kind"
    assert len(server.requests) == 3


def test_without_a_read_back_nothing_is_called_checked(server: Web, disk: Path, tmp_path: Path) -> None:
    ran = copy(tmp_path, image(server, checksum=sha256(disk)), verify=Verify.OFF)
    assert_arrived(ran, disk, tmp_path, Proof.NONE)
    assert ran.said("checksum is not compared")


FAULTS = st.fixed_dictionaries(
    {name: st.integers(0, 1) for name in ("drop", "truncate", "shift", "close_after")}
    | {"status": st.lists(st.sampled_from([503, 500, 429]), max_size=1)}
)


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(faults=FAULTS)
def test_what_breaks_on_the_way_is_read_again(
    disk: Path,
    tmp_path_factory: pytest.TempPathFactory,
    faults: dict[str, int | list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moving.hurry(monkeypatch)
    folder = tmp_path_factory.mktemp("faults")
    with web.serve(disk, folder / "secrets") as server:
        for name, value in faults.items():
            setattr(server, name, value)
        assert_arrived(copy(folder, image(server)), disk, folder)


def test_a_server_that_ignores_ranges_is_refused(server: Web, tmp_path: Path) -> None:
    server.ignores_ranges = True
    assert code_of(copy(tmp_path, image(server))) == "source-no-ranges"


def test_an_image_that_changes_while_it_is_copied_is_refused(server: Web, tmp_path: Path) -> None:
    server.change_after = 4
    assert code_of(copy(tmp_path, image(server))) == "source-changed"


def test_an_image_that_changed_between_two_attempts_is_copied_from_zero(
    server: Web, disk: Path, tmp_path: Path
) -> None:
    assert_arrived(copy(tmp_path, image(server)), disk, tmp_path)
    server.etag = '"other"'
    again = copy(tmp_path, image(server))
    assert_arrived(again, disk, tmp_path)
    assert again.said("another generation")
    assert again.result.disks[0].bytes_read == SIZE


def header(tmp_path: Path, token: str) -> None:
    (tmp_path / "secrets" / "token").write_text(f"Authorization: Bearer {token}\n")


def test_a_header_that_runs_out_is_read_from_its_file_again(
    server: Web, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.uses_per_token = 3
    header(tmp_path, server.new_token())
    renew = server.new_token

    def new_token() -> str:  # whoever issues tokens puts each new one into the file
        token = renew()
        header(tmp_path, token)
        return token

    monkeypatch.setattr(server, "new_token", new_token)
    assert_arrived(copy(tmp_path, image(server, header_file="token")), disk, tmp_path)
    assert server.logins > 2


def test_a_header_that_is_refused_is_told_without_its_value(
    server: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moving.hurry(monkeypatch)
    server.token = "right"
    header(tmp_path, "canary-secret")
    ran = copy(tmp_path, image(server, header_file="token"))
    assert code_of(ran) == "source-login"
    assert "canary" not in json.dumps(ran.lines)
    assert code_of(copy(tmp_path, image(server))) == "source-login"


@pytest.mark.parametrize("text", ["", "no colon", "Host: elsewhere", "A: b\nRange: bytes=0-1", "X-Auth-Token: a\rb: c"])
def test_a_header_file_that_holds_no_single_header_is_refused(server: Web, tmp_path: Path, text: str) -> None:
    (tmp_path / "secrets" / "token").write_text(text)
    assert code_of(copy(tmp_path, image(server, header_file="token"))) == "credentials-missing"
    assert server.requests == []


def test_credentials_do_not_follow_a_redirect_to_another_server(server: Web, disk: Path, tmp_path: Path) -> None:
    server.token = "right"
    header(tmp_path, "right")
    with web.serve(disk, tmp_path / "other") as other:
        both = (tmp_path / "secrets" / "ca.pem").read_text() + (tmp_path / "other" / "ca.pem").read_text()
        (tmp_path / "secrets" / "ca.pem").write_text(both)
        server.redirect_to = f"{other.url}/elsewhere?signature=canary"
        ran = copy(tmp_path, image(server, header_file="token"))
        assert_arrived(ran, disk, tmp_path)
        assert "canary" not in json.dumps(ran.lines)
        assert other.requests
        assert not [names for _, names in other.requests if {"Authorization", "Cookie"} & names.keys()]
        assert server.requests[0][1]["Authorization"] == "Bearer right"


def test_a_redirect_that_ran_out_is_asked_for_again(server: Web, disk: Path, tmp_path: Path) -> None:
    with web.serve(disk, tmp_path / "other") as other:
        both = (tmp_path / "secrets" / "ca.pem").read_text() + (tmp_path / "other" / "ca.pem").read_text()
        (tmp_path / "secrets" / "ca.pem").write_text(both)
        server.redirect_to = f"{other.url}/elsewhere"
        other.status = [403]
        assert_arrived(copy(tmp_path, image(server)), disk, tmp_path)


def test_redirects_in_a_circle_or_to_plain_http_are_refused(server: Web, tmp_path: Path) -> None:
    server.redirect_to = f"{server.url}/again"
    ran = copy(tmp_path, image(server))
    assert ran.result.failure is not None
    assert ran.result.failure.code == "source-redirect"
    server.redirect_to = "https://[nowhere/again"
    assert code_of(copy(tmp_path, image(server))) == "source-redirect"
    server.redirect_to = server.url.replace("https", "http")
    assert code_of(copy(tmp_path, image(server))) == "source-redirect"


def test_credentials_are_not_sent_over_plain_http_unless_wanted(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    header(tmp_path, "right")
    with web.serve(disk, tmp_path / "secrets", tls=False) as plain:
        plain.token = "right"
        assert code_of(copy(tmp_path, image(plain, header_file="token"))) == "source-insecure"
        assert plain.requests == []
        assert_arrived(copy(tmp_path, image(plain, header_file="token", insecure=True)), disk, tmp_path)


def test_only_the_trusted_certificate_is_taken(server: Web, disk: Path, tmp_path: Path) -> None:
    authority = tmp_path / "secrets" / "ca.pem"
    der = ssl.PEM_cert_to_DER_cert(authority.read_text())
    authority.unlink()
    assert code_of(copy(tmp_path, image(server))) == "source-certificate"
    assert code_of(copy(tmp_path, image(server, thumbprint="00" * 32))) == "source-certificate"
    server.close_after = 3  # a new connection is checked like the first
    thumbprint = hashlib.sha256(der).hexdigest()
    assert_arrived(copy(tmp_path, image(server, thumbprint=thumbprint)), disk, tmp_path)


@pytest.mark.parametrize(
    ("url", "form", "code"),
    [
        ("https://user:canary@127.0.0.1/disk", "raw", "spec"),
        ("ftp://127.0.0.1/disk", "raw", "spec"),
        ("https://127.0.0.1:99999/disk", "raw", "spec"),
        ("https://user:canary/et@127.0.0.1/disk", "raw", "spec"),
        ("https://user:canary\u2100@127.0.0.1/disk", "raw", "spec"),
        ("https://127.0.0.1/disk", "qcow2", "source-format"),
        ("https://127.0.0.1/disk", "vmdk", "source-format"),
    ],
)
def test_other_addresses_and_formats_are_refused(tmp_path: Path, url: str, form: str, code: str) -> None:
    ran = copy(tmp_path, HttpRange(url=url, format=form))
    assert code_of(ran) == code
    assert "canary" not in json.dumps(ran.lines)


@pytest.mark.parametrize("url", ["https://user:12/canary@h/x", "https://user:canary/12@h/x", "https://u:1?canary@h/x"])
def test_a_password_with_a_slash_in_it_is_in_no_name(url: str) -> None:
    assert "canary" not in name_of(url)
    assert "user" not in name_of(url)
    assert name_of("https://h:8443/a/x?canary") == "https://h:8443/a/x"


# -- Glance, where the real service cannot be brought to fail (see tests/openstack for what it does itself)


@pytest.fixture
def glance(server: Web, disk: Path, tmp_path: Path) -> GlanceImage:
    """An image whose service and identity service live on the server; a token is good for six requests."""
    server.token, server.uses_per_token = "none yet", 6
    server.record = {
        "id": IMAGE,
        "status": "active",
        "size": SIZE,
        "disk_format": "raw",
        "container_format": "bare",
        "checksum": hashlib.md5(disk.read_bytes(), usedforsecurity=False).hexdigest(),
        "os_hash_algo": "sha512",
        "os_hash_value": hashlib.sha512(disk.read_bytes()).hexdigest(),
    }
    (tmp_path / "secrets" / "user").write_text("admin")
    (tmp_path / "secrets" / "password").write_text(server.password)
    return GlanceImage(
        endpoint=f"{server.url}/image", image=IMAGE, auth_url=f"{server.url}/identity/v3", project="demo"
    )


def test_an_old_images_checksum_does_as_well(server: Web, glance: GlanceImage, disk: Path, tmp_path: Path) -> None:
    del server.record["os_hash_value"]
    ran = copy(tmp_path, glance)
    assert_arrived(ran, disk, tmp_path, Proof.SOURCE_CHECKED)
    assert ran.result.disks[0].source_digest == f"md5:{server.record['checksum']}"


def test_a_byte_flipped_in_the_store_of_glance_is_found(server: Web, glance: GlanceImage, tmp_path: Path) -> None:
    server.flip_at = 3
    assert code_of(copy(tmp_path, glance)) == "source-checksum"


def test_an_image_whose_record_and_data_differ_in_size_is_refused(
    server: Web, glance: GlanceImage, tmp_path: Path
) -> None:
    server.record |= {"size": SIZE - 512}
    assert code_of(copy(tmp_path, glance)) == "source-size"
