"""Versions of secrets: which are kept, where their bytes are, and what earlier skeps stored."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.client import ApiError, Client
from api.server import versions
from api.store.cache import Item
from api.store.contract import ABSENT, Write
from api.store.keys import PAYLOADS, object_key, payload_key, payload_keys
from api.types import codec
from api.types.kinds import SECRET, SERVICE, TASK
from api.types.meta import Metadata
from api.types.secret import SECRET_MAX_BYTES, Payload, Secret, SecretStatus
from api.types.task import TaskState
from tests.server.harness import Running, changed, secret, service, task
from tests.server.test_assignments import revision

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DATA = st.dictionaries(st.sampled_from(["a", "b"]), st.binary(min_size=1, max_size=3), min_size=1)


def stored(obj: Secret, revision: int = 1) -> Item:
    key = object_key(SECRET, obj.metadata.namespace, obj.metadata.name)
    metadata = obj.metadata
    value = codec.encode(obj)
    return Item(SECRET, metadata.namespace, metadata.name, key, value, revision, revision, obj)


class Book:
    """A secret and its payloads as a store would have them."""

    def __init__(self, status: SecretStatus, keep: int = 5) -> None:
        self.obj = Secret(
            metadata=Metadata(name="s", namespace="default", uid="u"), keep=keep, status=status
        )
        self.payloads: dict[str, Payload] = {}

    def write(self, data: dict[str, bytes], held: frozenset[int] = frozenset()) -> list[Write]:
        current = self.payloads.get(payload_key("default", "s", self.obj.status.version))
        current = current or self.payloads.get(payload_key("default", "s"))
        old = None if current is None else current.data
        writes = versions.new_version(stored(self.obj), data, old, NOW, held=held)
        assert len({write.key for write in writes}) == len(writes)
        for write in writes[1:]:
            if write.value is None:
                del self.payloads[write.key]  # never one that is not there
            else:
                self.payloads[write.key] = msgspec.json.decode(write.value, type=Payload)
        if writes:
            assert writes[0].expect == 1
            self.obj = codec.decode(SECRET, writes[0].value or b"", 2)  # type: ignore[assignment]
        return writes


@given(
    st.lists(st.tuples(DATA, st.frozensets(st.integers(1, 8))), min_size=1, max_size=12),
    st.integers(1, 4),
    st.integers(0, 3),
)
def test_the_last_ones_and_the_held_ones_are_kept(
    changes: list[tuple[dict[str, bytes], frozenset[int]]], keep: int, legacy: int
) -> None:
    """Also from a secret of an earlier skep, at version `legacy` under a key without a number."""
    book = Book(SecretStatus(version=legacy, sizes={"a": 1} if legacy else {}), keep)
    said: dict[int, dict[str, bytes]] = {}
    if legacy:
        said[legacy] = {"a": b"?"}
        book.payloads[payload_key("default", "s")] = Payload(data=said[legacy], version=legacy)
    held: frozenset[int] = frozenset()
    for data, held in changes:
        before = book.obj.status
        if not book.write(data, held):
            assert said[before.version] == data
            continue
        status = book.obj.status
        assert status.version == before.version + 1
        assert status.sizes == {key: len(value) for key, value in data.items()}
        assert status.oldest == (legacy or 1)
        said[status.version] = data
        newest = list(range(max(status.version - keep, min(said) - 1) + 1, status.version + 1))
        listed = [each.version for each in status.versions]
        assert listed == sorted(listed)
        assert set(newest) <= set(listed)
        assert set(listed) - set(newest) <= held
        # Exactly what is listed has its bytes, and they are what was written.
        keys = {payload_key("default", "s", version) for version in listed}
        assert set(book.payloads) == keys
        assert {payload_key("default", "s"), *keys} == set(payload_keys(book.obj))
        for version in listed:
            payload = book.payloads[payload_key("default", "s", version)]
            assert (payload.data, payload.version) == (said[version], version)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "at least one byte"),
        ({"a": b""}, "at least one byte"),
        ({"a": b"x" * (SECRET_MAX_BYTES + 1)}, f"{SECRET_MAX_BYTES + 1} bytes"),
        ({"../a": b"x"}, "no file name"),
        ({"..": b"x"}, "no file name"),
        ({"": b"x"}, "no file name"),
        ({"a\n": b"x"}, "no file name"),
    ],
)
def test_bytes_that_no_secret_can_have_are_refused(data: dict[str, bytes], words: str) -> None:
    book = Book(SecretStatus())
    with pytest.raises(ValueError, match=words):
        book.write(data)


async def test_a_version_more_leaves_the_ones_before(server: Running, admin: Client) -> None:
    manifest = secret(value="1") | {"keep": 3}
    await admin.create(manifest)
    for value in ("2", "2", "3", "4"):
        await admin.patch(SECRET, "default", "password", {"stringData": {"value": value}})
    status = (await admin.get(SECRET, "default", "password"))["status"]
    assert [each["version"] for each in status["versions"]] == [2, 3, 4]
    there = (await server.store.list(PAYLOADS)).items
    assert [kv.key for kv in there] == [payload_key("default", "password", v) for v in (2, 3, 4)]
    await admin.delete(SECRET, "default", "password")
    assert (await server.store.list(PAYLOADS)).items == []


async def test_a_secret_of_an_earlier_skep_is_read_and_goes_on(
    server: Running, admin: Client
) -> None:
    obj = Secret(
        metadata=Metadata(name="old", namespace="default", uid="u"),
        status=SecretStatus(version=4, sizes={"value": 1}),
    )
    payload = msgspec.json.encode(Payload(data={"value": b"4"}, version=4))
    writes = [
        Write(object_key(SECRET, "default", "old"), codec.encode(obj), ABSENT),
        Write(payload_key("default", "old"), payload, ABSENT),
    ]
    await server.cache.caught_up(await server.store.commit(writes))
    same = await admin.patch(SECRET, "default", "old", {"stringData": {"value": "4"}})
    assert same["status"]["version"] == 4
    changed = await admin.patch(SECRET, "default", "old", {"stringData": {"value": "5"}})
    assert [each["version"] for each in changed["status"]["versions"]] == [4, 5]
    assert changed["status"]["first"] == 4
    there = {
        kv.key: msgspec.json.decode(kv.value, type=Payload).data["value"]
        for kv in (await server.store.list(PAYLOADS)).items
    }
    assert there == {
        payload_key("default", "old", 4): b"4",
        payload_key("default", "old", 5): b"5",
    }
    await admin.delete(SECRET, "default", "old")
    assert (await server.store.list(PAYLOADS)).items == []


async def rotated(server: Running, admin: Client, *values: str, keep: int = 5) -> None:
    for value in values:
        await admin.apply([secret(value=value) | {"keep": keep}])


def stored_value(server: Running) -> Any:
    return server.cache.get(SECRET, "default", "password")


async def value_of(server: Running, version: int) -> bytes | None:
    read = await server.store.get(payload_key("default", "password", version))
    return None if read is None else msgspec.json.decode(read.value, type=Payload).data["value"]


async def test_rolling_back_is_a_new_version_of_the_old_bytes(
    server: Running, admin: Client
) -> None:
    await rotated(server, admin, "1", "2", "3")
    back = await admin.roll_back_secret("default", "password", 1)
    assert back["status"]["version"] == 4
    assert back["status"]["versions"][-1]["origin"] == "version 1"
    assert await value_of(server, 4) == b"1"
    again = await admin.roll_back_secret("default", "password")
    assert (again["status"]["version"], await value_of(server, 5)) == (5, b"3")
    same = await admin.roll_back_secret("default", "password", 3)
    assert same["status"]["version"] == 5, "it has these bytes already"
    with pytest.raises(ApiError) as caught:
        await admin.roll_back_secret("default", "password", 9)
    assert caught.value.code == 404
    assert "there are: 1, 2, 3, 4, 5" in caught.value.message


async def test_what_tasks_hold_is_said_and_kept(server: Running, admin: Client) -> None:
    await rotated(server, admin, "1", keep=1)
    await server.put(revision("web-1", secrets=["password"]))
    old = task("t1", node="a", revision="web-1", state=TaskState.RUNNING)
    old.status.secrets = {"password": 1}
    await server.put(old)
    await rotated(server, admin, "2", "3", "4", keep=1)
    assert [await value_of(server, v) for v in (1, 2, 3, 4)] == [b"1", None, None, b"4"]
    holders = await admin.secret_holders("default", "password")
    assert holders == {"versions": [{"version": 1, "tasks": ["t1"]}]}
    for version, words in ((1, "held by tasks t1"), (4, "newest"), (2, "not kept")):
        with pytest.raises(ApiError, match=words):
            await admin.destroy_secret_version("default", "password", version)
    await server.put(changed(old, state=TaskState.COMPLETE))
    after = await admin.destroy_secret_version("default", "password", 1)
    assert after["status"]["versions"][0]["destroyed"]
    assert await value_of(server, 1) is None
    with pytest.raises(ApiError, match="not kept"):
        await admin.roll_back_secret("default", "password", 1)


async def test_a_secret_made_anew_goes_on_after_what_tasks_hold(
    server: Running, admin: Client
) -> None:
    await rotated(server, admin, "1", "2")
    await server.put(revision("web-1", secrets=["password"]))
    held = task("t1", node="a", revision="web-1", state=TaskState.RUNNING)
    held.status.secrets = {"password": 2}
    await server.put(held)
    await admin.delete(SECRET, "default", "password")
    await rotated(server, admin, "another")
    assert stored_value(server).obj.status.version == 3
    await admin.delete(SECRET, "default", "password")
    await server.remove(TASK, "default", "t1")
    await rotated(server, admin, "another")
    assert stored_value(server).obj.status.version == 1


async def test_a_secret_that_is_used_is_not_deleted(server: Running, admin: Client) -> None:
    await admin.create(secret())
    user = service("web")
    user["spec"]["template"]["secrets"] = [{"name": "password"}]
    await admin.create(user)
    for attempt in (
        admin.delete(SECRET, "default", "password"),
        admin.delete_collection(SECRET, "default"),
    ):
        with pytest.raises(ApiError, match="service web uses it") as caught:
            await attempt
        assert caught.value.code == 409
    await admin.delete(SECRET, "default", "password", force=True)
    assert stored_value(server) is None
    await admin.create(secret())
    await admin.delete(SERVICE, "default", "web")
    await admin.delete(SECRET, "default", "password")  # its service is on its way


async def test_pruning_takes_no_secret_from_a_service(server: Running, admin: Client) -> None:
    user = service("web")
    user["spec"]["template"]["secrets"] = [{"name": "password"}]
    await admin.apply([secret(), user], prune="shop")
    with pytest.raises(ApiError, match="service web names it"):
        await admin.apply([user], prune="shop")
    assert stored_value(server) is not None
    free = service("web")
    tried = await admin.apply([free], prune="shop", dry_run=True)
    done = await admin.apply([free], prune="shop")
    for result in (tried, done):
        assert [(each.kind, each.result) for each in result.items][-1] == ("Secret", "pruned")
    assert stored_value(server) is None
    await admin.apply([secret(), user], prune="shop")
    await admin.apply([secret("other")], prune="shop")  # both go
    assert stored_value(server) is None
