"""`ctl status`: the cluster on one screen."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from api.ctl import tasks as tasks_of
from api.ctl.session import Session, verb
from api.types.columns import condition, desired_replicas, is_job, service_condition
from api.types.kinds import NODE, SERVICE, TASK

if TYPE_CHECKING:
    from api.calls import Calls

Document = dict[str, Any]

_MOST = 10  # problems shown


@verb("status")
def command(session: Session) -> None:
    """Nodes, services and the manager's parts, with what is wrong."""
    session.ask(lambda client: _show(session, client))


async def _show(session: Session, client: Calls) -> None:
    output = session.output
    version = await client.version()
    nodes = (await client.list(NODE)).items
    services = (await client.list(SERVICE)).items
    tasks = (await client.list(TASK)).items
    components = await client.components()
    problems = [
        *_of_parts(components),
        *_of_nodes(nodes),
        *_of_services(services, tasks),
        *_of_jobs(services),
    ]

    ready = sum(condition(node, "Ready").get("status") == "True" for node in nodes)
    jobs = [each for each in services if is_job(each)]
    services = [each for each in services if not is_job(each)]
    up = sum(condition(each, "Available").get("status") == "True" for each in services)
    states = Counter(task["status"].get("state", "New") for task in tasks)
    wanted = sum(desired_replicas(each) for each in services)
    counted = ", ".join(f"{count} {output.state(state)}" for state, count in sorted(states.items()))
    output.lines(
        [
            f"cluster    {client.server} ({version.get('gitVersion', '')})",
            f"nodes      {ready}/{len(nodes)} ready",
            f"services   {up}/{len(services)} available, {wanted} replicas wanted",
            *_counted(jobs),
            f"tasks      {len(tasks)}{': ' + counted if counted else ''}",
            f"manager    {sum(_runs(each) for each in components)}/{len(components)} parts running",
        ]
    )
    if not problems:
        output.data("problems   none")
        return
    output.data("problems")
    output.lines(f"  {problem}" for problem in problems[:_MOST])
    if len(problems) > _MOST:
        output.data(f"  and {len(problems) - _MOST} more")


def _runs(component: Document) -> bool:
    return component.get("state") == "Running"


def _of_parts(components: Any) -> list[str]:
    return [
        f"part {each['name']} is {each['state']}: {each.get('lastError') or 'no reason given'}"
        for each in components
        if not _runs(each)
    ]


def _of_nodes(nodes: list[Document]) -> list[str]:
    return [
        f"node {node['metadata']['name']}: {_words(node, 'Ready')}"
        for node in nodes
        if condition(node, "Ready").get("status") != "True"
    ]


def _counted(jobs: list[Document]) -> list[str]:
    states = Counter(service_condition(job) for job in jobs)
    words = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    return [f"jobs       {len(jobs)}: {words}"] if jobs else []


def _of_jobs(services: list[Document]) -> list[str]:
    return [
        f"job {each['metadata']['namespace']}/{each['metadata']['name']}: {_words(each, 'Failed')}"
        for each in services
        if is_job(each) and condition(each, "Failed").get("status") == "True"
    ]


def _of_services(services: list[Document], tasks: list[Document]) -> list[str]:
    waiting = tasks_of.reasons(tasks)
    problems = []
    for each in services:
        if is_job(each) or condition(each, "Available").get("status") == "True":
            continue
        metadata = each["metadata"]
        words = _words(each, "Available")
        why = waiting.get((metadata["namespace"], metadata["name"]), "")
        more = f": {why}" if why and why not in words else ""
        problems.append(f"service {metadata['namespace']}/{metadata['name']}: {words}{more}")
    return problems


def _words(obj: Document, kind: str) -> str:
    found = condition(obj, kind)
    return str(found.get("message") or found.get("reason") or f"no condition {kind} yet")
