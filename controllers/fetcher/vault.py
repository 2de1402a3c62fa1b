"""Values from a KV engine behind HashiCorp Vault's HTTP API, which OpenBao speaks too.

    KV 2    GET /v1/<mount>/data/<path>[?version=N]    {"data": {"data": {…}}}
    KV 1    GET /v1/<mount>/<path>                     {"data": {…}}
    login   POST /v1/auth/<mount>/login                {"auth": {"client_token", "lease_duration"}}

As the API's documentation has it. A token from a file or Secret is read again for each request, so
that whoever replaces it needs to tell nobody; while it is the same it is renewed: see `tokens`. A
role logs in when its
token has a third of its life left, and once more when that is refused. Redirects are not followed:
a token goes to the server it is for.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import structlog
from yarl import URL

from api.pki.errors import PkiError
from api.pki.files import read_private
from controllers.fetcher.contract import MOST_BYTES, FetchError, ReadSecret, Wanted
from controllers.fetcher.definitions import PLACE, AppRole, Credential, VaultServer
from controllers.fetcher.tokens import Refused, TokenLife
from controllers.fetcher.values import from_json

_log = structlog.get_logger("skep.fetcher")

_TIMEOUT = aiohttp.ClientTimeout(total=15, connect=5)
_WORDS = {
    400: "it does not understand the request; are mount, kv and namespace right?",
    403: "permission denied; is the token good, and may it read this path?",
    404: "there is nothing at this path",
    429: "it is asked too much",
    473: "it is a standby; set address to the active server",
    500: "it has a fault of its own",
    502: "what is behind it does not answer",
    503: "it is sealed, or down for maintenance",
}


class Vault:
    def __init__(
        self, server: VaultServer, read_secret: ReadSecret, steady: Callable[[], float]
    ) -> None:
        self._server = server
        self._read_secret = read_secret
        self._steady = steady
        self._session: aiohttp.ClientSession | None = None
        self._token = ""  # of a role
        self._good_until = 0.0
        self._login = asyncio.Lock()
        self._life = TokenLife(self._with_token)

    @property
    def trouble(self) -> str:
        return self._life.trouble

    async def fetch(self, wanted: Wanted) -> dict[str, bytes]:
        server = self._server
        if wanted.version and server.kv == 1:
            raise FetchError("its engine (KV 1) has no versions: remove source.version")
        if not wanted.path:
            raise FetchError("it needs a path: give source.path")
        path = server.prefix.replace(PLACE, wanted.namespace) + wanted.path
        middle = "data/" if server.kv == 2 else ""
        query = f"?version={wanted.version}" if wanted.version else ""
        answer = await self._ask("GET", f"{server.mount}/{middle}{path}{query}")
        data = answer.get("data")
        if server.kv == 2:
            data = data.get("data") if isinstance(data, dict) else None
        try:
            return from_json(data)
        except ValueError:
            hint = "is it KV 1 or KV 2, as the provider says?"
            raise FetchError(f"its answer holds no keys and values; {hint}") from None

    async def close(self) -> None:
        await self._life.close()
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _ask(self, method: str, path: str) -> dict[str, Any]:
        """With a token; of a role with a new one where the old one is refused."""
        if self._server.app_role is None:
            if self._server.token is None:
                raise FetchError("it has neither a token nor a role")
            token = await self._read(self._server.token)
            await self._life.keep(token)
            return await self._request(method, path, token=token)
        token, fresh = await self._of_role(refused="")
        try:
            return await self._request(method, path, token=token)
        except _Refused as refused:
            if refused.code != 403 or fresh:
                raise
        token, _ = await self._of_role(refused=token)
        return await self._request(method, path, token=token)

    async def _with_token(self, method: str, path: str, token: str) -> dict[str, Any]:
        return await self._request(method, path, token=token)

    async def _of_role(self, refused: str) -> tuple[str, bool]:
        """A role's token, while it is good and was not refused; else that of a new login. And
        whether it is new."""
        async with self._login:
            good = self._token and self._token != refused and self._steady() < self._good_until
            if good:
                return self._token, False
            role = self._server.app_role
            if role is None:
                raise FetchError("it has no role")
            await self._log_in(role)
            return self._token, True

    async def _log_in(self, role: AppRole) -> None:
        body = {"role_id": role.role_id, "secret_id": await self._read(role.secret_id)}
        self._token = ""
        try:
            answer = await self._request("POST", f"auth/{role.mount}/login", body=body)
        except _Refused as refused:
            if refused.code in (400, 403):
                raise FetchError(
                    f"it did not let the role in ({refused.code}); are role and secret id good?"
                ) from None
            raise
        auth = answer.get("auth")
        if not isinstance(auth, dict) or not isinstance(auth.get("client_token"), str):
            raise FetchError("it let the role in, and gave no token")
        lease = auth.get("lease_duration")
        # 0: a token that does not end.
        seconds = float(lease) if isinstance(lease, int | float) and lease > 0 else 86400.0
        self._token = auth["client_token"]
        self._good_until = self._steady() + seconds * 2 / 3

    async def _request(
        self, method: str, path: str, *, token: str = "", body: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Raises FetchError."""
        headers = {"X-Vault-Request": "true", "Accept": "application/json"}
        if token:
            headers["X-Vault-Token"] = token
        if self._server.namespace:
            headers["X-Vault-Namespace"] = self._server.namespace
        url = URL(f"{self._server.address}/v1/{path}", encoded=True)
        try:
            async with self._connected().request(
                method, url, headers=headers, json=body, allow_redirects=False
            ) as response:
                raw = await _bounded(response)
                if response.status != 200:
                    raise _Refused(response.status)
        except aiohttp.ClientConnectorCertificateError as error:
            why = getattr(error.certificate_error, "verify_message", "") or "it is not trusted"
            raise FetchError(f"its certificate can't be verified: {why}") from None
        except aiohttp.ClientError as error:
            why = getattr(getattr(error, "os_error", None), "strerror", "") or "no connection"
            raise FetchError(f"it can't be reached: {why}") from None
        except TimeoutError:
            raise FetchError("it did not answer in time") from None
        try:
            answer = msgspec.json.decode(raw)
        except msgspec.DecodeError:
            raise FetchError("its answer is no JSON; is this the right address?") from None
        return answer if isinstance(answer, dict) else {}

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            try:
                tls = ssl.create_default_context(cafile=self._server.ca or None)
            except (OSError, ssl.SSLError):
                raise FetchError("its file of certificates (ca) can't be read") from None
            self._session = aiohttp.ClientSession(
                timeout=_TIMEOUT,
                connector=aiohttp.TCPConnector(ssl=tls, limit=4),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def _read(self, credential: Credential) -> str:
        if credential.secret is not None:
            where = credential.secret
            raw = await self._read_secret(where.namespace, where.name, where.key)
            return raw.decode(errors="replace").strip()
        try:
            return (await asyncio.to_thread(read_private, Path(credential.file))).strip()
        except PkiError as error:
            _log.warning("a provider's credential can't be used", why=str(error))
            words = "its credential can't be read; the manager's log says why"
            raise FetchError(words) from None


class _Refused(Refused):
    def __init__(self, code: int) -> None:
        words = _WORDS.get(code, "it redirects elsewhere" if 300 <= code < 400 else "")
        super().__init__(f"{words or 'it refused'} ({code})")
        self.code = code


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    parts = bytearray()
    async for chunk in response.content.iter_chunked(1 << 16):
        parts += chunk
        if len(parts) > MOST_BYTES:
            raise FetchError("its answer is larger than a secret can be")
    return bytes(parts)
