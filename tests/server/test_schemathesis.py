"""Requests made at random from our own OpenAPI: thousands, right ones and wrong ones.

Whatever comes, the server answers in its own words, logs no traceback, and stores nothing of what
it refuses or only tries.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from api.server import openapi, operations
from tests.server.harness import Running, config, running_server, secret, service

CASES = 13  # of each operation, right ones, and as many wrong ones
LEAST = 2500  # requests in all
# So that requests meet objects, and not only nothing.
NAMES = {"Service": "web", "Config": "settings", "Secret": "password", "Namespace": "default"}
TAGS = {"secrets": "Secret"}
# At the start of a line of the log: what is random stands further on.
_FAILURE = re.compile(r"Traceback|\S+ \S+ \[(error|critical)")
PATCHES = (
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/apply-patch+yaml",
)


class Live:
    """A server in a thread of its own: the requests come from outside its loop."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._ready = threading.Event()
        self._stop: asyncio.Event
        self._loop: asyncio.AbstractEventLoop
        self.server: Running
        self.session = requests.Session()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    async def _serve(self) -> None:
        async with running_server() as server:
            self.server = server
            self._stop, self._loop = asyncio.Event(), asyncio.get_running_loop()
            server.credentials().write(self._home, "admin")
            self._ready.set()
            await self._stop.wait()

    def __enter__(self) -> Live:
        self._thread.start()
        assert self._ready.wait(30)
        self.session.trust_env = False  # or its authorities would be the environment's
        self.session.verify = str(self._home / "ca.crt")
        self.session.cert = (str(self._home / "admin.crt"), str(self._home / "admin.key"))
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)

    def make(self, document: Any) -> None:
        plural = document["kind"].lower() + "s"
        url = f"{self.server.url}/apis/skep.dev/v1/namespaces/default/{plural}"
        assert self.session.post(url, json=document, timeout=10).status_code in (201, 409)

    @property
    def revision(self) -> int:
        """Of the store: a write is answered when the cache has it."""
        return self.server.cache.revision


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    with Live(tmp_path) as running:
        yield running


def variants(case: Any) -> Iterator[dict[str, Any]]:
    """A case as requests: as it is, and of what there is; patches in each type."""
    case.query.pop("watch", None)  # held open; see test_watch
    about = case.operation.definition.raw.get("x-kubernetes-group-version-kind") or {}
    kind = about.get("kind") or TAGS.get(case.operation.definition.raw["tags"][0], "")
    given = case.path_parameters
    for meets in (False, True):
        if meets:
            known = {"namespace": "default", "name": NAMES.get(kind, "web"), "version": "1"}
            case.path_parameters = {key: known.get(key, given[key]) for key in given}
        made = case.as_transport_kwargs()
        made["headers"] = {**made["headers"], "User-Agent": "fuzz/1"}
        yield made
        if case.method.upper() == "PATCH":
            for content_type in PATCHES:
                yield {**made, "headers": {**made["headers"], "Content-Type": content_type}}


class Checked:
    """Sends requests, and looks at what became of each."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self.codes: Counter[int] = Counter()

    def send(self, made: dict[str, Any]) -> None:
        live = self._live
        before = live.revision
        made["url"] = live.server.url + made["url"].removeprefix(live.server.url)
        answer = live.session.request(**made, timeout=20, allow_redirects=False)
        self.codes[answer.status_code] += 1
        said = f"{made['method']} {made['url']} {made.get('params')}: {answer.status_code}"
        assert answer.status_code < 500, f"{said} {answer.text}"
        if answer.status_code >= 400:
            assert live.revision == before, f"{said}, and something was stored"
            body = answer.json()
            assert (body["kind"], body["code"]) == ("Status", answer.status_code), said
            assert body["message"], said
        elif "All" in _all((made.get("params") or {}).get("dryRun")):
            assert live.revision == before, f"{said}, and something was stored"


def _all(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.mark.deadline(240)
def test_requests_at_random(live: Live, capfd: pytest.CaptureFixture[str]) -> None:
    document = openapi.document()
    schema = schemathesis.openapi.from_dict(document)
    checked = Checked(live)
    for found in schema.get_all_operations():
        for example in (service(), config(), secret()):  # what was deleted is there again
            live.make(example)
        operation: Any = found.ok()  # type: ignore[union-attr]
        if operation.definition.raw.get(operations.STREAM):
            continue  # held open; see test_streams and test_assignments
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            _try(operation, mode, checked)
    out, err = capfd.readouterr()
    failed = [line for line in (out + err).splitlines() if _FAILURE.match(line)]
    assert not failed
    assert sum(checked.codes.values()) >= LEAST
    assert {200, 201, 400, 404, 409, 422} <= checked.codes.keys(), checked.codes


def _try(operation: Any, mode: GenerationMode, checked: Checked) -> None:
    @settings(
        max_examples=CASES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def one(case: Any) -> None:
        for made in variants(case):
            checked.send(made)

    try:
        one()
    except Unsatisfiable:
        # Nothing can be wrong where only text is asked for.
        assert mode is GenerationMode.NEGATIVE
        assert "requestBody" not in operation.definition.raw
