"""The audit log: who did what to which object, with what result, one JSON object a line.

    {"time": …, "id": …, "who": "user deployer", "from": "10.0.0.7", "verb": "patch",
     "resource": "services", "namespace": "shop", "name": "web", "code": 200, "ms": 3.1}

Written are all changes, commands and logs taken from containers, join tokens that were read, and
every refusal of somebody known; reading too where asked for. Agents' reports on their own tasks are
not: they are no one's doing, and the events have them. A set that is applied names each object with
its result. Bodies, queries and headers are never written: a secret's payload and a command's
arguments are in them.

Lines go to a file of mode 0600 that is turned over by size. A disk that is full costs lines, not
requests: the first of them is said in the manager's log.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from io import TextIOWrapper
from logging import LogRecord
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import msgspec
import structlog
from aiohttp import web

from api.server.paths import PREFIX, Target
from api.server.roles import verb_of

FILE_BYTES = 64 * 1024 * 1024
FILES = 8  # older ones, beside the one that is written

_QUIET_SUBS = frozenset({"session", "heartbeat", "assignments", "statuses", "streams"})
_TOKENS = PREFIX + "tokens/"  # to read one is to be able to use it
_READING = frozenset({"get", "list"})
_TOLD_SUBS = frozenset({"log", "exec", "attach"})  # reading that is more than looking at objects
_OBJECTS: web.RequestKey[list[dict[str, str]]] = web.RequestKey("audit.objects", list)

_log = structlog.get_logger("skep.audit")


def applied(request: web.Request, said: Sequence[dict[str, Any]]) -> None:
    """Note the objects of a set with what became of each, for the request's line."""
    request[_OBJECTS] = [
        {field: str(each[field]) for field in ("kind", "namespace", "name", "result")}
        for each in said
    ]


class Audit:
    """`path` None: nothing is written."""

    def __init__(self, path: Path | None, *, reads: bool = False) -> None:
        self._reads = reads
        self._file = _File(path) if path is not None else None

    def note(
        self, request: web.Request, target: Target | None, id: str, who: str, code: int, ms: float
    ) -> None:
        """A request is over."""
        if self._file is None or not self._worth(request, target, who, code):
            return
        line: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "id": id,
            "who": who or "nobody",
            "from": request.remote or "",
            **_what(request, target),
            "code": code,
            "ms": round(ms, 1),
        }
        if "dryRun" in request.query:
            line["dryRun"] = True
        if _OBJECTS in request:
            line["objects"] = request[_OBJECTS]
        self._file.write(msgspec.json.encode(line).decode())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _worth(self, request: web.Request, target: Target | None, who: str, code: int) -> bool:
        if not who:
            # Who joined, and who may not (which is limited). A stranger could turn the log over
            # with the rest; the manager's own log has it.
            return code in (200, 403) and request.method == "POST"
        if code in (401, 403, 429) or request.path.startswith(_TOKENS):
            return True
        sub = target.sub[0] if target is not None and target.sub else ""
        if sub in _QUIET_SUBS:
            return False
        reading = request.method in ("GET", "HEAD") and sub not in _TOLD_SUBS
        return self._reads or not reading


def _what(request: web.Request, target: Target | None) -> dict[str, str]:
    if target is None:
        return {"verb": request.method.lower(), "path": request.path}
    said = {
        "verb": verb_of(request.method, target),
        "resource": target.kind.plural,
        "namespace": target.namespace,
        "name": target.name,
        "subresource": "/".join(target.sub[:1]),
    }
    return {field: value for field, value in said.items() if value}


class _File(RotatingFileHandler):
    """A file that only its owner reads, and that is turned over by size."""

    def __init__(self, path: Path) -> None:
        self._failing = False  # this line
        self._said = False  # that lines are lost
        super().__init__(path, maxBytes=FILE_BYTES, backupCount=FILES, encoding="utf-8")

    def close(self) -> None:
        try:
            super().close()
        except OSError as error:  # what is left to be written has no room
            _log.error("the audit log's last lines are lost", error=str(error))

    def write(self, line: str) -> None:
        self.handle(LogRecord("audit", 0, "", 0, line, None, None))

    def emit(self, record: LogRecord) -> None:
        self._failing = False
        super().emit(record)
        if self._said and not self._failing:
            self._said = False
            _log.info("the audit log is written again", path=self.baseFilename)

    def handleError(self, record: LogRecord) -> None:
        self._failing = True
        if not self._said:
            self._said = True
            _log.error(
                "the audit log can't be written; its lines are lost until it can",
                path=self.baseFilename,
                error=str(sys.exc_info()[1]),
            )

    def _open(self) -> TextIOWrapper:
        handle = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return os.fdopen(handle, "a", encoding="utf-8")
