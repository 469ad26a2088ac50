"""A small client of Airflow's REST API v2: what the demo, the benchmark and the tests do instead of clicking."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from typing import Any

from mtv.model.errors import MtvError, PermanentError, TemporaryError

FINISHED = frozenset({"success", "failed"})
SILENT = "silent"
"""What a run's state is while a busy server does not answer; whoever asks again has a deadline of their own."""
_AT_WORK = frozenset({"scheduled", "queued", "running", "deferred", "restarting", "up_for_retry", "up_for_reschedule"})


def read_json(
    url: str, *, method: str = "GET", body: Mapping[str, Any] | None = None, token: str = "", timeout_s: float = 30
) -> dict[str, Any]:
    """Send one request and return its JSON object. Raises `urllib.error.HTTPError` and `URLError` as they come."""
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers, method=method)  # noqa: S310  http on loopback
    with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310
        found: dict[str, Any] = json.loads(answer.read() or b"{}")
    return found


class AirflowApi:
    """One Airflow, spoken to as its UI does. Refusals raise `PermanentError` with the server's own words."""

    def __init__(self, url: str, *, token: str = "") -> None:
        self.url = url.rstrip("/")
        self._token = token

    def log_in(self, user: str = "", password: str = "") -> None:
        """Fetch a token; without a user as the anonymous admin of a lab that trusts everybody on loopback."""
        if user:
            body = {"username": user, "password": password}
            self._token = self._call("POST", "/auth/token", body)["access_token"]
        else:
            self._token = self._call("GET", "/auth/token")["access_token"]

    def dag_ids(self, tag: str = "") -> list[str]:
        """Return the ids of all DAGs, paused or not, with a tag."""
        query = {"limit": "1000", **({"tags": tag} if tag else {})}
        found = self._call("GET", f"/api/v2/dags?{urllib.parse.urlencode(query)}")
        return [dag["dag_id"] for dag in found["dags"]]

    def import_errors(self) -> list[str]:
        """Return what the DAG processor could not load."""
        return [error["stack_trace"] for error in self._call("GET", "/api/v2/importErrors")["import_errors"]]

    def wait_for_dag(self, dag_id: str, *, timeout_s: float = 60) -> dict[str, Any]:
        """Wait until the DAG processor has put a DAG into the database, and return it."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                return self._call("GET", f"/api/v2/dags/{dag_id}")
            except MtvError as error:
                if not error.retryable and error.code != "Http404":
                    raise
                why = error.message
            if time.monotonic() > deadline:
                plan = dag_id.rpartition(".")[0]
                drawn = ", ".join(name for name in self.dag_ids() if name.startswith(f"{plan}.")) or "none"
                errors = "; ".join(self.import_errors()) or f"no import errors; DAGs of {plan}: {drawn}; {why}"
                raise TemporaryError(f"waited {timeout_s:g} s for DAG {dag_id}: {errors}", code="NoSuchDag")
            time.sleep(0.5)

    def parse_again(self, dag_id: str) -> None:
        """Have the DAG processor read the DAG's file again soon; nothing to do when it is about to."""
        token = self._call("GET", f"/api/v2/dags/{dag_id}")["file_token"]
        self._call("PUT", f"/api/v2/parseDagFile/{_quote(token)}")

    def unpause(self, dag_id: str) -> None:
        """Let the DAG's runs start."""
        self._call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False})

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None, *, run_id: str = "") -> str:
        """Start a run now and return its id."""
        body: dict[str, Any] = {"logical_date": None, "conf": dict(conf or {})}
        if run_id:
            body["dag_run_id"] = run_id
        return str(self._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return a run as the API shows it."""
        return self._call("GET", self._run(dag_id, run_id))

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return queued, running, success or failed; `SILENT` while the server does not answer."""
        try:
            return str(self.run(dag_id, run_id)["state"])
        except TemporaryError:
            return SILENT

    def wait_for_run(self, dag_id: str, run_id: str, *, timeout_s: float, interval_s: float = 1) -> str:
        """Wait until a run has finished and return its state.

        Raises `TemporaryError` after `timeout_s`, which names the tasks at work then.
        """
        deadline = time.monotonic() + timeout_s
        while (state := self.run_state(dag_id, run_id)) not in FINISHED:
            if time.monotonic() > deadline:
                at_work = [task for task in self.tasks(dag_id, run_id) if task["state"] in _AT_WORK]
                named = ", ".join(f"{task['task_id']}[{task['map_index']}] {task['state']}" for task in at_work)
                raise TemporaryError(
                    f"run {run_id} of {dag_id} is still {state} after {timeout_s:g} s: {named or 'no task'}"
                )
            time.sleep(interval_s)
        return state

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return all task instances of a run."""
        found: list[dict[str, Any]] = []
        while True:
            query = urllib.parse.urlencode({"limit": "100", "offset": str(len(found)), "order_by": "id"})
            page = self._call("GET", f"{self._run(dag_id, run_id)}/taskInstances?{query}")
            found.extend(page["task_instances"])
            if len(found) >= page["total_entries"] or not page["task_instances"]:
                return found

    def task(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """Return one task instance."""
        return self._call("GET", self._task(dag_id, run_id, task_id, map_index))

    def log(self, dag_id: str, run_id: str, task_id: str, *, try_number: int = 1, map_index: int = -1) -> str:
        """Return the log of one try as text."""
        query = urllib.parse.urlencode({"map_index": str(map_index), "full_content": "true"})
        path = f"{self._run(dag_id, run_id)}/taskInstances/{_quote(task_id)}/logs/{try_number}?{query}"
        content = self._call("GET", path)["content"]
        if isinstance(content, str):
            return content
        return "\n".join(_log_line(line) if isinstance(line, dict) else str(line) for line in content)

    def clear(
        self, dag_id: str, run_id: str, tasks: Iterable[str | tuple[str, int]], *, downstream: bool = False
    ) -> list[dict[str, Any]]:
        """Clear task instances, given as `task_id` or `(task_id, map_index)`, so that they run again."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": [list(task) if isinstance(task, tuple) else task for task in tasks],
            "only_failed": False,
            "reset_dag_runs": True,
            "include_downstream": downstream,
        }
        found: list[dict[str, Any]] = self._call("POST", f"/api/v2/dags/{dag_id}/clearTaskInstances", body)[
            "task_instances"
        ]
        return found

    def mark_run(self, dag_id: str, run_id: str, state: str) -> None:
        """Mark a run failed or successful, as a person does in the UI."""
        self._call("PATCH", self._run(dag_id, run_id), {"state": state})

    def mark_task(self, dag_id: str, run_id: str, task_id: str, state: str, map_index: int = -1) -> None:
        """Mark one task instance failed, successful or skipped."""
        self._call("PATCH", self._task(dag_id, run_id, task_id, map_index), {"new_state": state})

    def xcoms(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> list[dict[str, Any]]:
        """Return the XCom entries of one task instance."""
        path = f"{self._run(dag_id, run_id)}/taskInstances/{_quote(task_id)}/xcomEntries?map_index={map_index}"
        found: list[dict[str, Any]] = self._call("GET", path)["xcom_entries"]
        return found

    def test_connection(self, connection: Mapping[str, Any]) -> tuple[bool, str]:
        """Do what the Test button of the connection form does; return whether it worked and what was said."""
        found = self._call("POST", "/api/v2/connections/test", connection)
        return bool(found["status"]), str(found["message"])

    def _run(self, dag_id: str, run_id: str) -> str:
        return f"/api/v2/dags/{dag_id}/dagRuns/{_quote(run_id)}"

    def _task(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
        path = f"{self._run(dag_id, run_id)}/taskInstances/{_quote(task_id)}"
        return path if map_index < 0 else f"{path}/{map_index}"

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            return read_json(self.url + path, method=method, body=body, token=self._token)
        except urllib.error.HTTPError as error:
            detail = error.read().decode(errors="replace")[:500]
            raise PermanentError(
                f"Airflow answered {error.code} to {method} {path}: {detail}", code=f"Http{error.code}"
            ) from None
        except (TimeoutError, urllib.error.URLError, ConnectionError) as error:
            why = getattr(error, "reason", None) or type(error).__name__
            raise TemporaryError(f"Airflow does not answer at {self.url}: {why}") from None


def _log_line(line: Mapping[str, Any]) -> str:
    """Return the event, and below it what was raised, if anything was."""
    raised = [f"{error['exc_type']}: {error['exc_value']}" for error in line.get("error_detail") or ()]
    return "\n".join([line.get("event", ""), *raised])


def _quote(word: str) -> str:
    return urllib.parse.quote(word, safe="")
