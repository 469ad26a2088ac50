from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtv.kubevirt import console
from mtv.model.errors import PermanentError

BOOT = """\x1b[2J\x1b[0m[    0.0] Linux version 6.1\r
MTV-PAYLOAD 0011 /srv/a\r
MTV-BOOT-OK web-1 disk-driver=virtio_blk nic=virtio_net mac=00:50:56:aa:00:01\r
\r
Debian GNU/Linux 12 web-1 ttyS0\r
\r
web-1 login: """


def test_the_marker_is_found_with_the_lines_before_it() -> None:
    found = console.sighting(BOOT, r"MTV-BOOT-OK \S+")
    assert found is not None
    assert found.marker.startswith("MTV-BOOT-OK web-1 disk-driver=virtio_blk")
    assert found.lines[-2:] == ("MTV-PAYLOAD 0011 /srv/a", found.marker)
    assert found.lines[0] == "[    0.0] Linux version 6.1"


def test_without_a_marker_a_login_prompt_counts() -> None:
    found = console.sighting(BOOT)
    assert found is not None
    assert found.marker == "web-1 login:"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Gave up waiting.\nALERT! UUID=1 does not exist.  Dropping to a shell!\n(initramfs) ",
        "last login: yesterday\n",
        "please login: as root\n",
        "MTV-BOOT-O",
    ],
)
def test_an_unproven_boot_is_not_taken_for_one(text: str) -> None:
    assert console.sighting(text) is None
    assert console.sighting(text, "MTV-BOOT-OK") is None


def test_a_marker_that_is_no_regular_expression_is_refused() -> None:
    with pytest.raises(PermanentError, match="regular expression"):
        console.sighting("", "(")


@given(st.text(max_size=2000))
def test_lines_never_hold_control_characters_and_are_bounded(text: str) -> None:
    for line in console.lines_of(text):
        assert 0 < len(line) <= console.MAX_LINE
        assert not any(ord(char) < 32 and char != "\t" for char in line)


def test_evidence_keeps_at_most_two_hundred_lines() -> None:
    text = "".join(f"line {number}\n" for number in range(1000)) + "MARK\n"
    found = console.sighting(text, "^MARK$")
    assert found is not None
    assert len(found.lines) == console.MAX_LINES
    assert console.tail(text)[-1] == "MARK"
