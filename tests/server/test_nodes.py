"""Nodes' sessions: known, alive, gone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api.client import ApiError, Client
from api.server import Settings
from api.store.contract import Write
from api.store.keys import session_key
from api.types.assignment import SessionRequest
from api.types.kinds import NODE
from api.types.meta import Condition
from api.types.node import Engine, NodeResources, NodeStatus
from tests.server.harness import CLUSTER, Running, running_server


def machine(**changes: Any) -> SessionRequest:
    status = NodeStatus(
        hostname="a.example.com",
        os="linux",
        architecture="amd64",
        resources=NodeResources(cpus=2.0, memory=4_000_000_000),
        engine=Engine(driver="simulated", ready=True),
    )
    for name, value in changes.items():
        setattr(status, name, value)
    return SessionRequest(status=status, labels={"zone": "1"})


async def refused(awaitable: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await awaitable
    return caught.value


async def test_a_new_node_makes_itself_known(server: Running, admin: Client) -> None:
    async with server.client(node="a") as agent:
        reply = await agent.open_session("a", machine())
    assert (reply.heartbeat_seconds, reply.cluster) == (5.0, CLUSTER)
    node = await admin.get(NODE, "", "a")
    assert node["metadata"]["labels"] == {"zone": "1"}
    assert node["spec"]["availability"] == "active"
    assert node["status"]["resources"] == {"cpus": 2.0, "memory": 4_000_000_000}
    assert node["status"]["address"] == "127.0.0.1"
    assert server.cache.sessions == {"a"}


async def test_what_people_set_of_a_node_stays(server: Running, admin: Client) -> None:
    async with server.client(node="a") as agent:
        await agent.open_session("a", machine())
        await admin.patch(NODE, "", "a", {"metadata": {"labels": {"zone": "2"}}})
        await admin.patch(NODE, "", "a", {"spec": {"availability": "drain"}})
        conditions = [{"type": "Ready", "status": "True"}]
        await admin.patch(NODE, "", "a", {"status": {"conditions": conditions}}, status=True)
        await agent.open_session("a", machine(hostname="renamed", conditions=[]))
    node = await admin.get(NODE, "", "a")
    assert node["metadata"]["labels"] == {"zone": "2"}
    assert node["spec"]["availability"] == "drain"
    assert node["status"]["hostname"] == "renamed"
    assert node["status"]["conditions"] == conditions


async def test_conditions_are_not_the_agents_to_say(server: Running, admin: Client) -> None:
    async with server.client(node="a") as agent:
        await agent.open_session("a", machine(conditions=[Condition(type="Ready", status="True")]))
    assert "conditions" not in (await admin.get(NODE, "", "a"))["status"]


async def test_saying_the_same_again_writes_nothing(server: Running) -> None:
    async with server.client(node="a") as agent:
        await agent.open_session("a", machine())
        before = await server.store.revision()
        await agent.open_session("a", machine())
        for _ in range(3):
            await agent.heartbeat("a")
        assert await server.store.revision() == before


async def test_a_node_that_falls_silent_has_no_session() -> None:
    settings = Settings(heartbeat=0.05)
    async with running_server(settings=settings) as server, server.client(node="a") as agent:
        ended = asyncio.Event()
        await agent.open_session("a", machine())
        server.cache.listen_sessions(lambda node, alive: None if alive else ended.set())
        await ended.wait()
        assert server.cache.sessions == set()
        error = await refused(agent.heartbeat("a"))
        assert (error.code, error.reason) == (410, "Gone")
        await agent.open_session("a", machine())
        assert server.cache.sessions == {"a"}


async def test_a_heartbeat_without_a_session_is_refused(server: Running) -> None:
    async with server.client(node="a") as agent:
        assert (await refused(agent.heartbeat("a"))).code == 410


async def test_a_manager_that_was_restarted_knows_the_sessions(server: Running) -> None:
    """Here: a lease that another manager granted."""
    lease = await server.store.grant(60)
    await server.store.commit([Write(session_key("a"), b"{}", lease=lease)])
    async with server.client(node="a") as agent:
        await agent.heartbeat("a")


async def test_a_connected_node_is_not_deleted_by_mistake(server: Running, admin: Client) -> None:
    async with server.client(node="a") as agent:
        await agent.open_session("a", machine())
        error = await refused(admin.delete(NODE, "", "a"))
        assert error.code == 409
        assert "stop the agent first" in error.message
        await admin.delete(NODE, "", "a", force=True)
        await agent.open_session("a", machine())
        assert (await admin.get(NODE, "", "a"))["status"]["hostname"] == "a.example.com"


async def test_labels_that_are_none_are_refused(server: Running) -> None:
    async with server.client(node="a") as agent:
        error = await refused(agent.open_session("a", SessionRequest(labels={"a b": "c"})))
        assert (error.code, error.reason) == (422, "Invalid")


async def test_two_sessions_at_once_make_one_node(server: Running, admin: Client) -> None:
    async with server.client(node="a") as agent:
        await asyncio.gather(*(agent.open_session("a", machine()) for _ in range(4)))
    assert len((await admin.list(NODE)).items) == 1
