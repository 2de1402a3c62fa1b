from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from api.ctl.table import LEAST, Table, clean, width

LONG = "no suitable node (insufficient memory on 3 nodes; not available for new tasks on 1 node)"


def test_columns_stand_under_their_headers() -> None:
    lines = Table(["NAME", "AGE"]).lines([["web", "5m"], ["database", "3h"]])
    assert lines == ["NAME       AGE", "web        5m", "database   3h"]


def test_nothing_is_cut_in_a_pipe() -> None:
    table = Table(["NAME", "MESSAGE"], frozenset({"MESSAGE"}), terminal=None)
    assert table.lines([["web", LONG]])[1].endswith(LONG)


def test_a_narrow_terminal_cuts_what_may_shrink() -> None:
    table = Table(["NAME", "MESSAGE", "AGE"], frozenset({"MESSAGE"}), terminal=40)
    lines = table.lines([["web", LONG, "5m"]])
    assert [len(line) <= 40 for line in lines] == [True, True]
    assert lines[1].startswith("web")
    assert "…" in lines[1]
    assert lines[1].endswith("5m")


def test_a_very_narrow_terminal_keeps_a_legible_rest() -> None:
    table = Table(["NAME", "MESSAGE"], frozenset({"MESSAGE"}), terminal=5)
    assert LONG[: LEAST - 1] in table.lines([["web", LONG]])[1]


def test_rows_that_come_later_keep_the_columns_places() -> None:
    table = Table(["NAME", "AGE"])
    table.lines([["database", "5m"]])
    assert table.lines([["web", "1s"]], header=False) == ["web        1s"]


def test_escapes_from_containers_do_not_reach_the_terminal() -> None:
    assert clean("a\x1b[31mred\nb\tc\x07") == "a\\x1b[31mred b c\\x07"


def test_wide_characters_count_twice() -> None:
    lines = Table(["NAME", "AGE"]).lines([["日本", "5m"], ["web", "3h"]])
    assert width(lines[1]) == width(lines[2])


@given(
    st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60)), min_size=1, max_size=5),
    st.integers(1, 200),
)
def test_any_text_makes_lines_of_one_line(rows: list[tuple[str, str]], terminal: int) -> None:
    lines = Table(["A", "B"], frozenset({"A", "B"}), terminal=terminal).lines(rows)
    assert len(lines) == len(rows) + 1
    assert all(line.isprintable() for line in lines)
    least = 2 * LEAST + 3
    assert all(width(line) <= max(terminal, least) for line in lines)
