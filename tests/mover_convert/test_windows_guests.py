"""What a Windows guest gets: first-boot scripts, word for word, and drivers that match it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import pytest

from mover.convert import guest, virtio_win, windows_files
from mover.convert.preflight import preflight
from mover.convert.windows_files import DriveLetter
from mtv.model.conversion import ConvertNic, GuestScript, Inspection
from mtv.model.errors import PermanentError

GOLDEN = Path(__file__).parent / "golden"

NICS = (
    ConvertNic(
        mac="00:50:56:aa:bb:01",
        addresses=("10.1.2.3/24", "10.1.2.4/24", "fe80::250:56ff:feaa:bb01/64", "2001:db8::3/64"),
        gateways=("10.1.2.1", "2001:db8::1"),
        dns=("10.1.2.53", "10.1.2.54", "2001:db8::53"),
    ),
    ConvertNic(mac="00-50-56-AA-BB-02", addresses=("192.168.7.9/16",)),
    ConvertNic(mac="00:50:56:aa:bb:03"),
)
LETTERS = (
    DriveLetter(letter="E", partition_guid="11111111-2222-3333-4444-555555555555"),
    DriveLetter(letter="D", disk_signature="1234abcd", offset=1048576),
    DriveLetter(letter="C", disk_signature="1234abcd", offset=105906176),
)
SCRIPT = GuestScript(name="20_win_firstboot_hello.ps1", content="Write-Output 'hello'\n")


def generated() -> dict[str, str]:
    files = windows_files.first_boot_files(letters=LETTERS, nics=NICS, scripts=[SCRIPT])
    return {file.path.rpartition("/")[2]: file.content for file in files}


@pytest.mark.parametrize(
    "name",
    ["5010-disks.ps1", "5020-network.ps1", "5030-guest-agent.ps1", "5010-disks.bat", "7000-20_win_firstboot_hello.bat"],
)
def test_a_generated_file_is_what_was_reviewed(name):
    content = generated()[name]
    if os.environ.get("MTV_WRITE_GOLDEN"):
        (GOLDEN / name).write_text(content.replace("\r\n", "\n"), newline="\n")
    assert content == (GOLDEN / name).read_text().replace("\n", "\r\n")


def test_every_script_has_a_batch_file_that_starts_it_in_order():
    files = windows_files.first_boot_files(letters=LETTERS, nics=NICS, scripts=[SCRIPT])
    batches = [file.path for file in files if file.path.endswith(".bat")]
    assert batches == sorted(batches)
    assert all(path.startswith("/Program Files/Guestfs/Firstboot/scripts/") for path in batches)
    scripts = {file.path.rpartition("/")[2] for file in files if file.path.endswith(".ps1")}
    assert {path.rpartition("/")[2].replace(".bat", ".ps1") for path in batches} == scripts


@pytest.mark.parametrize("given", ["Write-Output 'M\u00fcller \u2013 x'\n", "\ufeffWrite-Output '\u4e2d'\n"])
def test_a_script_that_is_not_plain_ascii_says_that_it_is_utf_8(given):
    script = GuestScript(name="1_win_firstboot_x.ps1", content=given)
    files = {file.path: file.content for file in windows_files.first_boot_files(letters=(), nics=(), scripts=[script])}
    (content,) = (text for path, text in files.items() if path.endswith("x.ps1"))
    assert content == "\ufeff" + given.removeprefix("\ufeff").replace("\n", "\r\n")
    assert all(text.isascii() for path, text in files.items() if not path.endswith("x.ps1"))


def test_windows_keeps_the_letter_of_its_own_volume_to_itself():
    assert "'C'" not in windows_files.disks_script(LETTERS)


def test_a_guest_without_static_addresses_gets_no_network_script():
    assert windows_files.network_script([ConvertNic(mac="00:50:56:aa:bb:03", addresses=("fe80::1/64",))]) == ""


@pytest.mark.parametrize(
    "nic",
    [
        ConvertNic(mac="00:50:56:aa:bb:01", addresses=("10.0.0.1'; Remove-Item C:\\ #/24",)),
        ConvertNic(mac="00:50:56:aa:bb:01", addresses=("10.0.0.1/24",), gateways=("$(calc)",)),
        ConvertNic(mac="00:50:56:aa:bb:01", addresses=("10.0.0.1/24",), dns=("a.b",)),
        ConvertNic(mac="x' + 'y", addresses=("10.0.0.1/24",)),
    ],
)
def test_what_is_no_address_never_reaches_powershell(nic):
    with pytest.raises(PermanentError) as raised:
        windows_files.network_script([nic])
    assert raised.value.code == "nic-address"


def virtio_win_folder(folder: Path, *, versions=("w10", "2k19"), agent=True) -> Path:
    for version in versions:
        for path in (f"viostor/{version}/amd64/viostor.inf", f"NetKVM/{version}/amd64/netkvm.inf"):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text("; driver")
    if agent:
        (folder / "guest-agent").mkdir(parents=True, exist_ok=True)
        (folder / "guest-agent/qemu-ga-x86_64.msi").touch()
    return folder


def iso_of(folder: Path, *options: str) -> Path:
    iso = folder.with_suffix(".iso")
    argv = ["genisoimage", "-quiet", *options, "-o", str(iso), str(folder)]
    subprocess.run(argv, check=True, capture_output=True)
    return iso


# The plain tree has no hyphens in its names, and qemu-ga-x86_64.msi has two.
@pytest.mark.parametrize("form", ["folder", "joliet", "rock-ridge-and-joliet", "plain"])
def test_drivers_are_found_in_a_folder_and_in_an_iso(tmp_path, form):
    place = virtio_win_folder(tmp_path / "virtio-win")
    options = {"joliet": ["-J"], "rock-ridge-and-joliet": ["-R", "-J"], "plain": ["-l", "-allow-lowercase"]}
    if form != "folder":
        place = iso_of(place, *options[form])
    found = virtio_win.drivers_for(virtio_win.paths_in(place), os_id="win2k19", arch="x86_64")
    assert found == virtio_win.Drivers(block=True, network=True, agent=form != "plain")


WINDOWS_2019 = Inspection(
    type="windows", distro="windows", os_id="win2k19", arch="x86_64", product="Windows Server 2019"
)


@pytest.fixture
def environ(tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "rhsrvany.exe").touch()
    return {"VIRT_TOOLS_DATA_DIR": str(tools), "VIRTIO_WIN": str(virtio_win_folder(tmp_path / "virtio-win"))}


def test_a_matching_virtio_win_passes(environ):
    assert virtio_win.check(WINDOWS_2019, wanted="", environ=environ) == ()


def test_the_spec_s_virtio_win_comes_before_the_environment_s(environ, tmp_path):
    other = virtio_win_folder(tmp_path / "other", versions=("w7",))
    with pytest.raises(PermanentError) as raised:
        virtio_win.check(WINDOWS_2019, wanted=str(other), environ=environ)
    assert raised.value.code == "virtio-win-no-match"
    assert "disk and network driver for win2k19" in raised.value.message


def test_a_virtio_win_without_guest_agent_is_a_warning_with_a_cure(environ, tmp_path):
    place = virtio_win_folder(tmp_path / "no-agent", agent=False)
    (notice,) = virtio_win.check(WINDOWS_2019, wanted=str(place), environ=environ)
    assert notice.code == "guest-agent-missing"
    assert "install" in notice.cure


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"VIRTIO_WIN": "/nowhere/virtio-win.iso"}, "virtio-win-missing"),
        ({"VIRTIO_WIN": ""}, "virtio-win-missing"),
        ({"VIRT_TOOLS_DATA_DIR": "/nowhere"}, "windows-tools-missing"),
    ],
)
def test_what_a_windows_needs_and_is_not_there_is_refused(environ, change, code, monkeypatch):
    monkeypatch.setattr(virtio_win, "DEFAULTS", ())
    with pytest.raises(PermanentError) as raised:
        virtio_win.check(WINDOWS_2019, wanted="", environ=environ | change)
    assert raised.value.code == code
    assert raised.value.cure


@pytest.mark.parametrize(("versions", "code"), [(("w7",), "virtio-win-no-match"), (("2k19",), None)])
def test_drivers_are_matched_with_the_guest_before_anything_is_copied(environ, tmp_path, monkeypatch, versions, code):
    """No Windows may be had here: what the appliance finds in one is given."""
    monkeypatch.setattr(guest, "visit", lambda *_, **__: guest.Answer(inspection=WINDOWS_2019))
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    drivers = virtio_win_folder(tmp_path / "given", versions=versions)
    result = preflight(
        [str(tmp_path / "disk")], say=lambda _: None, windows_drivers=str(drivers), environ={"PATH": "", **environ}
    )
    assert (result.failure.code if result.failure else None) == code
    assert result.inspection == WINDOWS_2019, "what was found is evidence, too, of what is refused"


def test_a_file_that_is_no_iso_is_refused(tmp_path):
    (tmp_path / "x.iso").write_bytes(os.urandom(40 * 2048))
    with pytest.raises(PermanentError) as raised:
        virtio_win.paths_in(tmp_path / "x.iso")
    assert raised.value.code == "virtio-win-missing"


@pytest.mark.parametrize("cut", [1, 20, 33, 60])
def test_an_iso_that_ends_too_early_never_hangs(tmp_path, cut):
    iso = iso_of(virtio_win_folder(tmp_path / "virtio-win"), "-J")
    os.truncate(iso, cut * 2048)
    with contextlib.suppress(PermanentError):
        assert len(virtio_win.paths_in(iso)) <= 5
