"""A job's runs as a table: when each began, why, how long it took, how it ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from api.ctl.output import Output
from api.ctl.table import Table
from api.types.columns import NONE, UNKNOWN, age, duration, field, moment

Document = Mapping[str, Any]

_HEADERS = [
    "RUN",
    "STATE",
    "COMPLETIONS",
    "ACTIVE",
    "FAILED",
    "STARTED",
    "TOOK",
    "CAUSE",
    "MESSAGE",
]


def run_lines(output: Output, job: Document, now: datetime) -> Iterator[str]:
    """Under a title, the newest first."""
    runs = field(job, "status", "job", "runs") or []
    if not runs:
        yield "Runs:          none"
        return
    yield "Runs:"
    width = output.width and output.width - 2
    table = Table(_HEADERS, frozenset({"MESSAGE"}), width, output.cell)
    yield from (f"  {line}" for line in table.lines([_cells(run, now) for run in runs]))


def _cells(run: Document, now: datetime) -> list[str]:
    started, finished = moment(run.get("startedAt")), moment(run.get("finishedAt"))
    took = duration(((finished or now) - started).total_seconds()) if started else UNKNOWN
    cause = str(run.get("cause") or NONE)
    if run.get("scheduledAt"):
        cause = f"{cause} {run['scheduledAt']}"
    reason, message = str(run.get("reason") or ""), str(run.get("message") or "")
    return [
        str(run.get("number", "")),
        str(run.get("result") or "Running"),
        f"{run.get('succeeded', 0)}/{run.get('wanted', 0)}",
        str(run.get("active", 0)),
        str(run.get("failed", 0)),
        f"{age(run.get('startedAt'), now)} ago",
        took,
        cause,
        f"{reason}: {message}" if message else reason,
    ]
