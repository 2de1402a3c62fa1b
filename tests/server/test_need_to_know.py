"""Secrets for who needs them: what a worker's certificate is good for when a thief has it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from api.client import ApiError, Client, Unreachable
from api.pki.authority import Authority
from api.pki.credentials import Credentials
from api.pki.identity import Role
from api.pki.tls import client_context
from api.types.assignment import SessionRequest, StatusReport
from api.types.kinds import NODE
from api.types.meta import Metadata
from api.types.namespace import Namespace
from api.types.task import TaskState, TaskStatus
from tests.server.harness import Running, secret, task
from tests.server.relay import relayed
from tests.server.test_assignments import revision, stream
from tests.server.test_join import as_node, joined

CANARY = "canary-of-node-b"
BASE = "/apis/skep.dev/v1"
NAMESPACES = ("default", "shop", "bank")


@pytest.fixture
async def furnished(server: Running, admin: Client) -> Running:
    """Node b runs a task with a secret, in each of three namespaces; node a runs none."""
    for namespace in NAMESPACES[1:]:
        await server.put(Namespace(metadata=Metadata(name=namespace, uid=f"ns-{namespace}")))
    for namespace in NAMESPACES:
        await admin.create(secret("theirs", namespace, value=CANARY))
        named = revision("web-1", secrets=["theirs"])
        named.metadata.namespace = namespace
        await server.put(named)
        name = f"{namespace}-1"
        await server.put(task(name, node="b", namespace=namespace, state=TaskState.RUNNING))
    for node in ("a", "b"):
        async with server.client(node=node) as agent:
            await agent.open_session(node, SessionRequest())
    return server


async def test_every_secret_of_every_namespace_is_asked_for_and_none_told(
    furnished: Running,
) -> None:
    places = [f"{BASE}/secrets", "/api/v1/secrets", f"{BASE}/secrets/theirs"]
    for namespace in NAMESPACES:
        for root in (BASE, "/api/v1"):
            below = f"{root}/namespaces/{namespace}/secrets"
            subs = ("", "/theirs", "/theirs/payload", "/theirs/data", "/theirs/status")
            places += [below + sub for sub in (*subs, "/theirs/versions", "/theirs/versions/1")]
    queries = ("", "?watch=true", "?full=true", "?export=true", "?resourceVersion=1&watch=1")
    as_table = {"Accept": "application/json;as=Table;g=meta.k8s.io;v=v1"}
    asked = 0
    connector = aiohttp.TCPConnector(ssl=furnished.tls(node="a"))
    async with aiohttp.ClientSession(connector=connector) as thief:
        for place in places:
            for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
                for query in queries if method == "GET" else ("",):
                    for headers in ({}, as_table) if method == "GET" else ({},):
                        async with thief.request(
                            method, f"{furnished.url}{place}{query}", headers=headers
                        ) as answer:
                            assert answer.status in (400, 403, 404, 405), (method, place)
                            assert CANARY.encode() not in await answer.read()
                        asked += 1
        manifest = secret("theirs", "shop", value="mine")
        service = {"kind": "Service", "spec": {"template": {"secrets": [{"name": "theirs"}]}}}
        for body in ({"items": [manifest]}, {"documents": [manifest]}, [manifest], service):
            for dry in ("", "?dryRun=All"):
                async with thief.post(f"{furnished.url}{BASE}/apply{dry}", json=body) as answer:
                    assert answer.status == 403
    assert asked > 300


@pytest.mark.parametrize(
    "path",
    [
        "nodes/b/assignments",
        "nodes/a/../b/assignments",
        "nodes/a/%2e%2e/b/assignments",
        "nodes/a%2F..%2Fb/assignments",
        "nodes/b%2fassignments",
        "nodes/b/assignments/",
        "/nodes//b//assignments",
        "nodes/b;a/assignments",
        "nodes/B/assignments",
        "nodes/b%00/assignments",
        "nodes/b%20/assignments",
        "nodes/*/assignments",
        "nodes//assignments",
        "nodes/b/assignments?node=a",
        "namespaces/default/nodes/b/assignments",
        "nodes/b/ASSIGNMENTS",
        "nodes/b/assignments#/nodes/a",
        "nodes/b/streams/../assignments",
        "../v1/nodes/b/assignments",
    ],
)
async def test_no_way_of_writing_it_leads_to_another_nodes_assignments(
    furnished: Running, path: str
) -> None:
    """As bytes on the line: no client tidies them up."""
    host, _, port = furnished.url.removeprefix("https://").partition(":")
    for headers in (
        "",
        "X-Original-URL: /nodes/a\r\nX-Remote-User: admin\r\nImpersonate-User: b\r\n",
    ):
        reader, writer = await asyncio.open_connection(host, int(port), ssl=furnished.tls(node="a"))
        line = f"GET {BASE}/{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n"
        writer.write(line.encode())
        async with asyncio.timeout(5):
            answer = await reader.read()
        writer.close()
        assert answer.split()[1] in (b"301", b"308", b"400", b"403", b"404", b"405"), answer[:200]
        assert CANARY.encode() not in answer
        assert b"theirs" not in answer


async def test_its_own_stream_stays_empty_whatever_it_claims(furnished: Running) -> None:
    """Foreign uids, names and namespaces in its reports move nothing to it."""
    async with stream(furnished, "a") as messages, furnished.client(node="a") as thief:
        assert (await anext(messages)).secrets == []
        claims = [
            StatusReport(namespace=namespace, name=name, uid=uid, status=TaskStatus(state=state))
            for namespace in (*NAMESPACES, "", "..", "none")
            for name in ("default-1", "shop-1", "../shop/shop-1", "")
            for uid in ("uid-default-1", "uid-shop-1", "mine", "")
            for state in (TaskState.RUNNING, TaskState.FAILED, TaskState.ASSIGNED)
        ]
        result = await thief.report("a", claims)
        assert {rejected.reason for rejected in result.rejected} == {"NotFound", "OtherNode"}
        assert len(result.rejected) == len(claims)
        for body in (
            b'{"items": [{"namespace": "shop", "name": "shop-1", "uid": "uid-shop-1",'
            b' "status": {"state": "Running"}, "spec": {"node": "a"}, "node": "a"}], "node": "b"}',
            b'{"items": [], "secrets": ["shop/theirs"], "tasks": [{"spec": {"node": "a"}}]}',
        ):
            connector = aiohttp.TCPConnector(ssl=furnished.tls(node="a"))
            async with aiohttp.ClientSession(connector=connector) as raw:
                url = f"{furnished.url}{BASE}/nodes/a/statuses"
                async with raw.post(url, data=body) as answer:
                    assert answer.status in (200, 400)
                async with raw.post(url.replace("/a/", "/b/"), data=body) as answer:
                    assert answer.status == 403
        # Something of its own comes after all that, and nothing before it.
        await furnished.put(task("own-1", node="a", service="own", revision="own-1"))
        message = await anext(messages)
        assert [each.metadata.name for each in message.tasks] == ["own-1"]
        assert message.secrets == []
    async with stream(furnished, "b") as theirs:
        assert len((await anext(theirs)).secrets) == len(NAMESPACES)


# Certificates that are none, or none any more


async def refused(server: Running, credentials: Credentials) -> None:
    report = StatusReport(namespace="n", name="t", uid="u", status=TaskStatus())
    async with Client(server.url, client_context(credentials), patience=0) as client:
        for attempt in (
            anext(client.assignments("b")),
            client.open_session("b", SessionRequest()),
            client.heartbeat("b"),
            client.report("b", [report]),
        ):
            with pytest.raises((ApiError, Unreachable)) as caught:
                await attempt
            if isinstance(caught.value, ApiError):
                assert caught.value.code in (401, 403)


def ours(server: Running, credentials: Credentials) -> Credentials:
    """They trust our server, whether or not it trusts them."""
    return credentials._replace(ca_pem=server.authority.ca_pem)


async def test_foreign_expired_and_other_certificates_get_nothing(
    furnished: Running, tmp_path: Path
) -> None:
    foreign = Authority.create(tmp_path / "foreign")
    # Also one whose authority has the very name of ours.
    twin = Authority.generate()
    long_ago = datetime.now(UTC) - timedelta(days=400)
    old = Authority.from_pem(
        furnished.authority.ca_pem, furnished.authority.private_pem(), clock=lambda: long_ago
    )
    held = [
        foreign.issue("b", Role.NODE),
        twin.issue("b", Role.NODE, uid="uid-b"),
        old.issue("b", Role.NODE),
        furnished.authority.issue("b", Role.ETCD),
        furnished.authority.issue("b", Role.MANAGER),
        furnished.authority.issue("b", Role.USER),
        furnished.authority.issue("a", Role.NODE),
        furnished.authority.issue("b", Role.NODE, uid="of-one-that-was-before"),
    ]
    for credentials in held:
        await refused(furnished, ours(furnished, credentials))


async def test_a_client_of_a_wrong_authority_tells_the_server_nothing_and_gets_nothing(
    furnished: Running, tmp_path: Path
) -> None:
    """Who trusts another cluster's authority breaks off before it has said who it is."""
    foreign = Authority.create(tmp_path / "foreign")
    mixed = furnished.credentials(node="b")._replace(ca_pem=foreign.ca_pem)
    async with Client(furnished.url, client_context(mixed), patience=0) as client:
        with pytest.raises(Unreachable, match="certificate"):
            await anext(client.assignments("b"))


async def test_a_certificate_that_expires_ends_what_it_holds_open(furnished: Running) -> None:
    brief = furnished.authority.issue("b", Role.NODE, days=4 / 86_400)
    async with Client(furnished.url, client_context(brief), patience=0) as client:
        messages = client.assignments("b")
        assert len((await anext(messages)).secrets) == len(NAMESPACES)
        async with asyncio.timeout(20):
            assert [message async for message in messages] == []
        with pytest.raises((ApiError, Unreachable)):
            await client.heartbeat("b")


async def test_a_node_that_was_removed_gets_nothing_more(server: Running, admin: Client) -> None:
    member = await joined(server, "b")
    await admin.create(secret("theirs", value=CANARY))
    await server.put(revision("web-1", secrets=["theirs"]))
    async with as_node(server, member) as agent:
        await agent.open_session("b", SessionRequest())
        messages = agent.assignments("b")
        assert (await anext(messages)).secrets == []
        await admin.delete(NODE, "", "b", force=True)
        await server.put(task("late-1", node="b", state=TaskState.ASSIGNED))
        async with asyncio.timeout(5):
            assert [message async for message in messages] == []
    await refused(server, member.credentials)


async def test_what_was_said_once_is_worth_nothing_said_again(furnished: Running) -> None:
    """All bytes that b's agent sent, from a connection's first to its last, by another."""
    async with relayed(furnished) as relay, relay.client(furnished, node="b") as agent:
        messages = agent.assignments("b")
        assert len((await anext(messages)).secrets) == len(NAMESPACES)
        await messages.aclose()
    assert any(relay.sent)
    for bytes_of_one in relay.sent:
        reader, writer = await asyncio.open_connection("127.0.0.1", furnished.port)
        writer.write(bytes(bytes_of_one))
        writer.write_eof()
        async with asyncio.timeout(5):
            answer = await reader.read()
        writer.close()
        # A handshake that comes to nothing: its keys are others each time.
        assert len(answer) < 4096
        assert CANARY.encode() not in answer
