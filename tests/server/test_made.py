"""Secrets whose values the system makes or fetches, as the API takes them in and changes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from api.client import ApiError, Client
from api.server import made
from api.store.keys import PAYLOADS
from api.types.generated import Generated, SourceStatus
from api.types.kinds import SECRET
from api.types.secret import Payload, Secret
from tests.server.harness import Running

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def manifest(**fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": "skep.dev/v1",
        "kind": "Secret",
        "metadata": {"name": "db", "namespace": "default"},
        **fields,
    }


async def generated(server: Running, **values: str) -> None:
    """As the generator does, without waiting for it."""
    item = server.cache.get(SECRET, "default", "db")
    assert item is not None
    secret: Secret = item.obj
    status = msgspec.structs.replace(
        secret.status,
        generated={
            name: Generated(spec=wanted, keys=[name], made=NOW)
            for name, wanted in secret.generate.items()
        },
    )
    old = await stored(server)
    new = old | {key: value.encode() for key, value in values.items()}
    revision = await server.store.commit(made.change(item, status, new, old, NOW))
    await server.cache.caught_up(revision)


async def stored(server: Running) -> dict[str, bytes]:
    """The newest bytes that are there."""
    newest = (await server.store.list(PAYLOADS)).items[-1:]
    return msgspec.json.decode(newest[0].value, type=Payload).data if newest else {}


async def refused(awaitable: Any) -> str:
    with pytest.raises(ApiError) as caught:
        await awaitable
    assert caught.value.code == 422
    return str(caught.value)


async def test_a_secret_needs_no_data_when_it_says_where_its_values_come_from(
    admin: Client,
) -> None:
    ways: list[dict[str, Any]] = [
        {"generate": {"password": {}}},
        {"source": {"provider": "corp", "path": "a"}},
    ]
    for extra in ways:
        created = await admin.create(manifest(**extra))
        assert created.get("status", {}).get("version", 0) == 0
        await admin.delete(SECRET, "default", "db")


async def test_what_is_given_waits_for_what_is_made(server: Running, admin: Client) -> None:
    await admin.apply([manifest(stringData={"user": "x"}, generate={"password": {}})])
    item = server.cache.get(SECRET, "default", "db")
    assert item is not None and item.obj.status.version == 0
    await admin.apply([manifest(stringData={"user": "y"}, generate={"password": {}})])
    assert await stored(server) == {"user": b"y"}
    await generated(server, password="p")
    read = await admin.get(SECRET, "default", "db")
    assert read["status"]["version"] == 1
    assert read["status"]["sizes"] == {"user": 1, "password": 1}
    assert len((await server.store.list(PAYLOADS)).items) == 1


async def test_a_change_of_what_is_given_leaves_what_was_made(
    server: Running, admin: Client
) -> None:
    first = manifest(stringData={"user": "x"}, generate={"password": {}})
    await admin.apply([first])
    await generated(server, password="p")
    await admin.apply([manifest(stringData={"user": "y"}, generate={"password": {}})])
    assert await stored(server) == {"user": b"y", "password": b"p"}
    await admin.patch(SECRET, "default", "db", {"stringData": {"more": "z"}})
    assert await stored(server) == {"user": b"y", "password": b"p", "more": b"z"}
    await admin.replace(manifest(stringData={"only": "1"}, generate={"password": {}}))
    assert await stored(server) == {"only": b"1", "password": b"p"}
    read = await admin.get(SECRET, "default", "db")
    read["metadata"]["labels"] = {"a": "b"}
    replaced = await admin.replace(read)  # as `edit` does
    assert replaced["status"]["version"] == 4
    assert (await admin.apply([read])).items[0].result == "configured"  # what was applied, noted
    assert await stored(server) == {"only": b"1", "password": b"p"}


async def test_the_same_manifest_again_is_no_change(server: Running, admin: Client) -> None:
    wanted = manifest(generate={"password": {}})
    await admin.apply([wanted])
    await generated(server, password="p")
    assert (await admin.apply([wanted])).items[0].result == "unchanged"


async def test_what_is_not_asked_for_any_more_goes(server: Running, admin: Client) -> None:
    await admin.apply([manifest(stringData={"u": "x"}, generate={"a": {}, "b": {}})])
    await generated(server, a="1", b="2")
    await admin.apply([manifest(stringData={"u": "x"}, generate={"a": {}})])
    assert await stored(server) == {"u": b"x", "a": b"1"}
    read = await admin.get(SECRET, "default", "db")
    assert set(read["status"]["generated"]) == {"a"}
    await admin.apply([manifest(stringData={"u": "x"})])
    assert await stored(server) == {"u": b"x"}


async def test_one_that_was_never_finished_can_do_without(server: Running, admin: Client) -> None:
    await admin.apply([manifest(stringData={"u": "x"}, generate={"a": {}})])
    await admin.apply([manifest(stringData={"u": "x"})])
    read = await admin.get(SECRET, "default", "db")
    assert (read["status"]["version"], read["status"]["sizes"]) == (1, {"u": 1})
    assert len((await server.store.list(PAYLOADS)).items) == 1
    await admin.delete(SECRET, "default", "db")
    assert (await server.store.list(PAYLOADS)).items == []


async def test_something_has_to_be_left(server: Running, admin: Client) -> None:
    await admin.apply([manifest(generate={"a": {}})])
    await generated(server, a="1")
    read = await admin.get(SECRET, "default", "db")
    del read["generate"]
    assert "nothing would be left" in await refused(admin.replace(read))
    assert await stored(server) == {"a": b"1"}


async def test_a_given_value_stays_until_the_made_one_takes_its_place(
    server: Running, admin: Client
) -> None:
    await admin.apply([manifest(stringData={"password": "old", "u": "x"})])
    await admin.apply([manifest(stringData={"u": "x"}, generate={"password": {}})])
    assert await stored(server) == {"password": b"old", "u": b"x"}
    assert (await admin.get(SECRET, "default", "db"))["status"]["version"] == 1
    await generated(server, password="new")
    assert (await admin.get(SECRET, "default", "db"))["status"]["version"] == 2
    await admin.apply([manifest(stringData={"password": "mine", "u": "x"})])
    assert await stored(server) == {"password": b"mine", "u": b"x"}


async def test_a_key_is_given_or_made_not_both(server: Running, admin: Client) -> None:
    both = manifest(stringData={"password": "x"}, generate={"password": {}})
    assert "comes from generate.password too" in await refused(admin.create(both))
    await admin.apply([manifest(generate={"password": {}, "tls": {"x509": {}}})])
    await generated(server, password="p")
    for key in ("password", "tls.key", "ca.crt"):
        patch = {"stringData": {key: "x"}}
        assert "comes from generate" in await refused(admin.patch(SECRET, "default", "db", patch))


async def test_who_deletes_it_deletes_what_waits(server: Running, admin: Client) -> None:
    await admin.create(manifest(stringData={"u": "x"}, generate={"a": {}}))
    assert len((await server.store.list(PAYLOADS)).items) == 1
    await admin.delete(SECRET, "default", "db")
    assert (await server.store.list(PAYLOADS)).items == []


async def test_a_value_that_can_be_guessed_is_made_and_said(admin: Client) -> None:
    pin = manifest(generate={"pin": {"charset": "digits", "length": 6}, "good": {}})
    applied = await admin.apply([pin])
    assert applied.items[0].warnings == [
        "generate.pin has 20 bits and can be guessed by who may try often;"
        " without a length it gets 128"
    ]


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"generate": {"a": {"x509": {}, "ssh": {}}}}, "generate.a.ssh"),
        ({"generate": {"a": {"age": {}, "length": 3}}}, "generate.a.length"),
        ({"generate": {"a": {"classes": ["symbol"]}}}, "generate.a.classes"),
        ({"generate": {"a": {"alphabet": "zz"}}}, "generate.a.alphabet"),
        ({"generate": {"a": {"encoding": "hex"}}}, "generate.a.encoding"),
        ({"generate": {"a": {"x509": {"ca": "db"}}}}, "generate.a.x509.ca"),
        ({"generate": {"a": {"x509": {"isCA": True, "ca": "x"}}}}, "generate.a.x509.ca"),
        ({"generate": {"a": {"x509": {"lifetime": "1m"}}}}, "generate.a.x509.lifetime"),
        ({"generate": {"a": {"x509": {"renewBefore": "90d"}}}}, "generate.a.x509.renewBefore"),
        ({"generate": {"a": {"x509": {"ipAddresses": ["db"]}}}}, "generate.a.x509.ipAddresses[0]"),
        ({"generate": {"a": {"x509": {"overlap": "1h"}}}}, "generate.a.x509.overlap"),
        ({"generate": {"a": {"x509": {}}, "b": {"x509": {}}}}, "generate.b"),
        ({"generate": {"a": {}}, "rotation": {}}, "rotation"),
        ({"generate": {"a": {}}, "rotation": {"every": "5s"}}, "rotation.every"),
        ({"generate": {"a": {}}, "rotation": {"every": "5h", "cron": "@daily"}}, "rotation.cron"),
        ({"generate": {"a": {}}, "rotation": {"cron": "nightly"}}, "rotation.cron"),
        ({"stringData": {"a": "x"}, "rotation": {"every": "5h"}}, "rotation"),
        ({"source": {"path": "a"}}, "source.provider"),
        ({"source": {"provider": "p", "path": "../etc/shadow"}}, "source.path"),
        ({"source": {"provider": "p", "path": "/etc/shadow"}}, "source.path"),
        ({"source": {"provider": "p", "path": "a?version=1"}}, "source.path"),
        ({"source": {"provider": "p", "refresh": "1s"}}, "source.refresh"),
        ({"source": {"provider": "p", "keys": {"a": "b"}}, "generate": {"a": {}}}, "source.keys.a"),
    ],
)  # fmt: skip
async def test_what_cannot_be_is_refused_at_its_place(
    admin: Client, fields: dict[str, Any], place: str
) -> None:
    with pytest.raises(ApiError) as caught:
        await admin.create(manifest(**fields))
    causes = caught.value.status["details"]["causes"]
    assert place in [cause["field"] for cause in causes]


async def test_what_was_fetched_stays_while_the_source_does(server: Running, admin: Client) -> None:
    wanted = manifest(stringData={"u": "x"}, source={"provider": "corp", "path": "a"})
    await admin.apply([wanted])
    item = server.cache.get(SECRET, "default", "db")
    assert item is not None
    status = msgspec.structs.replace(
        item.obj.status, source=SourceStatus(keys=["password"], fetched=NOW)
    )
    writes = made.change(item, status, {"u": b"x", "password": b"p"}, {"u": b"x"}, NOW)
    await server.cache.caught_up(await server.store.commit(writes))
    await admin.apply([{**wanted, "stringData": {"u": "y"}}])
    assert await stored(server) == {"u": b"y", "password": b"p"}
    patch = {"stringData": {"password": "mine"}}
    assert "fetched from source already" in await refused(
        admin.patch(SECRET, "default", "db", patch)
    )
    await admin.apply([manifest(stringData={"u": "y"})])
    assert await stored(server) == {"u": b"y"}


async def test_an_authority_is_used_by_the_certificates_that_it_signs(admin: Client) -> None:
    authority = manifest(generate={"ca": {"x509": {"isCA": True}}})
    leaf = manifest(generate={"tls": {"x509": {"ca": "db"}}})
    leaf["metadata"] = {"name": "web", "namespace": "default"}
    await admin.apply([authority, leaf])
    assert (await admin.secret_holders("default", "db"))["secrets"] == ["web"]
    assert not (await admin.secret_holders("default", "web")).get("secrets")
