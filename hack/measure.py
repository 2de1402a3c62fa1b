"""What every benchmark needs: what processes cost, a table for people, one JSON line for tools."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """CPU seconds since the start of the processes, and the memory they hold now."""

    cpu: float = 0.0  # seconds, user and system
    rss: int = 0  # bytes resident, shared pages counted in each process

    def __sub__(self, earlier: Usage) -> Usage:
        return Usage(self.cpu - earlier.cpu, self.rss)

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.cpu + other.cpu, self.rss + other.rss)


def usage(pids: Iterable[int]) -> Usage:
    """The sum over those processes that are still there; their waited-for children count too."""
    total = Usage()
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        fields = text.rpartition(")")[2].split()
        total += Usage(sum(map(int, fields[11:15])) / TICK, int(fields[21]) * PAGE)
    return total


def children(pid: int, name: str = "") -> list[int]:
    """Processes below `pid`, at any depth, optionally only those of that name."""
    parents: dict[int, tuple[int, str]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                head, _, tail = (entry / "stat").read_text().rpartition(")")
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(entry.name)] = (int(tail.split()[1]), head.partition("(")[2])
    found, frontier = [], {pid}
    while frontier:
        frontier = {p for p, (parent, _) in parents.items() if parent in frontier}
        found += [p for p in frontier if not name or parents[p][1] == name]
    return found


def named(name: str) -> list[int]:
    """Every process of that name on the machine."""
    return children(0, name)


@dataclass
class Row:
    case: str
    unit: str
    skep: float
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None  # lower is better, rates too
    goal: float | None = None
    runs: int = 1
    min: float | None = None
    max: float | None = None


def row(
    case: str,
    unit: str,
    ours: Sequence[float],
    *,
    peer: str | None = None,
    theirs: Sequence[float] = (),
    goal: float | None = None,
    rate: bool = False,
) -> Row:
    """Medians of the runs, and their ratio such that lower is better."""
    mine = statistics.median(ours)
    other = statistics.median(theirs) if theirs else None
    ratio = None
    if other and mine:
        ratio = round(other / mine if rate else mine / other, 3)
    return Row(
        case=case, unit=unit, skep=_rounded(mine), peer=peer,
        peer_value=None if other is None else _rounded(other), ratio=ratio, goal=goal,
        runs=len(ours), min=_rounded(min(ours)), max=_rounded(max(ours)),
    )  # fmt: skip


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def report(bench: str, rows: Sequence[Row], versions: dict[str, str], *, quick: bool) -> None:
    """The table, then the JSON object as the last line."""
    print(f"\n{'case':44} {'unit':8} {'skep':>10} {'peer':>10} {'ratio':>7} {'goal':>7}  min–max")
    for r in rows:
        cells = [r.peer_value, r.ratio, r.goal]
        texts = ["" if c is None else f"{c:g}" for c in cells]
        print(
            f"{r.case:44} {r.unit:8} {r.skep:>10g} {texts[0]:>10} {texts[1]:>7} {texts[2]:>7}"
            f"  {r.min:g}–{r.max:g} ({r.runs} runs)"
        )
    print(
        json.dumps(
            {
                "bench": bench,
                "quick": quick,
                "cores": os.cpu_count(),
                "kernel": platform.release(),
                "versions": versions,
                "rows": [{k: v for k, v in asdict(r).items() if v is not None} for r in rows],
            }
        ),
        flush=True,
    )


@contextlib.contextmanager
def profiled(pid: int, into: Path | None) -> Iterator[None]:
    """Within: py-spy samples the process; at the end the file has `frame;frame… count` lines."""
    if into is None:
        yield
        return
    into.parent.mkdir(parents=True, exist_ok=True)
    program = str(Path(sys.executable).parent / "py-spy")
    command = [program, "record", "-p", str(pid), "-f", "raw", "-r", "200", "-o", str(into)]
    sampler = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        sampler.send_signal(signal.SIGINT)  # py-spy writes what it has
        sampler.wait(60)


def version_of(*command: str) -> str:
    """The first line that the program prints of itself."""
    out = subprocess.run(command, capture_output=True, text=True, check=False)
    return (out.stdout or out.stderr).strip().partition("\n")[0]


def say(message: str) -> None:
    """Progress, on stderr, with the time of day."""
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)
