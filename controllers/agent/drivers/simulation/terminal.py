"""A process started in a simulated container, its ends in our hand."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator

from controllers.agent.drivers.contract import LogLine
from controllers.agent.drivers.simulation.agenda import Agenda
from controllers.agent.drivers.simulation.container import Simulated
from controllers.agent.drivers.simulation.program import (
    KILLED,
    Copy,
    Exit,
    Print,
    Program,
    Read,
    Size,
    Sleep,
)

_END_OF_INPUT = b"\x04"  # as it is typed on a terminal


class SimulatedTerminal:
    def __init__(
        self, program: Program, container: Simulated, agenda: Agenda, *, tty: bool, stdin: bool
    ) -> None:
        self._program = program
        self._container = container
        self._life = container.life
        self._agenda = agenda
        self._tty = tty
        self._size = (0, 0)  # rows, columns
        self._input: deque[bytes] = deque()
        self._echo: deque[LogLine] = deque()
        self._input_ended = not stdin
        self._code = program.exit_code
        self._killed = False
        self._wake = asyncio.Event()

    async def output(self) -> AsyncGenerator[LogLine, None]:
        self._container.waiters.append(self._wake.set)
        try:
            async for line in self._printed():
                yield line
        finally:
            self._container.waiters.remove(self._wake.set)

    async def send(self, data: bytes) -> None:
        if self._input_ended:
            return
        data, end, _ = data.partition(_END_OF_INPUT) if self._tty else (data, b"", b"")
        if data:
            self._input.append(data)
            if self._tty:
                self._echo.append(self._line(1, data))
        self._input_ended = bool(end)
        self._wake.set()

    async def end_input(self) -> None:
        self._input_ended = True
        self._wake.set()

    async def resize(self, width: int, height: int) -> None:
        self._size = (height, width)

    async def exit_code(self) -> int:
        return self._code

    async def kill(self) -> None:
        self._killed = True
        self._wake.set()

    async def _printed(self) -> AsyncGenerator[LogLine, None]:
        for line in self._run():
            while self._echo:
                yield self._echo.popleft()
            if self._killed or self._container.life != self._life:  # the container has ended
                self._code = KILLED
                return
            if line is not None:
                yield line
                continue
            await self._wake.wait()
            self._wake.clear()
        while self._echo:
            yield self._echo.popleft()

    def _run(self) -> Iterator[LogLine | None]:
        """What it prints; None where it waits for anything to happen."""
        for step in self._program.steps:
            match step:
                case Print():
                    yield self._line(step.stream, step.data)
                case Sleep():
                    due = self._agenda.now() + step.seconds
                    self._agenda.at(step.seconds, self._wake.set)
                    while self._agenda.now() < due:
                        yield None
                case Exit():
                    self._code = step.code
                    return
                case Copy():
                    while self._input or not self._input_ended:
                        yield self._line(1, self._input.popleft()) if self._input else None
                case Read():
                    while not self._input and not self._input_ended:
                        yield None
                    if self._input:
                        self._input.popleft()
                case Size() if self._tty:
                    yield self._line(1, b"%d %d\n" % self._size)
                case Size():
                    yield self._line(2, b"stty: standard input\n")
                case _:  # for ever
                    while True:
                        yield None

    def _line(self, stream: int, data: bytes) -> LogLine:
        if self._tty:
            return LogLine(1, data.replace(b"\r", b"\n").replace(b"\n", b"\r\n"))
        return LogLine(stream, data)
