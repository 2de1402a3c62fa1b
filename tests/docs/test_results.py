"""The figures that the README quotes are those that a benchmark measured and that are kept."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.docs.markdown import ROOT

RESULTS = ROOT / "hack" / "bench" / "results"
_ROW = re.compile(
    r"^\| (?P<case>[^|]+) \| (?P<skep>[^|]+) \| (?P<peer>[^|]*) \| (?P<ratio>[^|]*) \|$"
)


def measured() -> dict[str, dict[str, Any]]:
    """By case."""
    found = {}
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text())
        assert result["command"].startswith("hack/")
        assert not result["quick"], f"{path.name}: a quick run is no measurement"
        found.update({row["case"]: row for row in result["rows"]})
    return found


def quoted() -> list[dict[str, str]]:
    section = (ROOT / "README.md").read_text().partition("\n## Measured\n")[2]
    rows = [_ROW.match(line) for line in section.partition("\n## ")[0].splitlines()]
    return [row.groupdict() for row in rows if row is not None][1:]  # without the head


def number(text: str) -> float:
    """`9.1 s`, `7,020 tasks/s`: the number in front."""
    return float(text.split()[0].replace(",", ""))


def test_every_figure_is_a_kept_one() -> None:
    rows, known = quoted(), measured()
    assert rows
    for row in rows:
        if set(row["case"]) <= {"-"}:
            continue
        kept = known[row["case"].strip()]
        for column, field in (("skep", "skep"), ("peer", "peer_value"), ("ratio", "ratio")):
            said = row[column].strip()
            if said:
                assert abs(number(said) - kept[field]) <= 0.02 * abs(kept[field]), row
            else:
                assert field not in kept, row
