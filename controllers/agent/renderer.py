"""The process that makes files from secrets: `python -m controllers.agent.renderer FD`.

The model. The agent starts one when a first file is to be made; it waits on the socket FD. Each
message there brings another socket: for it this process forks a child, and does nothing else, so
that it never holds a secret. The child gives up its rights, takes its bounds, reads one request
from its socket, answers, and ends; with it goes all that it held. When the agent closes FD, or
ends, this process ends.

What a child may have: no files but its socket, no user of the machine's, no processes of its own,
so much memory and time. What breaks a bound is ended by the kernel, and its socket just closes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import socket
import sys
from pathlib import Path

import msgspec

from api.rendering.filters import FILTERS
from api.rendering.rendering import Unrenderable, render

BEGUN = b"."  # a child's first byte
CPU_SECONDS = 2
WALL_SECONDS = 10  # of a machine that is busy with other things
MEMORY = 128 * 1024 * 1024  # bytes, beside what Python itself takes

_NOBODY = 65534
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_LIMITS = {
    resource.RLIMIT_CPU: CPU_SECONDS,
    resource.RLIMIT_NOFILE: 0,  # nothing can be opened; what is open stays
    resource.RLIMIT_NPROC: 0,
    resource.RLIMIT_FSIZE: 0,
    resource.RLIMIT_CORE: 0,
}


# All of the language once, and what is wrong in each way.
_TOUR = (
    "{% if secrets['a'] in ['\\n', 1] and not secrets.a is undefined %}{{ 1.5 ~ none }}{% endif %}",
    *(f"{{{{ secrets.a|{name} }}}}" for name in FILTERS),
    "{{ 'x'|replace('x', 'y') if true else false }}{# #}{% raw %}{% endraw %}",
    *(
        "{{ secrets.a.b }}",
        "{{",
        "{% if %}",
        "{{ secrets.a > 1 }}",
        "{{ '\\x' }}",
        "{% include 'a' %}",
    ),
)


class Request(msgspec.Struct):
    content: str
    secrets: dict[str, dict[str, bytes]]  # by name and key
    fields: dict[str, str | int]


class Reply(msgspec.Struct):
    data: bytes = b""
    trouble: str = ""


REQUEST = msgspec.msgpack.Decoder(Request)
REPLY = msgspec.msgpack.Decoder(Reply)


def main() -> None:
    # Whoever started this may stop by a signal that goes to its whole group: it closes FD then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    _dump_nothing()
    size = _warm_up()
    with socket.socket(fileno=int(sys.argv[1])) as control:
        while True:
            _, taken, _, _ = socket.recv_fds(control, 1, 1)
            if not taken:
                return
            if os.fork() == 0:
                _child(control, taken[0], size + MEMORY)
            os.close(taken[0])


def _child(control: socket.socket, descriptor: int, memory: int) -> None:
    """One request; never returns."""
    try:
        control.close()
        with socket.socket(fileno=descriptor) as line:
            _take_bounds(memory)
            line.sendall(BEGUN)
            line.sendall(msgspec.msgpack.encode(_answer(_read(line))))
    except MemoryError:
        pass  # no room to say so: the agent sees that nothing came
    finally:
        os._exit(0)


def _answer(message: bytes) -> Reply:
    request = REQUEST.decode(message)
    try:
        return Reply(data=render(request.content, request.secrets, request.fields))
    except Unrenderable as error:
        return Reply(trouble=str(error))
    except Exception as error:  # whose words may quote a value
        return Reply(trouble=f"can't be evaluated ({type(error).__name__})")


def _read(line: socket.socket) -> bytes:
    parts = []
    while part := line.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def _take_bounds(memory: int) -> None:
    signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)  # SIGALRM ends it, whatever it is doing
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    _dump_nothing()
    for limit, most in _LIMITS.items():
        resource.setrlimit(limit, (most, most))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _dump_nothing() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_DUMPABLE, 0), (_PR_SET_NO_NEW_PRIVS, 1)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "the renderer can't be shut in")


def _warm_up() -> int:
    """Import all that a rendering needs: a child can't open files.

    Then the size of this process's address space, in bytes.
    """
    for text in _TOUR:
        with contextlib.suppress(Unrenderable):
            render(text, {"a": {"a": b"a"}}, {})
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    main()
