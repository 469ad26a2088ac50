"""The report says what the evidence says, and nothing that came from elsewhere can run in it."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import re
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from mtv.model.evidence import COPY_KEPT, EvidenceKind
from mtv.model.transfer import DiskResult, Proof, TransferResult, Verify
from mtv.reporting import headline, read_run, words, write_report
from mtv.reporting.reading import _steps
from mtv.reporting.tables import as_csv
from mtv.store import NotFound, StepRow, Store
from tests.reporting.sample import BEGIN

MIB = 1024**2
BILLING = "billing-frontend-production"


def test_every_vm_has_the_outcome_that_was_settled(store: Store, run_id: str) -> None:
    facts = read_run(store, run_id)
    assert [(vm.id, vm.outcome) for vm in facts.vms] == [
        ("web-1", "migrated"),
        ("db-1", "migrated"),
        ("app-1", "migrated"),
        ("billing-frontend-production", "rolled back"),
        ("gpu-1", "blocked"),
        ("late-1", "not started"),
    ]
    assert headline(facts) == "3 of 6 VMs migrated, 1 blocked, 1 not started, 1 rolled back; 3 proven to boot."


def test_disks_carry_bytes_digests_and_proof(store: Store, run_id: str) -> None:
    web, *_, app = read_run(store, run_id).vms[:3]
    assert [disk.id for disk in web.disks] == ["disk-2000", "disk-2001"]
    first = web.disks[0]
    assert first.resumed_bytes == 96 * MIB
    assert first.proof == "as read"
    assert first.digest != first.converted_digest
    assert (first.storage_class, first.volume_mode) == ("lab-block", "Block")
    assert app.disks[0].proof == "source-checked"


def test_how_the_copy_was_verified_is_in_every_form_of_the_report(store: Store, run_id: str, tmp_path: Path) -> None:
    disk = DiskResult(id="disk-2000", size_bytes=1, digest="d" * 64, proof=Proof.NONE, verify=Verify.OFF)
    result = msgspec.to_builtins(TransferResult(ok=True, disks=(disk,)))
    store.add_evidence(run_id, "app-1", EvidenceKind.TRANSFER, result)
    rows = {(row["vm"], row["disk"]): row for row in csv.DictReader(io.StringIO(as_csv(read_run(store, run_id))))}
    assert (rows["app-1", "disk-2000"]["verify"], rows["app-1", "disk-2000"]["proof"]) == ("off", "none")
    assert (rows["db-1", "disk-2000"]["verify"], rows["db-1", "disk-2000"]["reread"]) == ("full", "true")
    files = write_report(store, run_id, tmp_path)
    page = files.html.read_text()
    assert 'target verified: <span class="pill warn">off</span>' in page
    assert "target verified: full; source read twice" in page
    vms = {vm["id"]: vm for vm in json.loads(files.json.read_text())["vms"]}
    assert vms["app-1"]["disks"][0]["verify"] == "off"


def test_what_was_put_into_the_guest_is_told(store: Store, run_id: str, tmp_path: Path) -> None:
    asked = {
        "nics": [{"mac": "00:50:56:00:00:01", "addresses": ["10.0.0.5/24"]}],
        "scripts": {"10_linux_run_x.sh": "0" * 64},
        "scripts_from": "hardening",
        "luks": "keys",
    }
    store.add_evidence(run_id, "web-1", EvidenceKind.GUEST, asked)
    page = write_report(store, run_id, tmp_path).html.read_text()
    assert "card 00:50:56:00:00:01 keeps 10.0.0.5/24; 1 script from hardening: 10_linux_run_x.sh; LUKS keys" in page


def test_a_failure_is_told_with_step_cause_and_cure(store: Store, run_id: str) -> None:
    (failure,) = read_run(store, run_id).vms[3].failures
    assert (failure.step, failure.code) == ("convert", "guest-root-full")
    page = write_report(store, run_id, Path(store._engine.url.database or "").parent).html.read_text()
    assert "no space left on device" in page
    assert "free space in the guest&#39;s root file system" in page


def test_what_was_found_about_the_plan_itself_is_shown_and_what_is_about_vms_stands_with_them(
    store: Store, run_id: str
) -> None:
    def condition(message: str, *vms: str) -> dict[str, object]:
        return {"type": "T", "category": "Warning", "message": message, "cure": "mend it", "vms": list(vms)}

    document = {"concerns": [], "conditions": [condition("CA <unknown>"), condition("about web-1", "web-1")]}
    store.add_evidence(run_id, "", EvidenceKind.CONCERNS, document, subject="conditions")
    assert [one["message"] for one in read_run(store, run_id).conditions] == ["CA <unknown>"]
    page = write_report(store, run_id, Path(store._engine.url.database or "").parent).html.read_text()
    assert "About the plan" in page
    assert "CA &lt;unknown&gt;" in page
    assert "about web-1" not in page


def test_a_row_of_the_table_tells_the_cause_and_not_what_settle_met_afterwards(store: Store, run_id: str) -> None:
    for vm_id in (BILLING, "web-1"):
        later = {"step": "settle", "code": "copies-left", "message": "left behind"}
        store.add_evidence(run_id, vm_id, EvidenceKind.FAILURE, later, subject="settle")
    rows = {row["vm"]: row["failure"] for row in csv.DictReader(io.StringIO(as_csv(read_run(store, run_id))))}
    assert rows["web-1"] == "left behind"
    assert "no space left on device" in next(words for vm, words in rows.items() if vm.startswith("Billing"))


def run_again(store: Store, run_id: str, name: str) -> str:
    """Start another run of the sample's wave, for the VM that was rolled back only."""
    run = store.run(run_id)
    again = store.start_run(
        plan_hash=run.plan_hash, plan_name=run.plan_name, wave="first", dag_id="d", dag_run_id=name
    ).id
    store.freeze_vms(again, [BILLING])
    return again


def test_a_copy_of_an_earlier_run_is_named_as_such_and_not_counted_again(
    store: Store, run_id: str, tmp_path: Path
) -> None:
    again = run_again(store, run_id, "again")
    step = store.begin_step(again, BILLING, "transfer")
    store.end_step(step, state="skipped", error=COPY_KEPT)
    facts = read_run(store, again)
    (vm,) = facts.vms
    (disk,) = vm.disks
    assert vm.earlier == ("transfer",)
    assert (disk.digest, disk.proof) == (read_run(store, run_id).vms[3].disks[0].digest, "as read")
    assert (disk.read_bytes, disk.resumed_bytes, disk.seconds) == (None, None, None)
    assert (facts.summary.read_bytes, facts.summary.resumed_bytes) == (0, 0)
    assert vm.failures == ()
    page = write_report(store, again, tmp_path).html.read_text()
    assert "transfer: kept and used again" in page
    assert "copied by an earlier run" in page


@pytest.mark.parametrize("skipped", ["", "migrated already"], ids=["never-got-there", "migrated-already"])
def test_a_run_that_used_no_copy_is_credited_with_none(store: Store, run_id: str, skipped: str) -> None:
    again = run_again(store, run_id, "again")
    if skipped:
        step = store.begin_step(again, BILLING, "transfer")
        store.end_step(step, state="skipped", error=skipped)
    (vm,) = read_run(store, again).vms
    assert vm.earlier == ()
    assert not vm.is_copied
    assert all(disk.digest == "" for disk in vm.disks)


def test_a_copy_that_was_made_later_is_not_the_one_that_was_kept(store: Store, run_id: str) -> None:
    again = run_again(store, run_id, "again")
    step = store.begin_step(again, BILLING, "transfer")
    store.end_step(step, state="skipped", error=COPY_KEPT)
    store.finish_run(again, "failed")
    before = read_run(store, again).vms[0].disks
    other = TransferResult(ok=True, disks=(DiskResult(id=before[0].id, size_bytes=1, digest="e" * 64),))
    later = run_again(store, run_id, "later")
    store.add_evidence(later, BILLING, EvidenceKind.TRANSFER, msgspec.to_builtins(other))
    assert read_run(store, again).vms[0].disks == before
    assert read_run(store, later).vms[0].disks[0].digest == "e" * 64


def test_a_run_that_has_just_begun_can_be_reported(store: Store, run_id: str, tmp_path: Path) -> None:
    run = store.run(run_id)
    again = store.start_run(plan_hash=run.plan_hash, plan_name=run.plan_name, wave="first", dag_id="d", dag_run_id="a")
    step = store.begin_step(again.id, "late-1", "prepare")
    facts = read_run(store, again.id)
    assert facts.vms[-1].outcome == "running"
    store.end_step(step, state="failed", error="x")
    store.add_evidence(again.id, "late-1", EvidenceKind.FAILURE, {"step": "prepare", "code": "x", "message": "m"})
    assert read_run(store, again.id).vms[-1].outcome == "failed"
    assert "running" in write_report(store, again.id, tmp_path).html.read_text()


class _Page(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_self_contained_and_escapes_everything(store: Store, run_id: str, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script><img src=http://evil.example/x onerror=alert(1)>"
    for kind, document in (
        (EvidenceKind.BOOT, {"proven": True, "how": evil, "marker": evil, "lines": [evil]}),
        (EvidenceKind.FAILURE, {"step": evil, "code": evil, "message": evil, "cure": evil}),
        (
            EvidenceKind.CONCERNS,
            {"concerns": [{"id": evil, "category": evil, "label": f'">{evil}', "assessment": evil}]},
        ),
        (EvidenceKind.TARGET_VM, {"name": evil, "namespace": evil, "run_strategy": evil}),
        (EvidenceKind.POWER, {"before": evil, "method": evil, "seconds": 1}),
        (EvidenceKind.CONVERSION, {"ok": True, "os_name": evil, "drivers": [evil], "warnings": [evil], "seconds": 1}),
        (EvidenceKind.SETTLED, {"outcome": evil, "removed": [evil], "source_power": evil}),
    ):
        store.add_evidence(run_id, "web-1", kind, document)
    store.claim_vm(store.run(run_id).plan_name, "billing-frontend-production", run_id)
    store.record_source_change(run_id, "billing-frontend-production", evil, {evil: evil})
    page = _Page()
    page.feed(write_report(store, run_id, tmp_path).html.read_text())
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "img", "link", "iframe", "object", "form"}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert not attributes.keys() & {"src", "srcset"}
        assert (attributes.get("href") or "#").startswith("#")
    assert page.text.count(evil) > 12
    assert "url(" not in page.text


def test_the_csv_has_one_row_for_each_disk_and_none_that_a_spreadsheet_would_run(store: Store, run_id: str) -> None:
    store.add_evidence(run_id, "web-1", EvidenceKind.BOOT, {"proven": True, "marker": "=HYPERLINK(1)"})
    rows = list(csv.DictReader(io.StringIO(as_csv(read_run(store, run_id)))))
    assert [row["vm"] for row in rows][:4] == ["web-1", "web-1", "db-1", "app-1"]
    assert rows[0]["boot_line"] == "'=HYPERLINK(1)"
    assert rows[0]["read_bytes"] == str(read_run(store, run_id).vms[0].disks[0].read_bytes)
    assert rows[-1]["disk"] == ""


def test_the_json_holds_the_same_facts(store: Store, run_id: str, tmp_path: Path) -> None:
    files = write_report(store, run_id, tmp_path)
    document = json.loads(files.json.read_bytes())
    assert document["summary"]["outcomes"]["migrated"] == 3
    assert document["vms"][0]["boot"]["proven"] is True
    assert files.html.parent == tmp_path / run_id
    assert write_report(store, run_id, tmp_path) == files, "writing again replaces"
    assert sorted(path.name for path in files.html.parent.iterdir()) == ["report.csv", "report.html", "report.json"]


def test_an_unknown_run_is_an_error(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        write_report(store, "nothing", tmp_path)


def test_overlapping_records_of_a_step_are_one_attempt() -> None:
    def row(number: int, begin: int, end: int, state: str = "success") -> StepRow:
        return StepRow(
            id=number, run_id="r", vm_id="v", step="transfer", state=state,
            started_at=BEGIN + timedelta(seconds=begin), finished_at=BEGIN + timedelta(seconds=end),
        )  # fmt: skip

    (twice,) = _steps([row(1, 0, 10), row(2, 1, 9)])
    assert (twice.attempts, twice.seconds, twice.state) == (1, 10.0, "success")
    (retried,) = _steps([row(1, 0, 10, "failed"), row(2, 20, 30)])
    assert (retried.attempts, retried.seconds, retried.state) == (2, 30.0, "success")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (MIB - 1, "1.0 MiB"), (5120 * MIB, "5.0 GiB")],
    ids=str,
)  # fmt: skip
def test_sizes_have_a_unit(value: int, expected: str) -> None:
    assert words.size(value) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.04, "0.0 s"), (9.96, "10 s"), (59.6, "1 min 00 s"), (3599.7, "1 h 00 min"), (7509, "2 h 05 min")],
    ids=str,
)
def test_durations_are_rounded_once(seconds: float, expected: str) -> None:
    assert re.fullmatch(r"[0-9. a-z]+", words.duration(seconds))
    assert words.duration(seconds) == expected
