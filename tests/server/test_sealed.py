"""Sealed values are opened on their way in, by every way in, and refused in exact words."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from api.client import ApiError, Client
from api.seal.keys import SealingKey
from api.seal.place import Place, Scope
from api.seal.sealed import seal
from api.store.keys import payload_key
from api.store.memory import MemoryStore
from api.types.kinds import SECRET
from api.types.meta import Metadata
from api.types.namespace import Namespace
from api.types.secret import Payload
from api.types.user import Grant
from tests.server.harness import Running, running_server
from tests.server.test_roles import refused, user
from tests.store.conftest import sealed_over

BASE = "/apis/skep.dev/v1"
PATH = f"{BASE}/namespaces/default/secrets"


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    async with running_server() as running:
        await running.trust.new_sealing_key()
        yield running


def sealed(
    server: Running,
    text: str,
    key: str = "password",
    *,
    name: str = "db",
    namespace: str = "default",
    scope: Scope = Scope.STRICT,
    to: SealingKey | None = None,
) -> str:
    newest = to or server.trust.sealing.newest
    assert newest is not None
    return seal(text.encode(), Place(namespace, name, key), scope, newest.public)


def secret(name: str = "db", **values: str) -> dict[str, Any]:
    return {
        "apiVersion": "skep.dev/v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "default"},
        "sealed": values,
    }


async def stored(server: Running, name: str = "db") -> dict[str, str]:
    """What is in the store, version by version the newest."""
    item = server.cache.get(SECRET, "default", name)
    assert item is not None
    found = await server.store.get(payload_key("default", name, item.obj.status.version))
    assert found is not None
    payload = msgspec.json.decode(found.value, type=Payload)
    return {key: value.decode() for key, value in payload.data.items()}


async def send(
    client: Client, method: str, path: str, body: Any, kind: str = "application/json", **query: str
) -> dict[str, Any]:
    raw = await client._bytes(
        method, path, query=query, body=json.dumps(body).encode(), content_type=kind
    )
    answer: dict[str, Any] = json.loads(raw)
    return answer


async def test_a_new_secret_has_what_was_sealed_and_says_nothing_of_it(server: Running) -> None:
    text = sealed(server, "hunter2")
    async with server.client() as client:
        made = await client.create(secret(password=text))
        assert made["status"]["version"] == 1
        assert made["status"]["sizes"] == {"password": 7}
        assert "sealed" not in made and "data" not in made
    assert await stored(server) == {"password": "hunter2"}


@pytest.mark.parametrize("way", ["put", "merge", "json", "kubectl", "apply"])
async def test_every_way_in_opens(server: Running, way: str) -> None:
    async with server.client() as client:
        await client.create(
            secret(password=sealed(server, "old"), user=sealed(server, "me", "user"))
        )
        text = sealed(server, "new")
        values = {"password": text, "user": sealed(server, "me", "user")}
        path = f"{PATH}/db"
        match way:
            case "put":
                await client.replace(secret(**values))
            case "merge":
                await client.patch(SECRET, "default", "db", {"sealed": {"password": text}})
            case "json":
                steps = [{"op": "add", "path": "/sealed/password", "value": text}]
                await send(client, "PATCH", path, steps, "application/json-patch+json")
            case "kubectl":
                await send(
                    client, "PATCH", path, secret(**values), "application/apply-patch+yaml",
                    fieldManager="kubectl", force="true",
                )  # fmt: skip
            case "apply":
                result = await client.apply([secret(**values)])
                assert result.items[0].result == "configured"
        found = await client.get(SECRET, "default", "db")
        assert found["status"]["version"] == 2
        assert "sealed" not in found and "skep-seal" not in json.dumps(found)
    assert await stored(server) == {"password": "new", "user": "me"}


async def test_the_same_value_sealed_again_is_no_new_version(server: Running) -> None:
    async with server.client() as client:
        await client.apply([secret(password=sealed(server, "hunter2"))])
        again = await client.apply([secret(password=sealed(server, "hunter2"))])
        assert again.items[0].result == "unchanged"
        plain = secret() | {"data": {"password": base64.b64encode(b"hunter2").decode()}}
        del plain["sealed"]
        assert (await client.apply([plain])).items[0].result == "unchanged"
        dry = await client.apply([secret(password=sealed(server, "x"))], dry_run=True)
        assert dry.items[0].result == "configured"
        found = await client.get(SECRET, "default", "db")
        assert found["status"]["version"] == 1
        ahead = await send(
            client, "PATCH", f"{PATH}/db", secret(password=sealed(server, "hunter2")),
            "application/apply-patch+yaml", fieldManager="ctl", force="true",
        )  # fmt: skip
        assert ahead["status"]["version"] == 1


async def test_a_key_that_a_manifest_no_longer_seals_goes(server: Running) -> None:
    async with server.client() as client:
        one, two = sealed(server, "1", "one"), sealed(server, "2", "two")
        await client.apply([secret(one=one, two=two)])
        await client.apply([secret(one=one)])
        assert await stored(server) == {"one": "1"}
        await client.apply([secret(one=one, two=two)])
        await client.patch(SECRET, "default", "db", {"sealed": {"two": None}})
    assert await stored(server) == {"one": "1"}


async def refusal(server: Running, *documents: dict[str, Any]) -> list[str]:
    async with server.client() as client:
        with pytest.raises(ApiError) as caught:
            await client.apply(list(documents))
    assert caught.value.code == 422
    return [f"{cause['field']}: {cause['message']}" for cause in caught.value.causes]


async def test_all_that_does_not_open_is_said_at_once(server: Running) -> None:
    stranger = SealingKey.new(server.trust.clock(), server.trust.clock())
    whole = sealed(server, "x", "cut")
    newest = server.trust.sealing.newest
    assert newest is not None
    said = await refusal(
        server,
        secret(
            good=sealed(server, "x", "good"),
            other=sealed(server, "x", "other", to=stranger),
            moved=sealed(server, "x", "good"),
            elsewhere=sealed(server, "x", "elsewhere", namespace="shop"),
            cut=whole[:-5],
        ),
        secret("web", wide=sealed(server, "x", "k", namespace="shop", scope=Scope.NAMESPACE)),
    )
    assert said == [
        f"items[0].sealed.other: was sealed to the key {stranger.public.id}, which this cluster"
        " does not have: another cluster's, or one that was dropped; it has"
        f" {newest.public.id}. Fetch the newest with `ctl seal key` and seal the value anew",
        "items[0].sealed.moved: was sealed for key good of secret default/db (its scope is strict),"
        " and does not open as key moved of secret default/db; seal it here anew, or with a wider"
        " --scope",
        "items[0].sealed.elsewhere: was sealed for another namespace, secret or key (its scope is"
        " strict), and does not open as key elsewhere of secret default/db; seal it here anew, or"
        " with a wider --scope",
        "items[0].sealed.cut: was cut off or changed since it was sealed; seal the value anew, or"
        " take the text from an earlier commit",
        "items[1].sealed.wide: was sealed for another namespace (its scope is namespace), and does"
        " not open as namespace default; seal it here anew, or with a wider --scope",
    ]
    assert server.cache.get(SECRET, "default", "db") is None


async def test_a_value_of_another_secret_names_it(server: Running) -> None:
    async with server.client() as client:
        await client.create(secret(password=sealed(server, "x")))
        with pytest.raises(ApiError, match="sealed for key password of secret default/db "):
            await client.create(secret("copy", password=sealed(server, "x")))


async def test_what_is_given_twice_or_is_no_sealed_value_is_named(server: Running) -> None:
    text = sealed(server, "x")
    twice = secret(password=text) | {"stringData": {"password": "x"}}
    (said,) = await refusal(server, twice)
    assert "the key 'password' is in stringData too" in said.replace('"', "'")
    (said,) = await refusal(server, secret(password="hunter2"))
    assert "hunter2" not in said and "ctl seal" in said


@pytest.mark.parametrize("field", ["data", "stringData", "sealed"])
@pytest.mark.parametrize("wrong", [[], [1], "text", 5, {"password": 5}, {"password": None}])
async def test_a_field_of_the_wrong_sort_is_refused_by_every_way_in(
    server: Running, field: str, wrong: Any
) -> None:
    text = sealed(server, "x")
    broken = secret(password=text) | {"stringData": {"a": "b"}, field: wrong}
    ways = {
        ("POST", PATH, "application/json"): broken,
        ("PUT", f"{PATH}/db", "application/json"): broken,
        ("PATCH", f"{PATH}/db", "application/merge-patch+json"): {
            "sealed": {"password": text}, field: wrong
        },
        ("PATCH", f"{PATH}/db", "application/apply-patch+yaml"): broken,
        ("PATCH", f"{PATH}/db", "application/json-patch+json"): [
            {"op": "add", "path": f"/{field}", "value": wrong}
        ],
    }  # fmt: skip
    async with server.client() as client:
        await client.create(secret(password=text))
        for (method, path, kind), body in ways.items():
            try:
                await send(client, method, path, body, kind, fieldManager="x", force="true")
            except ApiError as error:
                assert error.code in (400, 409, 422), (method, kind, error)
        with pytest.raises(ApiError) as caught:
            await client.apply([broken])
        assert caught.value.code == 422


async def test_too_much_in_all_is_refused(server: Running) -> None:
    half = "x" * 300_000
    said = await refusal(server, secret(a=sealed(server, half, "a"), b=sealed(server, half, "b")))
    assert "600000 bytes" in said[0]


async def test_old_keys_open_after_renewal_and_until_dropped(server: Running) -> None:
    text = sealed(server, "hunter2")
    old = server.trust.sealing.newest
    assert old is not None
    async with server.client() as client:
        renewed = await client.renew_sealing_key()
        assert [key.id for key in renewed.keys][1] == old.public.id
        await client.apply([secret(password=text)])
        with pytest.raises(ApiError, match="is the newest"):
            await client.drop_sealing_key(renewed.newest.id)
        with pytest.raises(ApiError, match="there is no sealing key"):
            await client.drop_sealing_key("0" * 16)
        left = await client.drop_sealing_key(old.public.id)
        assert [key.id for key in left.keys] == [renewed.newest.id]
    (said,) = await refusal(server, secret(password=text))
    assert "which this cluster does not have" in said


async def test_verifying_shows_nothing_and_resealing_only_sealed_text(server: Running) -> None:
    text = sealed(server, "hunter2", scope=Scope.NAMESPACE)
    place = ("default", "db", "password")
    async with server.client() as client:
        (fine, wrong) = await client.verify_sealed([(*place, text), (*place, text[:-3])])
        assert not fine.problem and not fine.sealed
        assert "was cut off" in wrong.problem
        newest = (await client.renew_sealing_key()).newest
        (again, broken) = await client.reseal([(*place, text), ("shop", "db", "password", text)])
        assert again.sealed.startswith(f"skep-seal:v1:{newest.id}:namespace:")
        assert not broken.sealed and "sealed for namespace default " in broken.problem
        (same,) = await client.reseal([(*place, again.sealed)])
        assert same.sealed == again.sealed
        await client.apply([secret(password=again.sealed)])
    assert await stored(server) == {"password": "hunter2"}


async def test_who_may_not_write_secrets_learns_nothing(server: Running) -> None:
    """Nodes have the keys, as everybody; whether a value opens is for writers of the namespace."""
    text = sealed(server, "hunter2")
    async with server.client(node="a") as node:
        assert (await node.sealing_keys()).newest.key
        for ask in (node.verify_sealed, node.reseal):
            with pytest.raises(ApiError) as caught:
                await ask([("default", "db", "password", text)])
            assert caught.value.code == 403
        with pytest.raises(ApiError) as caught:
            await node.renew_sealing_key()
        assert caught.value.code == 403
        with pytest.raises(ApiError) as caught:
            await node.apply([secret(password=text[:-3])])
        assert caught.value.code == 403


async def test_the_private_half_is_never_in_the_store_as_it_is() -> None:
    inner = MemoryStore()
    async with running_server(store=sealed_over(inner)) as server:
        await server.trust.new_sealing_key()
        key = server.trust.sealing.newest
        assert key is not None
        page = await inner.list("")
    for form in (key.raw(), base64.b64encode(key.raw()), key.raw().hex().encode()):
        assert not any(form in item.value for item in page.items)


async def test_users_ask_about_what_they_may_write_and_nothing_else(server: Running) -> None:
    """An admin of one namespace learns nothing of another's values, and makes no keys."""
    await server.put(Namespace(metadata=Metadata(name="shop", uid="ns-2")))
    mine = ("shop", "db", "password", sealed(server, "x", namespace="shop"))
    theirs = ("default", "db", "password", sealed(server, "x"))
    async with await user(server, "sam", Grant(role="admin", namespaces=["shop"])) as sam:
        assert not (await sam.verify_sealed([mine]))[0].problem
        assert (await sam.reseal([mine]))[0].sealed == mine[3]
        for attempt in (
            sam.verify_sealed([mine, theirs]),
            sam.reseal([theirs]),
            sam.renew_sealing_key(),
            sam.drop_sealing_key("0" * 16),
        ):
            assert "user sam may not" in await refused(attempt)
    async with await user(server, "kim", Grant(role="operator")) as kim:
        assert (await kim.sealing_keys()).keys
        assert "user kim may not" in await refused(kim.verify_sealed([theirs]))
