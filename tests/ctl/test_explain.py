"""`ctl explain`: the reference, without a cluster."""

from __future__ import annotations

import pytest

from api.types.kinds import KINDS
from tests.ctl.runner import Ctl


@pytest.fixture
def ctl() -> Ctl:
    """Without any context."""
    return Ctl({"SKEP_CONFIG": "/nowhere/config.yaml", "PATH": "/usr/bin:/bin"})


def test_the_kinds(ctl: Ctl) -> None:
    done = ctl.program("explain")
    assert "  service (svc)" in done.lines
    assert all(each.name.lower() in done.out for each in KINDS)
    assert any("written by the system alone" in line for line in done.lines if "task" in line)


def test_a_field(ctl: Ctl) -> None:
    done = ctl("explain", "service.spec.update.order")
    assert done.lines[:3] == [
        "KIND:     Service", "VERSION:  skep.dev/v1", "FIELD:    spec.update.order <text>",
    ]  # fmt: skip
    assert "  One of: stop-first, start-first" in done.lines
    assert '  Default: "stop-first"' in done.lines
    assert ctl("explain", "svc.spec.template.ports[].target").out
    assert ctl("explain", "svc.spec.template.ports.target").out


@pytest.mark.parametrize("kind", [each.name.lower() for each in KINDS])
def test_every_kind_with_all_below_it(ctl: Ctl, kind: str) -> None:
    done = ctl("explain", kind, "--recursive")
    assert any(line.startswith("  metadata <") for line in done.lines)
    assert any(line.startswith("    name <") for line in done.lines)
    assert max(map(len, ctl("explain", kind).lines)) <= 100


def test_below_a_field(ctl: Ctl) -> None:
    done = ctl("explain", "service.spec.restart", "-r")
    assert "  condition <text>" in done.lines
    assert not any("metadata" in line for line in done.lines)


def test_what_is_not_there(ctl: Ctl) -> None:
    done = ctl("explain", "service.spec.replica", code=3)
    assert "did you mean replicas?" in done.err
    assert "did you mean services?" in ctl("explain", "servce", code=2).err
