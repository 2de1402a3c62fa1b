"""Namespaces: `default` is there, and a deleted one takes its contents with it."""

from __future__ import annotations

import msgspec

from api.store import keys
from api.store.contract import Write
from api.types.kinds import CONFIG, EVENT, NAMESPACE, REVISION, SECRET, SERVICE, TASK
from api.types.meta import Metadata
from api.types.namespace import Namespace
from api.types.secret import Config, Payload, Secret
from tests.controllers.world import EPOCH, a_world, service


async def test_default_is_made() -> None:
    async with a_world(0) as world:
        await world.until(lambda: world.cache.get(NAMESPACE, "", "default") is not None)


async def test_a_deleted_namespace_is_emptied_first() -> None:
    async with a_world(2) as world:
        await world.put(
            Namespace(
                metadata=Metadata(
                    name="shop", uid="u", creation_timestamp=EPOCH,
                    finalizers=["skep.dev/contents"],
                )
            ),
            service("web", namespace="shop", replicas=3),
            Secret(metadata=Metadata(name="key", namespace="shop", uid="s")),
            Config(metadata=Metadata(name="conf", namespace="shop", uid="c"), data={"a": "b"}),
            service("web", replicas=1),
        )  # fmt: skip
        payload = msgspec.json.encode(Payload(data={"a": b"x"}, version=1))
        await world.truth.commit([Write(keys.payload_key("shop", "key"), payload)])

        def running() -> int:
            return sum(i.obj.status.state == "Running" for i in world.cache.items(TASK, "shop"))

        await world.until(lambda: running() == 3)
        secret_outlived = True

        def look(_events: object) -> None:
            nonlocal secret_outlived
            live = [i for i in world.cache.items(TASK, "shop") if i.obj.live]
            if live and world.cache.get(SECRET, "shop", "key") is None:
                secret_outlived = False

        world.cache.listen(look)
        await world.delete(NAMESPACE, "shop")
        await world.until(lambda: world.cache.get(NAMESPACE, "", "shop") is None)
        assert secret_outlived
        for kind in (SERVICE, TASK, REVISION, SECRET, CONFIG, EVENT):
            assert world.cache.items(kind, "shop") == []
        assert await world.truth.get(keys.payload_key("shop", "key")) is None
        await world.steady(1)


async def test_a_namespace_that_waits_says_for_what() -> None:
    async with a_world(1) as world:
        await world.put(
            Namespace(
                metadata=Metadata(
                    name="shop", uid="u", creation_timestamp=EPOCH,
                    finalizers=["skep.dev/contents"],
                )
            ),
            service("web", namespace="shop", replicas=1),
        )  # fmt: skip
        await world.until(
            lambda: any(i.obj.status.state == "Running" for i in world.cache.items(TASK))
        )
        world.alive.clear()  # the agent hangs: nobody stops the task
        await world.delete(NAMESPACE, "shop")
        await world.pause(5)
        status = world.item(NAMESPACE, "shop").obj.status
        assert status.phase == "Terminating"
        assert status.conditions[0].message == "left: 1 service, 1 revision, 1 task"
