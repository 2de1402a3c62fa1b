"""Secrets: taken in, delivered to nodes, and never told to anybody else."""

from __future__ import annotations

import base64
import logging
from typing import Any

import pytest

from api.client import ApiError, Client
from api.store.keys import PAYLOADS, payload_key
from api.types.kinds import SECRET, SERVICE
from tests.server.harness import Running, secret, service
from tests.server.raw import request

CANARY = "canary-6f1ed002"
KUBECTL_NOTE = "kubectl.kubernetes.io/last-applied-configuration"


async def payload(server: Running, name: str = "password") -> dict[str, bytes] | None:
    import msgspec

    from api.types.secret import Payload

    item = server.cache.get(SECRET, "default", name)
    if item is None:
        assert (await server.store.list(f"{PAYLOADS}default/{name}/")).items == []
        return None
    stored = await server.store.get(payload_key("default", name, item.obj.status.version))
    return None if stored is None else msgspec.json.decode(stored.value, type=Payload).data


async def refused(awaitable: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await awaitable
    return caught.value


async def test_the_object_says_names_and_sizes_and_the_store_has_the_bytes(
    server: Running, admin: Client
) -> None:
    created = await admin.create(secret(user="admin", value=CANARY))
    versions = created["status"].pop("versions")
    assert created["status"] == {"version": 1, "sizes": {"user": 5, "value": len(CANARY)}}
    assert [(each["version"], each["size"]) for each in versions] == [(1, 5 + len(CANARY))]
    assert versions[0]["created"] == created["metadata"]["creationTimestamp"]
    assert "data" not in created
    assert "stringData" not in created
    assert await payload(server) == {"user": b"admin", "value": CANARY.encode()}


async def test_bytes_come_as_base64_too(server: Running, admin: Client) -> None:
    manifest = secret()
    del manifest["stringData"]
    manifest["data"] = {"tls.key": base64.encodebytes(b"\x00\xff" * 60).decode()}
    await admin.create(manifest)
    assert await payload(server) == {"tls.key": b"\x00\xff" * 60}


async def test_the_version_counts_changes_of_the_bytes(server: Running, admin: Client) -> None:
    await admin.apply([secret(value="one")])
    await admin.apply([secret(value="two")])
    changed = await admin.get(SECRET, "default", "password")
    assert changed["status"]["version"] == 2
    assert changed["status"]["sizes"] == {"value": 3}
    assert [each["version"] for each in changed["status"]["versions"]] == [1, 2]
    assert changed["metadata"]["generation"] == 2
    assert await payload(server) == {"value": b"two"}
    applied = await admin.apply([secret(value="two")])
    assert applied.items[0].result == "unchanged"


async def test_labels_change_without_the_bytes(server: Running, admin: Client) -> None:
    await admin.create(secret(value=CANARY))
    labels = {"metadata": {"labels": {"a": "b"}}}
    patched = await admin.patch(SECRET, "default", "password", labels)
    assert patched["status"]["version"] == 1
    read = await admin.get(SECRET, "default", "password")
    read["metadata"]["labels"] = {"c": "d"}
    replaced = await admin.replace(read)  # as `edit` does
    assert replaced["status"]["version"] == 1
    assert await payload(server) == {"value": CANARY.encode()}


async def test_one_key_can_be_changed_added_or_taken_away(server: Running, admin: Client) -> None:
    await admin.create(secret(a="1", b="2"))
    patch = {"stringData": {"b": "3", "c": "4"}, "data": {"a": None}}
    patched = await admin.patch(SECRET, "default", "password", patch)
    assert patched["status"]["sizes"] == {"b": 1, "c": 1}
    assert await payload(server) == {"b": b"3", "c": b"4"}


async def test_applying_keeps_keys_that_others_set(server: Running, admin: Client) -> None:
    await admin.apply([secret(a="1", b="2")])
    await admin.patch(SECRET, "default", "password", {"stringData": {"hand": "made"}})
    await admin.apply([secret(a="1")])
    assert await payload(server) == {"a": b"1", "hand": b"made"}


async def test_the_bytes_go_with_the_object(server: Running, admin: Client) -> None:
    await admin.create(secret())
    await admin.delete(SECRET, "default", "password")
    assert await payload(server) is None
    await admin.apply([secret("a"), secret("b")], prune="demo")
    await admin.apply([secret("a")], prune="demo")
    await admin.delete_collection(SECRET, "default")
    assert (await server.store.list(PAYLOADS)).items == []


async def test_a_secret_made_anew_has_its_own_bytes(server: Running, admin: Client) -> None:
    await admin.create(secret(value="old"))
    await admin.delete(SECRET, "default", "password")
    await admin.create(secret(value="new"))
    assert await payload(server) == {"value": b"new"}
    applied = await admin.apply([secret(value="new")])
    assert applied.items[0].result == "configured"  # the note of what was applied
    assert (await admin.get(SECRET, "default", "password"))["status"]["version"] == 1


@pytest.mark.parametrize(
    "data",
    [
        {"data": {"value": CANARY}},  # not base64
        {"data": {"value": ["x", CANARY]}},
        {"data": CANARY},
        {"stringData": {"value": {"nested": CANARY}}},
        {"stringData": {"value": 3}, "data": {"value": CANARY}},
        {"stringData": {"../../etc/passwd": CANARY}},
        {"stringData": {"": CANARY}},
        {"stringData": {"value": ""}},
        {"stringData": {"value": CANARY * 50_000}},
        {"spec": {"value": CANARY}},
        {"stringData": {"value": CANARY}, "data": {"value": "eA=="}},
    ],
)
async def test_what_is_wrong_is_said_without_the_bytes(
    server: Running,
    admin: Client,
    data: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    manifest = {k: v for k, v in secret().items() if k != "stringData"} | data
    for attempt in (admin.create(manifest), admin.apply([manifest])):
        error = await refused(attempt)
        assert error.code == 422
        assert CANARY not in str(error.status)
    answer = await request(
        server, "POST", "/namespaces/default/secrets", data=f'{{"data": "{CANARY}'.encode()
    )
    assert answer.code == 400
    assert CANARY.encode() not in answer.body
    yaml = f"kind: Secret\nstringData: {{a: {CANARY}\n\t: x".encode()
    headers = {"Content-Type": "application/yaml"}
    answer = await request(
        server, "POST", "/namespaces/default/secrets", data=yaml, headers=headers
    )
    assert answer.code in (400, 422)
    assert CANARY.encode() not in answer.body
    printed = capsys.readouterr()
    assert CANARY not in printed.out + printed.err + caplog.text


async def test_the_bytes_are_in_no_answer_log_or_object(
    server: Running,
    admin: Client,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    encoded = base64.b64encode(CANARY.encode()).decode()
    manifest = secret(value=CANARY)
    # kubectl copies the whole manifest into an annotation.
    note = f'{{"kind":"Secret","stringData":{{"value":"{CANARY}"}},"data":{{"v":"{encoded}"}}}}'
    manifest["metadata"]["annotations"] = {KUBECTL_NOTE: note}
    answers: list[Any] = [
        await admin.create(manifest, dry_run=True),
        await admin.apply([manifest], dry_run=True),
        await admin.create(manifest),
        await admin.apply([manifest], full=True),
        await admin.replace({**manifest, "stringData": {"value": CANARY + "2"}}),
        await admin.patch(SECRET, "default", "password", {"stringData": {"x": CANARY}}),
        await admin.patch(SECRET, "default", "password", {"data": {"y": encoded}}, dry_run=True),
        await admin.get(SECRET, "default", "password"),
        await admin.list(SECRET),
        await admin.create(service(secrets=[{"name": "password", "key": "none"}])),
        await anext(admin.watch(SECRET)),
        await refused(admin.create(manifest)),
        await admin.delete(SECRET, "default", "password", dry_run=True, force=True),
    ]
    for answer in answers:
        said = repr(getattr(answer, "status", answer))
        assert CANARY not in said
        assert encoded not in said
    for item in server.cache.items(SECRET) + server.cache.items(SERVICE):
        assert CANARY.encode() not in item.value
        assert encoded.encode() not in item.value
    metrics = await request(server, "GET", "//metrics")
    assert CANARY.encode() not in metrics.body
    printed = capsys.readouterr()
    assert CANARY not in printed.out + printed.err + caplog.text
    assert encoded not in printed.out + printed.err + caplog.text


async def test_kubectls_note_keeps_the_keys(admin: Client) -> None:
    """So that `kubectl apply` still knows which keys to take away."""
    manifest = secret()
    note = '{"kind":"Secret","stringData":{"value":"x"}}'
    manifest["metadata"]["annotations"] = {KUBECTL_NOTE: note, "other": "kept"}
    created = await admin.create(manifest)
    annotations = created["metadata"]["annotations"]
    assert annotations["other"] == "kept"
    assert annotations[KUBECTL_NOTE].strip() == '{"kind":"Secret","stringData":{"value":""}}'


async def test_the_status_of_a_secret_is_not_for_clients(admin: Client) -> None:
    await admin.create(secret())
    patch = {"status": {"version": 9}}
    assert (
        await refused(admin.patch(SECRET, "default", "password", patch, status=True))
    ).code == 405
