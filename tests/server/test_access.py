"""Who gets in, and who may do what."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import aiohttp
import pytest

from api.client import ApiError, Client, Unreachable
from api.pki.authority import Authority
from api.pki.identity import Role
from api.pki.tls import client_context
from api.types.assignment import SessionRequest
from api.types.kinds import NODE, SECRET, SERVICE, TASK
from tests.server.harness import Running, running_server, secret
from tests.server.raw import request


async def test_plaintext_is_refused(server: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answered = await reader.read()
    except ConnectionError:
        answered = b""
    finally:
        writer.close()
    assert b"HTTP/" not in answered


async def test_older_tls_is_refused(server: Running) -> None:
    old = server.tls()
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(aiohttp.ClientError):
        await request(server, "GET", "//healthz", tls=old)


async def test_a_client_without_a_certificate_is_refused(server: Running) -> None:
    """Everywhere but on the join path: see test_join.py."""
    nobody = ssl.create_default_context(cadata=server.authority.ca_pem)
    assert (await request(server, "GET", "//healthz", tls=nobody)).code == 401


async def test_an_expired_certificate_is_refused(server: Running) -> None:
    expired = client_context(server.authority.issue("admin", Role.ADMIN, days=-0.001))
    async with Client(server.url, expired, patience=0) as client:
        with pytest.raises(Unreachable, match="certificate"):
            await client.version()


async def test_a_certificate_of_another_cluster_is_refused(server: Running, tmp_path: Path) -> None:
    other = Authority.create(tmp_path).issue("admin", Role.ADMIN)
    tls = client_context(other._replace(ca_pem=server.authority.ca_pem))
    async with Client(server.url, tls, patience=0) as stranger:
        with pytest.raises(Unreachable, match="certificate"):
            await stranger.version()


@pytest.mark.parametrize("role", [Role.ETCD, Role.MANAGER])
async def test_roles_that_are_not_the_apis_get_nothing(server: Running, role: Role) -> None:
    async with Client(server.url, server.tls(role=role)) as client:
        with pytest.raises(ApiError) as caught:
            await client.list(SERVICE)
    assert (caught.value.code, caught.value.reason) == (403, "Forbidden")


async def test_a_certificate_without_a_known_role_is_nobody(server: Running) -> None:
    credentials = server.authority.issue("x", Role.ADMIN)
    tls = client_context(credentials)

    async def code() -> int:
        return (await request(server, "GET", "/services", tls=tls)).code

    assert await code() == 200
    # The same authority, but a subject without a role: as made with the authority's key by hand.
    nobody = _without_role(server.authority)
    assert (await request(server, "GET", "/services", tls=nobody)).code == 401


def _without_role(authority: Authority) -> ssl.SSLContext:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    from api.pki.credentials import Credentials

    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    issuer = x509.load_pem_x509_certificate(authority.ca_pem.encode())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(authority._key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    key_pem = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return client_context(
        Credentials(certificate.public_bytes(pem).decode(), key_pem.decode(), authority.ca_pem)
    )


async def test_a_node_reads_and_writes_no_objects(server: Running, admin: Client) -> None:
    await admin.create(secret())
    async with server.client(node="a") as agent:
        await agent.open_session("a", SessionRequest())
        for attempt in (
            agent.list(SERVICE),
            agent.list(SECRET),
            agent.get(SECRET, "default", "password"),
            agent.get(NODE, "", "a"),
            agent.patch(NODE, "", "a", {"spec": {"availability": "active"}}),
            agent.delete(TASK, "default", "x"),
            agent.create(secret("mine")),
            agent.apply([secret("mine")]),
            agent.components(),
        ):
            with pytest.raises(ApiError) as caught:
                await attempt
            assert caught.value.code == 403


async def test_a_node_is_no_other_node(server: Running) -> None:
    async with server.client(node="a") as agent:
        for attempt in (
            agent.open_session("b", SessionRequest()),
            agent.heartbeat("b"),
            agent.report("b", []),
            anext(agent.assignments("b")),
        ):
            with pytest.raises(ApiError) as caught:
                await attempt
            assert caught.value.code == 403
            assert "only the agent of node b" in caught.value.message
        with pytest.raises(ApiError) as caught:
            await agent.dial_stream("b", "some-id")
        assert caught.value.code == 403


async def test_an_admin_is_no_node_either(admin: Client) -> None:
    """Secrets reach nodes only: not even an admin reads them from an assignment stream."""
    with pytest.raises(ApiError) as caught:
        await anext(admin.assignments("a"))
    assert caught.value.code == 403


async def test_health_is_for_all_who_belong(server: Running) -> None:
    for tls in (server.tls(), server.tls(node="a")):
        for path in ("//healthz", "//readyz", "//version"):
            assert (await request(server, "GET", path, tls=tls)).code == 200


async def test_metrics_count_requests(server: Running, admin: Client) -> None:
    await admin.list(SERVICE)
    answer = await request(server, "GET", "//metrics")
    assert b'skep_api_requests_total{code="200",resource="services",verb="GET"} 1.0' in answer.body


async def test_components_are_what_the_manager_says() -> None:
    parts = [{"name": "scheduler", "status": "running"}]
    async with running_server(components=parts) as server, server.client() as admin:
        assert await admin.components() == parts


@pytest.mark.parametrize(
    "path",
    ["/pods", "/services/web", "/namespaces/default/pods/x", "/services//web", "/nodes/a/other"],
)
async def test_paths_to_nothing_are_said_in_a_status(server: Running, path: str) -> None:
    answer = await request(server, "GET", path)
    said = await answer.json()
    assert (answer.code, said["kind"], said["reason"]) == (404, "Status", "NotFound")


async def test_methods_that_make_no_sense_are_said_in_a_status(server: Running) -> None:
    answer = await request(server, "PUT", "/services")
    assert (answer.code, (await answer.json())["reason"]) == (405, "MethodNotAllowed")
    answer = await request(server, "PUT", "/apply")
    assert answer.code in (404, 405)


async def test_nobody_acts_as_somebody_else(server: Running) -> None:
    """What `kubectl --as` asks for must not be done with one's own rights."""
    for name in ("Impersonate-User", "impersonate-group"):
        answer = await request(server, "GET", "/services", headers={name: "visitor"})
        assert answer.code == 403
        assert "nobody may act as somebody else" in (await answer.json())["message"]
