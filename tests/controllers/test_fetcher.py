"""Secrets that are fetched: kept as their provider has them, and as they were while it is down."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from api.store.keys import payload_key
from api.types.generated import Generate, Source
from api.types.meta import condition
from api.types.secret import Payload, Secret
from controllers.fetcher.contract import FetchError, ReadSecret, Wanted
from controllers.fetcher.definitions import Definition, Definitions
from controllers.fetcher.fetcher import Fetcher
from controllers.reconcile.recorder import Recorder
from tests.controllers.test_generator import Ground, a_ground, secret

PROVIDERS = """
providers:
  - name: corp
    namespaces: [default]
    files: {directory: /values}
  - name: other
    namespaces: [ops]
    files: {directory: /values}
"""


class Toy:
    """A provider with what is put into it."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, bytes]] = {"db": {"password": b"p", "port": b"5432"}}
        self.down = ""
        self.trouble = ""
        self.asked: list[Wanted] = []

    async def fetch(self, wanted: Wanted) -> dict[str, bytes]:
        self.asked.append(wanted)
        await asyncio.sleep(0.1)
        if self.down:
            raise FetchError(self.down)
        if wanted.path not in self.values:
            raise FetchError("there is nothing at this path (404)")
        return self.values[wanted.path]

    async def close(self) -> None:
        return None


@pytest.fixture
def definitions(tmp_path: Path) -> Definitions:
    path = tmp_path / "providers.yaml"
    path.write_text(PROVIDERS)
    path.chmod(0o600)
    definitions = Definitions(path)
    definitions.load()
    return definitions


@contextlib.asynccontextmanager
async def fetching(ground: Ground, definitions: Definitions, toy: Toy) -> AsyncIterator[None]:
    def provide(_definition: Definition, _read: ReadSecret) -> Toy:
        return toy

    recorder = Recorder(ground.cache, ground.store, ground.clock)
    fetcher = Fetcher(
        ground.cache, ground.store, recorder, ground.clock, definitions,
        provide=provide, chance=lambda: 0.5,
    )  # fmt: skip
    running = [asyncio.create_task(fetcher.run()), asyncio.create_task(recorder.run())]
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def fetched(ground: Ground) -> tuple[str, str]:
    found = condition(ground.secret().status.conditions, "Fetched")
    return (found.status, found.message) if found is not None else ("", "")


SOURCE = Source(provider="corp", path="db")


async def test_it_has_what_the_provider_has(definitions: Definitions) -> None:
    toy = Toy()
    async with a_ground() as ground, fetching(ground, definitions, toy):
        await ground.put(secret(source=SOURCE))
        assert await ground.data() == {"password": b"p", "port": b"5432"}
        assert ground.secret().status.versions[0].origin == "provider corp"
        assert fetched(ground) == ("True", "")
        toy.values["db"] = {"password": b"new"}
        await asyncio.sleep(310)
        assert await ground.data() == {"password": b"new"}
        assert ground.secret().status.version == 2
        await asyncio.sleep(3600)
        assert ground.secret().status.version == 2
        assert 12 <= len(toy.asked) <= 16
        assert ground.events("Fetched")


async def test_quiet_costs_a_write_an_hour(definitions: Definitions) -> None:
    async with a_ground() as ground, fetching(ground, definitions, Toy()):
        await ground.put(secret(source=SOURCE))
        revision = ground.secret().metadata.resource_version
        await asyncio.sleep(3000)
        assert ground.secret().metadata.resource_version == revision
        await asyncio.sleep(1200)
        assert ground.secret().metadata.resource_version != revision


async def test_keys_are_mapped_and_stand_beside_what_is_given(definitions: Definitions) -> None:
    async with a_ground() as ground, fetching(ground, definitions, Toy()):
        source = Source(provider="corp", path="db", keys={"db-password": "password"})
        await ground.put(secret(source=source, generate={"salt": Generate()}))
        made = await ground.data()
        assert set(made) == {"db-password", "salt"}
        assert ground.secret().status.version == 1  # all of it at once


async def test_the_last_good_value_stays_while_the_provider_is_down(
    definitions: Definitions,
) -> None:
    toy = Toy()
    async with a_ground() as ground, fetching(ground, definitions, toy):
        await ground.put(secret(source=SOURCE))
        toy.down = "it can't be reached: refused"
        await asyncio.sleep(400)
        assert fetched(ground) == ("False", "provider corp: it can't be reached: refused")
        assert ground.events("FetchFailed") == [fetched(ground)[1]]
        assert await ground.data() == {"password": b"p", "port": b"5432"}
        revision = ground.secret().metadata.resource_version
        asked = len(toy.asked)
        await asyncio.sleep(24 * 3600)
        # Written down once, and asked less and less often.
        assert ground.secret().metadata.resource_version == revision
        assert 24 <= len(toy.asked) - asked <= 40
        toy.down = ""
        await asyncio.sleep(4000)
        assert fetched(ground) == ("True", "")
        status = ground.secret().status.source
        assert status is not None and (status.failures, status.message) == (0, "")
        assert ground.secret().status.version == 1


async def test_that_a_provider_will_end_is_told_once_while_it_still_gives(
    definitions: Definitions,
) -> None:
    toy = Toy()
    toy.trouble = "its token ends soon"
    async with a_ground() as ground, fetching(ground, definitions, toy):
        await ground.put(secret(source=SOURCE))
        await asyncio.sleep(1000)
        assert len(toy.asked) > 1
        assert fetched(ground) == ("True", "provider corp: its token ends soon")
        assert ground.events("ProviderEnds") == [fetched(ground)[1]]
        assert ground.secret().status.version == 1
        toy.trouble = ""
        await asyncio.sleep(4000)
        assert fetched(ground) == ("True", "")


async def test_what_is_asked_anew_or_otherwise_is_fetched_at_once(definitions: Definitions) -> None:
    toy = Toy()
    async with a_ground() as ground, fetching(ground, definitions, toy):
        await ground.put(secret(source=SOURCE))
        toy.values["db"] = {"password": b"2"}
        await ground.ask("db")
        assert await ground.data() == {"password": b"2"}
        await ground.ask("db")  # nothing new: asked once, and no version
        asked = len(toy.asked)
        await asyncio.sleep(60)
        assert (len(toy.asked), ground.secret().status.version) == (asked, 2)
        toy.values["web"] = {"key": b"3"}

        def other(secret: Secret) -> None:
            secret.source = Source(provider="corp", path="web")

        await ground.change("db", other)
        assert await ground.data() == {"key": b"3"}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (Source(provider="none", path="db"), "there is no provider none for namespace default"),
        (Source(provider="other", path="db"), "there is no provider other for namespace default"),
        (Source(provider="corp", path="x"), "provider corp: there is nothing at this path (404)"),
        (Source(provider="corp", path="db", keys={"a": "b"}), "it has no b; there is password"),
        (Source(provider="corp", path="strange"), "can't be a secret's key"),
        (Source(provider="corp", path="empty"), "there is nothing in it"),
        (Source(provider="corp", path="large"), "at most 512000 are allowed"),
    ],
)
async def test_what_is_wrong_is_said_and_nothing_is_stored(
    definitions: Definitions, source: Source, words: str
) -> None:
    toy = Toy()
    toy.values |= {"strange": {"a/b": b"1"}, "empty": {}, "large": {"a": b"x" * 600_000}}
    async with a_ground() as ground, fetching(ground, definitions, toy):
        await ground.put(secret(source=source))
        assert words in fetched(ground)[1]
        assert ground.secret().status.version == 0


async def test_a_key_that_is_given_too_is_not_overwritten(definitions: Definitions) -> None:
    async with a_ground() as ground, fetching(ground, definitions, Toy()):
        given = secret(source=SOURCE)
        await ground.put(given)

        def own(secret: Secret) -> None:
            assert secret.status.source is not None
            secret.status.source.keys = ["port"]  # the password is the user's
            secret.status.source.mark = "of before"

        await ground.change("db", own)
        await asyncio.sleep(400)
        assert "a key password, which this secret has from elsewhere" in fetched(ground)[1]
        assert (await ground.data())["password"] == b"p"


async def test_a_manager_without_the_provider_leaves_the_word_to_the_one_that_has_it(
    definitions: Definitions,
) -> None:
    toy = Toy()
    async with a_ground() as ground, fetching(ground, definitions, toy):
        await ground.put(secret(source=SOURCE))
        async with fetching(ground, Definitions(None), toy):
            await asyncio.sleep(3 * 3600)
            assert fetched(ground) == ("True", "")


async def test_after_a_restart_it_goes_on(definitions: Definitions) -> None:
    toy = Toy()
    async with a_ground() as ground:
        async with fetching(ground, definitions, toy):
            await ground.put(secret(source=SOURCE))
        toy.values["db"] = {"password": b"2"}
        async with fetching(ground, definitions, toy):
            await asyncio.sleep(400)
            assert await ground.data() == {"password": b"2"}
        stored = await ground.store.get(payload_key("default", "db", 1))
        assert stored is not None  # the version before, for who wants to go back
        assert msgspec.json.decode(stored.value, type=Payload).data["password"] == b"p"
