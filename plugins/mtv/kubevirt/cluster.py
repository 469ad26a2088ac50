"""The client of the target cluster."""

from __future__ import annotations

from mtv.model.connection import Connection


class Cluster:
    """A target cluster, reached by its connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
