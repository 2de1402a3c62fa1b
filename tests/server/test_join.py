"""Joining: what a token opens, and that nothing else opens anything."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import msgspec
import pytest
from yarl import URL

from api.client import ApiError, Client, Unreachable
from api.membership import Membership, MembershipError, join
from api.pki.authority import Authority, parse_certificate
from api.pki.identity import Role
from api.pki.requests import new_request
from api.pki.tls import client_context, server_context, stranger_context
from api.server import Settings, serve
from api.store.contract import Write
from api.trust.records import ManagerRecord, manager_key
from api.types.assignment import SessionRequest
from api.types.join import JoinRequest
from api.types.kinds import NODE, SERVICE
from api.types.meta import Metadata, Object
from api.types.node import Node, NodeStatus
from tests.server.harness import Running, running_server


def stranger(server: Running) -> Client:
    return Client(server.url, stranger_context(server.authority.ca_pem), patience=0)


def token(server: Running, role: str = "worker") -> str:
    return str(server.trust.token(role))


async def joined(server: Running, name: str = "a", **more: Any) -> Membership:
    member, _ = await join([server.url], token(server), name=name, **more)
    return member


def as_node(server: Running, member: Membership) -> Client:
    return Client(server.url, client_context(member.credentials), patience=0)


async def refusal(server: Running, **more: Any) -> ApiError:
    wanted = {"token": token(server), "request": new_request()[1], "node": "a"} | more
    async with stranger(server) as client:
        with pytest.raises(ApiError) as caught:
            await client.join(JoinRequest(**wanted))
    return caught.value


# What a token opens


async def test_a_machine_with_a_token_becomes_a_node(server: Running, admin: Client) -> None:
    member = await joined(server, "a", labels={"zone": "east"})
    node = await admin.get(NODE, "", "a")
    assert (node["metadata"]["labels"], node["spec"]["role"]) == ({"zone": "east"}, "worker")
    uid = node["metadata"]["uid"]
    subject = parse_certificate(member.cert).subject.rfc4514_string()
    assert subject == f"UID={uid},CN=a,O=skep:node"
    async with as_node(server, member) as agent:
        await agent.open_session("a", SessionRequest())
        shown = (await admin.get(NODE, "", "a"))["status"]["certificate"]
        assert shown["authority"] == server.authority.id
        assert shown["expires"]
        with pytest.raises(ApiError, match="may not"):
            await agent.list(SERVICE)


async def test_a_nodes_certificate_lives_as_long_as_is_set() -> None:
    async with running_server(settings=Settings(node_days=1 / 24)) as server:
        certificate = parse_certificate((await joined(server)).cert)
        life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        assert 3600 <= life.total_seconds() <= 3600 + 300


async def test_a_node_that_a_manifest_declared_is_taken(server: Running, admin: Client) -> None:
    await admin.apply(
        [{"apiVersion": "skep.dev/v1", "kind": "Node", "metadata": {"name": "a"},
          "spec": {"availability": "drain"}}]
    )  # fmt: skip
    member = await joined(server)
    node = await admin.get(NODE, "", "a")
    assert node["spec"]["availability"] == "drain"
    assert node["metadata"]["uid"] in parse_certificate(member.cert).subject.rfc4514_string()


async def test_a_join_that_was_cut_off_can_be_repeated(server: Running) -> None:
    first, second = await joined(server), await joined(server)
    assert first.key != second.key
    async with as_node(server, second) as agent:
        await agent.open_session("a", SessionRequest())


async def test_a_managers_token_gives_the_vault_key() -> None:
    async with running_server(settings=Settings(shared_store=True)) as server:
        member, reply = await join([server.url], token(server, "manager"), name="m2")
        assert (member.role, reply.vault_key) == ("manager", server.trust.vault_key)
        _, worker = await join([server.url], token(server), name="w")
        assert worker.vault_key == ""


async def test_a_manager_cannot_join_where_it_could_not_reach_the_store(server: Running) -> None:
    error = await refusal(server, token=token(server, "manager"))
    assert error.code == 409
    assert "--etcd-endpoints" in error.message


async def test_tokens_of_both_roots_join_while_one_takes_the_others_place(server: Running) -> None:
    """The manager shows a certificate of the new root, which the old one vouches for."""
    before = token(server)
    await server.trust.rotate()
    mine = server.trust.signing.issue("manager", Role.MANAGER)
    both = mine._replace(ca_pem=server.trust.bundle)
    server.listener.use(server_context(both, strangers=True))
    after = token(server)
    assert before != after
    for name, text in (("a", before), ("b", after)):
        member, _ = await join([server.url], text, name=name)
        assert member.ca == server.trust.bundle
        async with as_node(server, member) as agent:
            await agent.open_session(name, SessionRequest())
    await server.trust.finish_rotation()
    with pytest.raises(MembershipError, match="another digest"):
        await join([server.url], before, name="c")


# What is refused


class Events(list[tuple[str, str, str]]):
    def __call__(
        self, obj: Object, type: str, reason: str, message: str, /, *, component: str = ""
    ) -> None:
        self.append((type, reason, message))


async def test_wrong_old_and_other_roles_tokens_are_refused_and_told() -> None:
    events = Events()
    async with running_server(note=events) as server:
        other = str(server.trust.token("worker")._replace(secret="a" * 26))
        before = token(server)
        await server.trust.rotate_token("worker")
        assert (await refusal(server, token=other)).code == 403
        assert "replaced by a newer one" in (await refusal(server, token=before)).message
        wrong = await refusal(server, role="manager")
        assert (wrong.code, "for joining as a worker" in wrong.message) == (403, True)
        assert (await refusal(server, token="password")).code == 403
        assert [event[:2] for event in events] == [("Warning", "JoinRefused")] * 4
        assert all("127.0.0.1 may not join" in event[2] for event in events)
        assert not any(server.trust.token("worker").secret in event[2] for event in events)
        assert server.cache.items(NODE) == []


async def test_who_is_refused_too_often_has_to_wait(server: Running) -> None:
    async def attempt() -> int:
        return (await refusal(server, token="wrong")).code

    codes = [await attempt() for _ in range(11)]
    assert codes == [403] * 10 + [429]
    assert (await refusal(server)).code == 429  # the right one too, from there


async def test_a_name_that_another_machine_has_is_refused(server: Running, admin: Client) -> None:
    member = await joined(server)
    async with as_node(server, member) as agent:
        status = NodeStatus(agent_version="0.1.0")
        await agent.open_session("a", SessionRequest(status=status))
    error = await refusal(server)
    assert (error.code, error.reason) == (409, "AlreadyExists")
    assert "ctl node rm a" in error.message


@pytest.mark.parametrize("node", ["", "UPPER", "a/b", "../x", "n" * 65])
async def test_a_name_that_is_none_is_refused(server: Running, node: str) -> None:
    assert (await refusal(server, node=node)).code in (400, 422)
    assert server.cache.items(NODE) == []


async def test_a_request_that_is_none_is_refused(server: Running) -> None:
    assert (await refusal(server, request="nothing")).code == 400


async def test_a_large_body_of_a_stranger_is_refused(server: Running) -> None:
    assert (await refusal(server, labels={"x": "y" * 100_000})).code == 413


# Whom the machine trusts


class Thief:
    """A server of another authority that wants to know what it is told."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.offered: list[str] = []

    async def answer(self, request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        self.heard.append(await request.read())
        return aiohttp.web.json_response({"authorities": self.offered})


@pytest.fixture
async def thief() -> AsyncIterator[tuple[Thief, str, Authority]]:
    from aiohttp import web

    it, authority = Thief(), Authority.generate()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", it.answer)
    tls = server_context(authority.issue("manager", Role.MANAGER), strangers=True)
    listener = await serve(app, host="127.0.0.1", port=0, tls=tls)
    try:
        yield it, f"https://127.0.0.1:{listener.addresses[0][1]}", authority
    finally:
        await listener.cleanup()


async def test_the_secret_is_not_told_to_another_cluster(
    server: Running, thief: tuple[Thief, str, Authority]
) -> None:
    it, url, authority = thief
    it.offered = [authority.ca_pem]
    with pytest.raises(MembershipError, match="was not sent"):
        await join([url], token(server), name="a")
    assert it.heard == [b""]


async def test_nor_to_one_that_shows_our_authority_but_is_not_of_it(
    server: Running, thief: tuple[Thief, str, Authority]
) -> None:
    it, url, _ = thief
    it.offered = [server.authority.ca_pem]
    with pytest.raises(Unreachable, match="another authority"):
        await join([url], token(server), name="a")
    assert it.heard == [b""]


# What is open to those without a certificate

PATHS = [
    "/",
    "/healthz",
    "/readyz",
    "/version",
    "/metrics",
    "/api",
    "/apis",
    "/openapi/v3",
    "/apis/skep.dev/v1",
    "/apis/skep.dev/v1/",
    "/apis/skep.dev/v1/apply",
    "/apis/skep.dev/v1/authority",
    "/apis/skep.dev/v1/authority/rotate",
    "/apis/skep.dev/v1/certificate",
    "/apis/skep.dev/v1/components",
    "/apis/skep.dev/v1/join/",
    "/apis/skep.dev/v1/join/x",
    "/apis/skep.dev/v1/JOIN",
    "/apis/skep.dev/v1%2Fjoin",
    "/apis%2Fskep.dev/v1/join",
    "/apis/skep.dev/v1/join%2F",
    "/apis/skep.dev/v1/join%2F..%2Ftokens%2Fmanager",
    "/apis/skep.dev/v1/join;/../components",
    "//apis/skep.dev/v1/join",
    "/apis/skep.dev/v1/namespaces/default/secrets",
    "/apis/skep.dev/v1/nodes/a/heartbeat",
    "/apis/skep.dev/v1/nodes/a/session",
    "/apis/skep.dev/v1/services?watch=true",
    "/apis/skep.dev/v1/tokens/manager",
    "/apis/skep.dev/v1/tokens/manager/rotate",
]


@pytest.mark.parametrize("path", PATHS)
async def test_without_a_certificate_nothing_answers(server: Running, path: str) -> None:
    """However the path is written."""
    tls = stranger_context(server.authority.ca_pem)
    async with aiohttp.ClientSession() as session:
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            url = URL(server.url + path, encoded=True)
            async with session.request(method, url, ssl=tls, data=b"{}") as answer:
                assert answer.status == 401
                if method != "HEAD":
                    said = await answer.json()
                    assert (said["kind"], said["reason"]) == ("Status", "Unauthorized")


async def test_without_a_certificate_no_route_answers(server: Running) -> None:
    """Whatever else the server learns to serve."""
    tls = stranger_context(server.authority.ca_pem)
    asked = 0
    async with aiohttp.ClientSession(server.url) as session:
        for method, pattern in server.routes:
            path = re.sub(r"\{[^}]*\}", "x", pattern)
            if path == "/apis/skep.dev/v1/join":
                continue
            for each in ("GET", "POST") if method == "*" else (method,):
                async with session.request(each, path, ssl=tls) as answer:
                    assert answer.status == 401, f"{each} {path}"
                asked += 1
    assert asked > 15


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_the_join_path_takes_no_other_methods(server: Running, method: str) -> None:
    tls = stranger_context(server.authority.ca_pem)
    url = f"{server.url}/apis/skep.dev/v1/join"
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, ssl=tls, data=b"{}") as answer,
    ):
        assert answer.status in (401, 405)


async def test_what_the_join_path_tells_a_stranger_is_public(server: Running) -> None:
    tls = stranger_context(server.authority.ca_pem)
    url = f"{server.url}/apis/skep.dev/v1/join"
    async with aiohttp.ClientSession() as session, session.get(url, ssl=tls) as answer:
        assert await answer.json() == {"authorities": [server.authority.ca_pem]}


async def test_a_bad_certificate_opens_not_even_the_join_path(server: Running) -> None:
    other = Authority.generate().issue("admin", Role.ADMIN)
    tls = client_context(other._replace(ca_pem=server.authority.ca_pem))
    async with Client(server.url, tls, patience=0) as client:
        with pytest.raises(Unreachable):
            await client.join_offer()


async def test_a_resumed_connection_is_no_way_around(server: Running) -> None:
    """No session can be resumed: each connection's certificate is looked at anew."""
    tls = client_context(server.credentials())
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=tls)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"200 OK" in await reader.read()
    made: ssl.SSLObject = writer.get_extra_info("ssl_object")
    assert made.session is None or not made.session.has_ticket
    writer.close()


# Tokens and their keepers


async def test_tokens_are_for_admins(server: Running, admin: Client) -> None:
    assert await admin.token("worker") == token(server)
    made = await admin.token("worker", rotate=True)
    assert made == token(server)
    with pytest.raises(ApiError) as caught:
        await admin.token("king")
    assert caught.value.code == 404
    async with as_node(server, await joined(server)) as agent:
        for attempt in (
            agent.token("worker"),
            agent.token("manager", rotate=True),
            agent.authority(),
            agent.authority(rotate=True),
        ):
            with pytest.raises(ApiError) as caught:
                await attempt
            assert caught.value.code == 403


# Those who were removed


async def test_a_removed_nodes_certificate_opens_nothing(server: Running, admin: Client) -> None:
    member = await joined(server)
    async with as_node(server, member) as agent:
        await agent.open_session("a", SessionRequest())
        assignments = agent.assignments("a")
        await anext(assignments)
        await admin.delete(NODE, "", "a", force=True)
        async with asyncio.timeout(5):  # the stream that is open is cut
            assert [line async for line in assignments] == []
        for attempt in (
            agent.heartbeat("a"),
            agent.open_session("a", SessionRequest()),
            agent.version(),
            agent.renew(new_request()[1]),
        ):
            with pytest.raises(ApiError) as caught:
                await attempt
            assert (caught.value.code, "was removed" in caught.value.message) == (401, True)
    assert server.cache.get(NODE, "", "a") is None


async def test_a_managers_machine_is_demoted_before_it_is_removed(
    server: Running, admin: Client
) -> None:
    await joined(server)
    await admin.apply([machine("a", "manager"), machine("other", "manager")])
    with pytest.raises(ApiError, match="ctl node demote a") as caught:
        await admin.delete(NODE, "", "a", force=True)
    assert caught.value.code == 409
    await admin.patch(NODE, "", "a", {"spec": {"role": "worker"}})
    await admin.delete(NODE, "", "a")


def machine(name: str, role: str) -> dict[str, Any]:
    metadata = {"name": name}
    return {
        "apiVersion": "skep.dev/v1", "kind": "Node", "metadata": metadata, "spec": {"role": role},
    }  # fmt: skip


async def test_the_last_manager_stays_one_whatever_is_asked(server: Running, admin: Client) -> None:
    await admin.apply([machine(name, "manager") for name in ("a", "b")])
    demoting = {"spec": {"role": "worker"}}
    with pytest.raises(ApiError) as caught:
        await admin.apply([machine(name, "worker") for name in ("a", "b")])
    assert "last manager" in str(caught.value.causes)
    assert {item.obj.spec.role for item in server.cache.items(NODE)} == {"manager"}, "all or none"
    await admin.patch(NODE, "", "a", demoting)
    live = await admin.get(NODE, "", "b")
    for attempt in (
        admin.patch(NODE, "", "b", demoting),
        admin.replace({**live, **demoting}),
        admin.replace({key: value for key, value in live.items() if key != "spec"}),
        admin.apply([machine("b", "worker")]),
    ):
        with pytest.raises(ApiError) as caught:
            await attempt
        said = caught.value.message + str(caught.value.causes)
        assert "last manager" in said
        assert "ctl node promote" in said
    await admin.patch(NODE, "", "b", {"spec": {"availability": "drain"}})
    await admin.apply([machine("a", "manager"), machine("b", "worker")])
    since = datetime(2026, 1, 1, tzinfo=UTC)
    for name in ("a", "on-no-node"):
        alive = ManagerRecord(url=f"https://{name}", since=since, signs="", trusts=[])
        await server.store.commit([Write(manager_key(name), msgspec.json.encode(alive))])
    await server.trust.open()
    await admin.patch(NODE, "", "a", demoting)


async def test_a_node_made_anew_under_its_name_does_not_bring_the_old_one_back(
    server: Running, admin: Client
) -> None:
    old = await joined(server)
    await admin.delete(NODE, "", "a", force=True)
    new = await joined(server)
    async with as_node(server, new) as agent:
        await agent.open_session("a", SessionRequest())
    async with as_node(server, old) as agent:
        with pytest.raises(ApiError) as caught:
            await agent.open_session("a", SessionRequest())
        assert caught.value.code == 401


# Renewing


async def test_a_node_renews_as_itself_alone(server: Running) -> None:
    member = await joined(server)
    async with as_node(server, member) as agent:
        reply = await agent.renew(new_request()[1])
    before, after = parse_certificate(member.cert), parse_certificate(reply.certificate)
    assert after.subject == before.subject
    assert after.public_key() != before.public_key()
    assert reply.trust == server.authority.ca_pem


async def test_people_are_told_when_their_certificate_is_due(server: Running) -> None:
    def issued(role: Role, age: float) -> ssl.SSLContext:
        """Of 100 days, this many days ago."""
        then = datetime.now(UTC) - timedelta(days=age)
        root = server.authority
        past = Authority.from_pem(root.ca_pem, root.private_pem(), clock=lambda: then)
        return client_context(past.issue("admin", role, days=100))

    async def told(tls: ssl.SSLContext) -> bool:
        async with Client(server.url, tls, patience=0) as client:
            await client.version()
            return client.told_to_renew

    assert not await told(issued(Role.ADMIN, 49))
    assert await told(issued(Role.ADMIN, 51))
    assert not await told(issued(Role.NODE, 51))  # its agent does it by itself
    before = issued(Role.ADMIN, 0)
    await server.trust.rotate()
    assert await told(before)


async def test_certificates_that_are_no_clients_are_not_renewed(server: Running) -> None:
    for role in (Role.MANAGER, Role.ETCD, Role.USER):
        async with Client(server.url, server.tls(role=role), patience=0) as client:
            with pytest.raises(ApiError) as caught:
                await client.renew(new_request()[1])
            assert caught.value.code in (401, 403)


async def test_nodes_are_asked_to_renew_while_the_root_is_replaced(
    server: Running, admin: Client
) -> None:
    from api.types.meta import Condition

    member = await joined(server)
    async with as_node(server, member) as agent:
        await agent.open_session("a", SessionRequest())
        assert (await agent.heartbeat("a")).trust == server.authority.id
        await admin.authority(rotate=True, keep=3600)
        item = server.cache.get(NODE, "", "a")
        assert item is not None
        ready = NodeStatus(
            certificate=item.obj.status.certificate,
            conditions=[Condition(type="Ready", status="True")],
        )
        await server.put(Node(metadata=Metadata(name="a", uid=item.obj.metadata.uid), status=ready))
        assert (await agent.heartbeat("a")).renew
        now = await admin.authority()
        assert now.keep_until is not None
        assert now.keep_until - now.since == timedelta(hours=1)
        assert (now.moved, now.nodes, len(now.waiting)) == (0, 1, 1)
        reply = await agent.renew(new_request()[1])
        assert reply.trust.count("BEGIN CERTIFICATE") == 2
