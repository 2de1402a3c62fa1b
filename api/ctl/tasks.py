"""Which task `logs` and `exec` mean: named itself, or one or all of a service's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from api.ctl.errors import CtlError, NotFound, Usage
from api.ctl.resources import kind
from api.types.kinds import SERVICE, TASK, Kind

if TYPE_CHECKING:
    from api.client import ApiError, Client

Document = dict[str, Any]


def parse(word: str) -> tuple[Kind, str]:
    """`web-1-x7k2p`, `task/web-1-x7k2p` or `service/web`. Raises Usage."""
    before, slash, name = word.partition("/")
    if not slash:
        return TASK, word
    found = kind(before)
    if found not in (TASK, SERVICE) or not name:
        raise Usage(f"{word} is neither a task nor a service", "write TASK or service/NAME")
    return found, name


async def of_service(client: Client, namespace: str, name: str) -> Sequence[Document]:
    """A service's tasks, the newest last. Raises ApiError 404 for no such service."""
    await client.get(SERVICE, namespace, name)
    listing = await client.list(TASK, namespace, field_selector=f"spec.service={name}")
    return sorted(listing.items, key=lambda task: str(task["metadata"].get("creationTimestamp")))


async def running(client: Client, namespace: str, word: str) -> str:
    """The name of a task with a running container. Raises NotFound, CtlError, Usage."""
    what, name = parse(word)
    if what is TASK:
        return await _task_or_service_hint(client, namespace, name)
    tasks = await of_service(client, namespace, name)
    for state in ("Running", "Starting"):
        for task in reversed(tasks):
            if task["status"].get("state") == state:
                return str(task["metadata"]["name"])
    raise CtlError(
        f"service {namespace}/{name} has no running task",
        f"`ctl describe service {name}` says why",
    )


def reasons(tasks: Sequence[Document]) -> dict[tuple[str, str], str]:
    """By namespace and service: what most of its tasks that should run and don't say of it."""
    said: dict[tuple[str, str], Counter[str]] = {}
    for task in tasks:
        status = task["status"]
        words = status.get("error") or status.get("message")
        wanted = task["spec"].get("desiredState", "Running") == "Running"
        if words and wanted and status.get("state") != "Running":
            service = (task["metadata"]["namespace"], task["spec"]["service"])
            said.setdefault(service, Counter())[words] += 1
    return {service: counted.most_common(1)[0][0] for service, counted in said.items()}


async def _task_or_service_hint(client: Client, namespace: str, name: str) -> str:
    """The task's own name. Raises NotFound, ApiError."""
    from api.client import ApiError

    try:
        await client.get(TASK, namespace, name)
    except ApiError as error:
        raise await missing(client, namespace, name, error) from None
    return name


async def missing(client: Client, namespace: str, name: str, error: ApiError) -> Exception:
    """The refusal of a task that does not exist, with the service that was perhaps meant; any
    other as it is."""
    if error.code != 404:
        return error
    services = await client.list(SERVICE, namespace, field_selector=f"metadata.name={name}")
    hint = f"did you mean service/{name}?" if services.items else ""
    return NotFound(error.message, hint)
