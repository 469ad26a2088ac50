"""The report as one self-contained HTML page: no script, no outside asset, everything escaped."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mtv.model.text import count_of
from mtv.reporting import words
from mtv.reporting.facts import RunFacts, VmFacts

_TONES = {
    "migrated": "good", "success": "good", "rolled back": "bad", "failed": "bad", "held": "warn", "blocked": "warn",
    "source gone": "bad", "target gone": "bad",
    "skipped": "dim", "running": "busy", "not started": "dim", "unfinished": "warn",
    "Critical": "bad", "Error": "bad", "Warning": "warn", "Advisory": "dim", "Information": "dim",
}  # fmt: skip


def as_html(facts: RunFacts) -> str:
    """Return the page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(size=words.size, duration=words.duration, instant=words.instant)
    environment.globals.update(tone=tone, count=count_of, bar=bar, boot_words=boot_words, target_words=target_words)
    return environment.get_template("report.html.j2").render(run=facts, headline=headline(facts))


def tone(word: str) -> str:
    """Return the colour class of an outcome, a step state or a concern's category."""
    return _TONES.get(word, "dim")


def headline(facts: RunFacts) -> str:
    """Return the run in one sentence."""
    summary = facts.summary
    migrated = summary.outcomes.get("migrated", 0)
    text = f"{migrated} of {count_of(summary.vms, 'VM')} migrated"
    others = [f"{number} {outcome}" for outcome, number in sorted(summary.outcomes.items()) if outcome != "migrated"]
    if others:
        text += f", {', '.join(others)}"
    return f"{text}; {summary.booted} proven to boot."


def boot_words(vm: VmFacts) -> str:
    """Say in a few words whether the VM's boot is proven."""
    if vm.boot is None:
        return "not tried"
    if vm.boot.get("proven"):
        return f"proven by {vm.boot.get('how') or 'the guest'}"
    return "not asked for" if vm.boot.get("how") == "not asked" else "not proven"


def target_words(vm: VmFacts) -> str:
    """Name the VM on the target, or its namespace while it has no name there."""
    return f"{vm.namespace}/{vm.target_name}" if vm.target_name else vm.namespace


def bar(vm: VmFacts, offset_s: float, seconds: float | None) -> tuple[float, float]:
    """Return where a step's bar begins and how long it is, in percent of the VM's whole time."""
    whole = max((step.offset_s + (step.seconds or 0.0) for step in vm.steps), default=0.0) or 1.0
    left = min(100.0, 100 * offset_s / whole)
    return round(left, 2), round(max(0.6, min(100.0 - left, 100 * (seconds or 0.0) / whole)), 2)
