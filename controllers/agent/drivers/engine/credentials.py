"""Registry credentials from the Docker configuration of the user the agent runs as.

`$DOCKER_CONFIG/config.json` or `~/.docker/config.json`, as `docker login` leaves it: in the file,
or with a helper program (`credHelpers`, `credsStore`) that is asked each time. Read for each
pull, so who logs in on the node need not restart the agent.
"""

from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path

import msgspec

from controllers.agent.drivers.contract import DriverError

_HUB = "https://index.docker.io/v1/"
_HELPER_SECONDS = 30.0


class _Entry(msgspec.Struct, rename="lower"):
    auth: str | None = None  # base64 of user:password
    identity_token: str | None = msgspec.field(default=None, name="identitytoken")


class _Config(msgspec.Struct):
    auths: dict[str, _Entry] | None = None
    helpers: dict[str, str] | None = msgspec.field(default=None, name="credHelpers")
    store: str | None = msgspec.field(default=None, name="credsStore")


class _Answer(msgspec.Struct):
    """Of a credential helper."""

    user: str = msgspec.field(name="Username")
    secret: str = msgspec.field(name="Secret")


def registry(image: str) -> str:
    """The registry an image name stands for, as the configuration names it."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first
    return _HUB


async def credentials(image: str, login: bytes = b"") -> str:
    """The X-Registry-Auth header for a pull; empty without an entry. Raises DriverError.

    `login`, a task's own configuration, comes first. Of it only what it holds itself is used:
    a helper would be a program on the node that whoever wrote the secret chose.
    """
    name = registry(image)
    found = _entry(_given(login), name) if login else None
    if found is not None:
        return _header(found, name)
    config = _config()
    helper = (config.helpers or {}).get(name) or config.store
    found = await _ask(helper, name) if helper else None
    if found is None:
        found = _entry(config, name)
    if found is None:
        return ""
    return _header(found, name)


def _header(found: dict[str, str], name: str) -> str:
    header = msgspec.json.encode({**found, "serveraddress": name})
    return base64.urlsafe_b64encode(header).decode()


def _given(login: bytes) -> _Config:
    try:
        return msgspec.json.decode(login, type=_Config)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DriverError(
            "the secret named in imageCredentials holds no Docker configuration; put the"
            " config.json that `docker login` writes there"
        ) from error


def _config() -> _Config:
    folder = os.environ.get("DOCKER_CONFIG")
    path = (Path(folder) if folder else Path.home() / ".docker") / "config.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Config)
    except FileNotFoundError:
        return _Config()
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DriverError(
            f"registry credentials can't be read from {path}: {error}; mend the file, or remove it "
            "and log in again (docker login)"
        ) from error


def _entry(config: _Config, name: str) -> dict[str, str] | None:
    """Old versions of Docker wrote a registry as a URL."""
    for written, entry in (config.auths or {}).items():
        if written != name and _host(written) != name:
            continue
        if entry.identity_token:
            return {"identitytoken": entry.identity_token}
        if entry.auth:
            try:
                user, colon, password = base64.b64decode(entry.auth).decode().partition(":")
            except ValueError:
                colon = ""
            if not colon:
                raise DriverError(
                    f"the credentials for registry {name} can't be read; log in again "
                    f"(docker login {name})"
                )
            return {"username": user, "password": password}
    return None


def _host(url: str) -> str:
    return url.removeprefix("https://").removeprefix("http://").partition("/")[0]


async def _ask(helper: str, name: str) -> dict[str, str] | None:
    """What a credential helper has for a registry; None where it has nothing."""
    program = f"docker-credential-{helper}"
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        raise DriverError(
            f"{program}, which has the credentials for registry {name}, can't be run: "
            f"{error.strerror}; install it on the node's PATH"
        ) from error
    try:
        async with asyncio.timeout(_HELPER_SECONDS):
            output, _ = await process.communicate(name.encode())
    except TimeoutError as error:
        raise DriverError(
            f"{program} did not say the credentials for registry {name} "
            f"within {_HELPER_SECONDS:g} s"
        ) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        return None
    try:
        answer = msgspec.json.decode(output, type=_Answer)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DriverError(
            f"{program} answered for registry {name} with what is not credentials"
        ) from error
    if answer.user == "<token>":
        return {"identitytoken": answer.secret}
    return {"username": answer.user, "password": answer.secret}
