"""The columns people see of each kind, once for `ctl get` and for the server's own tables.

A column takes an object as the API serves it (decoded JSON) and the time, and gives one cell: a
short text. Cells say what is, in words; what can't be told is `<unknown>`, what is not there
`<none>`. Objects may come from a newer server or lack a status yet, so a column never assumes
that a field is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from api.types.generic import count

Document = Mapping[str, Any]

NONE: Final = "<none>"
UNKNOWN: Final = "<unknown>"


class Column(NamedTuple):
    """One column. `wide` ones show on request; `shrinks` ones give way on a narrow terminal."""

    name: str
    cell: Callable[[Document, datetime], str]
    wide: bool = False
    shrinks: bool = False
    description: str = ""


def field(obj: Document, *path: str) -> Any:
    """What is at `path`, or None where a part of it is missing or not a mapping."""
    at: Any = obj
    for part in path:
        if not isinstance(at, Mapping):
            return None
        at = at.get(part)
    return at


def text(obj: Document, *path: str, default: str = NONE) -> str:
    """What is at `path` as a text, `default` where there is nothing."""
    value = field(obj, *path)
    return default if value is None or value == "" else str(value)


def moment(value: object) -> datetime | None:
    """An RFC 3339 time, None where it is none."""
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def duration(seconds: float) -> str:
    """A length of time with two digits that matter, as in `45s`, `5m12s`, `3h`, `12d`, `2y`."""
    total = max(0, int(seconds))
    if total < 120:
        return f"{total}s"
    if total < 600:
        return _pair(total // 60, "m", total % 60, "s")
    if total < 3 * 3600:
        return f"{total // 60}m"
    if total < 8 * 3600:
        return _pair(total // 3600, "h", total % 3600 // 60, "m")
    if total < 48 * 3600:
        return f"{total // 3600}h"
    if total < 8 * 86400:
        return _pair(total // 86400, "d", total % 86400 // 3600, "h")
    if total < 2 * 365 * 86400:
        return f"{total // 86400}d"
    return f"{total // (365 * 86400)}y"


def _pair(big: int, big_unit: str, small: int, small_unit: str) -> str:
    return f"{big}{big_unit}" + (f"{small}{small_unit}" if small else "")


def age(value: object, now: datetime) -> str:
    """How long ago an RFC 3339 time was."""
    then = moment(value)
    return UNKNOWN if then is None else duration((now - then).total_seconds())


def size(count: float) -> str:
    """Bytes for people: `16B`, `1.5KiB`, `7.7GiB`."""
    number = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if number < 1024 or unit == "TiB":
            return f"{number:.0f}{unit}" if unit == "B" else f"{number:.1f}{unit}"
        number /= 1024
    return UNKNOWN


def condition(obj: Document, kind: str) -> Document:
    """The condition of that type, empty where it is not there."""
    conditions = field(obj, "status", "conditions")
    if isinstance(conditions, Sequence):
        for item in conditions:
            if isinstance(item, Mapping) and item.get("type") == kind:
                return item
    return {}


def deleting(obj: Document) -> bool:
    return bool(field(obj, "metadata", "deletionTimestamp"))


def names(values: Sequence[str], most: int = 3) -> str:
    """`a,b,c,+2`: the first few, and how many more."""
    if not values:
        return NONE
    shown = list(values[:most])
    return ",".join(shown + ([f"+{len(values) - most}"] if len(values) > most else []))


def _name(obj: Document, now: datetime) -> str:
    return text(obj, "metadata", "name", default=UNKNOWN)


def _age(obj: Document, now: datetime) -> str:
    return age(field(obj, "metadata", "creationTimestamp"), now)


def desired_replicas(service: Document) -> int:
    """How many tasks the service should have, as far as is known."""
    if text(service, "spec", "mode", default="replicated") == "replicated":
        replicas = field(service, "spec", "replicas")
        return 1 if replicas is None else int(replicas)
    return int(field(service, "status", "replicas") or 0)


def is_job(service: Document) -> bool:
    return text(service, "spec", "mode").endswith("-job")


def newest_run(job: Document) -> Document:
    """The newest of a job's runs, empty where it has none on record."""
    runs = field(job, "status", "job", "runs")
    return runs[0] if isinstance(runs, Sequence) and runs else {}


def _replicas(obj: Document, now: datetime) -> str:
    counts = f"{field(obj, 'status', 'running') or 0}/{desired_replicas(obj)}"
    if is_job(obj):
        run = newest_run(obj)
        wanted = run.get("wanted", 0) if run else field(obj, "spec", "job", "completions") or 0
        counts = f"{run.get('succeeded', 0)}/{wanted}"
    return f"{counts} deleting" if deleting(obj) else counts


def _ports(obj: Document, now: datetime) -> str:
    ports = field(obj, "spec", "template", "ports") or []
    return names([_port(port) for port in ports])


def _port(port: Document) -> str:
    published = port.get("published") or "*"
    return f"{published}:{port.get('target')}/{port.get('protocol') or 'tcp'}"


def service_condition(obj: Document) -> str:
    """In one word: Available, or the reason why not; of a job how it is or went."""
    if is_job(obj):
        if condition(obj, "Failed").get("status") == "True":
            return "Failed"
        return str(condition(obj, "Progressing").get("reason") or UNKNOWN)
    available = condition(obj, "Available")
    if not available:
        return UNKNOWN
    if available.get("status") == "True":
        return "Available"
    return str(available.get("reason") or "Unavailable")


def _task_state(obj: Document, now: datetime) -> str:
    state = text(obj, "status", "state", default="New")
    since = moment(field(obj, "status", "since"))
    return state if since is None else f"{state} {duration((now - since).total_seconds())}"


def _task_message(obj: Document, now: datetime) -> str:
    error = text(obj, "status", "error", default="")
    message = text(obj, "status", "message", default="")
    state = text(obj, "status", "state", default="New")
    # A running task's message says nothing that its state doesn't.
    return error or ("" if state in ("Running", "Complete", "Shutdown") else message)


def _task_container(obj: Document, now: datetime) -> str:
    return text(obj, "status", "container", "id")[:12]


def _task_ports(obj: Document, now: datetime) -> str:
    return names([_port(port) for port in field(obj, "status", "ports") or []])


def revision_digest(obj: Document) -> str:
    """Of its image, as short as engines show it."""
    return text(obj, "status", "digest").rpartition(":")[2][:12]


def node_status(obj: Document) -> str:
    """Ready, NotReady or Unknown, as its Ready condition says."""
    status = condition(obj, "Ready").get("status")
    return {"True": "Ready", "False": "NotReady"}.get(str(status), "Unknown")


def _node_memory(obj: Document, now: datetime) -> str:
    memory = field(obj, "status", "resources", "memory")
    return size(memory) if memory else UNKNOWN


def _node_cpus(obj: Document, now: datetime) -> str:
    cpus = field(obj, "status", "resources", "cpus")
    return f"{cpus:g}" if cpus else UNKNOWN


def _node_generic(obj: Document, now: datetime) -> str:
    """What there is; what of it is used only `ctl` says, as that takes all tasks."""
    offered = field(obj, "status", "resources", "generic") or {}
    return ", ".join(f"{kind} {count(offered[kind])}" for kind in sorted(offered)) or NONE


def _node_engine(obj: Document, now: datetime) -> str:
    driver = text(obj, "status", "engine", "driver", default="")
    version = text(obj, "status", "engine", "version", default="")
    return f"{driver} {version}".strip() or UNKNOWN


def _node_platform(obj: Document, now: datetime) -> str:
    system = text(obj, "status", "os", default="?")
    return f"{system}/{text(obj, 'status', 'architecture', default='?')}"


def _user_grants(obj: Document, now: datetime) -> str:
    grants = field(obj, "spec", "grants") or []
    said = [
        f"{grant.get('role')}({','.join(grant['namespaces'])})"
        if grant.get("namespaces")
        else str(grant.get("role"))
        for grant in grants
    ]
    return names(said) if said else NONE


def _user_expiry(obj: Document, now: datetime) -> str:
    end = moment(field(obj, "status", "expires"))
    if end is None:
        return NONE
    return "expired" if end <= now else duration((end - now).total_seconds())


def _secret_set(obj: Document, now: datetime) -> str:
    versions = field(obj, "status", "versions")
    if not isinstance(versions, list) or not versions:
        return "<unknown>"
    return age(versions[-1].get("created"), now)


def _secret_sizes(obj: Document) -> dict[str, int]:
    sizes = field(obj, "status", "sizes")
    return dict(sizes) if isinstance(sizes, Mapping) else {}


def _next_rotation(obj: Document, now: datetime) -> str:
    for kind in ("Generated", "Fetched"):
        found = condition(obj, kind)
        if found.get("message"):
            return str(found.get("reason") or found.get("type"))
    due = moment(field(obj, "status", "nextRotation"))
    if due is None:
        return NONE
    left = (due - now).total_seconds()
    return "due" if left <= 0 else f"in {duration(left)}"


def _config_keys(obj: Document) -> list[str]:
    return [*(obj.get("data") or {}), *(obj.get("binaryData") or {})]


def _config_size(obj: Document, now: datetime) -> str:
    plain = sum(len(value.encode()) for value in (obj.get("data") or {}).values())
    # Base64 holds three bytes in four characters.
    binary = sum(
        len(value.rstrip("=")) * 3 // 4 for value in (obj.get("binaryData") or {}).values()
    )
    return size(plain + binary)


def last_seen(event: Document) -> datetime:
    """When it last happened; the beginning of time where it does not say."""
    for path in (("lastTimestamp",), ("firstTimestamp",), ("metadata", "creationTimestamp")):
        seen = moment(field(event, *path))
        if seen is not None:
            return seen
    return datetime.min.replace(tzinfo=UTC)


def _event_seen(obj: Document, now: datetime) -> str:
    seen = duration((now - last_seen(obj)).total_seconds())
    count = field(obj, "count") or 1
    return f"{seen} (x{count})" if count > 1 else seen


def _event_object(obj: Document, now: datetime) -> str:
    kind = text(obj, "involvedObject", "kind", default="?").lower()
    return f"{kind}/{text(obj, 'involvedObject', 'name', default='?')}"


_NAME = Column("NAME", _name, description="The object's name.")
_AGE = Column("AGE", _age, description="How long ago it was created.")

COLUMNS: Final[Mapping[str, tuple[Column, ...]]] = {
    "Namespace": (
        _NAME,
        Column(
            "STATUS",
            lambda obj, now: (
                "Terminating" if deleting(obj) else text(obj, "status", "phase", default="Active")
            ),
            description="Active, or Terminating while its contents are deleted.",
        ),
        _AGE,
    ),
    "Node": (
        _NAME,
        Column("STATUS", lambda obj, now: node_status(obj), description="Its Ready condition."),
        Column(
            "AVAILABILITY",
            lambda obj, now: text(obj, "spec", "availability", default="active"),
            description="Whether it takes tasks: active, pause or drain.",
        ),
        Column("ROLE", lambda obj, now: text(obj, "spec", "role", default="worker")),
        Column("CPUS", _node_cpus, description="Cores."),
        Column("MEMORY", _node_memory),
        Column("ENGINE", _node_engine, description="The container engine and its version."),
        _AGE,
        Column("ADDRESS", lambda obj, now: text(obj, "status", "address"), wide=True),
        Column(
            "RESOURCES",
            _node_generic,
            wide=True,
            description="Generic ones, such as GPUs; where two numbers are given, used and all.",
        ),
        Column("PLATFORM", _node_platform, wide=True),
        Column("KERNEL", lambda obj, now: text(obj, "status", "kernel"), wide=True),
        Column("AGENT", lambda obj, now: text(obj, "status", "agentVersion"), wide=True),
    ),
    "User": (
        _NAME,
        Column("GRANTS", _user_grants, shrinks=True, description="Roles, and where they are good."),
        Column("EXPIRES", _user_expiry, description="When its newest certificate ends."),
        _AGE,
    ),
    "Service": (
        _NAME,
        Column("MODE", lambda obj, now: text(obj, "spec", "mode", default="replicated")),
        Column(
            "REPLICAS",
            _replicas,
            description="Running tasks of wanted ones; completions of a job's newest run.",
        ),
        Column("IMAGE", lambda obj, now: text(obj, "spec", "template", "image"), shrinks=True),
        Column("PORTS", _ports, description="published:target/protocol; * is chosen by the node."),
        _AGE,
        Column("REVISION", lambda obj, now: text(obj, "status", "revision"), wide=True),
        Column("CONDITION", lambda obj, now: service_condition(obj), wide=True),
    ),
    "Task": (
        _NAME,
        Column("SERVICE", lambda obj, now: text(obj, "spec", "service")),
        Column("NODE", lambda obj, now: text(obj, "spec", "node")),
        Column("DESIRED", lambda obj, now: text(obj, "spec", "desiredState", default="Running")),
        Column("STATE", _task_state, description="Its state and how long it is in it."),
        Column(
            "MESSAGE", _task_message, shrinks=True, description="What went wrong or is awaited."
        ),
        _AGE,
        Column("PORTS", _task_ports, wide=True),
        Column("CONTAINER", _task_container, wide=True),
        Column("REVISION", lambda obj, now: text(obj, "spec", "revision"), wide=True),
    ),
    "Secret": (
        _NAME,
        Column("KEYS", lambda obj, now: names(sorted(_secret_sizes(obj))), shrinks=True),
        Column("SIZE", lambda obj, now: size(sum(_secret_sizes(obj).values()))),
        Column("VERSION", lambda obj, now: text(obj, "status", "version", default="0")),
        Column("SET", _secret_set, description="How long it has had this version."),
        Column("USERS", lambda obj, now: text(obj, "status", "usedBy", default="0")),
        Column(
            "NEXT ROTATION",
            _next_rotation,
            description="When a value is made anew; why not, where one is missing or can't be.",
        ),
        _AGE,
    ),
    "Config": (
        _NAME,
        Column("KEYS", lambda obj, now: names(_config_keys(obj)), shrinks=True),
        Column("SIZE", _config_size),
        _AGE,
    ),
    "Revision": (
        _NAME,
        Column("SERVICE", lambda obj, now: text(obj, "spec", "service")),
        Column("NUMBER", lambda obj, now: text(obj, "spec", "number")),
        Column("IMAGE", lambda obj, now: text(obj, "spec", "template", "image"), shrinks=True),
        _AGE,
        Column(
            "DIGEST",
            lambda obj, now: revision_digest(obj),
            wide=True,
            description="Of its image, which all its tasks run.",
        ),
    ),
    "Event": (
        Column("LAST SEEN", _event_seen),
        Column("TYPE", lambda obj, now: text(obj, "type", default="Normal")),
        Column("REASON", lambda obj, now: text(obj, "reason", default="")),
        Column("OBJECT", _event_object),
        Column("MESSAGE", lambda obj, now: text(obj, "message", default=""), shrinks=True),
        Column("SOURCE", lambda obj, now: text(obj, "reportingComponent", default=""), wide=True),
    ),
}


def columns(kind: str, *, wide: bool = False) -> tuple[Column, ...]:
    """A kind's columns, by the kind's name; an unknown kind has its name and age."""
    return tuple(c for c in COLUMNS.get(kind, (_NAME, _AGE)) if wide or not c.wide)


def cells(shown: Sequence[Column], obj: Document, now: datetime) -> list[str]:
    """One row."""
    return [column.cell(obj, now) for column in shown]
