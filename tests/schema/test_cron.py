"""Cron expressions: which times they name, also where clocks change."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.types.cron import Cron

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def first(cron: Cron, after: datetime, count: int) -> list[str]:
    found: list[str] = []
    while len(found) < count:
        time = cron.after(after)
        assert time is not None
        found.append(f"{time:%Y-%m-%d %H:%M}")
        after = time
    return found


@pytest.mark.parametrize(
    ("expression", "times"),
    [
        ("30 2 * * *", ["2026-01-01 02:30", "2026-01-02 02:30"]),
        ("*/20 9-10 * * MON-FRI", ["2026-01-01 09:00", "2026-01-01 09:20", "2026-01-01 09:40"]),
        ("0 0 L * *", ["2026-01-31 00:00", "2026-02-28 00:00"]),
        ("0 9 * * MON#2", ["2026-01-12 09:00", "2026-02-09 09:00"]),
        ("0 0 29 feb *", ["2028-02-29 00:00", "2032-02-29 00:00"]),
        # Either, where both days are given; Debian's cron and everybody's since.
        ("0 0 13 * FRI", ["2026-01-02 00:00", "2026-01-09 00:00", "2026-01-13 00:00"]),
        ("@hourly", ["2026-01-01 01:00", "2026-01-01 02:00"]),
        ("@Weekly", ["2026-01-04 00:00", "2026-01-11 00:00"]),
        ("@yearly", ["2027-01-01 00:00"]),
    ],
)
def test_what_expressions_mean(expression: str, times: list[str]) -> None:
    assert first(Cron(expression), utc("2026-01-01T00:00"), len(times)) == times


def test_a_time_zone_is_its_own_midnight() -> None:
    assert first(Cron("@daily", "Asia/Kolkata"), utc("2026-01-01T00:00"), 1) == ["2026-01-01 18:30"]


def test_what_falls_into_the_skipped_hour_runs_once_at_its_end() -> None:
    # In Berlin the 29th of March 2026 has no time from 2:00 to 3:00.
    cron = Cron("0,30 2 * * *", BERLIN)
    assert first(cron, utc("2026-03-28T12:00"), 2) == ["2026-03-29 01:00", "2026-03-30 00:00"]


def test_what_falls_into_the_repeated_hour_runs_once() -> None:
    # In Berlin the 25th of October 2026 has the time from 2:00 to 3:00 twice.
    cron = Cron("30 2 * * *", BERLIN)
    assert first(cron, utc("2026-10-24T12:00"), 2) == ["2026-10-25 00:30", "2026-10-26 01:30"]
    between = utc("2026-10-25T00:45")
    assert first(cron, between, 1) == ["2026-10-26 01:30"]


def test_what_runs_every_half_hour_goes_by_the_time_that_passes() -> None:
    cron = Cron("*/30 * * * *", NEW_YORK)
    for change in ("2026-03-08T05:00", "2026-11-01T04:00"):
        times = first(cron, utc(change), 12)
        assert len(set(times)) == 12
        assert utc(times[-1].replace(" ", "T")) - utc(change) == timedelta(hours=6)


@pytest.mark.parametrize("zone", ["Europe", "Nowhere/Town", "../etc/passwd", "/etc/passwd", ""])
def test_an_unknown_time_zone_is_named(zone: str) -> None:
    with pytest.raises(ValueError, match="there is no time zone"):
        Cron("@daily", zone)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789*/,-#LWSUNmonjan @?٣\n\t", max_size=24))
def test_nothing_but_value_errors_comes_of_nonsense(text: str) -> None:
    with contextlib.suppress(ValueError):
        Cron(text).after(utc("2026-01-01T00:00"))
    with contextlib.suppress(ValueError):
        Cron(f"{text} 1 * * *").after(utc("2026-01-01T00:00"))
    with contextlib.suppress(ValueError):
        Cron(f"0 0 {text} 2 *").after(utc("2026-01-01T00:00"))
    with contextlib.suppress(ValueError):
        Cron(f"0 0 * * {text}").after(utc("2026-01-01T00:00"))


def test_the_latest_time_is_found_however_long_ago() -> None:
    until = utc("2026-06-01T00:00")
    for expression in ("* * * * *", "@hourly", "@daily", "@monthly", "@yearly", "0 0 29 2 *"):
        found = Cron(expression).latest(utc("2000-01-01T00:00"), until)
        assert found is not None and found <= until
        after = Cron(expression).after(found)
        assert after is not None and after > until


minutes = st.sampled_from(["*", "0", "*/7", "13,44", "59"])
hours = st.sampled_from(["*", "0", "1-3", "*/5", "2", "23"])
days = st.sampled_from(["*", "1", "8,25,29", "L"])
weekdays = st.sampled_from(["*", "SUN", "1-5"])
zones = st.sampled_from(["UTC", BERLIN, NEW_YORK, "Asia/Kolkata", "Australia/Lord_Howe"])
moments = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)).map(
    lambda time: time.replace(tzinfo=UTC)
)
# Around the changes of the clocks, where there is something to get wrong.
changes = st.tuples(
    st.sampled_from(
        ["2026-03-08T07:00", "2026-11-01T06:00", "2026-03-29T01:00", "2026-10-25T01:00",
         "2026-04-04T15:00", "2026-10-03T15:30"]
    ),
    st.integers(-3 * 3600, 3 * 3600),
).map(lambda pair: utc(pair[0]) + timedelta(seconds=pair[1]))  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(minutes, hours, days, weekdays, zones, moments | changes, st.integers(0, 3 * 86400))
def test_looking_back_finds_what_looking_ahead_names(
    minute: str, hour: str, day: str, weekday: str, zone: str, start: datetime, seconds: int
) -> None:
    cron = Cron(f"{minute} {hour} {day} * {weekday}", zone)
    end = start + timedelta(seconds=seconds)
    ahead = start
    last = None
    while (time := cron.after(ahead)) is not None and time <= end:
        assert time > ahead
        assert time.second == time.microsecond == 0
        ahead = last = time
    assert cron.latest(start, end) == last
