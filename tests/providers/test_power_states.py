"""What may be done in which power state, whatever the source."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mtv.model.errors import PermanentError, TemporaryError
from mtv.model.source import PowerState
from mtv.providers.power import refuse_unless_off, refuse_unless_on


@pytest.mark.parametrize("refuse", [refuse_unless_on, refuse_unless_off])
def test_a_vm_of_which_nobody_says_whether_it_runs_is_worth_a_retry(refuse: Callable[[str, PowerState], None]) -> None:
    with pytest.raises(TemporaryError, match="does not say whether web-1 runs") as refused:
        refuse("web-1", PowerState.UNKNOWN)
    assert refused.value.code == "PowerStateUnknown"


@pytest.mark.parametrize(
    ("refuse", "state"),
    [
        (refuse_unless_on, PowerState.SUSPENDED),
        (refuse_unless_off, PowerState.SUSPENDED),
        (refuse_unless_off, PowerState.ON),
    ],
)
def test_a_state_that_is_the_wrong_one_stays_so(refuse: Callable[[str, PowerState], None], state: PowerState) -> None:
    with pytest.raises(PermanentError, match=f"web-1 is {state.value}"):
        refuse("web-1", state)
