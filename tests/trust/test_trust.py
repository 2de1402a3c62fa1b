"""The cluster's authority and tokens in the store: shared, replaced in steps."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from api.pki.authority import Authority, expiry, mark
from api.pki.credentials import Credentials
from api.pki.identity import Role
from api.pki.tls import client_context, server_context
from api.store.contract import Store, Write
from api.store.memory import MemoryStore
from api.trust.records import TRUST, manager_key, token_key
from api.trust.trust import Trust, TrustError
from api.vault.errors import VaultError
from api.vault.key import VaultKey
from api.vault.vault import Vault
from tests.pki.test_tls import handshake
from tests.store.conftest import sealed_over


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    made = MemoryStore()
    yield made
    await made.close()


@pytest.fixture
def vault() -> Vault:
    return Vault([VaultKey.new()])


async def opened(store: Store, vault: Vault) -> Trust:
    trust = Trust(store, vault)
    await trust.open()
    return trust


@contextlib.asynccontextmanager
async def followed(trust: Trust) -> AsyncIterator[asyncio.Event]:
    """Within it follows the store; the event is set when something changed."""
    changed = asyncio.Event()
    trust.listen(changed.set)
    task = asyncio.create_task(trust.run())
    try:
        yield changed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_two_managers_sign_with_one_root(store: MemoryStore, vault: Vault) -> None:
    one, two = await opened(store, vault), await opened(store, vault)
    assert one.signing.ca_pem == two.signing.ca_pem
    assert one.token("worker") == two.token("worker")


async def test_managers_that_start_at_the_same_moment_agree(
    store: MemoryStore, vault: Vault
) -> None:
    one, two = await asyncio.gather(opened(store, vault), opened(store, vault))
    assert one.mark == two.mark


async def test_what_an_earlier_version_sealed_by_itself_is_opened_and_written_anew(
    store: MemoryStore, vault: Vault
) -> None:
    trust = await opened(store, vault)
    for item in (await store.list(TRUST)).items:
        record = msgspec.json.decode(item.value)
        for field in ("key", "secret"):
            if field in record:
                inner = vault.seal(item.key, base64.b64decode(record[field]))
                record[field] = base64.b64encode(inner).decode()
        await store.commit([Write(item.key, msgspec.json.encode(record))])
    with pytest.raises(VaultError, match="vault key"):
        await opened(store, Vault([VaultKey.new()]))
    with pytest.raises(VaultError, match=r"vault\.key"):
        await Trust(store, None).open()
    again = await opened(store, vault)
    assert again.signing.private_pem() == trust.signing.private_pem()
    assert again.token("manager") == trust.token("manager")
    await Trust(store, None).open()


async def test_a_token_copied_over_another_does_not_open(store: MemoryStore) -> None:
    await Trust(sealed_over(store), None).open()
    manager = await store.get(token_key("manager"))
    assert manager is not None
    # Who can write to etcd makes the worker's token the manager's: it does not open.
    await store.commit([Write(token_key("worker"), manager.value)])
    with pytest.raises(VaultError, match="copied from elsewhere"):
        await Trust(sealed_over(store), None).open()


async def test_a_manager_whose_record_is_damaged_does_no_harm(store: MemoryStore) -> None:
    trust = Trust(sealed_over(store), None)
    await trust.open()
    await store.commit([Write(manager_key("m"), b"rubbish")])
    again = Trust(sealed_over(store), None)
    await again.open()
    assert again.mark == trust.mark
    assert again.managers == {}


async def test_tokens_are_replaced_one_by_one(store: MemoryStore, vault: Vault) -> None:
    one, two = await opened(store, vault), await opened(store, vault)
    worker, manager = one.token("worker"), one.token("manager")
    assert worker.secret != manager.secret
    async with followed(two) as changed:
        made = await one.rotate_token("worker")
        await changed.wait()
    assert made != worker
    assert two.token("worker") == made
    assert two.token("manager") == manager


def contexts(trust: Trust, role: Role = Role.ADMIN) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A client's and a server's, as they would be made now."""
    client, server = trust.signing.issue("a", role), trust.signing.issue("m", Role.MANAGER)
    bundle = trust.bundle
    return client_context(client._replace(ca_pem=bundle)), server_context(
        server._replace(ca_pem=bundle)
    )


async def test_a_root_is_replaced_without_anybody_being_locked_out(
    store: MemoryStore, vault: Vault
) -> None:
    trust = await opened(store, vault)
    old_client, old_server = contexts(trust)
    old = trust.signing
    new = await trust.rotate()
    new_client, new_server = contexts(trust)
    assert trust.signing.id == new.id != old.id
    # Those who have only heard of the old root, and those who have moved, in any pairing.
    for client in (old_client, new_client):
        for server in (old_server, new_server):
            handshake(client, server)
    await trust.finish_rotation()
    last_client, last_server = contexts(trust)
    assert trust.mark == new.id
    handshake(new_client, last_server)
    handshake(last_client, new_server)
    with pytest.raises(ssl.SSLError):
        handshake(old_client, last_server)
    with pytest.raises(ssl.SSLError):
        handshake(last_client, old_server)


async def test_a_bundle_is_known_by_its_mark(store: MemoryStore, vault: Vault) -> None:
    trust = await opened(store, vault)
    assert trust.mark == mark(trust.bundle) == trust.signing.id
    await trust.rotate()
    assert trust.mark == mark(trust.bundle)
    assert trust.mark.count("+") == 1


async def test_the_old_roots_key_is_gone_from_the_store(store: MemoryStore, vault: Vault) -> None:
    trust = await opened(store, vault)
    old = trust.signing.id
    await trust.rotate()
    await trust.finish_rotation()
    assert not [item.key for item in (await store.list(TRUST)).items if old in item.key]


async def test_a_manager_that_starts_in_any_step_goes_on_there(
    store: MemoryStore, vault: Vault
) -> None:
    first = await opened(store, vault)
    assert not (await opened(store, vault)).record.next
    new = await first.rotate()
    second = await opened(store, vault)
    assert second.record.next == new.id
    assert second.signing.issue("a", Role.NODE).cert_pem.count("BEGIN CERTIFICATE") == 2
    await second.finish_rotation()
    await second.finish_rotation()  # again does nothing
    third = await opened(store, vault)
    assert (third.record.current, third.record.next) == (new.id, "")
    assert third.signing.issue("a", Role.NODE).cert_pem.count("BEGIN CERTIFICATE") == 1


async def test_a_root_is_not_replaced_twice_at_once(store: MemoryStore, vault: Vault) -> None:
    trust = await opened(store, vault)
    await trust.rotate()
    with pytest.raises(TrustError, match="being replaced"):
        await trust.rotate()


async def test_a_token_of_before_pins_a_root_that_is_offered_until_it_is_dropped(
    store: MemoryStore, vault: Vault
) -> None:
    trust = await opened(store, vault)
    before = trust.token("worker")
    await trust.rotate()
    assert before.digest in {root.digest for root in trust.trusted}
    assert trust.token("worker").digest == trust.signing.digest != before.digest


async def test_a_clients_certificate_is_renewed_as_it_was(store: MemoryStore, vault: Vault) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from api.pki.requests import new_request, requested_key

    trust = await opened(store, vault)
    shown = trust.signing.issue("a", Role.NODE, uid="u", days=2)
    await trust.rotate()
    _, request = new_request()
    der = x509.load_pem_x509_certificate(shown.cert_pem.encode()).public_bytes(Encoding.DER)
    renewed = trust.signing.renew(der, requested_key(request))
    parsed = x509.load_pem_x509_certificate(renewed.encode())
    assert parsed.subject.rfc4514_string() == "UID=u,CN=a,O=skep:node"
    assert abs((expiry(renewed) - expiry(shown.cert_pem)).total_seconds()) < 60
    assert trust.signing.id in parsed.issuer.rfc4514_string()


def test_a_servers_certificate_is_not_for_renewing(tmp_path: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from api.pki.errors import PkiError
    from api.pki.requests import new_request, requested_key

    authority = Authority.generate()
    server: Credentials = authority.issue("m", Role.MANAGER)
    der = x509.load_pem_x509_certificate(server.cert_pem.encode()).public_bytes(Encoding.DER)
    with pytest.raises(PkiError, match="only clients"):
        authority.renew(der, requested_key(new_request()[1]))
