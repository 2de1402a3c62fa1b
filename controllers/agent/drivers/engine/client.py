"""Calls to the Engine's HTTP API, and its errors in our words.

What has one answer goes over connections of our own where the engine is on a socket of this node;
what streams or is hijacked, and all with an engine elsewhere (TLS, ssh), through aiodocker.
The API version is the engine's own, asked for once and again after it was away, since it may have
come back as another version.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlencode

import aiodocker
import aiohttp
import msgspec

from controllers.agent.drivers.contract import DriverError, EngineDown, NotFound, Refused
from controllers.agent.drivers.engine.connections import Answer, Connections

CALL_SECONDS = 120.0  # an engine that takes longer for one call is as good as gone

_SOCKET = "unix://"
_CANNOT_CONNECT = 900  # aiodocker's own status for it

# The engine answers 500 to these, though no second try can go better.
_HOPELESS = (
    "OCI runtime create failed",
    "failed to create shim",
    "invalid mount config",
    "no such file or directory",
    "not a directory",
    "unable to find user",
    "unable to find group",
    "executable file not found",
    "seccomp profile",
)


class EngineClient:
    def __init__(self, url: str) -> None:
        self.url = url
        self._docker: aiodocker.Docker | None = None
        here = url.startswith(_SOCKET)
        self._connections = Connections(url.removeprefix(_SOCKET)) if here else None

    @property
    def docker(self) -> aiodocker.Docker:
        """Made at the first use: aiohttp wants a running loop."""
        if self._docker is None:
            url, connector = _connector(self.url)
            self._docker = aiodocker.Docker(
                url=url, connector=connector, timeout=aiohttp.ClientTimeout()
            )
        return self._docker

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        seconds: float | None = CALL_SECONDS,
    ) -> Any:
        """One request and its JSON answer. Raises what `words` makes of a failure."""
        answer = await self.ask(method, path, params=params, body=body, seconds=seconds)
        try:
            return msgspec.json.decode(answer.body) if answer.body else None
        except msgspec.DecodeError as error:
            said = answer.body[:100].decode(errors="replace")
            raise DriverError(
                f"the container engine at {self.url} answered {method} {path} with what is no"
                f" JSON: {said!r}"
            ) from error

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        seconds: float | None = CALL_SECONDS,
    ) -> Answer:
        """One request and its whole answer. Raises what `words` makes of a failure."""
        if self._connections is None:
            async with self.stream(
                method, path, params=params, body=body, seconds=seconds
            ) as streamed:
                return Answer(streamed.status, await streamed.read())
        query = f"?{urlencode(params)}" if params else ""
        data = b"" if body is None else msgspec.json.encode(body)
        try:
            target = f"/{await self._version()}/{quote(path, safe='/:@%')}{query}"
            answer = await self._connections.ask(method, target, data, seconds)
            if answer.status >= 400:
                raise _failure(answer)
        except (aiodocker.DockerError, OSError, TimeoutError) as error:
            raise self.words(error) from error
        return answer

    async def _version(self) -> str:
        docker = self.docker
        if docker.api_version == "auto":
            await docker._check_version()
        return docker.api_version

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """A request whose answer is read piece by piece; closed at the end of the block."""
        try:
            async with self.docker._query(
                path,
                method,
                params=params,
                data=None if body is None else msgspec.json.encode(body),
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=seconds),
            ) as answer:
                try:
                    yield answer
                finally:
                    answer.close() if seconds is None else answer.release()
        except (aiodocker.DockerError, aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self.words(error) from error

    async def lines(
        self, answer: aiohttp.ClientResponse, quiet: float
    ) -> AsyncGenerator[bytes, None]:
        """The lines of an answer that goes on. An engine that hangs says nothing, as one where
        nothing happens: after `quiet` seconds it is asked whether it lives, and has as many again
        to answer. Raises EngineDown."""
        begun = b""
        while True:
            try:
                async with asyncio.timeout(quiet):
                    part = await answer.content.readany()
            except TimeoutError:
                async with self.stream("GET", "_ping", seconds=quiet):
                    continue
            if not part:
                return
            *lines, begun = (begun + part).split(b"\n")
            for line in lines:
                yield line

    def words(self, error: BaseException) -> DriverError:
        """What a failure means, for the caller (its type) and for people (its text)."""
        if isinstance(error, aiodocker.DockerError) and error.status != _CANNOT_CONNECT:
            return _refusal(error)
        if self._docker is not None:
            self._docker.api_version = "auto"
        return EngineDown(
            f"the container engine at {self.url} does not answer: {_reason(error)}; "
            "see its log, and start it (systemctl start docker, or hack/engine start)"
        )

    async def close(self) -> None:
        if self._connections is not None:
            self._connections.close()
        if self._docker is not None:
            docker, self._docker = self._docker, None
            await docker.close()
            await docker.session.close()
            await docker.connector.close()
            await asyncio.sleep(0)  # lets the transports see that they are closed


def _connector(url: str) -> tuple[str, aiohttp.BaseConnector | None]:
    """As many connections as there are calls; None leaves it to aiodocker (TLS, ssh)."""
    if url.startswith(_SOCKET):
        return "unix://localhost", aiohttp.UnixConnector(url.removeprefix(_SOCKET), limit=0)
    return url, None


def _reason(error: BaseException) -> str:
    """The system's words, which aiodocker and aiohttp wrap in their own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, TimeoutError):
            return "it took too long to answer"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__


def _failure(answer: Answer) -> aiodocker.DockerError:
    """As aiodocker has it."""
    try:
        text = msgspec.json.decode(answer.body, type=_Said).message
    except msgspec.MsgspecError:
        text = answer.body.decode(errors="replace")
    return aiodocker.DockerError(answer.status, text)


class _Said(msgspec.Struct):
    message: str


def _refusal(error: aiodocker.DockerError) -> DriverError:
    text = error.message.strip()
    if error.status == 404 and "no such container" in text.lower():
        return NotFound(text)
    if error.status in (400, 403, 404, 409) or any(sign in text for sign in _HOPELESS):
        return Refused(text)
    return DriverError(text)
