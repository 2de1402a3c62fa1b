"""When to fetch next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controllers.fetcher.times import after_failure, after_start, after_success

REFRESH = st.floats(10, 86400 * 30)
CHANCE = st.floats(0, 1)


@given(refresh=REFRESH, chance=CHANCE)
def test_success_waits_for_about_the_interval(refresh: float, chance: float) -> None:
    assert 0.9 * refresh <= after_success(refresh, chance) <= 1.1 * refresh + 1e-6


@given(refresh=REFRESH, failures=st.integers(1, 10**6), chance=CHANCE)
def test_failures_wait_longer_and_never_for_ever(
    refresh: float, failures: int, chance: float
) -> None:
    wait = after_failure(refresh, failures, chance)
    assert 9 <= wait <= 1.1 * max(refresh, 3600) + 1e-6
    assert after_failure(refresh, failures + 1, chance) >= wait


@given(refresh=REFRESH, age=st.none() | st.floats(-1e9, 1e9), chance=CHANCE)
def test_a_start_fetches_what_is_old_soon_and_never_waits_longer_than_an_interval(
    refresh: float, age: float | None, chance: float
) -> None:
    wait = after_start(refresh, age, chance)
    assert 0 <= wait <= max(refresh, 30)
    if age is None:
        assert wait == 0
    elif not 0 <= age < refresh:
        assert wait <= 30
