"""Certificates are renewed in the middle of their life, and nothing that is open ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.client import Client
from api.context import load
from api.membership import FILE, Membership, join
from api.pki.authority import life
from api.pki.tls import client_context
from api.server import Settings, make_app
from api.trust.keyring import Keyring
from api.trust.records import ManagerRecord, manager_key
from api.types.join import Sign
from api.types.kinds import SERVICE
from api.types.node import NodeStatus
from api.vault.anchor import Anchor
from api.vault.key import VaultKey
from api.vault.local import LocalKeys
from controllers.agent.session import Session
from controllers.daemons.renewal import AgentRenewal, due
from controllers.daemons.serving import Serving
from controllers.settings import ManagerSettings
from tests.cluster.harness import free_port
from tests.server.harness import CLUSTER, Running, running_server, service

SECONDS = 1 / 86400  # in days
NOW = datetime(2026, 1, 31, tzinfo=UTC)


def clock() -> datetime:
    return datetime.now(UTC)


@given(st.floats(0, 1), st.timedeltas(timedelta(seconds=1), timedelta(days=400)))
def test_it_is_due_between_50_and_80_percent(share: float, length: timedelta) -> None:
    at = due(NOW, NOW + length, share)
    slack = timedelta(milliseconds=1)
    assert NOW + 0.5 * length - slack <= at <= NOW + 0.8 * length + slack


class Renewing:
    """A node's renewal, running, and what it did."""

    def __init__(self, member: Membership, client: Client, directory: Path) -> None:
        self.saved: list[Membership] = []
        self.times = 0
        self.then: Callable[[], None] = lambda: None
        self._directory = directory
        self._more = asyncio.Event()
        self.renewal = AgentRenewal(
            member, client, clock=clock, save=self._save, renewed=self._renewed
        )

    def _save(self, member: Membership) -> None:
        member.save(self._directory)
        self.saved.append(member)

    def _renewed(self) -> None:
        self.times += 1
        self.then()
        self._more.set()

    async def once_more(self) -> None:
        self._more.clear()
        await self._more.wait()


async def with_renewal(
    server: Running, directory: Path, work: Callable[[Renewing, Client], object]
) -> Renewing:
    member, _ = await join([server.url], str(server.trust.token("worker")), name="a")
    async with Client(server.url, client_context(member.credentials), patience=0) as client:
        it = Renewing(member, client, directory)
        task = asyncio.create_task(it.renewal.run())
        try:
            await work(it, client)  # type: ignore[misc]
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    return it


async def test_a_node_outlives_its_certificates_and_is_told_all_the_while(
    tmp_path: Path,
) -> None:
    """With a life of 2 s: three certificates later it is still told, over the newest one."""

    async def work(it: Renewing, client: Client) -> None:
        heard: asyncio.Queue[str] = asyncio.Queue()
        session = Session(client, "a", {}, lambda message: heard.put_nowait(message.type))
        session.say(NodeStatus())
        it.then = session.begin_again
        living = asyncio.create_task(session.run())
        try:
            for _ in range(3):
                assert await heard.get() == "complete"
                await it.once_more()
            assert await heard.get() == "complete"
            assert clock() > life(it.saved[0].cert)[1]
            await client.heartbeat("a")
        finally:
            living.cancel()
            await asyncio.gather(living, return_exceptions=True)

    settings = Settings(node_days=2 * SECONDS, keep_alive=0.3)
    async with running_server(settings=settings) as server:
        it = await with_renewal(server, tmp_path, work)
    assert len({member.key for member in it.saved}) == len(it.saved) >= 3
    kept = Membership.load(tmp_path)
    assert kept is not None
    assert (kept.cert, kept.key) == (it.saved[-1].cert, it.saved[-1].key)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


async def test_a_node_renews_when_it_is_told_to(tmp_path: Path) -> None:
    async def work(it: Renewing, client: Client) -> None:
        it.renewal.heard(Sign(trust=server.trust.mark))
        await asyncio.sleep(0.1)
        assert it.times == 0
        it.renewal.heard(Sign(renew=True))
        it.renewal.heard(Sign(renew=True))
        await it.once_more()
        assert it.times == 1

    async with running_server() as server:
        await with_renewal(server, tmp_path, work)


async def test_a_node_whose_disk_is_full_goes_on_with_what_it_has(tmp_path: Path) -> None:
    """What can't be kept is not used either: after a restart it would be gone."""

    async def work(it: Renewing, client: Client) -> None:
        (tmp_path / "a").write_text("not a directory")
        it.renewal.heard(Sign(renew=True))
        await asyncio.sleep(0.3)
        assert it.times == 0
        (tmp_path / "a").unlink()
        await it.once_more()

    async with running_server() as server:
        await with_renewal(server, tmp_path / "a", work)


async def test_a_manager_takes_new_server_certificates_and_watches_go_on(tmp_path: Path) -> None:
    async with running_server() as server:
        settings = ManagerSettings(
            data_dir=tmp_path, host="127.0.0.1", port=free_port(), advertise=[],
            etcd_endpoints=[], etcd_files=None, heartbeat=5.0,
        )  # fmt: skip
        keys = LocalKeys(tmp_path / "vault.key", [VaultKey.new()])
        keyring = Keyring(server.store, [keys], Anchor(tmp_path / "seen.json"))
        serving = Serving(
            server.trust, server.store, keyring, settings, "m:1", clock=clock, days=2 * SECONDS
        )
        app = make_app(
            store=server.store, cache=server.cache, trust=server.trust, cluster=CLUSTER,
            components=list,
        )  # fmt: skip
        following = asyncio.create_task(server.trust.run())
        running = asyncio.create_task(serving.run())
        await serving.open(app)
        try:
            async with load(tmp_path / "admin.yaml").select().client() as client:
                changes = client.watch(SERVICE)
                first = asyncio.ensure_future(anext(changes))
                seen: set[str] = set()
                async with asyncio.timeout(10):
                    while len(seen) < 3:
                        seen.add(await asyncio.to_thread(_serial, server, settings.port))
                        await asyncio.sleep(0.2)
                await _moves_with_the_root(server, settings)
                await client.create(service("web"))
                assert (await first).object["metadata"]["name"] == "web"
                await changes.aclose()
        finally:
            running.cancel()
            following.cancel()
            await asyncio.gather(running, following, return_exceptions=True)
            await serving.close()
        assert await server.store.get(manager_key("m:1")) is None


async def _moves_with_the_root(server: Running, settings: ManagerSettings) -> None:
    """The manager says in the store that it has a certificate of the new root, and has one; so
    does the admin's context."""
    new = await server.trust.rotate()
    async with asyncio.timeout(10):
        while True:
            stored = await server.store.get(manager_key("m:1"))
            if stored and msgspec.json.decode(stored.value, type=ManagerRecord).signs == new.id:
                break
            await asyncio.sleep(0.1)
    context = load(settings.data_dir / "admin.yaml").select()
    assert context.ca.count("BEGIN CERTIFICATE") == 2


def _serial(server: Running, port: int) -> str:
    import socket

    tls = server.tls()
    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        tls.wrap_socket(plain, server_hostname="localhost") as made,
    ):
        return str((made.getpeercert() or {})["serialNumber"])


def test_a_damaged_membership_is_said_in_words(tmp_path: Path) -> None:
    from api.membership import MembershipError
    from api.pki.files import write_private

    assert Membership.load(tmp_path) is None
    write_private(tmp_path / FILE, "{")
    with pytest.raises(MembershipError, match="join anew"):
        Membership.load(tmp_path)
    (tmp_path / FILE).chmod(0o644)
    with pytest.raises(MembershipError, match="chmod 600"):
        Membership.load(tmp_path)
