"""Metrics as text: the rules of Prometheus' text format 0.0.4, read back by a parser of our own."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdh.hub import HubCounts
from cdh.mounts.supervisor import MountState, MountStatus
from cguestd.config import CguestdConfig
from cguestd.metrics import mount_families, resource_families, session_families
from cguestd.metrics_text import Family, Sample, render
from kbs import HoldOff, KbsError, KbsUnreachableError, SessionKeeper
from kbs.session import AttestedSession
from lifecycle import SettingsError, SocketError
from tests.rules.exposition import parse
from tests.settings_text import decode_toml

COUNTS = HubCounts(served=5, refused=2, failed=1, unseal_failures=3, mount_restarts=4)


def test_one_family_is_written_as_the_format_says() -> None:
    family = Family(
        "cguest_x_total", "counter", "What\\it\nis.",
        (Sample(3, (("a", 'b"\\\n'), ("c", ""))), Sample(0.5)),
    )  # fmt: skip
    assert render([family]) == (
        "# HELP cguest_x_total What\\\\it\\nis.\n"
        "# TYPE cguest_x_total counter\n"
        'cguest_x_total{a="b\\"\\\\\\n",c=""} 3\n'
        "cguest_x_total 0.5\n"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (2**63, "9223372036854775808"), (1e21, "1e+21"), (math.nan, "NaN"),
     (math.inf, "+Inf"), (-math.inf, "-Inf")],
    ids=["zero", "large", "exponent", "not-a-number", "infinite", "minus-infinite"],
)  # fmt: skip
def test_numbers(value: float, text: str) -> None:
    assert render([Family("x", "gauge", "", (Sample(value),))]).endswith(f"\nx {text}\n")


def test_a_family_without_samples_is_absent() -> None:
    assert render([Family("x", "gauge", "none yet", ())]) == ""


@given(st.text(), st.text(), st.floats(allow_nan=False))
def test_any_text_stays_on_its_line(meaning: str, label: str, value: float) -> None:
    text = render([Family("x", "gauge", meaning, (Sample(value, (("l", label),)),))])
    (read,) = parse(text).values()
    assert read == value


def test_resources_and_mounts_have_no_names() -> None:
    mount = MountStatus(
        "/run/secret-place", "a-bucket", "a-prefix/", "a-volume", MountState.MOUNTED, 7, 1, True,
        "an error", 0,
    )  # fmt: skip
    text = render(resource_families(COUNTS, ()) + mount_families(COUNTS, [mount]))
    assert parse(text) == {
        'cguest_resources_total{outcome="served"}': 5,
        'cguest_resources_total{outcome="refused"}': 2,
        'cguest_resources_total{outcome="failed"}': 1,
        "cguest_resources_stale_total": 0,
        "cguest_resource_stale_oldest_age_seconds": 0,
        "cguest_unseal_failures_total": 3,
        'cguest_mounts{state="starting"}': 0,
        'cguest_mounts{state="mounted"}': 1,
        'cguest_mounts{state="restarting"}': 0,
        'cguest_mounts{state="failed"}': 0,
        "cguest_mount_restarts_total": 4,
    }
    assert not re.search("secret-place|a-bucket|a-prefix|a-volume|an error", text)


async def test_a_failed_handshake_is_counted_once_and_held() -> None:
    async def handshake() -> AttestedSession:
        raise KbsUnreachableError("no connection")

    keeper = SessionKeeper(handshake, hold_off=HoldOff(clock=lambda: 100.0))
    fresh = parse(render(session_families([keeper])))
    assert fresh['cguest_sessions{state="none"}'] == 1
    assert fresh["cguest_handshake_hold_seconds"] == 0
    for _ in range(3):  # the second and third only hear of the first
        with pytest.raises(KbsError):
            await keeper.session()
    values = parse(render(session_families([keeper])))
    assert values['cguest_handshakes_total{outcome="failed"}'] == 1
    assert values['cguest_handshakes_total{outcome="ok"}'] == 0
    assert values['cguest_sessions{state="failed"}'] == 1
    assert 1.0 <= values["cguest_handshake_hold_seconds"] <= 3.0
    assert "cguest_session_expiry_timestamp_seconds" not in values


@pytest.mark.parametrize(
    ("table", "error"),
    [('socket = "/run/metrics.sock"', SocketError), ('socket = "127.0.0.1:9100"', SocketError),
     ('socket = ""', SocketError), ("port = 9100", SettingsError)],
    ids=["no-scheme", "network", "empty", "unknown-key"],
)  # fmt: skip
def test_metrics_go_to_a_unix_socket_only(table: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        decode_toml(f"[metrics]\n{table}\n".encode(), CguestdConfig, "a test").check()
