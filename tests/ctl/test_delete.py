"""`ctl delete`: by name, by label, by manifest; and what is gone when it ends."""

from __future__ import annotations

import pytest

from tests.ctl.objects import config, service, text
from tests.ctl.runner import Ctl

pytestmark = [pytest.mark.cluster, pytest.mark.etcd, pytest.mark.deadline(40)]


def names(ctl: Ctl, kinds: str = "configs") -> list[str]:
    return ctl("get", kinds, "-o", "name").lines


def test_by_name_and_the_service_is_gone_with_its_tasks(ctl: Ctl) -> None:
    ctl("apply", "-f", "-", "--wait", stdin=text(service("web", replicas=2), config("a")))
    done = ctl.program("delete", "service", "web")
    assert done.out == "service/web deleted\n"
    assert names(ctl, "services,tasks") == []
    ctl("delete", "config/a")
    assert names(ctl) == []


def test_what_is_not_there(ctl: Ctl) -> None:
    ctl("apply", "-f", "-", stdin=text(config("a")))
    done = ctl("delete", "config", "none", "a", "neither", code=3)
    assert done.out == "config/a deleted\n"
    assert done.err.count("does not exist") == 2
    assert ctl("delete", "config", "none", "--ignore-not-found").out == ""


def test_what_is_there_is_waited_for_though_something_else_is_not(ctl: Ctl) -> None:
    ctl("apply", "-f", "-", "--wait", stdin=text(service("web", replicas=2)))
    done = ctl("delete", "services", "none", "web", code=3)
    assert done.out == "service/web deleted\n"
    assert done.err == f"error: service {ctl.namespace}/none does not exist\n"
    assert names(ctl, "services,tasks") == []


def test_a_refusal_keeps_nothing_else_from_being_deleted(ctl: Ctl) -> None:
    wishes = [service("web", secrets=[{"name": "door"}]), service("other", replicas=2)]
    ctl("create", "secret", "door", "--from-stdin", "code", stdin="1234")
    ctl("apply", "-f", "-", "--wait", stdin=text(*wishes, config("a")))
    done = ctl("delete", "service/other", "config/none", "secret/door", "config/a", code=5)
    assert done.out == "service/other deleted\nconfig/a deleted\n"
    assert f"config {ctl.namespace}/none does not exist" in done.err
    assert done.err.splitlines()[-1].startswith("error: secret ")
    assert "service web uses it" in done.err
    assert names(ctl, "services,secrets,configs") == ["service/web", "secret/door"]


def test_by_label_and_all(ctl: Ctl) -> None:
    wishes = [config(name) for name in ("a", "b", "c")]
    for wish in wishes[:2]:
        wish["metadata"]["labels"] = {"app": "shop"}
    ctl("apply", "-f", "-", stdin=text(*wishes, service("web", replicas=0)))
    assert "which ones?" in ctl("delete", "configs", code=2).err
    trial = ctl("delete", "configs", "-l", "app=shop", "--dry-run")
    assert trial.lines == ["config/a deleted (dry run)", "config/b deleted (dry run)"]
    assert len(names(ctl)) == 3
    done = ctl("delete", "configs,services", "-l", "app=shop")
    assert done.lines == ["config/a deleted", "config/b deleted"]
    assert names(ctl, "services,configs") == ["service/web", "config/c"]
    ctl("delete", "services,configs", "--all")
    assert names(ctl, "services,configs") == []


def test_what_manifests_name_in_the_opposite_order(ctl: Ctl) -> None:
    file = ctl.directory / "m.yaml"
    file.write_text(text(config("a"), service("web")))
    ctl("apply", "-f", str(file), "--wait")
    assert ctl.program("delete", "-f", "m.yaml").lines == [
        "service/web deleted",
        "config/a deleted",
    ]
    assert names(ctl, "services,configs,tasks") == []
    assert ctl("delete", "-f", str(file), code=3).err.count("does not exist") == 2


def test_without_waiting(ctl: Ctl) -> None:
    ctl("apply", "-f", "-", "--wait", stdin=text(service("web")))
    assert ctl("delete", "service", "web", "--no-wait").out == "service/web deleted\n"
    ctl("wait", "service", "web", "--for=delete", "--timeout=20s")


def test_a_namespace_goes_with_all_that_is_in_it(ctl: Ctl) -> None:
    inside = f"{ctl.namespace}-x"
    ctl("create", "namespace", inside)
    ctl("apply", "-n", inside, "-f", "-", "--wait", stdin=text(service("web"), config("a")))
    assert ctl("delete", "namespace", inside).out == f"namespace/{inside} deleted\n"
    assert names(ctl.within(inside), "services") == []
    assert ctl("get", "services,configs,tasks", "-n", inside, "-o", "name").out == ""


def test_names_or_manifests(ctl: Ctl) -> None:
    assert "name objects" in ctl("delete", code=2).err
    assert "name objects" in ctl("delete", "config/a", "-f", "x.yaml", code=2).err
    assert "delete it by name" not in ctl("delete", "namespace", "default", code=None).err
