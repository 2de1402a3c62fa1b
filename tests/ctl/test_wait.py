"""`ctl wait`: until it is so, and 124 where that takes too long."""

from __future__ import annotations

import re
import threading

import pytest

from tests.ctl.objects import config, service, text
from tests.ctl.runner import Ctl

pytestmark = [pytest.mark.cluster, pytest.mark.etcd, pytest.mark.deadline(40)]


def test_for_a_condition(ctl: Ctl) -> None:
    ctl("apply", "-f", "-", stdin=text(service("web", replicas=2)))
    done = ctl.program("wait", "service/web", "--for=condition=Available", "--timeout", "20s")
    assert done.out == "service/web condition Available=True\n"
    assert ctl("wait", "service", "web", "--for=condition=available=true", "--timeout=0s").out


def test_for_a_path(ctl: Ctl) -> None:
    ctl("apply", "-f", "-", stdin=text(service("web", replicas=2)))
    ctl("wait", "service", "web", "--for=jsonpath={.status.running}=2", "--timeout=20s")
    ctl("wait", "service", "web", "--for=jsonpath={.status.revision}", "--timeout=20s")
    done = ctl("wait", "service", "web", "--for=jsonpath={.spec.replicas}=3", "--timeout=0s",
               code=124)  # fmt: skip
    assert "{.spec.replicas} is 2" in done.err


def test_for_the_end(ctl: Ctl) -> None:
    ctl("apply", "-f", "-", "--wait", stdin=text(service("web")))
    ctl("delete", "service", "web", "--no-wait")
    done = ctl.program("wait", "service/web", "--for=delete", "--timeout", "20s")
    assert done.out == "service/web deleted\n"
    assert ctl("wait", "config/never", "--for=delete").out == "config/never deleted\n"
    assert ctl("wait", "configs", "--all", "--for=delete").out == ""


def test_for_the_beginning(ctl: Ctl) -> None:
    later = threading.Timer(0.5, lambda: ctl.program("apply", "-f", "-", stdin=text(config("a"))))
    later.start()
    try:
        assert ctl.program("wait", "config/a", "--for=create", "--timeout=20s").out == (
            "config/a created\n"
        )
    finally:
        later.join()


def test_all_that_match(ctl: Ctl) -> None:
    wishes = [service("a"), service("b"), service("c", replicas=0)]
    for wish in wishes[:2]:
        wish["metadata"]["labels"] = {"app": "shop"}
    ctl("apply", "-f", "-", stdin=text(*wishes))
    done = ctl("wait", "services", "-l", "app=shop", "--for=condition=Available", "--timeout=20s")
    assert done.lines == [f"service/{name} condition Available=True" for name in "ab"]
    assert "wait for what?" in ctl("wait", "services", "--for=condition=Available", code=2).err


def test_not_in_time(ctl: Ctl) -> None:
    ctl("apply", "-f", "-", stdin=text(config("a")))
    done = ctl.program("wait", "config/a", "--for=delete", "--timeout=300ms", code=124)
    assert done.err.splitlines()[-1] == (
        "error: not deleted within 0.3 s: config/a: nobody has asked for its deletion"
    )
    done = ctl("wait", "config/a", "--for=condition=Ready", "--timeout=0s", "-q", code=124)
    assert done.err == (
        "error: not condition Ready=True within 0 s: config/a: it has no condition Ready\n"
    )


def test_a_service_that_nobody_deletes_waits_for_nothing(ctl: Ctl) -> None:
    ctl("apply", "-f", "-", stdin=text(service("web")))
    done = ctl("wait", "service/web", "--for=delete", "--timeout=0s", "-q", code=124)
    assert done.err == (
        "error: not deleted within 0 s: service/web: nobody has asked for its deletion\n"
    )


def test_what_is_not_there_can_only_be_waited_for_to_come_or_be_gone(ctl: Ctl) -> None:
    done = ctl("wait", "service/none", "--for=condition=Available", code=3)
    assert done.err == f"error: service {ctl.namespace}/none does not exist\n"


@pytest.mark.parametrize("wish", ["Available", "condition=", "jsonpath=", "jsonpath={.a"])
def test_what_cannot_be_waited_for(ctl: Ctl, wish: str) -> None:
    ctl("wait", "config/a", f"--for={wish}", code=2)


def test_what_was_meant_is_suggested(ctl: Ctl) -> None:
    ctl("apply", "-f", "-", "--wait", stdin=text(service("web")))
    done = ctl("wait", "service/web", "--for=Available", code=2)
    assert "did you mean --for=condition=Available?" in done.err
    done = ctl("wait", "service/web", "--for=condition=Ready", "--timeout=0s", code=124)
    assert "it has no condition Ready, only Available and Progressing" in done.err


def test_a_service_that_is_late_says_what_its_tasks_wait_for(ctl: Ctl) -> None:
    wish = text(service("web", secrets=[{"name": "password"}]))
    done = ctl("apply", "-f", "-", "--wait", "--timeout=1s", stdin=wish, code=124)
    # The service may say it itself by then, and names the task.
    said = re.sub(r"; web-1-\w+:", ":", done.err.splitlines()[-1])
    assert said == (
        "error: not in effect within 1 s: service/web: 0/1 running: waiting for secret"
        f" {ctl.namespace}/password, which does not exist"
    )


def test_a_duration_that_is_none(ctl: Ctl) -> None:
    done = ctl("wait", "config/a", "--for=delete", "--timeout=soon", code=2)
    assert "soon" in done.err
