"""What an agent and its manager say to each other.

The manager holds one stream open to each node, JSON lines, and says on it what that node is to
do: first one `complete` set, which replaces all the agent knew, then `increment`s to it. What is
named in a `removed…` list is forgotten before what the same message brings is taken in. A
`stream` message asks the agent to dial back a WebSocket for logs or exec. An empty line says that
the line is still alive.

A secret or config is on a node only while a task there, live and wanted, names it. A task may
name one that isn't here (yet): it waits in Preparing and says so. Of a secret the node has the
versions that its tasks' revisions name, and the newest where a task follows it.

An agent's own reports are not sent back to it: a task is said again when something else of it than
its status changed, or when it was given up as Orphaned.

The agent answers with statuses, many in one request. It may not make a task go back to an earlier
state, nor write of a task that is not on its node: such reports come back in `rejected`.

Before it makes a revision's first container it says what digest the image has, and runs the one
that it is answered, which is what another node found where that one was first.
"""

from __future__ import annotations

import msgspec

from api.types.meta import Struct
from api.types.node import NodeStatus
from api.types.revision import Revision
from api.types.task import Task, TaskStatus

COMPLETE = "complete"
INCREMENT = "increment"
STREAM = "stream"


class Delivery(Struct, kw_only=True):
    """A secret's or a config's bytes on their way to a node."""

    namespace: str
    name: str
    version: int = 0  # of a secret, which may be here in several
    oldest: int = 0  # of a secret: as in SecretStatus; 0: an earlier manager does not say it
    data: dict[str, bytes]  # base64 in JSON

    @property
    def id(self) -> str:
        """As in `removed_secrets` and `removed_configs`."""
        name = f"{self.namespace}/{self.name}"
        return f"{name}@{self.version}" if self.version else name


class StreamRequest(Struct, kw_only=True):
    """Dial `streams/<id>` and serve a task's output (`log`) or a process in it (`exec`)."""

    id: str
    verb: str  # log | exec
    task_uid: str
    # log
    follow: bool = False
    tail: int = -1  # lines; -1: all
    since: str = ""  # RFC 3339; empty: from the start
    timestamps: bool = False
    # exec
    command: list[str] = []
    tty: bool = False
    stdin: bool = False


class Assignments(Struct, kw_only=True):
    """One line of a node's stream. Fields that don't belong to its type are empty."""

    type: str  # complete | increment | stream
    tasks: list[Task] = []  # all that have this node in their spec, ended ones too
    removed_tasks: list[str] = []  # uids of tasks that were deleted
    revisions: list[Revision] = []
    removed_revisions: list[str] = []  # namespace/name
    secrets: list[Delivery] = []
    removed_secrets: list[str] = []  # namespace/name@version
    configs: list[Delivery] = []
    removed_configs: list[str] = []  # namespace/name
    # Of secrets that exist and have no values yet: why, by namespace/name. None: as said before.
    awaited: dict[str, str] | None = None
    stream: StreamRequest | None = None


class SessionRequest(Struct, kw_only=True):
    """`status` without conditions; `labels` are set on the node when it is first seen."""

    status: NodeStatus = msgspec.field(default_factory=NodeStatus)
    labels: dict[str, str] = {}


class SessionReply(Struct, kw_only=True):
    heartbeat_seconds: float  # send a heartbeat this often; three missed end the session
    cluster: str  # uid


class StatusReport(Struct, kw_only=True):
    namespace: str
    name: str
    uid: str
    status: TaskStatus


class StatusReports(Struct, kw_only=True):
    items: list[StatusReport] = []


class Rejection(Struct, kw_only=True):
    """A report that was not taken, and never will be: don't send it again."""

    namespace: str
    name: str
    uid: str
    reason: str  # NotFound | OtherNode | Backwards
    message: str = ""


class StatusResult(Struct, kw_only=True):
    rejected: list[Rejection] = []


class ImageFound(Struct, kw_only=True):
    """What a revision's image is on this node, before a container is made of it."""

    namespace: str
    revision: str
    digest: str  # algorithm:hexadecimal


class ImageAgreed(Struct, kw_only=True):
    """What it is for all nodes: what the first of them found."""

    digest: str


# Channels of a stream's frames: the first byte of every WebSocket message, Kubernetes' v5 numbers.
STDIN = 0
STDOUT = 1
STDERR = 2
STATUS = 3  # the last frame: a JSON Status that says how it ended
RESIZE = 4  # {"Width": columns, "Height": rows}
CLOSE = 255  # followed by one byte: the channel that gets no more

# Where a WebSocket's handshake is refused: the JSON Status, percent-encoded, as clients seldom
# get at the body.
STATUS_HEADER = "X-Skep-Status"
