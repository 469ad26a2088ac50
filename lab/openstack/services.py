"""The services' processes: web services under uWSGI, TLS before them, workers behind the broker; with their checks."""

from __future__ import annotations

import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab.cluster.pki import KeyPair
from lab.openstack.command import run_command
from lab.openstack.configuration import APIS, STAND_INS, Layout, service_environment
from lab.openstack.packages import services
from lab.process import is_alive, start_daemon, stop_daemon, tail, wait_until
from lab.state import REPO

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
_TLS = "tls"
_ANSWER_TIMEOUT_S = 240
WORKER_TIMEOUT_S = 300
"""Without anything new."""
_BOOTSTRAP_TIMEOUT_S = 240


def bootstrap_keystone(layout: Layout, password: Path) -> None:
    """Make keystone's administrator and endpoints, in its database."""
    script, urls = STAND_INS / "bootstrap_keystone.py", (layout.public_url("keystone"), layout.url("keystone"))
    run_command(
        layout,
        "python",
        *(script, layout.config("keystone"), password, *urls),
        what="set up keystone",
        timeout_s=_BOOTSTRAP_TIMEOUT_S,
    )


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


def start_tls(layout: Layout, pair: KeyPair) -> None:
    """Start what ends TLS before the services; `wait_for_tls` returns when it answers."""
    ports = [f"{layout.public_ports[service]}:{layout.ports[service]}" for service in APIS]
    start_daemon(
        [sys.executable, "-m", "lab.openstack.tls", pair.certificate, pair.key, *ports],
        log=_log(layout.folder, _TLS),
        pidfile=_pid(layout.folder, _TLS),
        cwd=REPO,
    )


def wait_for_tls(layout: Layout, ca_file: Path) -> None:
    """Return when keystone answers by TLS."""
    wait_until(
        lambda: answers(layout.public_url("keystone"), ca_file),
        timeout_s=_ANSWER_TIMEOUT_S,
        what="an answer by TLS",
        give_up=lambda: _why_ended(layout.folder, _TLS),
    )


def start_workers(layout: Layout) -> None:
    """Start the processes that live behind the broker."""
    for name, command in _WORKERS.items():
        argv: list[str | Path] = [services() / "bin" / command[0], *command[1:]]
        argv += ["--config-file", layout.config(name.partition("-")[0])]
        log, pidfile = _log(layout.folder, name), _pid(layout.folder, name)
        start_daemon(argv, log=log, pidfile=pidfile, env=service_environment(), cwd=layout.data)


def wait_for_workers(
    folder: Path, missing: Callable[[], Sequence[str]], problem: Callable[[], str], *, pause_s: float = 1
) -> None:
    """Return when `missing()` names nothing any more; whatever comes prolongs the wait.

    `problem()` says what else is wrong, "" for nothing. What cannot come or does not come is named with its log's end.
    """
    left = missing()

    def ended() -> str:
        return next((why for name in _WORKERS if (why := _why_ended(folder, name))), "")

    def told() -> str:
        logs = dict.fromkeys(words.partition(" ")[0] for words in left)
        tails = (f"{name}: {tail(_log(folder, name))}" for name in logs if name in _WORKERS)
        return "\n".join((", ".join(left), *filter(None, [problem()]), *tails))

    while left:
        before = len(left)

        def fewer(before: int = before) -> bool:
            nonlocal left
            left = missing()
            return len(left) < before

        wait_until(fewer, timeout_s=WORKER_TIMEOUT_S, what=told, interval_s=pause_s, give_up=ended)


def stop_services(folder: Path) -> None:
    """Stop them all, side by side: they would take leave of the broker for long."""
    with ThreadPoolExecutor(max_workers=len(_WORKERS) + len(_MODULES) + 1) as pool:
        list(pool.map(lambda pidfile: stop_daemon(pidfile, timeout_s=4), pid_files(folder)))


def pid_files(folder: Path) -> Iterator[Path]:
    """The pid files of all services."""
    yield from (_pid(folder, name) for name in (*_MODULES, *_WORKERS, _TLS))


def answers(url: str, ca_file: Path | None = None) -> bool:
    """Does the service take requests? Any answer of its own will do, also that one has to log in."""
    context = ssl.create_default_context(cafile=str(ca_file)) if ca_file else None
    try:
        with urllib.request.urlopen(url, timeout=10, context=context) as answer:  # noqa: S310  the lab's own address
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
