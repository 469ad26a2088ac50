"""What orchestration itself costs: whole waves of steps that do nothing, through a real Airflow.

    nice .venv/bin/python bench/wave.py --vms 10 100 --database sqlite postgres

Wall time depends on what else the machine does; CPU seconds compare. CPU is read from /proc for every process of the
components, children that have ended included. A wave of several parts says on stderr what each of them took.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lab.airflow.api import AirflowApi
from lab.airflow.instance import airflow_in
from lab.airflow.postgres import Postgres
from lab.airflow.server import COMPONENTS, AirflowServer
from mtv.model.errors import PermanentError
from mtv.model.plan import Plan, PlannedVm, Target, Wave
from mtv.orchestration.outline import outlines_of
from mtv.store import Store

DAG_FILE = '''"""Airflow DAG file of the benchmark."""

from bench.noop import load_dags

for dag in load_dags():
    globals()[dag.dag_id] = dag
'''
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Measured:
    """One wave."""

    database: str
    vms: int
    in_flight: int
    seconds: float
    cpu: dict[str, float]
    state: str

    def row(self) -> str:
        """Return a line of the table."""
        total = sum(self.cpu.values())
        shares = " | ".join(f"{self.cpu.get(name, 0) / self.vms:.2f}" for name in (*COMPONENTS, "postgres"))
        return (
            f"| {self.database} | {self.vms} | {self.in_flight} | {self.state} | {self.seconds:.0f} "
            f"| {self.vms / self.seconds * 3600:.0f} | {total / self.vms:.2f} | {shares} |"
        )


HEAD = (
    "| database | VMs | in flight | state | s | VMs/h | CPU-s/VM | "
    + " | ".join(COMPONENTS)
    + " | postgres |\n|---|---|---|---|---|---|---|"
    + "---|" * (len(COMPONENTS) + 1)
)


def main() -> int:
    """Run the waves that were asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vms", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--database", nargs="+", default=["sqlite", "postgres"], choices=["sqlite", "postgres"])
    parser.add_argument("--in-flight", type=int, default=8, help="max_vms_in_flight (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds per run (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs and databases")
    arguments = parser.parse_args()
    # A benchmark that is ended by a shell or a CI job stops its servers, too; a shell's `&` also ignores SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    print(HEAD, flush=True)
    bad = 0
    for database in arguments.database:
        for vms in arguments.vms:
            measured = measure(database, vms, arguments.in_flight, arguments.timeout, keep=arguments.keep)
            print(measured.row(), flush=True)
            bad += measured.state != "success"
    return int(bad > 0)


def measure(database: str, vms: int, in_flight: int, timeout_s: float, *, keep: bool) -> Measured:
    """Start a fresh Airflow, run one wave of `vms` VMs in parts of at most 100, stop it."""
    folder = Path(tempfile.mkdtemp(prefix="mtv-bench-"))
    folder.chmod(0o755)
    postgres = Postgres(folder / "pg") if database == "postgres" else None
    try:
        server = _prepare(folder, postgres, vms, in_flight)
        try:
            server.start()
            return _run_waves(server, postgres, folder, database, vms, in_flight, timeout_s)
        finally:
            server.stop()
            if postgres:
                postgres.stop()
    finally:
        if keep:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _interrupt(number: int, frame: object) -> None:
    del number, frame
    raise KeyboardInterrupt


def _prepare(folder: Path, postgres: Postgres | None, vms: int, in_flight: int) -> AirflowServer:
    dags = folder / "dags"
    dags.mkdir()
    (dags / "noop_waves.py").write_text(DAG_FILE)
    planned = tuple(PlannedVm(id=f"vm-{n:05d}", name=f"vm-{n:05d}", source="src") for n in range(vms))
    wave = Wave(name="all", vms=planned, max_vms_in_flight=in_flight)
    plan = Plan(name="bench", target=Target(connection="dst", namespace="ns"), waves=(wave,))
    state = folder / "mtv"
    state.mkdir()
    (state / "plan.json").write_text(plan.model_dump_json())
    (state / "bench-outlines.json").write_bytes(msgspec.json.encode(outlines_of(plan, "bench", "bench.yaml")))
    connections: dict[str, dict[str, object]] = {}
    if postgres:
        postgres.start()
        connections["mtv_store"] = {
            "conn_type": "postgres",
            "host": "127.0.0.1",
            "port": postgres.port,
            "login": "airflow",
            "schema": "mtv",
        }
    store = Store.open(postgres.dsn("mtv") if postgres else f"sqlite:///{state / 'store.sqlite'}")
    store.upgrade()
    store.close()
    return airflow_in(
        folder,
        connections=connections,
        dsn=postgres.dsn("airflow") if postgres else "",
        settings={"AIRFLOW__CORE__DAGS_FOLDER": str(dags), "MTV_POD_POLL_S": "1"},
    )


def _run_waves(
    server: AirflowServer, postgres: Postgres | None, folder: Path, database: str, vms: int, in_flight: int,
    timeout_s: float,
) -> Measured:  # fmt: skip
    outlines = msgspec.json.decode((folder / "mtv" / "bench-outlines.json").read_bytes())
    api = AirflowApi(server.url)
    api.log_in()
    for outline in outlines:
        api.wait_for_dag(outline["dag_id"])
    api.unpause(outlines[0]["dag_id"])  # the others are not paused
    before = _cpu(server, postgres)
    begin = time.monotonic()
    run_id = api.trigger(outlines[0]["dag_id"])
    states = []
    now, after = begin, before
    for outline in outlines:  # each part starts the next one, under the same run id
        _wait_for_start(api, outline["dag_id"], run_id)
        states.append(api.wait_for_run(outline["dag_id"], run_id, timeout_s=timeout_s, interval_s=2))
        then, earlier = now, after
        now, after = time.monotonic(), _cpu(server, postgres)
        spent = sum(after.values()) - sum(earlier.values())
        load = os.getloadavg()[0]
        print(
            f"{outline['dag_id']}: {now - then:.0f} s, {spent:.0f} CPU-s, load {load:.1f}", file=sys.stderr, flush=True
        )
    seconds = now - begin
    cpu = {name: after[name] - before[name] for name in after}
    return Measured(database, vms, in_flight, seconds, cpu, "success" if set(states) == {"success"} else str(states))


def _wait_for_start(api: AirflowApi, dag_id: str, run_id: str, *, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            api.run(dag_id, run_id)
        except PermanentError as error:
            if error.code != "Http404" or time.monotonic() > deadline:
                raise
            time.sleep(1)
        else:
            return


def _cpu(server: AirflowServer, postgres: Postgres | None) -> dict[str, float]:
    """Return CPU seconds per component so far: its process tree, with children that have ended."""
    roots = {name: int(server.pidfile(name).read_text().split()[0]) for name in COMPONENTS}
    if postgres:
        roots["postgres"] = postgres.pid()
    children: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        pid = int(stat.parent.name)
        children.setdefault(int(fields[1]), []).append(pid)
        ticks[pid] = sum(int(field) for field in fields[11:15])

    def tree(pid: int) -> int:
        return ticks.get(pid, 0) + sum(tree(child) for child in children.get(pid, ()))

    return {name: tree(pid) / TICKS for name, pid in roots.items()}


if __name__ == "__main__":
    sys.exit(main())
