"""The fetcher: keeps secrets that name a provider as that has them.

By level, as everywhere: a secret is fetched when it never was, when what its manifest asks for has
changed, when `ctl secret rotate` asks, and when its time has come. What a failed fetch leaves is
what was there, and words. When a secret is fetched next is kept in memory: what a manager that
starts does not know, it fetches, a little spread.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import msgspec
import structlog

from api.server import made
from api.server.payloads import Payloads
from api.store.cache import DELETED, Cache, CacheEvent, Item
from api.store.contract import Store
from api.store.holders import held
from api.types.generated import Source, SourceStatus, keys_of
from api.types.kinds import SECRET
from api.types.meta import Condition, set_condition
from api.types.quantity import parse_duration
from api.types.secret import ROTATE, Secret, SecretStatus
from controllers.fetcher import times
from controllers.fetcher.command import Command
from controllers.fetcher.contract import FetchError, Provider, ReadSecret, Wanted
from controllers.fetcher.definitions import Definition, Definitions
from controllers.fetcher.files import Files
from controllers.fetcher.values import mapped
from controllers.fetcher.vault import Vault
from controllers.reconcile.controller import DONE, After, Controller, Done
from controllers.reconcile.recorder import Recorder

FETCHED = "Fetched"  # a condition
_NOTED = timedelta(hours=1)  # how often it is written down that all is as it was

_Key = tuple[str, str]  # namespace, name
_log = structlog.get_logger("skep.fetcher")


class _Memory(msgspec.Struct):
    """Of one secret, while this manager runs."""

    uid: str
    mark: str  # what it asked for
    due: float  # by the loop's clock
    failures: int = 0
    asked: int = 0  # the version that `ctl secret rotate` wanted replaced last


class Fetcher:
    name = "secret fetcher"

    def __init__(
        self,
        cache: Cache,
        store: Store,
        recorder: Recorder,
        clock: Callable[[], datetime],
        definitions: Definitions,
        *,
        provide: Callable[[Definition, ReadSecret], Provider] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._cache = cache
        self._store = store
        self._recorder = recorder
        self._clock = clock
        self._definitions = definitions
        self._provide = provide or provider_of
        self._chance = chance
        self._payloads = Payloads(store, keep=0)  # bytes are not kept in memory here
        self._providers: dict[str, tuple[Definition, Provider]] = {}
        self._known: dict[_Key, _Memory] = {}
        self._controller: Controller[_Key] = Controller(self.name, self._reconcile)

    async def run(self) -> None:
        await self._cache.synced()
        self._known.clear()
        stop = self._cache.listen(self._heard, kinds={SECRET})
        try:
            for item in self._cache.items(SECRET):
                self._take(item)
            await self._controller.run()
        finally:
            stop()
            for _, provider in self._providers.values():
                await provider.close()
            self._providers.clear()

    def _heard(self, events: Sequence[CacheEvent]) -> None:
        for event in events:
            if event.type == DELETED:
                self._known.pop((event.item.namespace, event.item.name), None)
            else:
                self._take(event.item)

    def _take(self, item: Item) -> None:
        if item.obj.source is not None:
            self._controller.queue.add((item.namespace, item.name))

    async def _reconcile(self, key: _Key) -> After | Done:
        item = self._cache.get(SECRET, *key)
        if item is None or item.obj.metadata.deletion_timestamp is not None:
            return DONE
        secret: Secret = item.obj
        if secret.source is None:
            return DONE
        memory = self._remembered(key, secret, secret.source)
        left = memory.due - asyncio.get_running_loop().time()
        if left > 0:
            return After(left)
        await self._fetch(item, secret, secret.source, memory)
        return After(max(0.0, memory.due - asyncio.get_running_loop().time()))

    def _remembered(self, key: _Key, secret: Secret, source: Source) -> _Memory:
        now, mark = asyncio.get_running_loop().time(), _mark(source)
        refresh = parse_duration(source.refresh)
        memory = self._known.get(key)
        if memory is None or memory.uid != secret.metadata.uid:
            status = secret.status.source
            age = None
            if status is not None and status.fetched is not None and status.mark == mark:
                age = (self._clock() - status.fetched).total_seconds()
            due = now + times.after_start(refresh, age, self._chance())
            memory = self._known[key] = _Memory(secret.metadata.uid, mark, due)
        if memory.mark != mark:
            memory.mark, memory.due, memory.failures = mark, now, 0
        asked = secret.metadata.annotations.get(ROTATE) == str(secret.status.version)
        if asked and memory.asked != secret.status.version:
            memory.asked, memory.due = secret.status.version, now
        return memory

    async def _fetch(self, item: Item, secret: Secret, source: Source, memory: _Memory) -> None:
        """Fetch, write what came of it, and set the next time. Raises Conflict, StoreError."""
        refresh = parse_duration(source.refresh)
        loop = asyncio.get_running_loop()
        try:
            found, trouble = await self._found(secret, source)
            old = await self._payloads.stored(item)
            await self._take_over(item, secret, source, old, found, trouble)
        except FetchError as error:
            memory.failures += 1
            wait = times.after_failure(refresh, memory.failures, self._chance())
            memory.due = loop.time() + wait
            if isinstance(error, _Undefined) and self._is_fetched_elsewhere(secret, source):
                return
            await self._say_failure(item, secret, memory, str(error))
        else:
            memory.failures = 0
            memory.due = loop.time() + times.after_success(refresh, self._chance())

    async def _found(self, secret: Secret, source: Source) -> tuple[dict[str, bytes], str]:
        """And what will keep the provider from giving it again. Raises FetchError."""
        namespace = secret.metadata.namespace
        definition = self._definitions.get(source.provider, namespace)
        if definition is None:
            raise _Undefined(
                f"there is no provider {source.provider} for namespace {namespace}: the operator"
                " defines them on the managers (skepd manager --providers)"
            )
        provider = await self._provider(definition)
        wanted = Wanted(namespace, secret.metadata.name, source.path, source.version)
        try:
            return await provider.fetch(wanted), provider.trouble
        except FetchError as error:
            raise FetchError(f"provider {source.provider}: {error}") from None

    async def _provider(self, definition: Definition) -> Provider:
        known = self._providers.get(definition.name)
        if known is not None and known[0] == definition:
            return known[1]
        if known is not None:
            await known[1].close()
        provider = self._provide(definition, self._read_secret)
        self._providers[definition.name] = definition, provider
        return provider

    async def _read_secret(self, namespace: str, name: str, key: str) -> bytes:
        """A provider's credential. Raises FetchError, StoreError."""
        item = self._cache.get(SECRET, namespace, name)
        payload = None if item is None else await self._payloads.get(item)
        if payload is None or key not in payload.data:
            raise FetchError("the Secret with its credential is not there")
        return payload.data[key]

    # Writing

    async def _take_over(
        self,
        item: Item,
        secret: Secret,
        source: Source,
        old: dict[str, bytes],
        found: dict[str, bytes],
        trouble: str,
    ) -> None:
        """Raises FetchError for values that the secret can't have; Conflict, StoreError."""
        now = self._clock()
        before = secret.status.source or SourceStatus()
        rest = {key: value for key, value in old.items() if key not in before.keys}
        made_here = {key for name, each in secret.generate.items() for key in keys_of(name, each)}
        try:
            values = mapped(found, source.keys, {*rest, *made_here})
        except FetchError as error:
            raise FetchError(f"provider {source.provider}: {error}") from None
        data = rest | values
        told = SourceStatus(
            keys=sorted(values), fetched=before.fetched, changed=before.changed, mark=_mark(source)
        )
        if data != old:
            told.changed = now.replace(microsecond=0)
        stale = told.fetched is None or abs(now - told.fetched) > _NOTED
        if data != old or stale or before.message or before.mark != told.mark:
            told.fetched = now.replace(microsecond=0)
        status = _with_condition(secret.status, told, self._warned(secret, source, trouble), now)
        try:
            writes = made.change(
                item, status, data, old, now,
                held=held(self._cache, item.namespace, item.name),
                origin=f"provider {source.provider}",
            )  # fmt: skip
        except ValueError as error:
            raise FetchError(f"provider {source.provider}: what it gives {error}") from None
        if not writes:
            return
        await self._cache.caught_up(await self._store.commit(writes))
        if data != old:
            words = f"{', '.join(told.keys)} fetched from {source.provider}"
            self._recorder.note(secret, "Normal", "Fetched", words, component=self.name)
            _log.info("fetched a secret", of=f"{item.namespace}/{item.name}", keys=told.keys)

    def _warned(self, secret: Secret, source: Source, trouble: str) -> Condition:
        """That it was fetched, and what will keep it from being fetched again: told once."""
        if not trouble:
            return Condition(type=FETCHED, status="True", reason="Fetched")
        words = f"provider {source.provider}: {trouble}"
        if all(each.message != words for each in secret.status.conditions):
            self._recorder.note(secret, "Warning", "ProviderEnds", words, component=self.name)
        return Condition(type=FETCHED, status="True", reason="ProviderEnds", message=words)

    async def _say_failure(self, item: Item, secret: Secret, memory: _Memory, words: str) -> None:
        """Once for each reason: a provider that is down for a week is written down once."""
        now = self._clock()
        before = secret.status.source or SourceStatus()
        if before.message == words:
            return
        told = msgspec.structs.replace(before, message=words, failures=memory.failures)
        status = _with_condition(secret.status, told, _failed(words), now)
        self._recorder.note(secret, "Warning", "FetchFailed", words, component=self.name)
        _log.warning("a secret can't be fetched", of=f"{item.namespace}/{item.name}", why=words)
        revision = await self._store.commit([made.only_status(item, status)])
        await self._cache.caught_up(revision)

    def _is_fetched_elsewhere(self, secret: Secret, source: Source) -> bool:
        """Whether another manager has the provider that this one lacks: two that take turns in
        saying so would never end."""
        status = secret.status.source
        if status is None or status.fetched is None or status.mark != _mark(source):
            return False
        age = self._clock() - status.fetched
        return age < _NOTED + 2 * timedelta(seconds=parse_duration(source.refresh))


def provider_of(definition: Definition, read_secret: ReadSecret) -> Provider:
    """What a definition means."""
    if definition.vault is not None:
        return Vault(definition.vault, read_secret, asyncio.get_running_loop().time)
    if definition.files is not None:
        return Files(definition.files)
    if definition.command is not None:
        return Command(definition.command)
    raise FetchError(f"provider {definition.name} is defined as nothing")


class _Undefined(FetchError):
    """This manager has no such provider for the namespace."""


def _failed(words: str) -> Condition:
    return Condition(type=FETCHED, status="False", reason="FetchFailed", message=words)


def _with_condition(
    status: SecretStatus, told: SourceStatus, condition: Condition, now: datetime
) -> SecretStatus:
    conditions = set_condition(status.conditions, condition, now=now)
    return msgspec.structs.replace(status, source=told, conditions=conditions)


def _mark(source: Source) -> str:
    """What a secret asks for, apart from how often."""
    asked = msgspec.json.encode(msgspec.structs.replace(source, refresh=""), order="sorted")
    return hashlib.sha256(asked).hexdigest()[:16]
