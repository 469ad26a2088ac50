"""The services' packages in an environment of their own, and a message broker that is unpacked but not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lab.cache import cached
from lab.debs import unpack
from mtv.model.errors import PermanentError

PINS = Path(__file__).parent / "requirements.txt"
BROKER_PACKAGES = (
    "rabbitmq-server",
    "erlang-asn1",
    "erlang-base",
    "erlang-crypto",
    "erlang-eldap",
    "erlang-inets",
    "erlang-mnesia",
    "erlang-os-mon",
    "erlang-parsetools",
    "erlang-public-key",
    "erlang-runtime-tools",
    "erlang-ssl",
    "erlang-syntax-tools",
    "erlang-tools",
    "erlang-xmerl",
)
_INSTALL_TIMEOUT_S = 20 * 60


def services() -> Path:
    """The environment with the services, 0.4 GB; made at the first call. PermanentError with uv's own words."""

    def install(folder: Path) -> None:
        uv = [sys.executable, "-m", "uv"]
        # Relocatable: it is made under another name than it is used by.
        _run([*uv, "venv", "--quiet", "--relocatable", "--allow-existing", "--python", sys.executable, str(folder)])
        _run([*uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(folder), "-r", str(PINS)])

    return cached("openstack", sources=[PINS], build=install, extra_key=f"relocatable {sys.version}")


def broker() -> Path:
    """RabbitMQ and Erlang, unpacked."""

    def install(folder: Path) -> None:
        unpack(BROKER_PACKAGES, folder)
        erl = folder / "usr" / "lib" / "erlang" / "bin" / "erl"
        text = erl.read_text()
        # The start script knows only the place where the package would be installed.
        moved = text.replace("ROOTDIR=/usr/lib/erlang", 'ROOTDIR="$ERL_ROOTDIR"')
        if moved == text:
            raise PermanentError("Erlang's start script has changed", cure="see lab/openstack/packages.py")
        erl.write_text(moved)

    return cached("rabbitmq", sources=[], build=install, extra_key=" ".join(("1", *BROKER_PACKAGES)))


def _run(argv: list[str]) -> None:
    env = {**os.environ, "UV_LINK_MODE": "copy"}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S, check=False, env=env)
    if done.returncode:
        raise PermanentError(
            f"OpenStack's packages cannot be installed: {done.stderr.strip()[-2000:]}",
            cure="see that the Python package index is reachable and gcc is installed",
            code="LabNoOpenStack",
        )
