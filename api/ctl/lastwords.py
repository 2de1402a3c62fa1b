"""The last that a failed task printed, for `ctl describe`: often it says why.

It comes from the task's node, which may be gone or slow. Then that is said, and nothing is waited
for long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from api.ctl.table import clean
from api.rest import ApiError, ClientError
from api.types.columns import condition, field, text
from api.types.kinds import SERVICE, TASK, Kind

if TYPE_CHECKING:
    from api.ctl.blocking import BlockingClient

Document = dict[str, Any]

LINES = 10
_SECONDS = 5.0
_AILING = frozenset(
    {"CrashLoop", "RestartsExhausted", "UpdatePaused", "RollingBack", "RolledBack",
     "RollbackPaused"}
)  # fmt: skip


def failed(kind: Kind, obj: Document, tasks: Sequence[Document]) -> Document | None:
    """The task whose output tells most: itself, or the newest of an ailing service to fail."""
    if kind is TASK:
        return obj if _printed(obj) else None
    if kind is not SERVICE or condition(obj, "Progressing").get("reason") not in _AILING:
        return None
    return max(
        filter(_printed, tasks), key=lambda task: text(task, "status", "since"), default=None
    )


def _printed(task: Document) -> bool:
    return text(task, "status", "state") == "Failed" and bool(
        field(task, "status", "container", "id")
    )


def told(client: BlockingClient, task: Document) -> Iterator[str]:
    """The lines to show of it."""
    name, namespace = task["metadata"]["name"], task["metadata"]["namespace"]
    try:
        output = client.tail(namespace, name, LINES, seconds=_SECONDS)
    except (ApiError, ClientError) as error:
        yield f"Last output of {name}: can't be read: {clean(str(error))}"
        return
    lines = output.decode(errors="replace").splitlines()[-LINES:]
    if not lines:
        yield f"Last output of {name}: none"
        return
    yield f"Last output of {name}:"
    yield from (f"  {clean(line)}" for line in lines)
