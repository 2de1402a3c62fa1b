"""Generated secrets: made once, made anew when it is time, and nothing else touched."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from api.pki import certificates
from api.pki.certificates import Issuer
from api.server.payloads import Payloads
from api.store.cache import Cache
from api.store.contract import Store, Write
from api.store.indexes import standard
from api.store.keys import PAYLOADS, object_key, payload_key
from api.store.memory import MemoryStore
from api.types import codec
from api.types.generated import AgeKey, Certificate, Generate, Rotation, SshKey
from api.types.kinds import EVENT, SECRET
from api.types.meta import Metadata, condition
from api.types.secret import ROTATE, Payload, Secret
from controllers.generator.generator import Generator
from controllers.reconcile.recorder import Recorder
from tests.controllers.faulty import Faulty

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = 3600.0


def secret(name: str = "db", **fields: Any) -> Secret:
    metadata = Metadata(
        name=name, namespace="default", uid=f"uid-{name}", creation_timestamp=EPOCH, generation=1
    )
    return Secret(metadata=metadata, **fields)


AUTHORITY = Generate(x509=Certificate(is_ca=True, lifetime="300h", overlap="24h"))
LEAF = Generate(x509=Certificate(ca="ca", dns_names=["db"], lifetime="90h"))


class Ground:
    """A store with a manager's generator, whose clock can be set."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        self.through: Store = self.store
        self.cache = Cache(self.store)
        standard(self.cache)
        self.payloads = Payloads(self.store, keep=0)
        self.ahead = timedelta()  # of the manager's clock
        self.running: list[asyncio.Task[None]] = []

    def clock(self) -> datetime:
        return EPOCH + timedelta(seconds=asyncio.get_running_loop().time()) + self.ahead

    def start(self) -> None:
        recorder = Recorder(self.cache, self.through, self.clock)
        generator = Generator(self.cache, self.through, recorder, self.clock)
        self.running += [
            asyncio.create_task(recorder.run()),
            asyncio.create_task(generator.run()),
        ]

    async def stop(self) -> None:
        for task in self.running:
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)
        self.running.clear()

    async def put(self, *secrets: Secret) -> None:
        for one in secrets:
            key = object_key(SECRET, "default", one.metadata.name)
            await self.cache.caught_up(await self.store.commit([Write(key, codec.encode(one))]))
        await self.settle()

    async def change(self, name: str, how: Callable[[Secret], None]) -> None:
        changed = codec.copy(self.secret(name))
        how(changed)
        await self.put(changed)

    async def ask(self, name: str) -> None:
        """As `ctl secret rotate` does."""

        def annotate(secret: Secret) -> None:
            secret.metadata.annotations = {ROTATE: str(secret.status.version)}

        await self.change(name, annotate)

    async def settle(self) -> None:
        await asyncio.sleep(3)
        await self.cache.caught_up(await self.store.revision())

    def secret(self, name: str = "db") -> Secret:
        item = self.cache.get(SECRET, "default", name)
        assert item is not None
        found: Secret = item.obj
        return found

    async def data(self, name: str = "db") -> dict[str, bytes]:
        stored = await self.store.get(
            payload_key("default", name, self.secret(name).status.version)
        )
        return {} if stored is None else msgspec.json.decode(stored.value, type=Payload).data

    def events(self, reason: str) -> list[str]:
        return [item.obj.message for item in self.cache.items(EVENT) if item.obj.reason == reason]

    def said(self, name: str = "db") -> str:
        found = condition(self.secret(name).status.conditions, "Generated")
        return found.message if found is not None else ""


@contextlib.asynccontextmanager
async def a_ground(**fields: Any) -> AsyncIterator[Ground]:
    ground = Ground(**fields)
    following = asyncio.create_task(ground.cache.run())
    await ground.cache.synced()
    ground.start()
    try:
        yield ground
    finally:
        await ground.stop()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_values_are_made_once_and_stay() -> None:
    async with a_ground() as ground:
        wanted = {
            "password": Generate(),
            "key": Generate(ssh=SshKey()),
            "age": Generate(age=AgeKey()),
        }
        await ground.put(secret(generate=wanted))
        made = await ground.data()
        assert set(made) == {"password", "key", "key.pub", "age", "age.pub"}
        status = ground.secret().status
        assert (status.version, set(status.sizes)) == (1, set(made))
        assert status.versions[0].origin == "generation"
        assert status.next_rotation is None
        assert ground.said() == ""
        assert status.generated["age"].public_key == made["age.pub"].decode().strip()
        await asyncio.sleep(100 * HOUR)
        assert await ground.data() == made
        shown = codec.encode(ground.secret())
        assert made["password"] not in shown
        assert made["age"].split()[-1] not in shown


async def test_a_change_makes_anew_what_changed_and_nothing_else() -> None:
    async with a_ground() as ground:
        await ground.put(secret(generate={"a": Generate(), "b": Generate(), "c": Generate()}))
        before = await ground.data()

        def change(secret: Secret) -> None:
            secret.generate = {
                "a": Generate(),
                "b": Generate(length=40),
                "d": Generate(ssh=SshKey()),
            }
            del secret.status.generated["c"]  # as the API server does

        await ground.change("db", change)
        after = await ground.data()
        assert after["a"] == before["a"]
        assert len(after["b"]) == 40
        assert {"d", "d.pub"} <= set(after)
        assert ground.secret().status.version == 2
        assert ground.secret().status.last_rotation is not None


async def test_who_asks_gets_all_of_it_anew_once() -> None:
    async with a_ground() as ground:
        await ground.put(secret(generate={"a": Generate(), "b": Generate()}))
        before = await ground.data()
        await ground.ask("db")
        after = await ground.data()
        assert ground.secret().status.version == 2
        assert ground.events("Rotated") == [
            f"{name} was made (rotation on request)" for name in "ab"
        ]
        assert all(before[key] != after[key] for key in before)
        await asyncio.sleep(30 * HOUR)
        assert ground.secret().status.version == 2


async def test_values_are_rotated_when_they_are_so_old() -> None:
    async with a_ground() as ground:
        await ground.put(secret(generate={"a": Generate()}, rotation=Rotation(every="30h")))
        first = ground.secret().status.next_rotation
        assert first is not None
        assert timedelta(hours=28) < first - ground.clock() <= timedelta(hours=30)
        await asyncio.sleep(28 * HOUR)
        assert ground.secret().status.version == 1
        await asyncio.sleep(2.1 * HOUR)
        assert ground.secret().status.version == 2
        assert ground.secret().status.versions[-1].origin == "rotation by its time"
        await asyncio.sleep(150 * HOUR)
        assert 6 <= ground.secret().status.version <= 8


async def test_values_are_rotated_at_set_times_and_missed_ones_count_once() -> None:
    async with a_ground() as ground:
        nightly = Rotation(cron="0 3 * * *", time_zone="Europe/Berlin")
        await ground.put(secret(generate={"a": Generate()}, rotation=nightly))
        assert ground.secret().status.next_rotation == datetime(2026, 1, 1, 2, tzinfo=UTC)
        await asyncio.sleep(2.5 * HOUR)
        assert ground.secret().status.version == 2
        await ground.stop()
        await asyncio.sleep(100 * HOUR)
        ground.start()
        await asyncio.sleep(HOUR)
        assert ground.secret().status.version == 3
        assert ground.secret().status.next_rotation == datetime(2026, 1, 6, 2, tzinfo=UTC)


async def test_a_certificate_is_renewed_when_a_third_of_its_life_is_left() -> None:
    async with a_ground() as ground:
        await ground.put(secret("ca", generate={"ca": AUTHORITY}), secret(generate={"tls": LEAF}))
        made = await ground.data()
        assert set(made) == {"tls.crt", "tls.key", "ca.crt"}
        known = ground.secret().status.generated["tls"]
        assert known.fingerprint == certificates.facts(made["tls.crt"]).fingerprint
        await asyncio.sleep(56 * HOUR)
        assert await ground.data() == made
        await asyncio.sleep(5 * HOUR)
        renewed = await ground.data()
        assert ground.secret().status.version == 2
        assert renewed["tls.key"] != made["tls.key"]
        assert renewed["ca.crt"] == made["ca.crt"]
        assert ground.secret().status.versions[-1].origin == "rotation by its time"


async def test_what_waits_for_its_authority_says_so_and_is_made_when_that_is_there() -> None:
    async with a_ground() as ground:
        await ground.put(secret(generate={"tls": LEAF, "password": Generate()}))
        assert ground.said() == "tls waits for its authority, secret ca"
        assert ground.events("Waiting") == [ground.said()]
        # Half of it is no secret: nobody can be given it.
        assert ground.secret().status.version == 0
        item = ground.cache.get(SECRET, "default", "db")
        assert item is not None
        assert await ground.payloads.get(item) is None
        waiting = await ground.payloads.stored(item)
        assert set(waiting) == {"password"}
        await ground.put(secret("ca", generate={"ca": AUTHORITY}))
        assert ground.secret().status.version == 1
        made = await ground.data()
        assert made["password"] == waiting["password"]
        assert ground.said() == ""
        keys = [kv.key for kv in (await ground.store.list(PAYLOADS)).items]
        assert len(keys) == 2  # one version of each, and nothing that waits


async def test_what_is_no_authority_is_said() -> None:
    async with a_ground() as ground:
        await ground.put(secret("ca", generate={"password": Generate()}))
        await ground.put(secret(generate={"tls": LEAF}))
        assert "tls can't be signed by secret ca: it holds no authority" in ground.said()


async def test_certificates_follow_their_authority_and_at_last_its_predecessor_goes() -> None:
    async with a_ground() as ground:
        await ground.put(secret("ca", generate={"ca": AUTHORITY}))
        await ground.put(secret(generate={"tls": LEAF}), secret("web", generate={"tls": LEAF}))
        first, root = await ground.data(), await ground.data("ca")
        await ground.ask("ca")
        followed, new_root = await ground.data(), await ground.data("ca")
        assert new_root["ca.key"] != root["ca.key"]
        issuer = Issuer.from_pem(new_root["ca.crt"], new_root["ca.key"])
        assert certificates.facts(followed["tls.crt"]).issuer == issuer.id
        assert followed["ca.crt"].count(b"BEGIN") == 2  # both are trusted
        assert root["ca.crt"].strip() in followed["ca.crt"]
        assert ground.secret("web").status.version == 2
        await asyncio.sleep(24.1 * HOUR)
        last = await ground.data()
        assert last["ca.crt"].count(b"BEGIN") == 1
        assert last["tls.key"] == followed["tls.key"]  # the certificate stays
        assert last["ca.crt"] != first["ca.crt"]
        assert ground.secret("ca").status.version == 3
        await asyncio.sleep(30 * HOUR)
        assert ground.secret().status.version == 3


async def test_a_predecessor_stays_while_a_certificate_is_still_signed_by_it() -> None:
    async with a_ground() as ground:
        await ground.put(secret("ca", generate={"ca": AUTHORITY}), secret(generate={"tls": LEAF}))
        await ground.ask("ca")

        def old_again(secret: Secret) -> None:
            secret.status.generated["tls"].issuer = "of before"

        await ground.change("db", old_again)
        await asyncio.sleep(30 * HOUR)
        assert (await ground.data("ca"))["ca.crt"].count(b"BEGIN") > 1


async def test_a_value_that_was_rolled_back_is_told_as_it_is() -> None:
    async with a_ground() as ground:
        await ground.put(secret(generate={"key": Generate(ssh=SshKey())}))
        first = await ground.data()
        await ground.ask("db")
        from api.server import versions

        item = ground.cache.get(SECRET, "default", "db")
        assert item is not None
        writes = versions.new_version(item, first, await ground.data(), ground.clock())
        await ground.cache.caught_up(await ground.store.commit(writes))
        await ground.settle()
        assert await ground.data() == first
        told = ground.secret().status.generated["key"]
        assert told.public_key == first["key.pub"].decode().strip()


async def test_two_managers_make_one_value() -> None:
    async with a_ground() as ground, a_ground(store=ground.store) as other:
        for number in range(10):
            await ground.put(secret(f"s{number}", generate={"a": Generate()}))
            await other.settle()
            assert other.secret(f"s{number}").status.version == 1
        assert len((await ground.store.list(PAYLOADS)).items) == 10


@pytest.mark.parametrize("seed", range(6))
async def test_after_a_fault_anywhere_it_comes_to_the_same(seed: int) -> None:
    """The store loses answers: what was written may have been, and is looked at again."""
    async with a_ground() as ground:
        await ground.stop()
        ground.through = Faulty(ground.store, rate=0.3, seed=seed)
        ground.start()
        await ground.put(secret("ca", generate={"ca": AUTHORITY}))
        await ground.put(secret(generate={"tls": LEAF, "password": Generate()}))
        await asyncio.sleep(300)
        assert ground.secret().status.version == 1
        made = await ground.data()
        assert set(made) == {"tls.crt", "tls.key", "ca.crt", "password"}
        await ground.ask("db")
        await asyncio.sleep(300)
        assert ground.secret().status.version == 2
        assert (await ground.data())["password"] != made["password"]


async def test_what_cannot_be_renewed_is_said_and_keeps_nobody_else_from_it() -> None:
    async with a_ground() as ground:
        await ground.put(secret("ca", generate={"ca": AUTHORITY}))
        leaf = Generate(x509=Certificate(ca="ca", lifetime="30h"))
        for number in range(5):
            await ground.put(secret(f"s{number}", generate={"tls": leaf}))
        await ground.put(secret(generate={"a": Generate()}, rotation=Rotation(every="30h")))

        def no_authority(secret: Secret) -> None:
            secret.generate = {"ca": Generate()}

        await ground.change("ca", no_authority)
        await asyncio.sleep(25 * HOUR)
        assert "tls can't be signed by secret ca: it holds no authority" in ground.said("s4")
        assert ground.secret("s4").status.version == 1
        await asyncio.sleep(5.1 * HOUR)
        assert ground.secret().status.version == 2


# Clocks


async def a_hundred(ground: Ground) -> None:
    for number in range(100):
        await ground.put(
            secret(f"s{number}", generate={"a": Generate()}, rotation=Rotation(every="30h"))
        )


def rotated(ground: Ground) -> int:
    return sum(ground.secret(f"s{n}").status.version > 1 for n in range(100))


async def test_a_clock_that_leaps_and_comes_back_rotates_nothing() -> None:
    async with a_ground() as ground:
        await a_hundred(ground)
        ground.ahead = timedelta(days=3650)
        await ground.change("s0", lambda secret: None)  # so that somebody looks
        await asyncio.sleep(600)
        assert rotated(ground) == 0
        assert any("3650 days ahead of the last sign" in e for e in ground.events("ClockInDoubt"))
        assert ground.said("s0") == ""
        ground.ahead = timedelta()
        await asyncio.sleep(2 * 3600)
        assert rotated(ground) == 0


async def test_a_clock_that_stays_wrong_rotates_a_few_at_a_time() -> None:
    async with a_ground() as ground:
        await a_hundred(ground)
        ground.ahead = timedelta(days=3650)
        for number in range(100):
            await ground.change(f"s{number}", lambda secret: None)
        await asyncio.sleep(650)
        assert 20 <= rotated(ground) <= 30
        await asyncio.sleep(3600)
        assert rotated(ground) == 100
        assert all(ground.secret(f"s{n}").status.version == 2 for n in range(100))


async def test_what_was_made_in_the_future_is_due_in_time_again() -> None:
    async with a_ground() as ground:
        ground.ahead = timedelta(days=3650)
        await ground.stop()
        ground.start()
        await ground.put(
            secret("ca", generate={"ca": AUTHORITY}),
            secret(generate={"a": Generate(), "tls": LEAF}, rotation=Rotation(every="30h")),
        )
        before = await ground.data()
        ground.ahead = timedelta()
        await ground.change("db", lambda secret: None)
        await asyncio.sleep(3600)
        after = await ground.data()
        # The password is as good as ever; the certificate would be good in ten years only.
        assert after["a"] == before["a"]
        assert certificates.facts(after["tls.crt"]).not_before <= ground.clock()
        next_rotation = ground.secret().status.next_rotation
        assert next_rotation is not None
        assert next_rotation - ground.clock() < timedelta(hours=30)


async def test_after_weeks_off_a_manager_waits_for_its_clock_before_it_rotates() -> None:
    async with a_ground() as ground:
        await ground.put(secret(generate={"a": Generate()}, rotation=Rotation(every="30h")))
        await ground.stop()
        await asyncio.sleep(60 * HOUR)
        ground.start()
        await asyncio.sleep(600)
        assert ground.secret().status.version == 1
        assert any("in case it is wrong" in words for words in ground.events("ClockInDoubt"))
        await asyncio.sleep(600)
        assert ground.secret().status.version == 2
        assert ground.said() == ""


async def test_of_two_managers_whose_clocks_differ_only_the_first_goes_on() -> None:
    async with a_ground() as ground:
        await ground.put(secret(generate={"a": Generate()}, rotation=Rotation(every="30h")))
        async with a_ground(store=ground.store) as other:
            other.ahead = timedelta(days=3650)
            await other.stop()
            other.start()
            await asyncio.sleep(5 * HOUR)
            assert ground.secret().status.version == 1
            await asyncio.sleep(26 * HOUR)
            assert ground.secret().status.version == 2
            assert ground.secret().status.generated["a"].made < EPOCH + timedelta(hours=40)
