"""The OpenAPI document and what the server answers are the same, both ways."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.server import openapi, operations
from api.server.auth import NODE_SUBS
from api.server.discovery import STATUS_KINDS
from api.server.keys import KeysHandlers
from api.server.paths import PREFIX
from api.store.memory import MemoryStore
from api.store.sealed import SealedStore
from api.trust.keyring import Keyring
from api.types.keys import KeysStatus, LockStatus
from api.types.kinds import BY_NAME
from api.vault.anchor import FILE, Anchor
from api.vault.local import LocalKeys
from tests.server.harness import Running, running_server
from tests.server.raw import request

METHODS = ("get", "post", "put", "patch", "delete")
# Of Kubernetes, whose own documents have them, and what is not of a group.
ELSEWHERE = re.compile(
    r"/(openapi/v3.*|apis?/?|apis?/\{.*|healthz|readyz|version|metrics"
    r"|apis/(authentication|authorization|apiextensions)\.k8s\.io/.*)"
)
NAMES = {"namespace": "default", "role": "worker", "name": "n1"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    """One whose store is sealed, as a manager's is: it has requests about keys."""
    store, keys = MemoryStore(), LocalKeys.create(tmp_path / "vault.key")
    anchor = Anchor.load(tmp_path / FILE)
    keyring = Keyring(store, [keys], anchor)
    await keyring.open()
    sealed = SealedStore(
        store, keyring.envelope, keyring.refresh,
        seen=await store.revision(), floor=anchor.seen.revision,
    )  # fmt: skip

    def report() -> KeysStatus:
        return KeysStatus(kept_by="a file", generation=1, keys=[], lock=LockStatus(locked=False))

    async with running_server(store=sealed, keys=KeysHandlers(sealed, keyring, report)) as running:
        yield running


def documented() -> set[tuple[str, str]]:
    """Every method and path."""
    paths = {**openapi.document()["paths"], **openapi.core()["paths"]}
    return {
        (method, path) for path, there in paths.items() for method in there if method in METHODS
    }


def spelled(path: str) -> str:
    """Whatever a part is called, and whatever it may look like."""
    return re.sub(r"\{[^}]*\}", "{}", path)


async def test_every_route_is_in_the_document(server: Running) -> None:
    there = {(method, spelled(path)) for method, path in documented()}
    routes = {
        (method.lower(), spelled(path))
        for method, path in server.routes
        if method not in ("HEAD", "*") and not ELSEWHERE.fullmatch(path)
    }
    assert routes - there == set()
    ours = {
        (each.method, spelled(PREFIX + each.path)) for each in operations.OPERATIONS
        if spelled(each.path).count("{}/") == 0 or each.path.startswith(("tokens", "users"))
    }  # fmt: skip
    assert ours - routes == set(), "and no more than there are"


async def test_every_subresource_is_in_the_document(server: Running) -> None:
    there = {path for _, path in documented()}
    for name, sub in server.subresources | {(kind.name, "status") for kind in STATUS_KINDS}:
        kind = BY_NAME[name]
        base = f"{PREFIX}namespaces/{{namespace}}/" if kind.namespaced else PREFIX
        wanted = f"{base}{kind.plural}/{{name}}/{sub}"
        assert any(path == wanted or path.startswith(f"{wanted}/") for path in there), wanted


async def test_what_is_in_the_document_is_answered_and_nothing_else(server: Running) -> None:
    document = openapi.document()["paths"]
    wrong = []
    for path, there in document.items():
        for method in METHODS:
            if (there.get(method) or {}).get(operations.STREAM):
                continue  # it would be held open
            code, said = await _answer(server, method, path)
            known = code != 405 and "there is nothing at" not in said
            if (not known) if method in there else code < 400:
                wrong.append(f"{method} {path}: {code} {said[:200]}")
    assert not wrong, "\n".join(wrong)


async def _answer(server: Running, method: str, path: str) -> tuple[int, str]:
    """To a request that changes nothing: its body is none, or it is dry."""
    full = re.sub(r"\{(\w+)\}", lambda found: NAMES.get(found[1], "1"), path)
    sub = path.rpartition("{name}/")[2].partition("/")[0]
    agents = path.startswith(f"{PREFIX}nodes/") and sub in NODE_SUBS
    tls = server.tls(node="n1") if agents else server.tls()
    body = b"[" if method in ("post", "put", "patch") else None
    answer = await request(
        server, method.upper(), f"/{full}?dryRun=All", tls=tls, data=body,
        headers={"Content-Type": "application/merge-patch+json"},
    )  # fmt: skip
    return answer.code, answer.body.decode()
