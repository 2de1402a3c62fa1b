"""What belongs to an object goes when it goes, or is let go of."""

from __future__ import annotations

import msgspec

from api.store import keys
from api.store.contract import Write
from api.types.kinds import CONFIG, SECRET, SERVICE
from api.types.meta import FOREGROUND, ORPHAN, Metadata, OwnerReference
from api.types.secret import Config, Payload, Secret
from tests.controllers.world import EPOCH, World, a_world, service


def reference(name: str, kind: str = "Config") -> OwnerReference:
    return OwnerReference(kind=kind, name=name, uid=f"uid-{name}")


def config(name: str, *owners: OwnerReference, finalizers: tuple[str, ...] = ()) -> Config:
    metadata = Metadata(
        name=name,
        namespace="default",
        uid=f"uid-{name}",
        creation_timestamp=EPOCH,
        owner_references=[*owners],
        finalizers=[*finalizers],
    )
    return Config(metadata=metadata, data={"a": "b"})


def there(world: World, name: str) -> bool:
    return world.cache.get(CONFIG, "default", name) is not None


async def test_it_goes_with_the_last_of_its_owners() -> None:
    async with a_world(0) as world:
        await world.put(config("a"), config("b"), config("x", reference("a"), reference("b")))
        await world.delete(CONFIG, "a")
        await world.pause(5)
        assert there(world, "x")
        await world.delete(CONFIG, "b")
        await world.until(lambda: not there(world, "x"))


async def test_a_chain_goes_to_its_end() -> None:
    async with a_world(0) as world:
        await world.put(config("a"), config("b", reference("a")), config("c", reference("b")))
        await world.delete(CONFIG, "a")
        await world.until(lambda: not there(world, "c"))


async def test_an_owner_made_anew_is_another() -> None:
    async with a_world(0) as world:
        old = OwnerReference(kind="Config", name="a", uid="uid-of-before")
        await world.put(config("a"), config("x", old))
        await world.until(lambda: not there(world, "x"))
        assert there(world, "a")


async def test_a_secret_goes_with_its_bytes_and_a_service_with_its_tasks() -> None:
    async with a_world(1) as world:
        secret = Secret(
            metadata=Metadata(
                name="key", namespace="default", uid="s", owner_references=[reference("a")]
            )
        )
        owned = service("web", replicas=1)
        owned.metadata.owner_references = [reference("a")]
        await world.put(config("a"), secret, owned)
        payload = msgspec.json.encode(Payload(data={"a": b"x"}, version=1))
        await world.truth.commit([Write(keys.payload_key("default", "key"), payload)])
        await world.until(lambda: len(world.running()) == 1)
        await world.delete(CONFIG, "a")
        await world.until(lambda: world.cache.get(SECRET, "default", "key") is None)
        assert await world.truth.get(keys.payload_key("default", "key")) is None
        await world.until(lambda: world.cache.get(SERVICE, "default", "web") is None)


async def test_in_the_foreground_the_owner_goes_last() -> None:
    async with a_world(0) as world:
        await world.put(
            config("a", finalizers=(FOREGROUND,)),
            config("x", reference("a"), finalizers=("example.com/backup",)),
        )
        await world.delete(CONFIG, "a")
        await world.until(
            lambda: world.item(CONFIG, "x").obj.metadata.deletion_timestamp is not None
        )
        await world.pause(5)
        assert there(world, "a")
        await world.truth.commit([Write(world.item(CONFIG, "x").key, None)])
        await world.until(lambda: not there(world, "a"))


async def test_orphans_stay_without_the_reference() -> None:
    async with a_world(0) as world:
        await world.put(
            config("a", finalizers=(ORPHAN, "example.com/own")),
            config("x", reference("a"), reference("b")),
        )
        await world.put(config("b"))
        await world.delete(CONFIG, "a")
        await world.until(
            lambda: world.item(CONFIG, "a").obj.metadata.finalizers == ["example.com/own"]
        )
        left = world.item(CONFIG, "x").obj.metadata.owner_references
        assert [owner.name for owner in left] == ["b"]


async def test_a_namespaced_owner_owns_nothing_elsewhere() -> None:
    async with a_world(0) as world:
        await world.put(config("a"))
        other = config("x", reference("a"))
        other.metadata.namespace = "shop"
        await world.put(other)
        await world.until(lambda: world.cache.get(CONFIG, "shop", "x") is None)
        assert there(world, "a")
