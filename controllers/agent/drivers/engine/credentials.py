"""Registry credentials from the Docker configuration of the user the agent runs as.

`$DOCKER_CONFIG/config.json` or `~/.docker/config.json`, as `docker login` leaves it: in the file,
or with a helper program (`credHelpers`, `credsStore`) that is asked each time.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from pathlib import Path
from typing import Any

from controllers.agent.drivers.contract import DriverError

_HUB = "https://index.docker.io/v1/"


def registry(image: str) -> str:
    """The registry an image name stands for, as the configuration names it."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first
    return _HUB


async def credentials(image: str) -> str:
    """The X-Registry-Auth header for a pull; empty without an entry. Raises DriverError."""
    config = _config()
    name = registry(image)
    helper = config.get("credHelpers", {}).get(name) or config.get("credsStore")
    found = await _ask(helper, name) if helper else None
    if found is None:
        found = _entry(config.get("auths", {}).get(name, {}), name)
    if found is None:
        return ""
    return base64.urlsafe_b64encode(json.dumps(found).encode()).decode()


def _config() -> dict[str, Any]:
    folder = os.environ.get("DOCKER_CONFIG")
    path = (Path(folder) if folder else Path.home() / ".docker") / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DriverError(f"cannot read registry credentials from {path}: {error}") from error
    return config if isinstance(config, dict) else {}


def _entry(entry: dict[str, str], name: str) -> dict[str, str] | None:
    if entry.get("identitytoken"):
        return {"identitytoken": entry["identitytoken"], "serveraddress": name}
    if not entry.get("auth"):
        return None
    try:
        user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
    except ValueError as error:
        raise DriverError(f"the credentials for registry {name} are not readable") from error
    return {"username": user, "password": password, "serveraddress": name}


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
        raise DriverError(f"cannot run {program} for registry {name}: {error}") from error
    output, _ = await process.communicate(name.encode())
    if process.returncode != 0:
        return None
    answer = json.loads(output)
    if answer["Username"] == "<token>":
        return {"identitytoken": answer["Secret"], "serveraddress": name}
    return {
        "username": answer["Username"],
        "password": answer["Secret"],
        "serveraddress": name,
    }
