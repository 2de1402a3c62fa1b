"""`ctl job`: run jobs now, and hold and resume their schedules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from api.ctl.errors import CtlError
from api.ctl.follow import wait_until
from api.ctl.resources import Target
from api.ctl.restart import force, parse
from api.ctl.session import Session, verb
from api.ctl.suggestions import names_of
from api.ctl.waiting import WaitOptions, wait_options
from api.ctl.wanted import Wanted, halted, progress
from api.types.columns import field, is_job, newest_run
from api.types.kinds import SERVICE

if TYPE_CHECKING:
    from api.client import Client

Document = dict[str, Any]

_jobs = click.argument("jobs", nargs=-1, required=True, shell_complete=names_of("service"))


@click.group("job")
def command() -> None:
    """Run jobs now, and hold and resume their schedules."""


@verb("run")
@_jobs
@wait_options
def run(session: Session, jobs: tuple[str, ...], wait: WaitOptions) -> None:
    """Start a run of jobs now, whatever their schedules say.

    A job with a schedule has `schedule.concurrency` say what becomes of a run that is under way;
    of one without, it is ended. With --wait it is an error when the new run fails.

    \b
    ctl job run backup
    ctl job run migrate --wait --timeout 10m
    """
    namespace = session.namespace

    async def work(client: Client) -> None:
        begun = []
        for target in parse(jobs):
            job = await _job(client, namespace, target)
            await force(client, job)
            session.output.data(f"service/{target.name} is to run")
            begun.append((target, int(field(job, "status", "job", "lastRun") or 0)))
        if not wait.wait:
            return
        for target, before in begun:
            goal = _complete_after(before)
            await wait_until(session.output, client, [target], namespace, goal, wait.timeout)

    session.run(work)


@verb("suspend")
@_jobs
def suspend(session: Session, jobs: tuple[str, ...]) -> None:
    """Start no more runs by the schedule; what is under way goes on.

    \b
    ctl job suspend backup
    """
    session.run(lambda client: _suspend(session, client, parse(jobs), True))


@verb("resume")
@_jobs
def resume(session: Session, jobs: tuple[str, ...]) -> None:
    """Go on with the schedule; times that passed meanwhile are not made up for.

    \b
    ctl job resume backup
    """
    session.run(lambda client: _suspend(session, client, parse(jobs), False))


for _command in (run, suspend, resume):
    command.add_command(_command)


async def _job(client: Client, namespace: str, target: Target) -> Document:
    service = await client.get(SERVICE, namespace, target.name)
    if not is_job(service):
        mode = field(service, "spec", "mode") or "replicated"
        raise CtlError(
            f"service {namespace}/{target.name} is no job: its mode is {mode}",
            "ctl restart replaces the tasks of a service",
        )
    return service


def _complete_after(before: int) -> Wanted:
    """A run that began after run `before` is complete."""

    def result(job: Document | None) -> str:
        run = newest_run(job or {})
        return str(run.get("result", "")) if int(run.get("number", 0)) > before else ""

    return Wanted(
        "complete",
        lambda job: result(job) == "Complete",
        progress,
        lambda job: halted(job) if result(job) else "",
    )


async def _suspend(
    session: Session, client: Client, targets: Sequence[Target], suspended: bool
) -> None:
    namespace = session.namespace
    for target in targets:
        job = await _job(client, namespace, target)
        if not field(job, "spec", "schedule"):
            raise CtlError(
                f"service {namespace}/{target.name} has no schedule",
                "it runs when its template changes, or by ctl job run",
            )
        patch = {"spec": {"schedule": {"suspend": suspended}}}
        await client.patch(SERVICE, namespace, target.name, patch)
        session.output.data(f"service/{target.name} {'suspended' if suspended else 'resumed'}")
