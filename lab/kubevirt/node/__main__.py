"""Lab node agent: STAND-IN for KubeVirt's virt-handler. `python -m lab.kubevirt.node --help`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from threading import Event, Thread

from lab.kubevirt.kube import Kube
from lab.kubevirt.node.agent import Agent
from lab.kubevirt.node.registration import keep_registered


def log(text: str) -> None:
    """One line for the log."""
    print(time.strftime("%H:%M:%S"), text, flush=True)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m lab.kubevirt.node", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True, help="client that is kubevirt-handler")
    parser.add_argument("--node", required=True, help="name of the Node object")
    parser.add_argument("--kubelet", type=Path, required=True, help="the kubelet's root folder, as seen from here")
    options = parser.parse_args()
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))  # nothing is buffered, nothing to undo
    log("lab node agent, a stand-in for KubeVirt's virt-handler")
    kube = Kube(options.kubeconfig)
    Thread(target=keep_registered, args=(kube, options.node, stop, log), daemon=True).start()
    Agent(kube, options.kubelet, options.node, log).run(stop)
    return 0


if __name__ == "__main__":
    sys.exit(main())
