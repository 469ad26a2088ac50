"""Our errors as Airflow's: a permanent one fails the task at once, any other may be tried again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from mtv.model.errors import MtvError


@contextmanager
def as_airflow_errors() -> Iterator[None]:
    """Translate `MtvError` on the way out; the message keeps the code, which says the kind to machines."""
    try:
        yield
    except MtvError as error:
        kind = AirflowException if error.retryable else AirflowFailException
        raise kind(f"[{error.code}] {error}") from error
