"""What who can write to etcd may do to values, and what managers make of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.store.contract import ABSENT, Change, Store, Unopened, Unreadable, Write
from api.store.memory import MemoryStore
from api.store.sealed import SealedStore
from api.vault.envelope import OVERHEAD, Envelope, UnknownKey, key_of
from api.vault.errors import VaultError
from tests.store.conftest import BOTH

A, B = "/skep/v1/objects/services/default/a", "/skep/v1/objects/services/default/b"
PLAIN = [name for name in BOTH if "sealed" not in str(name)]


class Ring:
    """Data keys by id, the last one sealing; a store knows those there were when it was made."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.keys = {b"key1": bytes(32)}
        self.looks = 0

    def store(self, *, seen: int = 0, floor: int = 0) -> SealedStore:
        envelope = Envelope()
        known = list(self.keys)
        envelope.use(dict(self.keys), known[-1])

        async def refresh() -> None:
            self.looks += 1
            envelope.use(dict(self.keys), list(self.keys)[-1])

        return SealedStore(self.inner, envelope, refresh, seen=seen, floor=floor)


@pytest.fixture(params=PLAIN)
def inner(request: pytest.FixtureRequest) -> Store:
    """What etcd holds: an attacker's view."""
    found: Store = request.getfixturevalue("memory" if request.param == "memory" else "etcd_store")
    return found


@pytest.fixture
def ring(inner: Store) -> Ring:
    return Ring(inner)


async def stored(store: Store, key: str) -> bytes:
    found = await store.get(key)
    assert found is not None
    return found.value


async def following(watch: AsyncGenerator[list[Change], None]) -> list[Change]:
    async with asyncio.timeout(30):
        while not (changes := await anext(watch)):
            pass
    return changes


async def refused(store: SealedStore, key: str, words: str) -> None:
    """By a get and in a list, each with its reason and the key in it."""
    with pytest.raises(Unreadable, match=words) as error:
        await store.get(key)
    assert error.value.key == key and key in str(error.value)
    (found,) = [item for item in (await store.list("/skep/")).items if item.key == key]
    assert isinstance(found.value, Unopened)
    assert words in found.value.why
    assert words in store.unopened[key]


async def test_nothing_of_a_value_is_in_the_store(inner: Store, ring: Ring) -> None:
    await ring.store().commit([Write(A, b"correct horse battery staple")])
    raw = await stored(inner, A)
    assert b"horse" not in raw
    assert len(raw) == len(b"correct horse battery staple") + OVERHEAD


async def test_values_that_were_swapped_do_not_open(inner: Store, ring: Ring) -> None:
    store = ring.store()
    await store.commit([Write(A, b"a"), Write(B, b"b")])
    a, b = await stored(inner, A), await stored(inner, B)
    await inner.commit([Write(A, b), Write(B, a)])
    await refused(store, A, "copied from elsewhere")
    await refused(store, B, "copied from elsewhere")


async def test_each_flipped_bit_and_each_cut_is_seen(inner: Store, ring: Ring) -> None:
    store = ring.store()
    await store.commit([Write(A, b"abc"), Write(B, b"still fine")])
    raw = await stored(inner, A)
    broken = [raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :] for at in range(len(raw))]
    broken += [raw[:length] for length in range(len(raw))]
    for value in broken:
        await inner.commit([Write(A, value)])
        with pytest.raises(Unreadable):
            await store.get(A)
    assert await stored(store, B) == b"still fine"
    await store.commit([Write(A, b"mended")])
    assert await stored(store, A) == b"mended"
    assert not store.unopened


async def test_a_value_that_was_never_sealed_is_refused(inner: Store, ring: Ring) -> None:
    await inner.commit([Write(A, b'{"kind":"Service"}')])
    await refused(ring.store(), A, "is not sealed")


async def test_a_first_value_put_over_a_later_one_does_not_fit(inner: Store, ring: Ring) -> None:
    store = ring.store()
    at = await store.commit([Write(A, b"1", ABSENT)])
    first = await stored(inner, A)
    await store.commit([Write(A, b"2", at)])
    await inner.commit([Write(A, first)])
    await refused(ring.store(), A, "put back")


async def test_a_later_value_does_not_fit_a_key_that_was_made_anew(
    inner: Store, ring: Ring
) -> None:
    store = ring.store()
    at = await store.commit([Write(A, b"1", ABSENT)])
    await store.commit([Write(A, b"2", at)])
    second = await stored(inner, A)
    await inner.commit([Write(A, None)])
    await inner.commit([Write(A, second)])
    await refused(ring.store(), A, "put back")


async def test_a_value_put_back_while_somebody_watches_is_seen(inner: Store, ring: Ring) -> None:
    store = ring.store()
    at = await store.commit([Write(A, b"1", ABSENT)])
    at = await store.commit([Write(A, b"2", at)])
    second = await stored(inner, A)
    await store.commit([Write(A, b"3", at)])
    page = await store.list("/skep/")
    watch = store.watch("/skep/", after=page.revision)
    replay = await inner.commit([Write(A, second)])
    (change,) = await following(watch)
    assert isinstance(change.value, Unopened)
    assert change.revision == replay
    assert "put back" in change.value.why
    await refused(store, A, "put back")
    # Who writes what it should be mends it: over what is there now.
    await store.commit([Write(A, b"4", replay)])
    (change,) = await following(watch)
    assert change.value == b"4"
    assert await stored(store, A) == b"4"
    assert not store.unopened
    await watch.aclose()


async def test_a_value_put_back_while_nobody_runs_is_seen_by_who_had_seen_more(
    inner: Store, ring: Ring
) -> None:
    store = ring.store()
    first = await store.commit([Write(A, b"1"), Write(B, b"never changed")])
    old = await stored(inner, A)
    await store.commit([Write(A, b"2", first)])
    floor = await store.commit([Write(A, b"3")])
    await store.commit([Write(A + "later", b"after the floor was kept")])
    await inner.commit([Write(A, old)])
    again = ring.store(seen=await inner.revision(), floor=floor)
    await refused(again, A, "put back")
    assert await stored(again, B) == b"never changed"
    assert await stored(again, A + "later") == b"after the floor was kept"
    await again.commit([Write(B, b"changed")])
    assert await stored(again, B) == b"changed"


async def test_a_bad_value_in_a_watch_stops_nothing(inner: Store, ring: Ring) -> None:
    store = ring.store()
    at = await store.commit([Write(A, b"a"), Write(B, b"b")])
    watch = store.watch("/skep/", after=at)
    await inner.commit([Write(A, b"rubbish"), Write(B, await stored(inner, B))])
    changes = await following(watch)
    assert [type(change.value) for change in changes] == [Unopened, bytes]
    await inner.commit([Write(A, None)])
    assert [change.value for change in await following(watch)] == [None]
    assert not store.unopened
    await watch.aclose()


async def test_a_new_data_key_is_looked_up_once_and_a_dropped_one_once_more(ring: Ring) -> None:
    early = ring.store()
    ring.keys[b"key2"] = b"2" * 32
    late = ring.store()
    await late.commit([Write(A, b"a"), Write(B, b"b")])
    assert await stored(early, A) == b"a"
    assert await stored(early, B) == b"b"
    assert ring.looks == 1
    del ring.keys[b"key2"]
    without = ring.store()
    await refused(without, A, "ring has not")
    await refused(without, B, "ring has not")
    assert ring.looks == 2


# The envelope by itself


def envelope(**keys: bytes) -> Envelope:
    made = Envelope()
    found = {id.encode(): raw for id, raw in keys.items()} or {b"key1": b"1" * 32}
    made.use(found, next(reversed(found)))
    return made


@given(st.text(), st.binary(), st.integers(-1, 2**63 - 1), st.integers(0, 2**63 - 1))
@settings(max_examples=50)
def test_what_is_sealed_opens_with_what_it_was_written_over(
    place: str, plain: bytes, replaces: int, seen: int
) -> None:
    one = envelope()
    assert one.open(place, one.seal(place, plain, replaces, seen)) == (plain, replaces, seen)


def test_no_nonce_comes_twice_under_one_cipher_key() -> None:
    one, other = envelope(), envelope()
    sealed = [each.seal("k", b"") for _ in range(10_000) for each in (one, other)]
    assert len({value[8:32] for value in sealed}) == len(sealed)  # salt and nonce
    assert len({value[8:20] for value in sealed}) == 2  # a salt a process


def test_a_salt_is_changed_when_it_has_sealed_enough() -> None:
    one = Envelope(per_salt=3)
    one.use({b"key1": b"1" * 32}, b"key1")
    sealed = [one.seal("k", b"x") for _ in range(7)]
    assert len({value[8:20] for value in sealed}) == 3
    assert all(one.open("k", value).plain == b"x" for value in sealed)


def test_several_keys_open_and_one_seals() -> None:
    old = envelope(key1=b"1" * 32)
    both = envelope(key1=b"1" * 32, key2=b"2" * 32)
    assert both.open("k", old.seal("k", b"x")).plain == b"x"
    assert key_of(both.seal("k", b"x")) == b"key2"
    with pytest.raises(UnknownKey, match="6b657932"):
        old.open("k", both.seal("k", b"x"))


def test_another_key_of_the_same_id_opens_nothing() -> None:
    with pytest.raises(VaultError, match="does not open"):
        envelope(key1=b"2" * 32).open("k", envelope(key1=b"1" * 32).seal("k", b"x"))


async def test_with_a_store_an_earlier_version_wrote_plain_values_are_taken_and_sealed_ones_too(
    memory: MemoryStore,
) -> None:
    one = Envelope()
    one.use({b"key1": bytes(32)}, b"key1", plain=True)

    async def no_news() -> None: ...

    store = SealedStore(memory, one, no_news)
    await memory.commit([Write(A, b'{"a":1}')])
    await store.commit([Write(B, b"b")])
    assert [item.value for item in (await store.list("/skep/")).items] == [b'{"a":1}', b"b"]
