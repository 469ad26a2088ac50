"""The services' processes: web services under uWSGI, workers behind the broker; with their checks."""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab.openstack.configuration import STAND_INS, Layout, service_environment
from lab.openstack.packages import services
from lab.process import is_alive, start_daemon, stop_daemon, tail, wait_until
from mtv.model.errors import PermanentError

_MODULES: Mapping[str, str] = {
    "keystone": "keystone.wsgi.api",
    "glance": "glance.wsgi.api",
    "cinder": "cinder.wsgi.api",
    "placement": "placement.wsgi.api",
    "nova": "nova.wsgi.osapi_compute",
    "neutron": "neutron.wsgi.api",
}
_WORKERS: Mapping[str, tuple[str, ...]] = {
    "cinder-scheduler": ("cinder-scheduler",),
    "cinder-volume": ("cinder-volume",),
    "nova-conductor": ("nova-conductor",),
    "nova-scheduler": ("nova-scheduler",),
    "nova-compute": ("python", str(STAND_INS / "start_compute.py")),
}
_UWSGI = (
    *("--enable-threads", "--threads", "4", "--lazy-apps", "--need-app", "--die-on-term", "--disable-logging"),
    *("--buffer-size", "65535", "--socket-timeout", "120"),
    *("--chunked-input-limit", "16777216", "--chunked-input-timeout", "120"),
)
"""Cinder uploads in chunks of 16 MiB: uWSGI's own limits are lower."""
_ANSWER_TIMEOUT_S = 240
_BOOTSTRAP_TIMEOUT_S = 120


def bootstrap_keystone(layout: Layout, password: Path) -> None:
    """Make keystone's administrator, in its database."""
    python, script = services() / "bin" / "python", STAND_INS / "bootstrap_keystone.py"
    done = subprocess.run(
        [str(python), str(script), str(layout.config("keystone")), str(password), layout.url("keystone")],
        cwd=layout.data,
        env=service_environment(),
        capture_output=True,
        text=True,
        timeout=_BOOTSTRAP_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise PermanentError(f"keystone cannot be set up: {done.stderr.strip()[-1500:]}", code="LabNoOpenStack")


def start_api(layout: Layout, service: str) -> None:
    """Start a web service; `wait_for_api` returns when it answers."""
    socket = f"127.0.0.1:{layout.ports[service]}"
    argv: list[str | Path] = [services() / "bin" / "uwsgi", "--http-socket", socket]
    argv += ["--module", f"{_MODULES[service]}:application", *_UWSGI, "--home", services()]
    argv += ["--add-header", "Connection: close"]  # it does close them after each answer
    env = service_environment()
    if service == "cinder":
        argv += ["--pyargv", f"--config-file={layout.config(service)}"]
    else:
        env[f"OS_{service.upper()}_CONFIG_DIR"] = str(layout.config(service).parent)
    if service in ("keystone", "neutron"):  # the others know what is there
        env[f"OS_{service.upper()}_CONFIG_FILES"] = f"{service}.conf"
    start_daemon(argv, log=_log(layout.folder, service), pidfile=_pid(layout.folder, service), env=env, cwd=layout.data)


def wait_for_api(layout: Layout, service: str) -> None:
    """Return when the web service answers."""
    wait_until(
        lambda: answers(layout.url(service)),
        timeout_s=_ANSWER_TIMEOUT_S,
        what=f"an answer of {service}",
        interval_s=1,
        give_up=lambda: _why_ended(layout.folder, service),
    )


def start_workers(layout: Layout) -> None:
    """Start the processes that live behind the broker."""
    for name, command in _WORKERS.items():
        argv: list[str | Path] = [services() / "bin" / command[0], *command[1:]]
        argv += ["--config-file", layout.config(name.partition("-")[0])]
        log, pidfile = _log(layout.folder, name), _pid(layout.folder, name)
        start_daemon(argv, log=log, pidfile=pidfile, env=service_environment(), cwd=layout.data)


def worker_problems(folder: Path) -> str:
    """Why a worker ended, "" while all run."""
    return next((why for name in _WORKERS if (why := _why_ended(folder, name))), "")


def stop_services(folder: Path) -> None:
    """Stop them all, side by side: they would take leave of the broker for long."""
    with ThreadPoolExecutor(max_workers=len(_WORKERS) + len(_MODULES)) as pool:
        list(pool.map(lambda pidfile: stop_daemon(pidfile, timeout_s=4), pid_files(folder)))


def pid_files(folder: Path) -> Iterator[Path]:
    """The pid files of all services."""
    yield from (_pid(folder, name) for name in (*_MODULES, *_WORKERS))


def answers(url: str) -> bool:
    """Does the service take requests? Any answer of its own will do, also that one has to log in."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  the lab's own address
            return bool(answer.status < 500)
    except urllib.error.HTTPError as error:
        return error.code < 500
    except (urllib.error.URLError, OSError):
        return False


def _why_ended(folder: Path, name: str) -> str:
    return "" if is_alive(_pid(folder, name)) else f"{name} has ended: {tail(_log(folder, name))}"


def _log(folder: Path, name: str) -> Path:
    return folder / f"{name}.log"


def _pid(folder: Path, name: str) -> Path:
    return folder / f"{name}.pid"
