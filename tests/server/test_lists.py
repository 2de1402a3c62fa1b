"""Lists: selected, paged, of one moment."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from api.client import Client
from api.types.event import Event, ObjectReference
from api.types.kinds import CONFIG, EVENT, TASK
from api.types.meta import Metadata
from api.types.task import TaskState
from tests.server.harness import Running, config, secret, service, task
from tests.server.raw import request


def names(listing: Any) -> list[str]:
    items = listing["items"] if isinstance(listing, dict) else listing.items
    return [item["metadata"]["name"] for item in items]


async def page(server: Running, path: str, **query: Any) -> Any:
    answer = await request(server, "GET", path, params=query)
    assert answer.code == 200, answer.body
    return await answer.json()


async def test_a_list_says_what_it_is(server: Running, admin: Client) -> None:
    await admin.create(config("a"))
    listed = await page(server, "/namespaces/default/configs")
    assert listed["apiVersion"] == "skep.dev/v1"
    assert listed["kind"] == "ConfigList"
    assert listed["metadata"] == {"resourceVersion": str(server.cache.revision)}
    assert listed["items"] == [await admin.get(CONFIG, "default", "a")]


async def test_an_empty_list_is_a_list(server: Running) -> None:
    assert (await page(server, "/configs"))["items"] == []


async def test_one_namespace_or_all(server: Running, admin: Client) -> None:
    await admin.create({"kind": "Namespace", "metadata": {"name": "shop"}})
    await admin.create(config("a"))
    await admin.create(config("b", namespace="shop"))
    assert names(await admin.list(CONFIG, "shop")) == ["b"]
    assert names(await admin.list(CONFIG)) == ["a", "b"]
    assert names(await admin.list(CONFIG, "nowhere")) == []


async def test_selected_by_label_and_field(server: Running, admin: Client) -> None:
    for name, label in (("a", "x"), ("b", "x"), ("c", "y")):
        manifest = config(name)
        manifest["metadata"]["labels"] = {"l": label}
        await admin.create(manifest)
    assert names(await admin.list(CONFIG, label_selector="l=x")) == ["a", "b"]
    listing = await admin.list(CONFIG, label_selector="l=x", field_selector="metadata.name!=a")
    assert names(listing) == ["b"]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("metadata.name=web-1", ["web-1"]),
        ("metadata.name=none", []),
        ("spec.node=a", ["db-1", "web-1"]),
        ("spec.node=a,status.state=Running", ["web-1"]),
        ("spec.node=", ["web-2"]),
        ("status.state=Pending", ["web-2"]),
        ("spec.service=web", ["web-1", "web-2"]),
        ("spec.service=web,spec.node!=a", ["web-2"]),
        ("spec.revision=web-1", ["db-1", "web-1", "web-2"]),
    ],
)
@pytest.mark.parametrize("namespace", ["default", ""])
async def test_indexes_give_what_looking_at_all_would(
    server: Running, admin: Client, selector: str, expected: list[str], namespace: str
) -> None:
    await server.put(task("web-1", node="a", state=TaskState.RUNNING))
    await server.put(task("web-2", state=TaskState.PENDING))
    await server.put(task("db-1", node="a", service="db"))
    assert names(await admin.list(TASK, namespace, field_selector=selector)) == expected


async def test_events_of_an_object(server: Running, admin: Client) -> None:
    for name, uid in (("a", "1"), ("b", "2")):
        metadata = Metadata(name=name, namespace="default", uid=f"e{uid}")
        await server.put(Event(metadata=metadata, involved_object=ObjectReference(uid=uid)))
    assert names(await admin.list(EVENT, "default", field_selector="involvedObject.uid=2")) == ["b"]


async def test_a_selector_that_cannot_be_read_is_refused(server: Running) -> None:
    for query in ({"labelSelector": "a in"}, {"fieldSelector": "no.such=1"}):
        answer = await request(server, "GET", "/configs", params=query)
        assert (answer.code, (await answer.json())["reason"]) == (400, "BadRequest")


async def test_pages_are_of_one_moment(server: Running, admin: Client) -> None:
    for name in "abcde":
        await admin.create(config(name))
    first = await page(server, "/namespaces/default/configs", limit=2)
    assert names(first) == ["a", "b"]
    # What comes, changes and goes between two pages is not in them.
    await admin.create(config("bb"))
    await admin.delete(CONFIG, "default", "d")
    await admin.patch(CONFIG, "default", "c", {"data": {"new": "1"}})

    token = first["metadata"]["continue"]
    second = await page(server, "/namespaces/default/configs", limit=2, **{"continue": token})
    assert names(second) == ["c", "d"]
    assert "new" not in second["items"][0]["data"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    token = second["metadata"]["continue"]
    third = await page(server, "/namespaces/default/configs", limit=2, **{"continue": token})
    assert names(third) == ["e"]
    assert "continue" not in third["metadata"]


async def test_pages_of_a_selection(server: Running, admin: Client) -> None:
    for number in range(9):
        manifest = config(f"c{number}")
        manifest["metadata"]["labels"] = {"odd": str(number % 2)}
        await admin.create(manifest)
    found: list[str] = []
    query: dict[str, Any] = {"limit": 2, "labelSelector": "odd=1"}
    while True:
        listed = await page(server, "/configs", **query)
        found += names(listed)
        if not listed["metadata"].get("continue"):
            break
        query["continue"] = listed["metadata"]["continue"]
        await admin.create(config(f"later{len(found)}"))
    assert found == ["c1", "c3", "c5", "c7"]


async def test_a_page_that_comes_too_late_is_told_to_begin_anew(
    server: Running, admin: Client
) -> None:
    for name in "abc":
        await admin.create(config(name))
    first = await page(server, "/configs", limit=1)
    await admin.create(config("d"))
    await server.store.compact(await server.store.revision())
    token = first["metadata"]["continue"]
    answer = await request(server, "GET", "/configs", params={"limit": 1, "continue": token})
    assert (answer.code, (await answer.json())["reason"]) == (410, "Expired")


async def test_a_damaged_token_is_refused(server: Running) -> None:
    answer = await request(server, "GET", "/configs", params={"continue": "no token"})
    assert answer.code == 400


async def test_an_exact_version(server: Running, admin: Client) -> None:
    created = await admin.create(config("a"))
    await admin.create(config("b"))
    version = created["metadata"]["resourceVersion"]
    query = {"resourceVersion": version, "resourceVersionMatch": "Exact"}
    assert names(await page(server, "/configs", **query)) == ["a"]
    assert names(await page(server, "/configs", resourceVersion="0")) == ["a", "b"]


@pytest.mark.parametrize("query", [{"limit": "-1"}, {"limit": "x"}, {"resourceVersion": "x"}])
async def test_numbers_that_are_none_are_refused(server: Running, query: dict[str, str]) -> None:
    assert (await request(server, "GET", "/configs", params=query)).code == 400


async def test_a_version_that_was_never_reached(server: Running) -> None:
    """It is told from a failure, whichever way it is asked for."""
    token = base64.urlsafe_b64encode(b'[999999,"x"]').decode()
    for query in (
        "resourceVersion=999999",
        "resourceVersion=999999&resourceVersionMatch=Exact",
        "resourceVersion=999999&resourceVersionMatch=NotOlderThan",
        f"continue={token}",
    ):
        answer = await request(server, "GET", f"/services?{query}")
        assert (answer.code, (await answer.json())["reason"]) == (410, "Expired"), query


async def test_what_makes_no_list(server: Running) -> None:
    backwards = base64.urlsafe_b64encode(b'[-5,"x"]').decode()
    for query in (
        "resourceVersionMatch=Exact",
        "resourceVersion=1&resourceVersionMatch=Roughly",
        "continue=%21",
        f"continue={backwards}",
        "limit=-1",
        "resourceVersion=x",
    ):
        assert (await request(server, "GET", f"/services?{query}")).code == 400, query


async def test_a_token_leads_nowhere_else(server: Running) -> None:
    """One that is made up shows no other kind, and no other namespace."""
    aaa = {"apiVersion": "skep.dev/v1", "kind": "Namespace", "metadata": {"name": "aaa"}}
    await request(server, "POST", "/namespaces", json=aaa)
    await request(server, "POST", "/namespaces/aaa/services", json=service(namespace="aaa"))
    await request(server, "POST", "/namespaces/default/secrets", json=secret())
    now = server.cache.revision
    for after in ("", "/", "/skep/v1/", "/skep/v1/services/", "/skep/v1/secrets/", "/skep/z"):
        for revision in (now, now - 1):
            token = base64.urlsafe_b64encode(msgspec.json.encode([revision, after])).decode()
            path = f"/namespaces/default/services?continue={token}"
            answer = await request(server, "GET", path)
            assert answer.code == 200, answer.body
            assert (await answer.json())["items"] == []
