"""`ctl scale`: another number of replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from api.ctl.errors import CtlError, Usage
from api.ctl.resources import Target, kind
from api.ctl.session import Session, verb
from api.ctl.suggestions import names_of
from api.ctl.waiting import WaitOptions, wait_options, wait_until_done
from api.types.columns import is_job
from api.types.kinds import SERVICE

if TYPE_CHECKING:
    from api.calls import Calls


@verb("scale")
@click.argument("what", nargs=-1, required=True, shell_complete=names_of("service"))
@click.option("--replicas", type=click.IntRange(min=0), help="How many tasks.")
@click.option("--current-replicas", type=click.IntRange(min=0), help="Only if it is this many now.")
@wait_options
def command(
    session: Session,
    what: tuple[str, ...],
    replicas: int | None,
    current_replicas: int | None,
    wait: WaitOptions,
) -> None:
    """Set how many tasks replicated services have.

    \b
    ctl scale web=5 worker=2
    ctl scale service web --replicas 5 --wait
    """
    counts = parse(what, replicas)
    namespace = session.namespace

    async def work(client: Calls) -> None:
        for name, count in counts.items():
            await scale(session, client, namespace, name, count, current_replicas)

    session.ask(work)
    wait_until_done(session, [Target(SERVICE, name) for name in counts], wait)


def parse(words: tuple[str, ...], replicas: int | None) -> dict[str, int]:
    """Names and counts of `NAME=N …`, or of `[service] NAME…` with --replicas. Raises Usage."""
    if replicas is None:
        return dict(_pair(word) for word in words)
    names = list(words)
    if len(names) > 1 and "/" not in names[0] and kind_is_service(names[0]):
        names = names[1:]
    return {_service_name(name): replicas for name in names}


def kind_is_service(word: str) -> bool:
    return word.lower() in (SERVICE.name.lower(), SERVICE.plural, *SERVICE.short_names)


def _pair(word: str) -> tuple[str, int]:
    name, equals, count = word.partition("=")
    if not equals or not count.isdigit():
        raise Usage(
            f"{word!r} is not of the form NAME=REPLICAS",
            "write `ctl scale web=5`, or `ctl scale service web --replicas 5`",
        )
    return _service_name(name), int(count)


def _service_name(word: str) -> str:
    before, slash, name = word.partition("/")
    if not slash:
        return word
    if kind(before) is not SERVICE:
        raise Usage(f"{word} can't be scaled: only services have replicas")
    return name


async def scale(
    session: Session,
    client: Calls,
    namespace: str,
    name: str,
    count: int,
    expected: int | None,
) -> None:
    service = await client.get(SERVICE, namespace, name)
    spec = service.get("spec", {})
    if is_job(service):
        raise CtlError(
            f"service {namespace}/{name} is a {spec['mode']}, and has no replicas",
            "spec.job.completions says how many tasks have to succeed, ctl edit changes it"
            if spec["mode"] == "replicated-job"
            else "placement constraints say which nodes it runs on",
        )
    if spec.get("mode", "replicated") != "replicated":
        raise CtlError(
            f"service {namespace}/{name} is {spec['mode']}: it has a task on every suitable node",
            "placement constraints say which nodes suit it",
        )
    now = spec.get("replicas", 1)
    if expected is not None and now != expected:
        raise CtlError(f"service {namespace}/{name} has {now} replicas, not {expected}")
    if now == count:
        session.output.data(f"service/{name} unchanged ({count} replicas)")
        return
    metadata = {"resourceVersion": service["metadata"]["resourceVersion"]} if expected else {}
    await client.patch(
        SERVICE, namespace, name, {"metadata": metadata, "spec": {"replicas": count}}
    )
    session.output.data(f"service/{name} scaled ({now} → {count} replicas)")
