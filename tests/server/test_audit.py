"""The audit log: every change, command and refusal, and never a payload."""

from __future__ import annotations

import contextlib
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from api.client import ApiError
from api.membership import join
from api.pki.tls import stranger_context
from api.server.audit import FILES, Audit, _File
from api.types.kinds import SECRET, SERVICE, TASK
from tests.server.harness import Running, running_server, secret, service
from tests.server.raw import request


@contextlib.asynccontextmanager
async def audited(path: Path, *, reads: bool = False) -> AsyncIterator[Running]:
    audit = Audit(path, reads=reads)
    try:
        async with running_server(audit=audit) as server:
            yield server
    finally:
        audit.close()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_a_change_says_who_did_what_to_which_object(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    async with audited(path) as server, server.client() as admin:
        await admin.create(service())
        await admin.list(SERVICE)  # only looking
        await admin.delete(SERVICE, "default", "web")
    made, gone = lines(path)
    assert made["who"] == "admin admin"
    assert (made["verb"], made["resource"], made["namespace"]) == ("create", "services", "default")
    assert (gone["verb"], gone["name"], gone["code"]) == ("delete", "web", 200)
    assert gone["from"] == "127.0.0.1"
    assert gone["ms"] >= 0
    assert len({made["id"], gone["id"]}) == 2


async def test_a_token_that_was_read_is_told_and_so_is_who_joined(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    async with audited(path) as server, server.client() as admin:
        token = await admin.token("worker")
        await join([server.url], token, name="a")
        assert (await request(server, "POST", "/join", tls=stranger_context())).code == 400
        assert (await request(server, "GET", "/services", tls=stranger_context())).code == 401
    read, joined = lines(path)
    assert (read["who"], read["path"]) == ("admin admin", "/apis/skep.dev/v1/tokens/worker")
    assert (joined["who"], joined["verb"], joined["code"]) == ("nobody", "post", 200)
    assert token not in path.read_text()


async def test_a_set_names_each_object_with_its_result(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    async with audited(path) as server, server.client() as admin:
        await admin.apply([service(), secret()], dry_run=True)
        await admin.apply([service(), secret()])
    tried, done = lines(path)
    assert tried["dryRun"] is True
    assert [(o["kind"], o["name"], o["result"]) for o in done["objects"]] == [
        ("Service", "web", "created"),
        ("Secret", "password", "created"),
    ]


async def test_no_payload_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    async with audited(path, reads=True) as server, server.client() as admin:
        await admin.create(secret("a", value="canary-1"))
        await admin.apply([secret("a", value="canary-2")])
        await admin.patch(SECRET, "default", "a", {"stringData": {"value": "canary-3"}})
        await admin.get(SECRET, "default", "a")
        with pytest.raises(ApiError):
            await admin.create({**secret("b"), "stringData": ["canary-4"]})
    text = path.read_text()
    assert len(lines(path)) == 5
    assert "canary" not in text


async def test_refusals_are_written_reading_too(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    async with audited(path) as server, server.client(node="a") as agent:
        with pytest.raises(ApiError):
            await agent.list(SECRET)
    (line,) = lines(path)
    assert (line["who"], line["code"], line["resource"]) == ("node a", 403, "secrets")


async def test_taking_a_log_is_written(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    async with audited(path) as server, server.client() as admin:
        with pytest.raises(ApiError):
            await anext(admin.logs("default", "none"))
    (line,) = lines(path)
    assert (line["resource"], line["subresource"]) == (TASK.plural, "log")


async def test_reading_is_written_where_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    async with audited(path, reads=True) as server, server.client() as admin:
        await admin.list(SERVICE)
    (line,) = lines(path)
    assert line["verb"] == "list"


async def test_its_file_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    async with audited(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_full_disk_costs_lines_and_not_requests(tmp_path: Path) -> None:
    """/dev/full refuses every write, as a full disk does."""
    path = tmp_path / "audit.log"
    path.symlink_to("/dev/full")
    async with audited(path) as server, server.client() as admin:
        await admin.create(service())
        assert len((await admin.list(SERVICE)).items) == 1


def test_it_is_turned_over_by_size(tmp_path: Path) -> None:
    file = _File(tmp_path / "audit.log")
    file.maxBytes = 100
    for number in range(100):
        file.write(json.dumps({"number": number, "text": "x" * 40}))
    file.close()
    there = sorted(path.name for path in tmp_path.iterdir())
    assert len(there) == FILES + 1
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.stat().st_size <= 200
