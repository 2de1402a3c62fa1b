"""`ctl diff`: what apply would change, and the exit code that says whether."""

from __future__ import annotations

import pytest

from tests.ctl.objects import config, service, text
from tests.ctl.runner import Ctl

pytestmark = [pytest.mark.cluster, pytest.mark.etcd, pytest.mark.deadline(40)]


def test_nothing_differs_after_an_apply(ctl: Ctl) -> None:
    manifests = text(config("a"), service("web", replicas=0))
    ctl("apply", "-f", "-", stdin=manifests)
    done = ctl.program("diff", "-f", "-", stdin=manifests)
    assert (done.out, done.err) == ("", "")


def test_what_differs_is_shown_as_a_unified_diff(ctl: Ctl) -> None:
    ctl("apply", "-f", "-", stdin=text(service("web", replicas=0), config("same")))
    changed = service("web", replicas=2)
    done = ctl.program("diff", "-f", "-", stdin=text(changed, config("same")), code=1)
    assert done.lines[:2] == ["--- live/service/web", "+++ applied/service/web"]
    assert "-  replicas: 0" in done.lines
    assert "+  replicas: 2" in done.lines
    assert len([line for line in done.lines if line[:1] in "+-"]) == 4
    assert ctl("get", "service", "web", "-o", "jsonpath={.spec.replicas}").out == "0"


def test_what_is_not_there_yet_is_all_new(ctl: Ctl) -> None:
    done = ctl("diff", "-f", "-", stdin=text(config("a", k="v")), code=1)
    assert "+kind: Config" in done.lines
    assert "+  k: v" in done.lines


def test_a_secrets_values_are_not_shown(ctl: Ctl) -> None:
    secret = {
        "apiVersion": "skep.dev/v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "stringData": {"k": "hunter2"},
    }
    ctl("apply", "-f", "-", stdin=text(secret))
    assert ctl("diff", "-f", "-", stdin=text(secret)).out == ""
    for value in ("hunter4", "a longer secret"):
        done = ctl("diff", "-f", "-", stdin=text(secret | {"stringData": {"k": value}}), code=1)
        assert value not in done.out + done.err
        assert "hunter2" not in done.out + done.err
        assert done.out


def test_an_invalid_manifest_is_no_difference(ctl: Ctl) -> None:
    assert ctl("diff", "-f", "-", stdin="kind: Config\n", code=4).out == ""


def test_colours_are_for_terminals(ctl: Ctl, cluster: object) -> None:
    file = ctl.directory / "a.yaml"
    file.write_text(text(config("a")))
    with ctl.terminal("diff", "-f", str(file)) as child:
        child.expect("\x1b\\[32m\\+kind: Config")
    with ctl.terminal("diff", "-f", str(file), NO_COLOR="1") as child:
        child.expect("\n\\+kind: Config")
