"""`ctl keys`: what everything in the store is encrypted with."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import click
import msgspec

from api.ctl.errors import TimedOut
from api.ctl.lock import tell_unlock_key
from api.ctl.session import Session, verb
from api.ctl.table import Table
from api.ctl.waiting import WaitOptions, wait_options

if TYPE_CHECKING:
    from api.client import Client
    from api.types.keys import KeysStatus

_POLL = 0.5  # seconds; keys are no objects that could be watched
_SHOWN = 10

_output = click.option("-o", "--output", type=click.Choice(["json"]), help="json: all of it.")


@click.group("keys")
def command() -> None:
    """See and replace the keys that all stored values are encrypted with.

    Values are encrypted with a data key. Data keys are stored, wrapped by the key-encryption key,
    which is not: it is in each manager's vault.key, or in a KMS.
    """


@verb("list")
@_output
def list_(session: Session, output: str | None) -> None:
    """Show the data keys: which one encrypts, and which ones still decrypt."""

    async def work(client: Client) -> None:
        now = await client.keys()
        if output:
            keys = [msgspec.to_builtins(key) for key in now.keys]
            session.output.data(json.dumps(keys, indent=2))
            return
        table, rows = Table(["ID", "CREATED", "USE", "VALUES"]), []
        for key in now.keys:
            use = "encrypts" if key.seals else "decrypts"
            values = "<all>" if key.values is None and len(now.keys) == 1 else "<not counted>"
            if key.values is not None:
                values = f"{key.values:,}"
            rows.append([key.id, f"{key.created:%Y-%m-%d %H:%M}", use, values])
        session.output.lines(table.lines(rows))

    session.run(work)


@verb("status")
@_output
def status(session: Session, output: str | None) -> None:
    """Show how the keys are, how far re-encryption is, and which values don't open."""

    async def work(client: Client) -> None:
        now = await client.keys()
        if output:
            session.output.data(json.dumps(msgspec.to_builtins(now), indent=2))
        else:
            session.output.lines(_lines(now))

    session.run(work)


@verb("rotate")
@wait_options
def rotate(session: Session, wait: WaitOptions) -> None:
    """Encrypt with a new data key, and everything that is stored anew with it.

    \b
    Nothing stops meanwhile. The old key is dropped when nothing in the store is encrypted with it
    any more; a manager that is killed goes on where it was.
    """

    async def work(client: Client) -> None:
        begun = await client.keys(rotate=True)
        session.output.data(f"data key {begun.keys[0].id} encrypts from now on")
        if wait.wait:
            await _until_settled(session, client, wait.timeout)

    session.run(work)


@verb("rewrap")
@wait_options
def rewrap(session: Session, wait: WaitOptions) -> None:
    """Put a new key-encryption key in the place of the present one.

    \b
    Data keys stay, and are wrapped with it. Every manager's vault.key is replaced; one that is
    away meanwhile needs a copy of another's. Copies that were kept open nothing new any more, so
    make another one. With a KMS, data keys are wrapped anew with what is its key now. A locked
    cluster gets a new unlock key, which is shown once.
    """

    async def work(client: Client) -> None:
        unlock_key = await client.rewrap_keys()
        if unlock_key:
            tell_unlock_key(session, unlock_key)
        if wait.wait:
            await _until_settled(session, client, wait.timeout)
        session.output.data(f"data keys are wrapped by the {(await client.keys()).kept_by}")

    session.run(work)


@verb("discard")
@click.argument("key")
def discard(session: Session, key: str) -> None:
    """Delete a stored value that can't be used, as `ctl keys status` names it.

    
    What is stored there was changed by somebody who can write to etcd, or is damaged. Find out
    which, and restore etcd from a backup if need be. Once it is discarded, what it was does not
    exist, and can be applied again.
    
    Example:
      ctl keys discard /skep/v1/objects/configs/default/settings
    """

    async def work(client: Client) -> None:
        await client.discard_unusable(key)
        session.output.data(f"{key} discarded")

    session.run(work)


for _command in (list_, status, rotate, rewrap, discard):
    command.add_command(_command)


async def _until_settled(session: Session, client: Client, timeout: float) -> None:
    """Raises TimedOut."""
    said = ""
    try:
        async with asyncio.timeout(timeout):
            while (now := await client.keys()).reencryption is not None or now.rewrapping:
                if (line := _progress(now)) != said:
                    session.output.note(line)
                    said = line
                await asyncio.sleep(_POLL)
    except TimeoutError:
        raise TimedOut(
            f"not done within {timeout:g} s; it goes on", "`ctl keys status` says how far it is"
        ) from None
    session.output.data(f"everything is encrypted with data key {now.keys[0].id}")


def _progress(now: KeysStatus) -> str:
    if now.waiting:
        return f"waiting for {', '.join(now.waiting)}"
    doing = now.reencryption
    if doing is None:
        return "replacing the key-encryption key"
    if not doing.total:
        return f"re-encrypting, on manager {doing.manager}"
    return f"re-encrypting: {doing.done:,} of {doing.total:,} values"


def _lines(now: KeysStatus) -> list[str]:
    first = now.keys[0]
    lines = [
        f"data key    {first.id}, since {first.created:%Y-%m-%d %H:%M} UTC",
        *(f"            {key.id} decrypts what is not encrypted anew yet" for key in now.keys[1:]),
        f"wrapped by  {now.kept_by}",
        f"lock        {f'unlock key {now.lock.id}' if now.lock.locked else 'off'}",
    ]
    if now.reencryption is not None or now.rewrapping:
        lines.append(f"doing       {_progress(now)}")
    if now.unsealed:
        lines.append(f"unencrypted {now.unsealed:,} values, of an earlier version")
    if now.waiting:
        lines += [f"waiting     for {each}" for each in now.waiting]
    if now.problem:
        lines.append(f"problem     {now.problem}")
    broken = sorted(now.unopened.items())
    lines += [f"unusable    {why}" for _, why in broken[:_SHOWN]]
    if len(broken) > _SHOWN:
        lines.append(f"            and {len(broken) - _SHOWN} more")
    return lines
