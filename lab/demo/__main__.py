"""`python -m lab.demo`: what `make demo` runs once the machine is ready."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from lab import control
from lab.airflow.api import FINISHED, AirflowApi
from lab.demo.summary import VmSummary, run_of_each, summarise, table
from lab.demo.watch import watch
from lab.registry import PARTS
from lab.state import State, default_state_folder
from mtv.model.errors import MtvError
from mtv.store import Store

DAG = "mtv.01-first-wave.first"
WAVE_TIMEOUT_S = 1800.0
ANSWER_TIMEOUT_S = 60.0


class Phases:
    """How long each phase took, said as it ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a block."""
        started = time.monotonic()
        self._console.print(f"[bold]{name}[/bold]")
        yield
        self.seconds[name] = time.monotonic() - started

    def say(self) -> None:
        """Print all of them in one line."""
        words = ", ".join(f"{name.lower()} {seconds:.0f} s" for name, seconds in self.seconds.items())
        self._console.print(f"Time: {words}; {sum(self.seconds.values()):.0f} s in all.", highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; 0 only if every VM is migrated and proven."""
    parser = argparse.ArgumentParser(
        prog="python -m lab.demo", description="Migrate three VMs in a data centre in a box."
    )
    parser.add_argument("--keep", action="store_true", help="leave everything running afterwards")
    arguments = parser.parse_args(argv)
    state = State(default_state_folder().resolve())  # the one that `make down` stops
    console = Console()
    if not console.is_terminal:
        console.width = 160
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    proven = False
    try:
        proven = _run(state, console)
    except (MtvError, TimeoutError) as error:
        console.print(f"demo: {error}", style="red", highlight=False)
        console.print(f"Logs: {sys.executable} -m lab logs{_still_up(state)}", highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("demo: interrupted")
    _end(state, console, keep=arguments.keep)
    return 0 if proven else 1


def _run(state: State, console: Console) -> bool:
    phases = Phases(console)
    with phases.phase("Bringing up the data centre and Airflow"):
        control.up(state, ["airflow"])
    endpoints = state.endpoints("airflow")
    api = AirflowApi(endpoints["url"])
    api.log_in()
    with phases.phase(f"Running the wave {DAG}"), Store.open(endpoints["store"]) as store:
        store.upgrade()
        api.wait_for_dag(DAG, timeout_s=120)
        api.unpause(DAG)
        dag_run_id = api.trigger(DAG)
        run_id = _run_id(store, api, dag_run_id)
        watch(
            store,
            run_id,
            finished=lambda: api.run_state(DAG, dag_run_id) in FINISHED,
            console=console,
            timeout_s=WAVE_TIMEOUT_S,
        )
        runs = run_of_each(store, run_id)
        vms = summarise(store, runs, _payloads(state))
    console.print()
    if run_id not in runs.values() and runs:
        console.print("An earlier run has migrated every VM of the wave; `make down` lets the next demo begin anew.")
    console.print(table(vms))
    for moved_by in dict.fromkeys([*runs.values(), run_id]):
        _say_reports(Path(endpoints["state_folder"]) / "reports" / moved_by, console)
    phases.say()
    state_of_run = api.wait_for_run(DAG, dag_run_id, timeout_s=ANSWER_TIMEOUT_S)  # ended: for an answer only
    return _verdict(vms, state_of_run, console)


def _run_id(store: Store, api: AirflowApi, dag_run_id: str, *, timeout_s: float = 120) -> str:
    """Wait until `freeze` has written the run."""
    deadline = time.monotonic() + timeout_s
    while (run := store.run_of(DAG, dag_run_id)) is None:
        state = api.run_state(DAG, dag_run_id)
        if state in FINISHED or time.monotonic() > deadline:
            log = api.log(DAG, dag_run_id, "freeze")[-2000:]
            raise TimeoutError(f"the wave did not start (run is {state}):\n{log}")
        time.sleep(0.5)
    return run.id


def _payloads(state: State) -> dict[str, dict[str, str]]:
    guests = {**state.endpoints("vcenter")["guests"], **state.endpoints("ova")["guests"]}
    return {name: guest["payload"] for name, guest in guests.items()}


def _say_reports(folder: Path, console: Console) -> None:
    for report in sorted(folder.glob("*.html")):
        console.print(f"Report: {report}", highlight=False, soft_wrap=True)


def _verdict(vms: list[VmSummary], state: str, console: Console) -> bool:
    good = [vm.name for vm in vms if vm.is_proven]
    if state == "success" and len(good) == len(vms) > 0:
        console.print(f"[green]{len(good)} of {len(vms)} VMs migrated and proven.[/green]", highlight=False)
        return True
    bad = ", ".join(vm.name for vm in vms if not vm.is_proven) or "the run itself"
    console.print(f"[red]Not proven: {bad} (run {state}).[/red]", highlight=False)
    return False


def _end(state: State, console: Console, *, keep: bool) -> None:
    if not keep:
        control.down(state)
        console.print(
            "Everything is stopped. `make demo KEEP=1` leaves it running and says how to open the Airflow UI."
        )
    elif url := state.endpoints("airflow").get("url"):
        console.print(f"Airflow UI: {url}  (no password; `make down` stops everything)", highlight=False)
    else:
        console.print(f"Airflow is not up{_still_up(state)}", highlight=False)


def _still_up(state: State) -> str:
    """The end of a sentence: which parts run on after a demo that did not get through."""
    parts = [name for name in PARTS if state.endpoints(name)]
    return f"; still up: {', '.join(parts)}; `make down` stops all." if parts else "; nothing is left running."


if __name__ == "__main__":
    sys.exit(main())
