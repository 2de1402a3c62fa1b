"""Assignment streams: a node hears what it is to do, all of it and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from api.client import Client
from api.server import Settings
from api.server.assignments import GATHER
from api.server.assignments import Assignments as Streams
from api.server.payloads import Payloads
from api.store.cache import Cache
from api.store.memory import MemoryStore
from api.types import codec
from api.types.assignment import Assignments, StatusReport
from api.types.generated import SourceStatus
from api.types.kinds import CONFIG, REVISION, SECRET, TASK
from api.types.meta import Condition, Metadata
from api.types.revision import Revision, RevisionSpec
from api.types.secret import Secret
from api.types.task import TaskState, TaskStatus
from api.types.template import ConfigMount, SecretMount, TaskTemplate
from tests.server.harness import Running, changed, config, running_server, secret, task
from tests.server.raw import opened


def revision(name: str = "web-1", *, secrets: Any = (), configs: Any = ()) -> Revision:
    template = TaskTemplate(
        image="demo/web:1",
        secrets=[SecretMount(name=each) for each in secrets],
        configs=[ConfigMount(name=each) for each in configs],
    )
    spec = RevisionSpec(service="web", number=1, template=template)
    return Revision(metadata=Metadata(name=name, namespace="default", uid=f"r-{name}"), spec=spec)


def said(message: Assignments) -> dict[str, Any]:
    """What is in a message, by name."""
    parts = {
        "tasks": [t.metadata.name for t in message.tasks],
        "removed_tasks": message.removed_tasks,
        "revisions": [r.metadata.name for r in message.revisions],
        "removed_revisions": message.removed_revisions,
        "secrets": {s.name: s.data for s in message.secrets},
        "removed_secrets": message.removed_secrets,
        "configs": {c.name: c.data for c in message.configs},
        "removed_configs": message.removed_configs,
    }
    return {name: part for name, part in parts.items() if part}


@contextlib.asynccontextmanager
async def stream(server: Running, node: str = "a") -> AsyncIterator[AsyncGenerator[Assignments]]:
    async with server.client(node=node) as agent:
        messages = agent.assignments(node)
        try:
            yield messages
        finally:
            await messages.aclose()


async def test_a_node_first_hears_everything(server: Running, admin: Client) -> None:
    await admin.create(secret(value="s3cret"))
    await admin.create(config())
    await server.put(revision(secrets=["password"], configs=["settings"]))
    await server.put(revision("old-1"))
    await server.put(task("t1", node="a"))
    await server.put(task("t2", node="b"))
    await server.put(task("t3"))
    await server.put(task("ended", node="a", revision="old-1", state=TaskState.FAILED))
    async with stream(server) as messages:
        first = await anext(messages)
    assert first.type == "complete"
    assert said(first) == {
        "tasks": ["t1", "ended"],
        "revisions": ["web-1"],  # an ended task needs none
        "secrets": {"password": {"value": b"s3cret"}},
        "configs": {"settings": {"app.conf": b"debug = false\n"}},
    }
    assert first.tasks[0].spec.node == "a"


async def test_then_what_changes(server: Running) -> None:
    async with stream(server) as messages:
        assert said(await anext(messages)) == {}
        await server.put(revision())
        await server.put(task("t1", state=TaskState.PENDING))
        await server.put(changed(task("t1"), node="a", state=TaskState.ASSIGNED))
        increment = await anext(messages)
        assert increment.type == "increment"
        assert said(increment) == {"tasks": ["t1"], "revisions": ["web-1"]}
        shut = changed(task("t1", node="a"), desired_state=TaskState.SHUTDOWN)
        await server.put(shut)
        assert (await anext(messages)).tasks[0].spec.desired_state == TaskState.SHUTDOWN
        await server.remove(TASK, "default", "t1")
        assert said(await anext(messages)) == {
            "removed_tasks": ["uid-t1"],
            "removed_revisions": ["default/web-1"],
        }


async def test_many_changes_come_together(server: Running) -> None:
    async with stream(server) as messages:
        await anext(messages)
        await server.put(revision())
        tasks = [task(f"t{number}", node="a") for number in range(50)]
        await asyncio.gather(*(server.put(each) for each in tasks))
        names: set[str] = set()
        lines = 0
        while len(names) < 50:
            names |= {t.metadata.name for t in (await anext(messages)).tasks}
            lines += 1
        assert lines < 50


async def test_the_more_nodes_have_news_the_longer_it_gathers() -> None:
    cache = Cache(MemoryStore())
    assignments = Streams(cache, Payloads(MemoryStore()))
    with contextlib.ExitStack() as others:
        waits = [others.enter_context(assignments.telling()) for _ in range(1000)]
        assert waits[:3] == [GATHER, 2 * GATHER, 3 * GATHER]
        assert waits == sorted(waits)
        assert waits[-1] == 1.0  # seconds: no longer than that, however many
    with assignments.telling() as alone:
        assert alone == GATHER
    assignments.close()


async def test_a_nodes_own_reports_do_not_come_back(server: Running) -> None:
    await server.put(revision())
    await server.put(task("t1", node="a"))
    async with stream(server) as messages, server.client(node="a") as agent:
        await anext(messages)
        status = TaskStatus(state=TaskState.RUNNING)
        report = StatusReport(namespace="default", name="t1", uid="uid-t1", status=status)
        await agent.report("a", [report])
        await server.put(task("t2", node="a"))
        assert said(await anext(messages)) == {"tasks": ["t2"]}


async def test_a_node_hears_that_its_task_was_given_up(server: Running) -> None:
    await server.put(task("t1", node="a", state=TaskState.RUNNING))
    async with stream(server) as messages:
        await anext(messages)
        await server.put(task("t1", node="a", state=TaskState.ORPHANED))
        assert (await anext(messages)).tasks[0].status.state == TaskState.ORPHANED


async def test_a_secret_stays_while_a_wanted_task_names_it(server: Running, admin: Client) -> None:
    await admin.create(secret())
    await server.put(revision(secrets=["password"]))
    await server.put(task("t1", node="a"))
    await server.put(task("t2", node="a"))
    async with stream(server) as messages, server.client(node="a") as agent:
        assert "secrets" in said(await anext(messages))
        await server.put(changed(task("t1", node="a"), desired_state=TaskState.SHUTDOWN))
        assert said(await anext(messages)) == {"tasks": ["t1"]}
        # The last that needs it ends by itself: the node has said so, and hears what follows.
        status = TaskStatus(state=TaskState.FAILED)
        report = StatusReport(namespace="default", name="t2", uid="uid-t2", status=status)
        await agent.report("a", [report])
        assert said(await anext(messages)) == {"removed_secrets": ["default/password@1"]}


async def test_a_login_is_on_the_node_while_a_task_names_it(server: Running, admin: Client) -> None:
    await admin.create(secret("login", value="s3cret"))
    named = revision()
    named.spec.template.image_credentials = "login"
    await server.put(named)
    await server.put(task("t1", node="a"))
    async with stream(server) as messages, server.client(node="a") as agent:
        assert said(await anext(messages))["secrets"] == {"login": {"value": b"s3cret"}}
        status = TaskStatus(state=TaskState.FAILED)
        report = StatusReport(namespace="default", name="t1", uid="uid-t1", status=status)
        await agent.report("a", [report])
        assert said(await anext(messages))["removed_secrets"] == ["default/login@1"]


async def test_a_secret_that_comes_later_is_brought(server: Running, admin: Client) -> None:
    await server.put(revision(secrets=["password"], configs=["settings"]))
    await server.put(task("t1", node="a"))
    async with stream(server) as messages:
        assert said(await anext(messages)) == {"tasks": ["t1"], "revisions": ["web-1"]}
        await admin.create(secret(value="one"))
        assert said(await anext(messages)) == {"secrets": {"password": {"value": b"one"}}}
        await admin.create(config())
        assert "configs" in said(await anext(messages))


async def test_who_follows_a_secret_is_brought_its_newest_version(
    server: Running, admin: Client
) -> None:
    await admin.create(secret(value="one"))
    await admin.create(config())
    followed = revision(secrets=["password"], configs=["settings"])
    followed.spec.template.secrets[0].on_change = "none"
    await server.put(followed)
    await server.put(task("t1", node="a"))
    async with stream(server) as messages:
        first = await anext(messages)
        await admin.patch(SECRET, "default", "password", {"stringData": {"value": "two"}})
        second = await anext(messages)
        assert said(second) == {
            "secrets": {"password": {"value": b"two"}},
            "removed_secrets": ["default/password@1"],
        }
        assert (first.secrets[0].version, second.secrets[0].version) == (1, 2)
        await admin.patch(CONFIG, "default", "settings", {"data": {"app.conf": "x"}})
        third = await anext(messages)
        assert said(third) == {"configs": {"settings": {"app.conf": b"x"}}}
        labels = {"metadata": {"labels": {"a": "b"}}}
        await admin.patch(SECRET, "default", "password", labels)  # no news for a node
        await admin.delete(SECRET, "default", "password")
        assert said(await anext(messages)) == {"removed_secrets": ["default/password@2"]}


async def test_a_task_keeps_the_version_of_its_revision(server: Running, admin: Client) -> None:
    for value in ("1", "2", "3"):
        await admin.apply([secret(value=value)])
    old, new = revision("web-1", secrets=["password"]), revision("web-2", secrets=["password"])
    new.spec.secrets = {"password": 3}  # `old` names none: it knew the first
    await server.put(old)
    await server.put(new)
    await server.put(task("t1", node="a", revision="web-1"))
    async with stream(server) as messages:
        first = await anext(messages)
        assert [(each.version, each.data) for each in first.secrets] == [(1, {"value": b"1"})]
        await admin.apply([secret(value="4")])
        await server.put(task("t2", node="a", revision="web-2"))
        second = await anext(messages)
        assert [(each.version, each.data) for each in second.secrets] == [(3, {"value": b"3"})]
        assert second.removed_secrets == []
        await server.put(task("t1", node="a", revision="web-1", state=TaskState.COMPLETE))
        assert said(await anext(messages))["removed_secrets"] == ["default/password@1"]


async def test_a_secret_made_anew_is_another(server: Running, admin: Client) -> None:
    await admin.create(secret(value="one"))
    await server.put(revision(secrets=["password"]))
    await server.put(task("t1", node="a"))
    async with stream(server) as messages:
        first = await anext(messages)
        await admin.delete(SECRET, "default", "password")
        await admin.create(secret(value="two"))
        contents = [first.secrets[0].data]
        while len(contents) < 2:
            contents += [delivery.data for delivery in (await anext(messages)).secrets]
        assert contents == [{"value": b"one"}, {"value": b"two"}]


async def test_other_nodes_secrets_stay_away(server: Running, admin: Client) -> None:
    await admin.create(secret("mine"))
    await admin.create(secret("theirs"))
    await server.put(revision("mine-1", secrets=["mine"]))
    await server.put(revision("theirs-1", secrets=["theirs"]))
    async with stream(server, "a") as messages:
        await anext(messages)
        await server.put(task("t1", node="b", revision="theirs-1"))
        await server.put(task("t2", node="a", revision="mine-1"))
        assert said(await anext(messages)) == {
            "tasks": ["t2"],
            "revisions": ["mine-1"],
            "secrets": {"mine": {"value": b"correct horse"}},
        }


async def test_a_revision_that_comes_after_its_task_is_brought(
    server: Running, admin: Client
) -> None:
    await admin.create(secret())
    async with stream(server) as messages:
        await anext(messages)
        await server.put(task("t1", node="a"))
        assert said(await anext(messages)) == {"tasks": ["t1"]}
        await server.put(revision(secrets=["password"]))
        assert {"revisions", "secrets"} == said(await anext(messages)).keys()
        await server.remove(REVISION, "default", "web-1")
        assert said(await anext(messages)) == {
            "removed_revisions": ["default/web-1"],
            "removed_secrets": ["default/password@1"],
        }


async def test_a_new_stream_takes_the_place_of_the_old(server: Running) -> None:
    async with stream(server) as old:
        await anext(old)
        async with stream(server) as new:
            await anext(new)
            with pytest.raises(StopAsyncIteration):
                await anext(old)
            await server.put(task("t1", node="a"))
            assert said(await anext(new)) == {"tasks": ["t1"]}


async def test_a_quiet_stream_says_that_it_lives() -> None:
    async with (
        running_server(settings=Settings(keep_alive=0.01)) as server,
        opened(server, "/nodes/a/assignments", tls=server.tls(node="a")) as response,
    ):
        assert (await response.content.readline()).startswith(b'{"type":"complete"')
        assert await response.content.readline() == b"\n"


async def test_what_a_secret_without_values_waits_for_is_told(
    server: Running, admin: Client
) -> None:
    await server.put(revision(secrets=["tls"], configs=["hidden"]))
    await server.put(task("web-1-a", node="a"))
    envelope = {"apiVersion": "skep.dev/v1", "kind": "Secret"}

    async def put(name: str, **fields: Any) -> None:
        await admin.create(
            {**envelope, "metadata": {"name": name, "namespace": "default"}, **fields}
        )

    async with stream(server) as messages:
        assert (await anext(messages)).awaited is None
        await put("hidden", generate={"password": {}})
        await put("tls", generate={"tls": {"x509": {"ca": "ca", "dnsNames": ["web"]}}},
                  source={"provider": "corp", "path": "db"})  # fmt: skip
        told = (await anext(messages)).awaited
        assert told == {"default/tls": "not made yet and not fetched yet"}
        now = datetime(2026, 1, 1, tzinfo=UTC)
        secret: Secret = codec.copy(server.cache.get(SECRET, "default", "tls").obj)  # type: ignore[union-attr]
        secret.status.source = SourceStatus(fetched=now)
        secret.status.conditions = [
            Condition(type="Generated", status="False", message="tls waits for its authority"),
        ]  # fmt: skip
        await server.put(secret)
        told = (await anext(messages)).awaited
        assert told == {"default/tls": "not made yet: tls waits for its authority"}
        await admin.delete(SECRET, "default", "tls")
        assert (await anext(messages)).awaited == {}
