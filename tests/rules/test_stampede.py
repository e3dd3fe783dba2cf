"""The simulated thousand guests, made a hundred: spread and jitter do what the document says."""

from __future__ import annotations

import pytest

from bench.stampede import Scenario, simulate

GUESTS = 100
FINE = 0.1


def test_the_same_scenario_gives_the_same_curve() -> None:
    scenario = Scenario("again", 1.0, rate=50, queue=10)
    assert simulate(scenario, GUESTS).arrivals == simulate(scenario, GUESTS).arrivals


def test_a_spread_start_lowers_the_peak() -> None:
    together = simulate(Scenario("together", 0.0), GUESTS)
    spread = simulate(Scenario("spread", 5.0), GUESTS)
    assert together.peak(FINE) == pytest.approx(GUESTS / FINE)
    assert spread.peak(FINE) < together.peak(FINE) / 5
    for outcome in (together, spread):
        assert len(outcome.attested_at) == outcome.quotes == GUESTS


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(Scenario("slow", 0.0, rate=20, queue=10), id="slow KBS"),
        pytest.param(Scenario("away", 0.0, rate=20, queue=10, opens_at=30.0), id="KBS away"),
        pytest.param(Scenario("plain", 0.0, jitter=False, rate=20, queue=10), id="no jitter"),
    ],
)
def test_everybody_is_served_in_the_end(scenario: Scenario) -> None:
    outcome = simulate(scenario, GUESTS)
    assert len(outcome.attested_at) == GUESTS
    assert min(outcome.attested_at) >= scenario.opens_at
    assert outcome.quotes < 1.5 * GUESTS


def test_enough_spread_means_that_nobody_is_turned_away() -> None:
    outcome = simulate(Scenario("spread", 10.0, rate=20 * GUESTS / 100, queue=20), GUESTS)
    assert outcome.refused < GUESTS / 10
