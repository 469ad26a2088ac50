"""Disks that nbdkit reads for us: over ssh from a real server, and with a stand-in where VMware's library would be."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from lab.sshd import USER, SshServer
from mover.control.controls import Controls
from mover.measure import digest_of_path
from mover.sources import esxi_ssh
from mover.sources.nbd import NbdSource
from mover.sources.nbdkit import Nbdkit, NbdkitSource
from mover.sources.vddk import VddkSource, open_vddk
from mtv.model.errors import ConnectionRefused, DriftError, MtvError, PermanentError, TemporaryError
from mtv.model.transfer import EsxiSsh, Proof, Vddk
from tests.mover import moving, vddk
from tests.mover.moving import MIB

SIZE = 20 * MIB + 512
PASSWORD = "canary-Passw0rd"


class Host(msgspec.Struct):
    """An ssh server, a disk on it, and the credential files of a pod that logs in with a key."""

    server: SshServer
    disk: Path
    secrets: Path

    @property
    def source(self) -> EsxiSsh:
        return EsxiSsh(host="127.0.0.1", port=self.server.port, path=str(self.disk))


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("ssh")
    volume = folder / "vmfs" / "volumes" / "ds-gold" / "app"
    volume.mkdir(parents=True)
    disk = moving.make_disk(volume / "app-flat.vmdk", SIZE, [(0, 3 * MIB), (9 * MIB + 100, 70000), (SIZE - 99, 99)])
    server = SshServer(folder, PASSWORD)
    secrets = folder / "secrets"
    secrets.mkdir()
    (secrets / "user").write_text(USER)
    for name in ("id", "known_hosts"):
        (secrets / name).write_bytes((folder / name).read_bytes())
        (secrets / name).chmod(0o600)
    server.start()
    try:
        yield Host(server, disk, secrets)
    finally:
        server.stop()


@pytest.fixture
def secrets(ssh: Host, tmp_path: Path) -> Path:
    """Credential files that a test may change."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    for path in ssh.secrets.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
        (folder / path.name).chmod(0o600)
    return folder


def use_password(secrets: Path, password: str) -> None:
    (secrets / "id").unlink()
    (secrets / "password").write_text(password)


def copy(folder: Path, source: EsxiSsh, secrets: Path) -> moving.Ran:
    spec = moving.spec_of(folder / "w", moving.disk_of(source, SIZE, folder / "t"))
    ran = moving.run(msgspec.structs.replace(spec, credentials_dir=str(secrets)))
    assert PASSWORD not in json.dumps(ran.lines)
    return ran


def failure_code(ran: moving.Ran) -> str:
    assert ran.result.failure is not None
    return ran.result.failure.code


@pytest.mark.lab
@pytest.mark.parametrize("login", ["key", "password"])
def test_a_disk_arrives_over_ssh(ssh: Host, tmp_path: Path, secrets: Path, login: str) -> None:
    if login == "password":
        use_password(secrets, PASSWORD)
    ran = copy(tmp_path, ssh.source, secrets)
    assert ran.result.ok, ran.lines
    assert moving.same_bytes(ssh.disk, tmp_path / "t", SIZE)
    assert ran.result.disks[0].digest == digest_of_path(ssh.disk)
    assert ran.result.disks[0].proof is Proof.AS_READ


def wrong_password(secrets: Path) -> None:
    use_password(secrets, "wrong")


def no_password(secrets: Path) -> None:
    (secrets / "id").unlink()


def unknown_host(secrets: Path) -> None:
    (secrets / "known_hosts").write_text("")


def changed_host_key(secrets: Path) -> None:
    host = (secrets / "known_hosts").read_text().split()[0]
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", secrets / "other"], check=True, timeout=300)
    (secrets / "known_hosts").write_text(f"{host} {(secrets / 'other.pub').read_text()}")


@pytest.mark.lab
@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (wrong_password, "source-login"),
        (no_password, "credentials-missing"),
        (unknown_host, "source-host-key"),
        (changed_host_key, "source-host-key"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_what_is_wrong_with_the_login_is_named(
    ssh: Host, tmp_path: Path, secrets: Path, spoil: Callable[[Path], None], code: str
) -> None:
    spoil(secrets)
    ran = copy(tmp_path, ssh.source, secrets)
    assert failure_code(ran) == code
    assert ran.result.failure is not None
    assert ran.result.failure.cure
    assert not ran.result.failure.retryable


@pytest.mark.lab
def test_a_disk_that_is_not_on_the_host_is_a_permanent_error(ssh: Host, tmp_path: Path, secrets: Path) -> None:
    gone = msgspec.structs.replace(ssh.source, path=f"{ssh.disk}-gone")
    assert failure_code(copy(tmp_path, gone, secrets)) == "source-missing"


def test_a_host_that_does_not_answer_may_answer_later(tmp_path: Path) -> None:
    for name in ("user", "id", "known_hosts"):
        (tmp_path / name).write_text("x")
    with pytest.raises(TemporaryError) as refused:
        esxi_ssh.open_esxi_ssh(EsxiSsh(host="127.0.0.1", port=1, path="/x"), tmp_path)
    assert refused.value.code == "source-lost"


def kill(child: Nbdkit) -> None:
    process = child._process
    assert process is not None
    process.kill()
    process.wait()


@pytest.mark.lab
def test_an_nbdkit_that_was_killed_is_started_again(ssh: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[Nbdkit] = []
    start = Nbdkit._start
    extents = NbdkitSource.extents

    def start_and_note(child: Nbdkit) -> None:
        children.append(child)
        start(child)

    def kill_first(source: NbdkitSource) -> object:
        found = extents(source)
        kill(children[0])
        return found

    monkeypatch.setattr(Nbdkit, "_start", start_and_note)
    monkeypatch.setattr(NbdkitSource, "extents", kill_first)
    ran = copy(tmp_path, ssh.source, ssh.secrets)
    assert ran.result.ok, ran.lines
    assert len(children) > 1
    assert moving.same_bytes(ssh.disk, tmp_path / "t", SIZE)


@pytest.mark.lab
def test_an_nbdkit_is_started_again_before_anybody_else_saw_that_it_died(
    ssh: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    unseen = threading.Event()
    run = Nbdkit._run

    def run_and_stay(child: Nbdkit) -> None:
        run(child)
        unseen.wait(1)

    monkeypatch.setattr(Nbdkit, "_run", run_and_stay)
    with contextlib.closing(esxi_ssh.open_esxi_ssh(ssh.source, ssh.secrets)) as source:
        assert isinstance(source, NbdkitSource)
        source.extents()
        source.open_reader().close()
        kill(source._child)
        source.open_reader().close()


@pytest.mark.lab
def test_a_socket_that_is_gone_while_nbdkit_is_started_again_may_be_there_later(ssh: Host) -> None:
    with contextlib.closing(esxi_ssh.open_esxi_ssh(ssh.source, ssh.secrets)) as source:
        assert isinstance(source, NbdkitSource)
        source.open_reader().close()
        source._child.socket.unlink()
        with pytest.raises(TemporaryError):
            source.open_reader()


@pytest.mark.lab
def test_nbdkit_ends_with_a_mover_that_is_killed_and_no_secret_is_in_its_command(
    ssh: Host, tmp_path: Path, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_password(secrets, PASSWORD)
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # a killed mover leaves the folder of its socket behind
    spec = moving.spec_of(tmp_path / "w", moving.disk_of(ssh.source, SIZE, tmp_path / "t"))
    os.mkfifo(tmp_path / "t")  # the mover waits for its target, with the source open
    with moving.running_mover(tmp_path, msgspec.structs.replace(spec, credentials_dir=str(secrets))) as mover:
        moving.wait_for(lambda: children_of(mover.pid), "nbdkit")
        (child,) = children_of(mover.pid)
        command = Path(f"/proc/{child}/cmdline").read_bytes()
        environment = Path(f"/proc/{child}/environ").read_bytes()
        assert b"password=+" in command
        assert PASSWORD.encode() not in command + environment
        mover.send_signal(signal.SIGKILL)
        mover.communicate(timeout=300)
    moving.wait_for(lambda: not Path(f"/proc/{child}/exe").exists(), "the end of nbdkit")


def children_of(pid: int) -> list[int]:
    """Children of all threads that have become another program."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found += [int(word) for word in (task / "children").read_text().split()]
        except FileNotFoundError:
            continue  # a thread that has ended
    return [child for child in found if b"nbdkit\0--foreground" in Path(f"/proc/{child}/cmdline").read_bytes()]


# -- VDDK, with a script for nbdkit's sh plugin where the vddk plugin would be

DISK = Vddk(host="vc.example", vm="vm-42", file="[ds gold] app/app.vmdk", thumbprint="AA:BB", snapshot="snapshot-7")


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    vddk.write_plugin(tmp_path)
    (tmp_path / "user").write_text("mover@vsphere.local\n")
    (tmp_path / "password").write_text(PASSWORD + "\n")
    moving.make_disk(tmp_path / "disk", 9 * MIB, [(MIB, 5 * MIB)])
    return tmp_path


def open_stand_in(folder: Path, disk: Vddk = DISK) -> VddkSource:
    return vddk.open_stand_in(disk, Controls(folder), folder)


def copy_stand_in(folder: Path, disk: Vddk, monkeypatch: pytest.MonkeyPatch) -> moving.Ran:
    vddk.use_stand_in(folder, monkeypatch)
    spec = moving.spec_of(folder / "w", moving.disk_of(disk, 9 * MIB, folder / "t"))
    return moving.run(msgspec.structs.replace(spec, credentials_dir=str(folder)))


@pytest.mark.parametrize(("esxi", "longest"), [(False, 2 * MIB), (True, 4 * MIB)], ids=["vcenter", "esxi"])
def test_vddk_is_told_all_it_needs_and_read_in_pieces_that_the_server_bears(
    stand_in: Path, esxi: bool, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = copy_stand_in(stand_in, msgspec.structs.replace(DISK, esxi=esxi, transports="nbdssl:nbd"), monkeypatch)
    assert ran.result.ok, ran.lines
    assert moving.same_bytes(stand_in / "disk", stand_in / "t", 9 * MIB)
    told = dict(line.split("=", 1) for line in (stand_in / "settings").read_text().splitlines())
    assert told == {
        "libdir": "/opt/vmware-vix-disklib-distrib",
        "server": "vc.example",
        "user": "mover@vsphere.local",
        "password": f"+{stand_in / 'password'}",
        "thumbprint": "AA:BB",
        "vm": "moref=vm-42",
        "snapshot": "snapshot-7",
        "transports": "nbdssl:nbd",
        "file": "[ds gold] app/app.vmdk",
    }
    assert (stand_in / "password-read").read_text() == PASSWORD + "\n"
    assert max(int(line) for line in (stand_in / "reads").read_text().split()) == longest


@pytest.mark.parametrize(
    ("said", "kind", "code"),
    [
        (
            "VixDiskLib_ConnectEx: Cannot complete login due to an incorrect user name or password.",
            ConnectionRefused,
            "source-login",
        ),
        ("VixDiskLib_Open: You do not have access rights to this file.", ConnectionRefused, "source-privilege"),
        ("VixDiskLib_Open: A file was not found.", PermanentError, "source-missing"),
        ("VixDiskLib_ConnectEx: One of the parameters was invalid.", PermanentError, "source-refused"),
        (
            "VixDiskLib_ConnectEx: SSL Exception: the certificate does not match.",
            ConnectionRefused,
            "source-certificate",
        ),
        ("VixDiskLib_Read: Memory allocation failed. Out of memory.", TemporaryError, "source-busy"),
        ("VixDiskLib_Open: The file is locked by another process.", PermanentError, "source-locked"),
        ("VixDiskLib_ConnectEx: The specified server could not be contacted.", TemporaryError, "source-lost"),
        ("something that nobody has heard of", PermanentError, "source-refused"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("source-") else None,
)
def test_words_of_vddk_become_a_code_and_a_cure(stand_in: Path, said: str, kind: type[MtvError], code: str) -> None:
    (stand_in / "says").write_text(said)
    with pytest.raises(kind) as refused:
        open_stand_in(stand_in)
    assert refused.value.code == code
    assert refused.value.cure
    assert said in refused.value.message
    assert PASSWORD not in str(refused.value)


def test_a_socket_that_is_away_is_no_refusal_whatever_nbdkit_complained_of_before(stand_in: Path) -> None:
    with contextlib.closing(open_stand_in(stand_in)) as source:
        source.open_reader().close()
        (stand_in / "says").write_text("something that nobody has heard of")
        with pytest.raises(MtvError, match="nobody has heard of"):
            source.open_reader()
        source._child.socket.unlink()
        with pytest.raises(TemporaryError) as away, source._child.explaining():
            NbdSource(source._child.uri)  # the first connection, to which a refusal is permanent otherwise
        assert away.value.code == "source-lost"


def test_a_disk_of_another_size_is_told_as_such_whatever_nbdkit_complained_of_before(stand_in: Path) -> None:
    with contextlib.closing(open_stand_in(stand_in)) as source:
        source.open_reader().close()
        (stand_in / "says").write_text("VixDiskLib_ConnectEx: The specified server could not be contacted.")
        with pytest.raises(TemporaryError, match="could not be contacted"):
            source.open_reader()
        (stand_in / "says").unlink()
        os.truncate(stand_in / "disk", 10 * MIB)
        with pytest.raises(DriftError) as changed:
            source.open_reader()
        assert changed.value.code == "source-changed"


def test_an_nbdkit_without_the_vddk_plugin_is_named(stand_in: Path) -> None:
    with pytest.raises(PermanentError) as refused:
        open_vddk(DISK, Controls(stand_in), plugin=("no-such-plugin",))
    assert refused.value.code == "source-no-plugin"


def test_a_machine_that_has_no_room_for_another_process_may_have_it_later(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_argv: object, **_options: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr("mover.sources.nbdkit.subprocess.Popen", refuse)
    with pytest.raises(TemporaryError) as refused:
        open_stand_in(stand_in)
    assert refused.value.code == "source-nbdkit"


def test_a_machine_without_nbdkit_is_named(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(PermanentError) as refused:
        open_stand_in(stand_in)
    assert refused.value.code == "source-no-nbdkit"
