"""Many objects applied at once: merged three ways, all or nothing, pruned."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from api.client import ApiError, ApplyResult, Client
from api.server import Settings
from api.types.kinds import CONFIG, NAMESPACE, SECRET, SERVICE
from tests.server.harness import Running, config, running_server, secret, service
from tests.server.raw import request

NOTE = "skep.dev/last-applied"


def results(applied: ApplyResult) -> list[tuple[str, str]]:
    return [(f"{item.kind} {item.name}", item.result) for item in applied.items]


def replicas(manifest: dict[str, Any], count: int | None) -> dict[str, Any]:
    spec = {k: v for k, v in manifest["spec"].items() if k != "replicas"}
    return {**manifest, "spec": spec if count is None else {**spec, "replicas": count}}


async def refused(awaitable: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await awaitable
    return caught.value


async def test_created_then_unchanged_then_configured(admin: Client) -> None:
    manifests = [secret(), config(), service()]
    assert results(await admin.apply(manifests)) == [
        ("Secret password", "created"),
        ("Config settings", "created"),
        ("Service web", "created"),
    ]
    before = await admin.get(SERVICE, "default", "web")
    assert {result for _, result in results(await admin.apply(manifests))} == {"unchanged"}
    assert await admin.get(SERVICE, "default", "web") == before
    changed = [secret(value="other"), config(), replicas(service(), 3)]
    assert results(await admin.apply(changed)) == [
        ("Secret password", "configured"),
        ("Config settings", "unchanged"),
        ("Service web", "configured"),
    ]


async def test_items_without_a_namespace_go_where_the_request_says(admin: Client) -> None:
    manifest = config()
    del manifest["metadata"]["namespace"]
    shop = {"apiVersion": "skep.dev/v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    await admin.apply([manifest, shop], namespace="shop")
    await admin.get(CONFIG, "shop", "settings")


async def test_a_set_may_bring_its_namespace_in_any_order(admin: Client) -> None:
    shop = {"apiVersion": "skep.dev/v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    await admin.apply([service(namespace="shop"), shop])
    await admin.get(SERVICE, "shop", "web")


async def test_a_namespace_that_is_nowhere_is_refused(admin: Client) -> None:
    error = await refused(admin.apply([config(), service(namespace="shop")]))
    assert error.code == 422
    assert [cause["index"] for cause in error.causes] == [1]
    assert "namespace shop does not exist" in error.causes[0]["message"]
    assert (await refused(admin.get(CONFIG, "default", "settings"))).code == 404


async def test_all_problems_are_said_and_nothing_is_written(admin: Client) -> None:
    wrong = replicas(service("wrong"), -1)
    wrong["spec"]["replica"] = 2
    odd: list[Any] = [{"kind": "Cat"}, "text"]
    error = await refused(admin.apply([config(), wrong, secret(), *odd]))
    assert (error.code, error.reason) == (422, "Invalid")
    assert "nothing was written" in error.message
    said = {cause["field"]: cause["message"] for cause in error.causes}
    assert "did you mean replicas?" in said["items[1].spec.replica"]
    assert "items[1].spec.replicas" in said
    assert "unknown kind" in said["items[3].kind"]
    assert {cause["index"] for cause in error.causes} == {1, 3, 4}
    assert (await admin.list(CONFIG)).items == []
    assert (await admin.list(SECRET)).items == []


async def test_an_object_given_twice_is_refused(admin: Client) -> None:
    error = await refused(admin.apply([config(), service(), config(a="b")]))
    assert [cause["reason"] for cause in error.causes] == ["FieldValueDuplicate"]


async def test_what_the_system_writes_cannot_be_applied(admin: Client) -> None:
    task = {"apiVersion": "skep.dev/v1", "kind": "Task", "metadata": {"name": "x"}}
    error = await refused(admin.apply([task]))
    assert error.causes[0]["field"] == "items[0].kind"


# Merging


async def test_what_others_set_stays(admin: Client) -> None:
    await admin.apply([service()])
    await admin.patch(SERVICE, "default", "web", {"spec": {"replicas": 5}})
    await admin.patch(SERVICE, "default", "web", {"metadata": {"labels": {"by": "hand"}}})
    await admin.apply([service(user="nobody")])
    merged = await admin.get(SERVICE, "default", "web")
    assert merged["spec"]["replicas"] == 5
    assert merged["metadata"]["labels"] == {"by": "hand"}
    assert merged["spec"]["template"]["user"] == "nobody"


async def test_what_was_applied_and_is_no_more_goes(admin: Client) -> None:
    await admin.apply([replicas(service(env={"A": "1", "B": "2"}, user="nobody"), 4)])
    await admin.patch(SERVICE, "default", "web", {"spec": {"template": {"env": {"HAND": "made"}}}})
    await admin.apply([service(env={"A": "1"})])
    merged = await admin.get(SERVICE, "default", "web")
    assert merged["spec"]["replicas"] == 1  # the default again
    assert merged["spec"]["template"]["env"] == {"A": "1", "HAND": "made"}
    assert "user" not in merged["spec"]["template"]


async def test_lists_are_replaced_as_a_whole(admin: Client) -> None:
    await admin.apply([service(args=["a", "b"])])
    await admin.apply([service(args=["c"])])
    merged = await admin.get(SERVICE, "default", "web")
    assert merged["spec"]["template"]["args"] == ["c"]


async def test_what_is_there_already_is_taken_over(admin: Client) -> None:
    await admin.create(service(user="nobody"))
    assert results(await admin.apply([service()])) == [("Service web", "configured")]
    merged = await admin.get(SERVICE, "default", "web")
    assert merged["spec"]["template"]["user"] == "nobody"
    assert NOTE in merged["metadata"]["annotations"]


async def test_an_exported_object_can_be_applied_again(admin: Client) -> None:
    await admin.apply([service(), secret(), config()])
    for kind, name in ((SERVICE, "web"), (SECRET, "password"), (CONFIG, "settings")):
        exported = await admin.get(kind, "default", name)
        assert results(await admin.apply([exported]))[0][1] in ("unchanged", "configured")
        again = await admin.get(kind, "default", name)
        assert again["metadata"]["generation"] == 1


async def test_the_note_of_a_config_holds_keys_only(admin: Client) -> None:
    await admin.apply([config(big="x" * 500_000)])
    stored = await admin.get(CONFIG, "default", "settings")
    assert len(stored["data"]["big"]) == 500_000
    assert len(stored["metadata"]["annotations"][NOTE]) < 500
    await admin.apply([config(small="y")])
    assert (await admin.get(CONFIG, "default", "settings"))["data"] == {"small": "y"}


async def test_a_damaged_note_does_no_harm(admin: Client) -> None:
    await admin.apply([service()])
    broken = {"metadata": {"annotations": {NOTE: "{"}}}
    await admin.patch(SERVICE, "default", "web", broken)
    assert results(await admin.apply([service(user="nobody")])) == [("Service web", "configured")]


async def test_warnings_know_what_the_set_brings(admin: Client) -> None:
    mounts = [
        {"name": "password"},
        {"name": "later"},
        {"name": "password", "target": "b", "key": "k"},
    ]
    applied = await admin.apply([service(secrets=mounts), secret()])
    assert applied.items[0].warnings == [
        "secret default/later does not exist yet; tasks will wait for it",
        "secret default/password has no key k yet; tasks will wait for it",
    ]


# Dry run


async def test_a_dry_run_shows_all_and_writes_nothing(admin: Client) -> None:
    await admin.apply([service()])
    applied = await admin.apply([replicas(service(), 7), config(), secret()], dry_run=True)
    assert [result for _, result in results(applied)] == ["configured", "created", "created"]
    shown = applied.items[0].object
    assert shown is not None
    assert shown["spec"]["replicas"] == 7
    assert (await admin.get(SERVICE, "default", "web"))["spec"]["replicas"] == 1
    assert (await admin.list(CONFIG)).items == []


async def test_objects_come_back_where_asked_for(admin: Client) -> None:
    applied = await admin.apply([service()], full=True)
    assert applied.items[0].object == await admin.get(SERVICE, "default", "web")


# Pruning


async def test_what_left_the_set_is_pruned(admin: Client) -> None:
    await admin.create(config("not-ours"))
    await admin.apply([config("a"), config("b"), secret()], prune="demo")
    applied = await admin.apply([config("a")], prune="demo")
    assert results(applied) == [
        ("Config a", "unchanged"),
        ("Config b", "pruned"),
        ("Secret password", "pruned"),
    ]
    left = await admin.list(CONFIG)
    assert [item["metadata"]["name"] for item in left.items] == ["a", "not-ours"]
    assert (await admin.list(SECRET)).items == []
    assert left.items[0]["metadata"]["labels"] == {"skep.dev/applyset": "demo"}


async def test_another_set_is_left_alone(admin: Client) -> None:
    await admin.apply([config("a")], prune="one")
    await admin.apply([config("b")], prune="two")
    assert len((await admin.list(CONFIG)).items) == 2


async def test_an_empty_set_prunes_nothing(admin: Client) -> None:
    await admin.apply([config("a")], prune="demo")
    error = await refused(admin.apply([], prune="demo"))
    assert error.code == 400
    assert "refused" in error.message
    assert len((await admin.list(CONFIG)).items) == 1


async def test_a_dry_run_says_what_would_be_pruned(admin: Client) -> None:
    await admin.apply([config("a"), config("b")], prune="demo")
    applied = await admin.apply([config("a")], prune="demo", dry_run=True)
    assert results(applied)[1] == ("Config b", "pruned")
    assert len((await admin.list(CONFIG)).items) == 2


async def test_nothing_is_pruned_when_something_is_invalid(admin: Client) -> None:
    await admin.apply([config("a"), config("b")], prune="demo")
    await refused(admin.apply([replicas(service(), -1)], prune="demo"))
    assert len((await admin.list(CONFIG)).items) == 2


async def test_a_set_needs_a_name_that_can_be_a_label(admin: Client) -> None:
    assert (await refused(admin.apply([config()], prune="no spaces"))).code == 400


async def test_pruned_namespaces_go_with_their_contents(admin: Client) -> None:
    shop = {"apiVersion": "skep.dev/v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    await admin.apply([shop, config("a")], prune="demo")
    await admin.apply([config("a")], prune="demo")
    going = await admin.get(NAMESPACE, "", "shop")
    assert "deletionTimestamp" in going["metadata"]


# Sizes, and others at work


async def test_a_thousand_documents(server: Running, admin: Client) -> None:
    manifests = [service(f"s{number}") for number in range(1000)]
    before = server.cache.revision
    applied = await admin.apply(manifests)
    assert {item.result for item in applied.items} == {"created"}
    assert server.cache.revision - before < 20  # commits, not one for each
    assert {item.result for item in (await admin.apply(manifests)).items} == {"unchanged"}


async def test_two_at_once_converge(admin: Client) -> None:
    import asyncio

    first = [replicas(service(f"s{n}"), 1) for n in range(30)]
    second = [service(f"s{n}", user="nobody") for n in range(30)]
    await asyncio.gather(admin.apply(first), admin.apply(second))
    for item in (await admin.list(SERVICE)).items:
        assert item["spec"]["template"].get("user") == "nobody"


async def test_a_set_over_the_limit_is_refused() -> None:
    settings = Settings(max_apply_body=10_000, max_body=1_000)
    async with running_server(settings=settings) as server, server.client() as admin:
        error = await refused(admin.apply([config(a="x" * 20_000)]))
        assert (error.code, error.reason) == (413, "RequestEntityTooLarge")
        assert "10,000 bytes" in error.message
        assert (await refused(admin.create(config(a="x" * 2_000)))).code == 413


async def test_a_limit_holds_for_bodies_of_unknown_length() -> None:
    from collections.abc import AsyncIterator

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 1_000

    async with running_server(settings=Settings(max_apply_body=10_000)) as server:
        answer = await request(server, "POST", "/apply", data=endless())
        assert answer.code == 413


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"items": 3}', b"\xff"])
async def test_bodies_that_are_no_set_are_refused(server: Running, body: bytes) -> None:
    answer = await request(server, "POST", "/apply", data=body)
    assert (answer.code, (await answer.json())["reason"]) == (400, "BadRequest")


async def test_odd_documents_are_refused_in_words(server: Running) -> None:
    odd: list[Any] = [
        None,
        [],
        {"kind": 3},
        {"kind": "Service"},
        {"kind": "Service", "apiVersion": "v2", "metadata": {"name": "x"}},
        {"kind": "Service", "apiVersion": "skep.dev/v1", "metadata": "x"},
        {"kind": "Service", "apiVersion": "skep.dev/v1", "metadata": {"name": 3}},
        {"kind": "Service", "apiVersion": "skep.dev/v1", "metadata": {"name": "x", "labels": 3}},
        {"kind": "Service", "apiVersion": "skep.dev/v1", "metadata": {"name": "x", "namespace": 3}},
        {"kind": "Secret", "apiVersion": "skep.dev/v1", "metadata": {"name": "x"}, "data": 3},
        {"kind": "Service", "apiVersion": "skep.dev/v1", "metadata": {"name": "x"}, "spec": 3},
        {
            "kind": "Service",
            "apiVersion": "skep.dev/v1",
            "metadata": {"name": "x", "annotations": {NOTE: 3}},
            "spec": {"template": {"image": "x"}},
        },
    ]
    for index, document in enumerate(odd):
        body = msgspec.json.encode({"items": [document]})
        answer = await request(server, "POST", "/apply", data=body)
        said = await answer.json()
        assert (answer.code, said["reason"]) == (422, "Invalid"), (index, said)
        assert all(cause["message"] for cause in said["details"]["causes"])
