"""A network that spoils what it carries: it flips bits of a server's answers, or stops carrying them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Relay:
    """`faults` befall the next connections, one each: "flip" a bit or "stall", at `after_bytes` of the answers."""

    def __init__(self, server_port: int, *, after_bytes: int) -> None:
        self.faults: list[str] = []
        self.connections = 0
        self._server_port = server_port
        self._after_bytes = after_bytes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._start(self._accept)

    def close(self) -> None:
        """Cut everything and end."""
        with self._lock:
            sockets = list(self._open)
        for one in sockets:
            with contextlib.suppress(OSError):  # the other end may be gone
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join()

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            server = socket.create_connection(("127.0.0.1", self._server_port))
            with self._lock:
                self._open += [client, server]
            self.connections += 1
            self._start(self._carry, client, server, "")
            self._start(self._carry, server, client, self.faults.pop(0) if self.faults else "")

    def _carry(self, source: socket.socket, sink: socket.socket, fault: str) -> None:
        carried = 0
        with contextlib.suppress(OSError):  # either end has gone: the other one is told
            while chunk := source.recv(64 << 10):
                if fault and carried + len(chunk) > self._after_bytes:
                    if fault == "stall":
                        return
                    at = max(self._after_bytes - carried, 0)
                    chunk = chunk[:at] + bytes([chunk[at] ^ 1]) + chunk[at + 1 :]
                    fault = ""
                sink.sendall(chunk)
                carried += len(chunk)
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def relay(server_port: int, *, after_bytes: int) -> Iterator[Relay]:
    """A relay that ends with the block."""
    running = Relay(server_port, after_bytes=after_bytes)
    try:
        yield running
    finally:
        running.close()
