"""What the API has besides objects: for OpenAPI, each request with what it takes and gives.

A test holds this table against the routes and subresources that the server has, both ways, so that
neither has what the other lacks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from api.calls import ApplyResult
from api.seal.keyfile import KeyFile
from api.server.openapiparts import Document, content, converted, described, in_path, query, ref
from api.server.paths import PREFIX
from api.types.assignment import (
    ImageAgreed,
    ImageFound,
    SessionReply,
    SessionRequest,
    StatusReports,
    StatusResult,
)
from api.types.join import (
    AuthorityStatus,
    JoinOffer,
    JoinReply,
    JoinRequest,
    RenewReply,
    RenewRequest,
    Sign,
    TokenReply,
    UserCertificateRequest,
)
from api.types.keys import KeysStatus, UnlockKeyReply
from api.types.kinds import NODE, SECRET, TASK, Kind
from api.types.sealing import SealedValues, Verdicts
from api.types.secret import Holders, Rollback

_TEXT: Document = {"type": "string"}
_NUMBER: Document = {"type": "integer", "minimum": 0}
_FLAG: Document = {"type": "boolean"}
_ANYTHING: Document = {}

STREAM = "x-skep-stream"  # of an operation whose answer is held open


class Operation(NamedTuple):
    method: str
    path: str  # below the group's
    what: str
    takes: Any = None  # a type, a Kind, or a schema
    gives: Any = _ANYTHING
    queries: tuple[Document, ...] = ()
    stream: str = ""  # the code it begins with: "101", what follows is a WebSocket's
    text: bool = False  # the answer is text


class Rendered(NamedTuple):
    paths: Document
    schemas: Document


def _of(kind: Kind, sub: str) -> str:
    where = "namespaces/{namespace}/" if kind.namespaced else ""
    return f"{where}{kind.plural}/{{name}}/{sub}"


_SECRETS = (
    Operation("get", _of(SECRET, "holders"), "Who uses it, and which version.", gives=Holders),
    Operation(
        "post", _of(SECRET, "rollback"), "A new version with an old one's bytes.", Rollback, SECRET
    ),
    Operation(
        "delete", _of(SECRET, "versions/{version}"), "End an old version's bytes.", gives=SECRET
    ),
)
_TASKS = (
    Operation(
        "get", _of(TASK, "log"), "What its container has printed.", text=True, stream="200",
        queries=(
            query("follow", _FLAG, "Go on with what it prints from now on."),
            query("tail", _NUMBER, "The last lines; without it, all."),
            query("since", _TEXT, "From that time on (RFC 3339)."),
            query("timestamps", _FLAG, "Begin lines with their time."),
        ),
    ),
    Operation(
        "get", _of(TASK, "exec"), "Run a command in its container.", stream="101",
        queries=(
            {**query("command", {"type": "array", "items": _TEXT}, "Its words, each by itself."),
             "required": True},
            query("tty", _FLAG, "Give it a terminal."),
            query("stdin", _FLAG, "Send it input."),
        ),
    ),
)  # fmt: skip
_AGENTS = (
    Operation(
        "post", _of(NODE, "session"), "Its agent is there, and says what the machine is.",
        SessionRequest, SessionReply,
    ),
    Operation("post", _of(NODE, "heartbeat"), "Its agent is still there.", gives=Sign),
    Operation(
        "get", _of(NODE, "assignments"),
        "What its agent is to do: a document a line, the first complete, then what changes.",
        stream="200",
    ),
    Operation(
        "post", _of(NODE, "statuses"), "How its tasks are.", StatusReports, StatusResult
    ),
    Operation(
        "post", _of(NODE, "images"), "Which digest an image has.", ImageFound, ImageAgreed
    ),
    Operation(
        "get", _of(NODE, "streams/{id}"), "A log or a command, dialled by its agent.", stream="101"
    ),
)  # fmt: skip
_AUTHORITY = (
    Operation("get", "join", "Who the cluster says it is.", gives=JoinOffer),
    Operation("post", "join", "A machine joins, with a token.", JoinRequest, JoinReply),
    Operation("post", "certificate", "The caller's next certificate.", RenewRequest, RenewReply),
    Operation(
        "post", "users/{name}/certificate", "A certificate for a user.", UserCertificateRequest,
        RenewReply,
    ),
    Operation("get", "tokens/{role}", "The token to join with.", gives=TokenReply),
    Operation("post", "tokens/{role}/rotate", "Another one in its place.", gives=TokenReply),
    Operation("get", "authority", "The roots, and who has moved.", gives=AuthorityStatus),
    Operation(
        "post", "authority/rotate", "A new root.", gives=AuthorityStatus,
        queries=(query("keepSeconds", _NUMBER, "How long the old one is trusted after that."),),
    ),
)  # fmt: skip
_KEYS = (
    Operation("get", "keys", "The keys that the store is sealed with.", gives=KeysStatus),
    Operation("post", "keys/rotate", "Another data key.", gives=KeysStatus),
    Operation("post", "keys/rewrap", "Another key-encryption key.", gives=UnlockKeyReply),
    Operation(
        "delete", "keys/unusable", "Delete a value that can't be opened.", gives=KeysStatus,
        queries=(query("key", _TEXT, "The store's key, as the status lists it."),),
    ),
    Operation("post", "keys/lock", "Lock managers that start.", gives=UnlockKeyReply),
    Operation("post", "keys/lock/rotate", "Another unlock key.", gives=UnlockKeyReply),
    Operation("delete", "keys/lock", "Take off the lock.", gives=KeysStatus),
)  # fmt: skip
_SEALING = (
    Operation("get", "sealing-keys", "The public keys to seal with.", gives=KeyFile),
    Operation("post", "sealing-keys/renew", "Another newest key.", gives=KeyFile),
    Operation("delete", "sealing-keys/{id}", "Drop an old key.", gives=KeyFile),
    Operation("post", "sealed/verify", "Whether sealed values open.", SealedValues, Verdicts),
    Operation(
        "post", "sealed/reseal", "The same values, sealed to the newest key.", SealedValues,
        Verdicts,
    ),
)  # fmt: skip
_APPLY: Document = {
    "type": "object",
    "required": ["items"],
    "properties": {"items": {"type": "array", "items": {"type": "object"}}},
}
_COMPONENTS: Document = {
    "type": "object",
    "properties": {"items": {"type": "array", "items": {"type": "object"}}},
}
_CLUSTER = (
    Operation(
        "post", "apply", "Make objects as they are given: all, or none.", _APPLY, ApplyResult,
        queries=(
            query("namespace", _TEXT, "Of objects that don't say theirs."),
            query("dryRun", {"type": "string", "enum": ["All"]}, "Check all, write nothing."),
            query("prune", _TEXT, "The set whose objects go that are not given any more."),
            query("full", _FLAG, "Give the objects back."),
        ),
    ),
    Operation("get", "components", "How the parts of this manager are.", gives=_COMPONENTS),
)  # fmt: skip

OPERATIONS = (*_SECRETS, *_TASKS, *_AGENTS, *_AUTHORITY, *_KEYS, *_SEALING, *_CLUSTER)


def rendered() -> Rendered:
    paths: Document = {}
    for operation in OPERATIONS:
        at = paths.setdefault(PREFIX + operation.path, {"parameters": _in_path(operation.path)})
        at[operation.method] = _operation(operation)
    return Rendered(paths, _schemas())


def _operation(operation: Operation) -> Document:
    words = [word for word in operation.path.split("/") if not word.startswith("{")]
    found: Document = {
        "operationId": operation.method + "".join(map(_capital, words)),
        "tags": [words[1] if words[0] == "namespaces" else words[0]],
        "summary": operation.what,
        "parameters": list(operation.queries),
        "responses": {
            operation.stream or "200": _answer(operation),
            "default": described("Why not.", ref("Status")),
        },
    }
    if operation.stream:
        found[STREAM] = True
    if operation.takes is not None:
        found["requestBody"] = {"content": content(_schema(operation.takes)), "required": True}
    return found


def _answer(operation: Operation) -> Document:
    if operation.stream == "101":
        return {"description": "What follows is a WebSocket."}
    if operation.text:
        return {"description": "What there is.", "content": {"text/plain": {"schema": _TEXT}}}
    return described("What there is.", _schema(operation.gives))


def _schema(what: Any) -> Document:
    if isinstance(what, Kind):
        return ref(what.name)
    if isinstance(what, dict):
        return what
    return ref(what.__name__)


def _schemas() -> Document:
    """Of all the types that are taken or given, and of those within them."""
    types = {*_types()}
    _, found = msgspec.json.schema_components(
        sorted(types, key=lambda each: each.__name__), ref_template=ref("{name}")["$ref"]
    )
    named = ref("")["$ref"].rpartition("/")[2]
    return {named + name: converted(schema) for name, schema in found.items()}


def _types() -> Iterator[Any]:
    for operation in OPERATIONS:
        for what in (operation.takes, operation.gives):
            if what is not None and not isinstance(what, Kind | dict):
                yield what


def _in_path(path: str) -> list[Document]:
    words = [word for word in path.split("/") if word.startswith("{")]
    return [in_path(word.strip("{}")) for word in words]


def _capital(word: str) -> str:
    return "".join(part.capitalize() for part in word.split("-"))
