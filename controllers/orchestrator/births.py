"""New tasks and revisions.

A task's name follows from what it is made for: its service, its slot, the task before it and the
service's generation. So two controllers that decide the same make the same task, and the store
lets one of them through. Its uid is random: the next task of that name is another task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from api.types.meta import Metadata
from api.types.revision import Revision, RevisionSpec
from api.types.service import Service
from api.types.task import Task, TaskSpec, TaskState, TaskStatus
from controllers.orchestrator.slots import Key, made
from controllers.reconcile.ids import bounded, digest, new_uid

_TICK = timedelta(microseconds=1)


def new_task(
    service: Service, key: Key, revision: str, before: Task | None, now: datetime, *,
    restarts: int = 0, failures: int = 0, run: int = 0,
) -> Task:  # fmt: skip
    """The next task of that slot, after `before`; of a job, in that run."""
    meta = service.metadata
    seed = f"{meta.uid}/{key}/{before.metadata.name if before else ''}/{meta.generation}"
    if isinstance(key, int):
        suffix, slot, node = f"{key}-{digest(seed, 5)}", key, ""
    else:
        suffix, slot, node = digest(seed, 8), 0, key
    if run:
        suffix = f"{run}-{key}-{digest(f'{seed}/{run}', 5)}" if slot else digest(f"{seed}/{run}", 8)
    # A slot's tasks are in the order of their times, also when managers' clocks differ.
    created = now if before is None else max(now, made(before) + _TICK)
    return Task(
        metadata=Metadata(
            name=bounded(meta.name, suffix),
            namespace=meta.namespace,
            uid=new_uid(),
            creation_timestamp=created,
        ),
        spec=TaskSpec(
            service=meta.name,
            revision=revision,
            slot=slot,
            node=node,
            restarts=restarts,
            failures=failures,
            run=run,
        ),
        status=TaskStatus(state=TaskState.PENDING, since=created),
    )


def new_revision(
    service: Service,
    name: str,
    existing: Sequence[Revision],
    now: datetime,
    secrets: Mapping[str, int],
) -> Revision:
    number = 1 + max((revision.spec.number for revision in existing), default=0)
    return Revision(
        metadata=Metadata(
            name=name,
            namespace=service.metadata.namespace,
            uid=new_uid(),
            creation_timestamp=now,
        ),
        spec=RevisionSpec(
            service=service.metadata.name,
            number=number,
            template=service.spec.template,
            secrets=dict(secrets),
        ),
    )
