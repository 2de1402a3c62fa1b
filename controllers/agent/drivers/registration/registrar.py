"""Changing the files and telling the engine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import msgspec

from controllers.agent.drivers.contract import DriverError, NotFound
from controllers.agent.drivers.engine.client import EngineClient
from controllers.agent.drivers.registration import configuration, fitness, process
from controllers.agent.drivers.registration.configuration import NAME
from controllers.agent.drivers.registration.errors import RegistrationError
from controllers.agent.drivers.registration.files import HOME, Configuration, Program, words_of
from controllers.agent.drivers.registration.process import (
    CONFIGURATION,
    PIDFILE,
    EngineProcess,
)

RELOAD_SECONDS = 15.0  # an engine reads its file again in a fraction of one
_PAUSE = 0.1
_ENDED = frozenset({"exited", "dead", "removing"})
_NAMED = 5  # containers in an error's text


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """`configuration` and `pidfile` are where an engine has them that says nothing else."""

    home: Path = HOME  # of the program
    configuration: Path = CONFIGURATION
    pidfile: Path = PIDFILE


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What is so now. `changed`: it was not before."""

    program: Path
    configuration: Path
    changed: bool
    by_flag: bool = False  # the engine has the runtime from its command line; its program is there


class Registrar:
    """For the engine at `url`. `patience`: seconds that it may take to read its file again."""

    def __init__(
        self,
        url: str,
        places: Places = Places(),  # noqa: B008 - frozen
        patience: float = RELOAD_SECONDS,
    ) -> None:
        self._url = url
        self._places = places
        self._patience = patience
        self._program = Program(places.home)
        self._client = EngineClient(url)

    async def close(self) -> None:
        await self._client.close()

    async def install(self) -> Outcome:
        """Raises RegistrationError."""
        engine = self._engine()
        info = await self._info()
        if reason := fitness.unfit(info):
            raise RegistrationError(
                f"the engine at {self._url} can't have the runtime {NAME}: {reason}; containers"
                " keep the engine's own networks"
            )
        if engine.flags.runtimes:
            return self._by_flag(engine, fitness.listed(info))
        file = Configuration(engine.flags.configuration)
        before = file.read()
        with file.explained():
            wanted = configuration.with_runtime(before or "", str(self._program.path))
        had_program = self._program.there
        with words_of(file.path):
            copied = self._program.put()
            if wanted == before and fitness.listed(info) == str(self._program.path):
                if copied:
                    self._signal(engine)  # so that its agents look at it anew
                return self._outcome(file, copied)
            if before is None:
                self._program.remember(file.path)
            file.write(wanted)
            try:
                await self._tell(engine, str(self._program.path))
            except BaseException:
                file.put_back(before)
                if before is None:
                    self._program.forget()
                if not had_program:
                    self._program.discard()
                self._signal(engine)
                raise
        return self._outcome(file, True)

    async def remove(self) -> Outcome:
        """Raises RegistrationError."""
        engine = self._engine()
        had = fitness.listed(await self._info())
        file = Configuration(engine.flags.configuration)
        before = file.read()
        with file.explained():
            named = configuration.names_runtime(before or "")
        if not had and not named and not self._program.there:
            return self._outcome(file, False)
        if had and engine.flags.runtimes:
            raise RegistrationError(
                f"the engine (process {engine.pid}) has the runtime {NAME} from its command line"
                " (--add-runtime); start it without"
            )
        with words_of(file.path):
            if had:
                await self._unused()
                file.write(configuration.without_runtime(before or "", telling=True))
                try:
                    await self._tell(engine, "")
                except BaseException:
                    file.put_back(before)
                    self._signal(engine)
                    raise
            self._leave(file, engine, before)
            self._program.discard()
        return self._outcome(file, True)

    def _engine(self) -> EngineProcess:
        if os.geteuid() != 0:
            raise RegistrationError(
                f"this changes the engine's configuration and puts a program into"
                f" {self._program.path.parent}: run it as root (sudo)"
            )
        if not self._url.startswith("unix://"):
            raise RegistrationError(
                f"the engine at {self._url} may be on another machine; run this on that one, with"
                " the engine's socket: --docker-host unix:///var/run/docker.sock"
            )
        return process.find(
            Path(self._url.removeprefix("unix://")),
            self._places.pidfile,
            self._places.configuration,
        )

    async def _info(self) -> dict[str, Any]:
        info: dict[str, Any] = await self._ask("info")
        return info

    async def _ask(self, path: str, **params: str) -> Any:
        try:
            return await self._client.call("GET", path, params=params)
        except NotFound:
            raise
        except DriverError as error:
            raise RegistrationError(str(error)) from error

    def _by_flag(self, engine: EngineProcess, program: str) -> Outcome:
        if not program:
            raise RegistrationError(
                f"the engine (process {engine.pid}) was started with --add-runtime, and would not"
                f" start again with runtimes in {engine.flags.configuration} too; move all of them"
                " there from its command line (systemctl cat docker), start it again, and run this"
                " again"
            )
        if not os.access(program, os.X_OK):
            raise RegistrationError(
                f"the engine (process {engine.pid}) has the runtime {NAME} from its command line"
                f" (--add-runtime), and {program} is not there or can't be run; start it without,"
                " and run this again"
            )
        return Outcome(
            program=Path(program),
            configuration=engine.flags.configuration,
            changed=False,
            by_flag=True,
        )

    def _outcome(self, file: Configuration, changed: bool) -> Outcome:
        return Outcome(program=self._program.path, configuration=file.path, changed=changed)

    def _leave(self, file: Configuration, engine: EngineProcess, before: str | None) -> None:
        """The engine's file as it would be if we had not been there."""
        text = configuration.without_runtime(before or "", telling=False)
        made = self._program.remembers(file.path) and not engine.flags.configured
        if before is None or (made and configuration.is_empty(text)):
            file.put_back(None)
        else:
            file.write(text)

    async def _unused(self) -> None:
        """Raises RegistrationError where containers need the runtime. Those that have ended don't:
        nobody starts them again, and they can be read and removed without."""
        users = []
        for listed in await self._ask("containers/json", all="1"):
            if listed["State"] in _ENDED:
                continue
            with contextlib.suppress(NotFound):
                inspected = await self._ask(f"containers/{listed['Id']}/json")
                if inspected["HostConfig"].get("Runtime") == NAME:
                    users.append(str(inspected["Name"]).removeprefix("/"))
        if users:
            more = f" and {len(users) - _NAMED} more" if len(users) > _NAMED else ""
            raise RegistrationError(
                f"containers of the engine have the runtime {NAME}:"
                f" {', '.join(sorted(users)[:_NAMED])}{more}; drain the node (ctl node drain), or"
                " have its agent started with --engine-network and its tasks replaced"
            )

    async def _tell(self, engine: EngineProcess, program: str) -> None:
        """Have the engine read its file again, until it has the runtime's program, or none for "".
        Raises RegistrationError."""
        self._signal(engine)
        loop = asyncio.get_running_loop()
        end = loop.time() + self._patience
        while fitness.listed(await self._info()) != program:
            if loop.time() > end:
                raise RegistrationError(
                    f"the engine (process {engine.pid}) was told to read"
                    f" {engine.flags.configuration} again and did not take what is new in it within"
                    f" {self._patience:g} s, so all is as it was; its log says why (journalctl -u"
                    " docker -n 20)"
                )
            await asyncio.sleep(_PAUSE)

    def _signal(self, engine: EngineProcess) -> None:
        try:
            os.kill(engine.pid, signal.SIGHUP)
        except ProcessLookupError:
            raise RegistrationError(f"the engine (process {engine.pid}) has just ended") from None
