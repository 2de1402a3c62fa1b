"""Secrets that a service names otherwise than as mounts: as files made of them, as variables."""

from __future__ import annotations

from typing import Any

import pytest

from api.client import ApiError, Client
from api.types.kinds import REVISION, SECRET, SERVICE
from api.types.meta import Metadata
from api.types.revision import Revision, RevisionSpec
from api.types.task import TaskState
from api.types.template import SecretFile, SecretVariable, TaskTemplate
from tests.server.harness import Running, changed, secret, service, task
from tests.server.test_assignments import said, stream

FILES: dict[str, Any] = {
    "secretFiles": [{"target": "f", "content": "{{ secrets.one }}{{ secrets['two']['value'] }}"}],
    "secretEnv": {"A": {"secret": "three"}, "B": {"secret": "one", "key": "none"}},
}


async def test_who_names_a_secret_gets_it_and_only_then(server: Running, admin: Client) -> None:
    for name in ("one", "two", "three", "other"):
        await admin.create(secret(name, value=name))
    template = TaskTemplate(
        image="demo/web:1",
        secret_files=[SecretFile(target="f", content=FILES["secretFiles"][0]["content"])],
        secret_env={"A": SecretVariable(secret="three")},
    )
    spec = RevisionSpec(service="web", number=1, template=template)
    metadata = Metadata(name="web-1", namespace="default", uid="r")
    await server.put(Revision(metadata=metadata, spec=spec))
    async with stream(server) as messages:
        assert said(await anext(messages)) == {}
        await server.put(task("t1", node="a"))
        assert set(said(await anext(messages))["secrets"]) == {"one", "two", "three"}
        await server.put(changed(task("t1", node="a"), desired_state=TaskState.SHUTDOWN))
        removed = said(await anext(messages))["removed_secrets"]
        assert sorted(removed) == ["default/one@1", "default/three@1", "default/two@1"]


async def test_what_is_not_there_and_what_is_in_the_open_is_warned_of(admin: Client) -> None:
    await admin.create(secret("one", value="canary"))
    applied = await admin.apply([service(**FILES)])
    told = "\n".join(applied.items[0].warnings)
    assert "secret default/two does not exist yet; tasks will wait for it" in told
    assert "secret default/three does not exist yet; tasks will wait for it" in told
    assert "secret default/one has no key none yet; tasks will wait for it" in told
    for variable, named in (("A", "three"), ("B", "one")):
        assert f"secretEnv {variable}: the value of secret {named} will be in the open" in told
    again = await admin.apply([service(**FILES)])
    assert again.items[0].result == "unchanged"
    assert any("in the open" in warning for warning in again.items[0].warnings)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("/proc", "bind mount of /proc: whoever runs in there sees into every container"),
        ("//proc/1/", "sees into every container"),
        ("/var/run/docker.sock", "whoever can use a container engine's socket has the run of"),
        ("/", "whoever can write to the node's root has the run of the node"),
        (
            "/sys/kernel/tracing",
            "whoever can write there traces and changes what the node's kernel",
        ),
        ("/sys", "whoever can write there traces and changes"),
        ("/sys/class/net", ""),
        ("/srv/proc", ""),
        ("/run", ""),
    ],
)
async def test_mounts_that_open_the_node_are_warned_of(
    admin: Client, source: str, words: str
) -> None:
    mount = {"type": "bind", "source": source, "target": "/host"}
    applied = await admin.apply([service(mounts=[mount])])
    told = "\n".join(applied.items[0].warnings)
    assert words in told
    assert bool(words) == bool(told)
    applied = await admin.apply([service(mounts=[mount | {"readOnly": True}])])
    assert "can write" not in str(applied.items[0].warnings)


async def test_its_values_are_in_no_object(server: Running, admin: Client) -> None:
    for name in ("one", "two", "three"):
        await admin.create(secret(name, value="canary"))
    created = await admin.create(service(**FILES))
    assert created["spec"]["template"]["secretEnv"]["A"] == {"secret": "three"}
    items = [*server.cache.items(SERVICE), *server.cache.items(REVISION)]
    assert items
    assert all(b"canary" not in item.value for item in [*items, *server.cache.items(SECRET)])


async def test_a_secret_that_is_named_so_counts_as_used(server: Running, admin: Client) -> None:
    await admin.create(service(**FILES, imageCredentials="login", secrets=[{"name": "mounted"}]))
    for name in ("one", "two", "three", "login", "mounted"):
        (user,) = server.cache.by(SERVICE, "secret", f"default/{name}")
        assert user.name == "web"
    assert not list(server.cache.by(SERVICE, "secret", "default/other"))


def file(target: str, content: str = "x") -> dict[str, Any]:
    return {"secretFiles": [{"target": target, "content": content}]}


@pytest.mark.parametrize(
    ("template", "place", "words"),
    [
        (file("a", "{{ x }}"), "secretFiles[0].content", "line 1: x is not"),
        ({"secretFiles": [{"target": "a"}]}, "secretFiles[0]", "content"),
        (file("../a"), "secretFiles[0].target", "without '..'"),
        (file("/proc/a"), "secretFiles[0].target", "/proc/a is in /proc, which is the kernel's"),
        (
            file("a") | {"secrets": [{"name": "a"}]},
            "secretFiles[0].target",
            "/run/secrets/a is taken",
        ),
        ({"secretEnv": {"A": "three"}}, "secretEnv.A", "expected"),
        ({"secretEnv": {"A": {"secret": "x"}}, "env": {"A": 1}}, "secretEnv.A", "is in env too"),
        ({"secretEnv": {"A=": {"secret": "x"}}}, "secretEnv", "without '='"),
        ({"secretEnv": {"A": {"secret": "x", "value": "canary"}}}, "secretEnv.A.value", "unknown"),
    ],
)
async def test_what_is_wrong_is_said_of_its_field(
    admin: Client, template: dict[str, Any], place: str, words: str
) -> None:
    with pytest.raises(ApiError) as caught:
        await admin.create(service(**template))
    causes = [(cause["field"], cause["message"]) for cause in caught.value.causes]
    assert any(place in field and words in message for field, message in causes), causes
