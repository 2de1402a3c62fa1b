"""What a thief of a worker's certificate gets: that node's own part of things, and nothing else.

Every route that the server has is asked, with every method, in the thief's name.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import aiohttp
import pytest

from api.client import ApiError, Client
from api.server.auth import NODE_SUBS
from api.types.assignment import SessionRequest, StatusReport
from api.types.kinds import KINDS, NAMESPACE, NODE
from api.types.task import TaskState, TaskStatus
from tests.server.harness import Running, config, secret, service, task
from tests.server.raw import request

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
# What tells everyone in the cluster the same, and holds no object.
OPEN = re.compile(
    r"/(healthz|readyz|version|openapi.*|api|apis|api/v1|apis/skep\.dev/v1|apis/skep\.dev"
    r"|apis/apiextensions\.k8s\.io.*|apis/authorization\.k8s\.io.*|apis/authentication\.k8s\.io.*"
    # The token is the identity there; the certificate renewed here is the thief's own.
    r"|apis/skep\.dev/v1/join|apis/skep\.dev/v1/certificate"
    # Public keys.
    r"|apis/skep\.dev/v1/sealing-keys)"
)
CANARY = "canary-of-another-node"


@pytest.fixture
async def furnished(server: Running, admin: Client) -> Running:
    """Two nodes; node b has a task with a secret, and a has one without."""
    await admin.apply(
        [
            secret("theirs", value=CANARY),
            config("settings", file=CANARY),
            service("web", secrets=[{"name": "theirs"}]),
        ]
    )
    for node in ("a", "b"):
        async with server.client(node=node) as agent:
            await agent.open_session(node, SessionRequest())
    await server.put(task("web-1", node="b", state=TaskState.RUNNING))
    await server.put(task("own-1", node="a", service="own", state=TaskState.RUNNING))
    return server


def paths(server: Running) -> Iterator[tuple[str, str]]:
    """Every method and path, with names that exist put in."""
    for method, path in server.routes:
        if "{path" in path:
            continue
        full = re.sub(r"\{namespace[^}]*\}", "default", path)
        full = re.sub(r"\{name[^}]*\}", "web-1", re.sub(r"\{role[^}]*\}", "worker", full))
        full = re.sub(r"\{[^}]*\}", "log", full)
        for each in METHODS if method == "*" else (method,):
            yield each, full
    for method, kind in itertools.product(METHODS, KINDS):
        base = f"/apis/skep.dev/v1/{kind.plural}"
        if kind.namespaced:
            yield method, base
            base = f"/apis/skep.dev/v1/namespaces/default/{kind.plural}"
        yield method, base
        for name in ("default" if kind is NAMESPACE else "b", "web-1", "theirs", "settings"):
            for sub in ("", "/status", "/scale", "/log", "/exec", "/certificate", "/payload"):
                yield method, f"{base}/{name}{sub}"
    for method, sub in itertools.product(METHODS, sorted(NODE_SUBS)):
        yield method, f"/apis/skep.dev/v1/nodes/b/{sub}"


async def test_every_other_path_is_closed(furnished: Running) -> None:
    before = await contents(furnished)
    asked = 0
    connector = aiohttp.TCPConnector(ssl=furnished.tls(node="a"))
    async with aiohttp.ClientSession(furnished.url, connector=connector) as stolen:
        for method, path in dict.fromkeys(paths(furnished)):
            if OPEN.fullmatch(path.rstrip("/")):
                continue
            body = None if method in ("GET", "DELETE") else b"{}"
            async with stolen.request(method, path, data=body) as answer:
                assert answer.status in (401, 403, 404, 405), f"{method} {path}: {answer.status}"
                assert CANARY.encode() not in await answer.read()
            asked += 1
    assert asked > 300
    assert await contents(furnished) == before


async def test_what_is_open_to_all_holds_no_object(furnished: Running) -> None:
    stolen = furnished.tls(node="a")
    for method, path in dict.fromkeys(paths(furnished)):
        if OPEN.fullmatch(path.rstrip("/")) and method == "GET":
            answer = await request(furnished, method, f"/{path}", tls=stolen)
            assert CANARY.encode() not in answer.body
            assert b"theirs" not in answer.body


async def contents(server: Running) -> dict[str, tuple[bytes, int]]:
    """All that is stored."""
    page = await server.store.list("/skep/v1/")
    return {item.key: (item.value, item.revision) for item in page.items}


async def test_its_assignments_bring_only_what_its_own_tasks_need(furnished: Running) -> None:
    async with furnished.client(node="a") as thief:
        first = await anext(thief.assignments("a"))
        assert [each.metadata.name for each in first.tasks] == ["own-1"]
        assert first.secrets == []
        with pytest.raises(ApiError, match="only the agent of node b"):
            await anext(thief.assignments("b"))


async def test_it_reports_on_its_own_tasks_alone_and_only_forwards(furnished: Running) -> None:
    def report(name: str, state: TaskState) -> StatusReport:
        return StatusReport(
            namespace="default", name=name, uid=f"uid-{name}", status=TaskStatus(state=state)
        )

    async with furnished.client(node="a") as thief:
        await thief.report("a", [report("web-1", TaskState.FAILED)])
        await thief.report("a", [report("own-1", TaskState.PREPARING)])
        await thief.report("a", [report("own-1", TaskState.COMPLETE)])
        await thief.report("a", [report("own-1", TaskState.RUNNING)])
    async with furnished.client() as admin:
        tasks = {each["metadata"]["name"]: each for each in (await admin.list(KINDS[-2])).items}
    assert tasks["web-1"]["status"]["state"] == "Running"
    assert tasks["own-1"]["status"]["state"] == "Complete"


async def test_its_session_says_nothing_of_what_is_wanted(
    furnished: Running, admin: Client
) -> None:
    """Labels are taken from a node that is new, so that nobody moves tasks to where they are."""
    await admin.patch(NODE, "", "a", {"spec": {"availability": "drain"}})
    async with furnished.client(node="a") as thief:
        await thief.open_session("a", SessionRequest(labels={"zone": "vault"}))
    node = await admin.get(NODE, "", "a")
    assert node["spec"]["availability"] == "drain"
    assert "zone" not in node["metadata"].get("labels", {})
