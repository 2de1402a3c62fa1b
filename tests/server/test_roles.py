"""What each role may do: decided by a table, and held by the server."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from api.client import ApiError, Client, ClientError
from api.pki.credentials import Credentials
from api.pki.identity import Role
from api.pki.requests import new_request
from api.pki.tls import client_context
from api.server.paths import Target
from api.server.roles import allowed, refusal
from api.types.kinds import (
    CONFIG,
    KINDS,
    NAMESPACE,
    NODE,
    SECRET,
    SERVICE,
    TASK,
    USER,
)
from api.types.meta import Metadata
from api.types.namespace import Namespace
from api.types.user import Grant, User, UserSpec
from tests.server.harness import Running, config, secret, service, task

VERBS = ("get", "list", "create", "update", "patch", "delete")
WRITES = VERBS[2:]


def every_target() -> list[Target]:
    return [
        Target(kind, "shop" if kind.namespaced else "", name)
        for kind, name in itertools.product(KINDS, ("", "x"))
    ]


@pytest.mark.parametrize("verb", VERBS)
def test_an_admin_may_do_everything(verb: str) -> None:
    assert all(allowed([Grant(role="admin")], verb, target) for target in every_target())


@pytest.mark.parametrize("verb", WRITES)
def test_an_operator_writes_all_but_secrets_and_users(verb: str) -> None:
    for target in every_target():
        wanted = target.kind not in (SECRET, USER)
        assert allowed([Grant(role="operator")], verb, target) is wanted, target


def test_a_viewer_reads_and_nothing_else() -> None:
    for verb, target in itertools.product(VERBS, every_target()):
        assert allowed([Grant(role="viewer")], verb, target) is (verb in ("get", "list"))


def test_who_has_no_grant_may_nothing() -> None:
    assert not any(allowed([], *each) for each in itertools.product(VERBS, every_target()))


@pytest.mark.parametrize("role", ["admin", "operator", "viewer"])
def test_a_grant_for_namespaces_ends_at_their_walls(role: str) -> None:
    grants = [Grant(role=role, namespaces=["shop"])]
    for verb, target in itertools.product(VERBS, every_target()):
        outside = target._replace(namespace="other" if target.kind.namespaced else "")
        if target.kind is NAMESPACE:
            outside = Target(NAMESPACE, "", "other")
        everywhere = Target(target.kind, "", "")
        assert not allowed(grants, verb, outside)
        assert not allowed(grants, verb, everywhere)
    assert allowed(grants, "get", Target(NAMESPACE, "", "shop"))
    assert not allowed(grants, "delete", Target(NAMESPACE, "", "shop"))
    assert allowed(grants, "list", Target(SERVICE, "shop"))


def test_grants_add_up() -> None:
    grants = [Grant(role="operator", namespaces=["shop"]), Grant(role="viewer")]
    assert allowed(grants, "patch", Target(SERVICE, "shop", "web"))
    assert allowed(grants, "get", Target(SERVICE, "other", "web"))
    assert not allowed(grants, "patch", Target(SERVICE, "other", "web"))


def test_a_refusal_says_who_what_and_what_instead() -> None:
    grants = [Grant(role="viewer", namespaces=["shop"])]
    said = refusal("user sam", grants, "delete", Target(SERVICE, "blog", "web"))
    assert said == "user sam may not delete services blog/web; it is viewer in shop (use -n)"
    said = refusal("user sam", grants, "list", Target(SERVICE))
    assert "list services of all namespaces" in said


# On a server


async def user(server: Running, name: str, *grants: Grant) -> Client:
    """A client of a user with these grants."""
    await server.put(
        User(metadata=Metadata(name=name, uid=f"uid-{name}"), spec=UserSpec(grants=list(grants)))
    )
    async with server.client() as admin:
        credentials = await certificate(admin, name)
    return Client(server.url, client_context(credentials), patience=0)


async def certificate(admin: Client, name: str, *, withdraw: bool = False) -> Credentials:
    key, request = new_request()
    reply = await admin.user_certificate(name, request, days=1, withdraw=withdraw)
    return Credentials(cert_pem=reply.certificate, key_pem=key, ca_pem=reply.trust)


async def refused(attempt: object) -> str:
    """Why; its code is 401 or 403."""
    with pytest.raises(ApiError) as caught:
        await attempt  # type: ignore[misc]
    assert caught.value.code in (401, 403)
    return caught.value.message


async def test_an_operator_of_a_namespace_works_there_alone(server: Running, admin: Client) -> None:
    await server.put(Namespace(metadata=Metadata(name="shop", uid="ns-2")))
    await admin.create(secret(namespace="shop"))
    async with await user(server, "sam", Grant(role="operator", namespaces=["shop"])) as sam:
        await sam.apply([service(namespace="shop"), config(namespace="shop")])
        assert len((await sam.list(SERVICE, "shop")).items) == 1
        await sam.get(NAMESPACE, "", "shop")
        for attempt in (
            sam.list(SERVICE),
            sam.list(NODE),
            sam.list(USER),
            sam.get(SERVICE, "default", "web"),
            sam.delete(CONFIG, "default", "settings"),
            sam.delete(SECRET, "shop", "password"),
            sam.create(secret("other", "shop")),
            sam.delete(NAMESPACE, "", "shop"),
            sam.components(),
        ):
            assert "user sam may not" in await refused(attempt)


async def test_of_a_set_with_one_refused_object_nothing_is_written(
    server: Running, admin: Client
) -> None:
    async with await user(server, "sam", Grant(role="operator")) as sam:
        with pytest.raises(ApiError) as caught:
            await sam.apply([service(), secret("a"), secret("b")])
    assert caught.value.code == 403
    assert [cause["index"] for cause in caught.value.causes] == [1, 2]
    assert (await admin.list(SERVICE)).items == []


async def test_an_operator_does_not_delete_secrets_with_their_namespace(
    server: Running, admin: Client
) -> None:
    for name in ("full", "empty"):
        await server.put(Namespace(metadata=Metadata(name=name, uid=f"ns-{name}")))
    await admin.create(secret(namespace="full"))
    async with await user(server, "sam", Grant(role="operator")) as sam:
        assert "it holds secrets" in await refused(sam.delete(NAMESPACE, "", "full"))
        await sam.delete(NAMESPACE, "", "empty")


async def test_pruning_needs_the_right_to_delete(server: Running, admin: Client) -> None:
    await admin.apply([service(), secret()], prune="set")
    async with await user(server, "sam", Grant(role="operator")) as sam:
        assert "delete secrets default/password" in await refused(
            sam.apply([service()], prune="set")
        )
    assert len((await admin.list(SECRET)).items) == 1


async def test_a_viewer_sees_and_does_not_touch(server: Running, admin: Client) -> None:
    await admin.apply([service(), secret()])
    await server.put(task("web-1-x"))
    async with await user(server, "vic", Grant(role="viewer")) as vic:
        assert len((await vic.list(SERVICE)).items) == 1
        (seen,) = (await vic.list(SECRET)).items
        assert "data" not in seen
        await vic.components()
        await refused(vic.patch(SERVICE, "default", "web", {"spec": {"replicas": 2}}))
        await refused(vic.delete(TASK, "default", "web-1-x"))
        with pytest.raises(ApiError, match="may not create tasks/exec"):
            async with vic.exec("default", "web-1-x", ["sh"]):
                pass


async def test_rights_change_and_end_with_the_next_request(server: Running, admin: Client) -> None:
    async with await user(server, "sam", Grant(role="viewer")) as sam:
        await sam.list(SERVICE)
        await admin.patch(USER, "", "sam", {"spec": {"grants": []}})
        assert "it has no role" in await refused(sam.list(SERVICE))
        await admin.delete(USER, "", "sam")
        assert "does not exist any more" in await refused(sam.list(SERVICE))
        # Somebody new of the same name is not the holder of the old certificate.
        await server.put(User(metadata=Metadata(name="sam", uid="2")))
        assert "was withdrawn" in await refused(sam.list(SERVICE))


async def test_a_certificate_that_was_not_issued_for_the_user_is_refused(server: Running) -> None:
    async with await user(server, "sam", Grant(role="admin")):
        tls = client_context(server.authority.issue("sam", Role.USER))
        async with Client(server.url, tls, patience=0) as other:
            assert "was withdrawn" in await refused(other.list(SERVICE))


async def test_withdrawing_leaves_only_the_newest_certificate(
    server: Running, admin: Client
) -> None:
    async with await user(server, "sam", Grant(role="viewer")) as sam:
        second = await certificate(admin, "sam")
        async with Client(server.url, client_context(second), patience=0) as elsewhere:
            await elsewhere.list(SERVICE)
            await sam.list(SERVICE)
            third = await certificate(admin, "sam", withdraw=True)
            for old in (sam, elsewhere):
                assert "was withdrawn" in await refused(old.list(SERVICE))
        async with Client(server.url, client_context(third), patience=0) as newest:
            await newest.list(SERVICE)


async def test_what_is_held_open_ends_with_the_rights_it_was_opened_with(
    server: Running, admin: Client
) -> None:
    async with await user(server, "sam", Grant(role="viewer")) as sam:
        changes = sam.watch(SERVICE, resource_version="0")
        await admin.create(service())
        async with asyncio.timeout(20):
            await anext(changes)
            await admin.patch(USER, "", "sam", {"spec": {"grants": []}})
            await admin.create(service("second"))
            with pytest.raises(ClientError):
                await anext(changes)


async def test_a_user_renews_its_own_certificate(server: Running) -> None:
    async with await user(server, "sam", Grant(role="viewer")) as sam:
        key, wanted = new_request()
        reply = await sam.renew(wanted)
        tls = client_context(Credentials(reply.certificate, key, reply.trust))
        async with Client(server.url, tls, patience=0) as renewed:
            await renewed.list(SERVICE)


async def test_only_admins_issue_certificates(server: Running, admin: Client) -> None:
    async with await user(server, "sam", Grant(role="operator")) as sam:
        await refused(certificate(sam, "sam"))
    with pytest.raises(ApiError, match="user nobody does not exist"):
        await certificate(admin, "nobody")


async def test_a_user_grants_nothing_to_itself(server: Running) -> None:
    async with await user(server, "sam", Grant(role="operator")) as sam:
        await refused(sam.patch(USER, "", "sam", {"spec": {"grants": [{"role": "admin"}]}}))
        more = {
            "apiVersion": "skep.dev/v1",
            "kind": "User",
            "metadata": {"name": "second"},
            "spec": {"grants": [{"role": "admin"}]},
        }
        await refused(sam.create(more))
        await refused(sam.apply([more]))
