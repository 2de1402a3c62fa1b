"""What a revision's image is: said once, by a node that has a task of it, and the same to all."""

from __future__ import annotations

import asyncio
import json

import pytest

from api.client import ApiError, Client
from api.types.assignment import ImageAgreed, ImageFound
from api.types.kinds import REVISION
from api.types.meta import Metadata
from api.types.revision import Revision, RevisionSpec, RevisionStatus
from api.types.task import TaskState
from api.types.template import TaskTemplate
from tests.server.harness import Running, task
from tests.server.raw import request

FIRST, OTHER = (f"sha256:{letter * 64}" for letter in "ab")


async def put(server: Running, *nodes: str, state: TaskState = TaskState.ASSIGNED) -> None:
    """A revision, and a task of it on each of the nodes."""
    spec = RevisionSpec(service="web", number=1, template=TaskTemplate(image="app:1"))
    metadata = Metadata(name="web-1", namespace="default", uid="r1")
    await server.put(Revision(metadata=metadata, spec=spec))
    for node in nodes:
        await server.put(task(f"on-{node}", node=node, state=state))


def stored(server: Running) -> RevisionStatus:
    item = server.cache.get(REVISION, "default", "web-1")
    assert item is not None
    found: RevisionStatus = item.obj.status
    return found


async def ask(agent: Client, node: str, digest: str = FIRST) -> ImageAgreed:
    found = ImageFound(namespace="default", revision="web-1", digest=digest)
    return await agent.agree_on_image(node, found)


async def test_the_first_word_holds_for_all(server: Running) -> None:
    await put(server, "a", "b")
    async with server.client(node="a") as a, server.client(node="b") as b:
        assert (await ask(a, "a")).digest == FIRST
        before = await server.store.revision()
        assert (await ask(b, "b", OTHER)).digest == FIRST
        assert (await ask(a, "a")).digest == FIRST
    assert await server.store.revision() == before, "it is written once"
    assert stored(server) == RevisionStatus(digest=FIRST, node="a")


async def test_of_many_at_once_one_wins_and_all_hear_the_same(server: Running) -> None:
    nodes = [f"n{number}" for number in range(8)]
    await put(server, *nodes)
    clients = [server.client(node=node) for node in nodes]
    await asyncio.gather(*(client.__aenter__() for client in clients))
    try:
        said = await asyncio.gather(
            *(
                ask(client, node, f"sha256:{number:064}")
                for number, (node, client) in enumerate(zip(nodes, clients, strict=True))
            )
        )
    finally:
        await asyncio.gather(*(client.close() for client in clients))
    assert {each.digest for each in said} == {stored(server).digest}


async def test_it_reaches_the_nodes_that_run_the_revision(server: Running) -> None:
    await put(server, "a", "b")
    async with server.client(node="a") as a, server.client(node="b") as b:
        stream = b.assignments("b")
        first = await anext(stream)
        assert [each.status.digest for each in first.revisions] == [""]
        await ask(a, "a")
        told = await anext(stream)
        assert [each.status.digest for each in told.revisions] == [FIRST]
        await stream.aclose()


@pytest.mark.parametrize("state", [TaskState.ASSIGNED, TaskState.FAILED])
async def test_a_node_without_a_live_task_of_it_has_no_say(
    server: Running, state: TaskState
) -> None:
    await put(server, "a", state=state)
    node = "b" if state is TaskState.ASSIGNED else "a"
    async with server.client(node=node) as agent:
        with pytest.raises(ApiError) as caught:
            await ask(agent, node)
    assert caught.value.code == 404
    assert f"node {node} has no task of it" in str(caught.value)
    assert stored(server).digest == ""


async def test_a_node_speaks_for_itself_alone(server: Running, admin: Client) -> None:
    await put(server, "a")
    async with server.client(node="b") as other:
        for who in (other, admin):
            with pytest.raises(ApiError) as caught:
                await ask(who, "a")
            assert caught.value.code == 403
    assert stored(server).digest == ""


@pytest.mark.parametrize("digest", ["", "latest", "sha256:", "sha256:" + "A" * 64, "x@" + FIRST])
async def test_only_a_digest_is_taken(server: Running, digest: str) -> None:
    await put(server, "a")
    async with server.client(node="a") as agent:
        with pytest.raises(ApiError) as caught:
            await ask(agent, "a", digest)
    assert caught.value.code == 400
    assert stored(server).digest == ""


async def test_nobody_writes_it_by_hand(server: Running, admin: Client) -> None:
    await put(server, "a")
    patch = json.dumps({"status": {"digest": OTHER}}).encode()
    path = "/namespaces/default/revisions/web-1"
    for sub in ("", "/status"):
        answer = await request(
            server,
            "PATCH",
            path + sub,
            data=patch,
            headers={"Content-Type": "application/merge-patch+json"},
        )
        assert answer.code == 405
    assert stored(server).digest == ""
