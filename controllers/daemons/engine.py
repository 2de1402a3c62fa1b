"""`skepd engine`: what is said of registering the runtime, and of removing it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click

from controllers.agent.drivers.registration.errors import RegistrationError
from controllers.agent.drivers.registration.registrar import Places, Registrar
from controllers.settings import Fatal

_AGENT = "an agent that runs hears of it, and its containers run on"


async def install_runtime(docker_host: str, runtime_dir: Path) -> None:
    """Raises Fatal."""
    async with _registrar(docker_host, runtime_dir) as registrar:
        outcome = await registrar.install()
    if outcome.by_flag:
        click.echo(
            f"the engine has the runtime skep from its command line ({outcome.program});"
            " nothing was changed"
        )
    elif not outcome.changed:
        click.echo(f"the engine has the runtime skep ({outcome.program}); nothing was changed")
    else:
        click.echo(
            f"the engine has the runtime skep now ({outcome.program}), and from"
            f" {outcome.configuration} whenever it starts; {_AGENT}"
        )


async def remove_runtime(docker_host: str, runtime_dir: Path) -> None:
    """Raises Fatal."""
    async with _registrar(docker_host, runtime_dir) as registrar:
        outcome = await registrar.remove()
    if outcome.changed:
        click.echo(
            f"the engine has the runtime skep no longer, nor has {outcome.configuration}; {_AGENT}"
        )
    else:
        click.echo("the engine does not have the runtime skep; nothing was changed")


@asynccontextmanager
async def _registrar(docker_host: str, runtime_dir: Path) -> AsyncIterator[Registrar]:
    registrar = Registrar(docker_host, Places(home=runtime_dir))
    try:
        yield registrar
    except RegistrationError as error:
        raise Fatal(str(error)) from error
    finally:
        await registrar.close()
