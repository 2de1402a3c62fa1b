"""A manager's own etcd outlives its certificates."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from api.pki.authority import life
from api.store.contract import Write
from api.store.etcd import EtcdStore
from api.store.member import Member, MemberSettings
from controllers.daemons.etcd import EtcdCertificate

pytestmark = pytest.mark.etcd

LIFE = 4.0  # seconds


async def test_etcd_outlives_its_certificate_and_a_watch_does_not_notice(tmp_path: Path) -> None:
    certificate = EtcdCertificate(tmp_path / "pki", days=LIFE / 86400)
    _, first_ends = life(certificate.files.cert.read_text())
    settings = MemberSettings(unsafe_no_fsync=True)
    async with Member(tmp_path / "etcd", certificate.files, settings=settings) as member:
        store = EtcdStore(member.endpoints, member.tls)
        renewing = asyncio.create_task(certificate.keep_good(member.reconnect, store.reconnect))
        changes = store.watch("/k/", after=await store.revision())
        seen: asyncio.Queue[str] = asyncio.Queue()

        async def follow() -> None:
            async for batch in changes:
                for change in batch:
                    seen.put_nowait(change.key)

        following = asyncio.create_task(follow())
        try:
            number = 0
            while datetime.now(UTC).timestamp() < first_ends.timestamp() + 1:
                await store.commit([Write(f"/k/{number}", b"x")])
                number += 1
                await asyncio.sleep(0.1)
            # All connections anew: nothing of the first certificate is left to lean on.
            fresh = EtcdStore(member.endpoints, member.tls)
            await fresh.commit([Write(f"/k/{number}", b"x")])
            await fresh.close()
            async with asyncio.timeout(5):
                for at in range(number + 1):
                    assert await seen.get() == f"/k/{at}"
            assert not following.done()
        finally:
            for task in (renewing, following):
                task.cancel()
            await asyncio.gather(renewing, following, return_exceptions=True)
            await changes.aclose()
            await store.close()
