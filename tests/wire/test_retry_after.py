"""``Retry-After`` in both forms of RFC 9110 10.2.3, and whatever else a server may send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbs.retry_after import retry_after_seconds

NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT
LATER = "Sun, 06 Nov 1994 08:50:07 GMT"


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        pytest.param("7", None, 7.0, id="seconds"),
        pytest.param(" 120 ", None, 120.0, id="spaces"),
        pytest.param(LATER, None, 30.0, id="date, our clock"),
        pytest.param(LATER, "Sun, 06 Nov 1994 08:50:00 GMT", 7.0, id="date, server's clock"),
        pytest.param(LATER, "yesterday", 30.0, id="server's clock unreadable"),
        pytest.param("Sunday, 06-Nov-94 08:50:07 GMT", None, 30.0, id="RFC 850"),
        pytest.param("Sun Nov  6 08:50:07 1994", None, 30.0, id="asctime"),
        pytest.param("Sun, 06 Nov 1994 08:00:00 GMT", None, 0.0, id="past"),
        pytest.param(None, None, None, id="absent"),
        pytest.param("", None, None, id="empty"),
        pytest.param("soon", None, None, id="word"),
        pytest.param("-5", None, None, id="negative"),
        pytest.param("1.5", None, None, id="fraction"),
        pytest.param("9" * 9, None, None, id="too many digits"),
        pytest.param("٣", None, None, id="foreign digit"),
        pytest.param("Sun, 06 Nov 99999 08:50:07 GMT", None, None, id="absurd year"),
    ],
)
def test_forms(value: str | None, date: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(value, date, NOW) == seconds


@given(st.text(max_size=80), st.none() | st.text(max_size=80))
def test_any_text_is_a_wait_or_nothing(value: str, date: str | None) -> None:
    seconds = retry_after_seconds(value, date, NOW)
    assert seconds is None or seconds >= 0
