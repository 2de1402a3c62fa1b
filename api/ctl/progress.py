"""How far a service's update is: its head, and a row for each task that has a part in it.

Pure, over what the API has of the service, its tasks and its revisions now. A slot is shown with
the tasks that run or are to come to run, those that leave, and the one that ended last: where it
has no other, and where that failed and nothing serves in its place yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from api.ctl.newest import Newest, unseen
from api.ctl.table import clean
from api.ctl.wanted import IN_EFFECT, progress
from api.types import columns
from api.types.columns import age, condition, desired_replicas, is_job, service_condition, text

Document = dict[str, Any]

WORDS = {
    "updating": "updating",
    "paused": "paused",
    "completed": "completed",
    "rollback_started": "going back",
    "rollback_paused": "paused while going back",
    "rollback_completed": "rolled back",
}
HEADERS = ("SLOT", "TASK", "NODE", "REVISION", "STATE", "MESSAGE", "AGE")
_OVER = frozenset({"Complete", "Shutdown", "Failed", "Rejected", "Orphaned"})


class Row(NamedTuple):
    """One task."""

    slot: int
    task: str
    node: str
    revision: str
    number: int  # of the revision, 0 where it isn't kept
    state: str
    leaving: bool  # told to stop
    ready: bool
    message: str
    created: str

    @property
    def settled(self) -> bool:
        return self.state == "Running" and self.ready and not self.leaving

    @property
    def failed(self) -> bool:
        return self.state in ("Failed", "Rejected", "Orphaned")

    @property
    def titled(self) -> str:
        return f"{self.number} ({self.revision})" if self.number else self.revision

    @property
    def words(self) -> str:
        """Its state, and what it waits for or died of."""
        return f"{self.condition}: {self.message}" if self.message else self.condition

    @property
    def condition(self) -> str:
        return f"{self.state}, leaving" if self.leaving else self.state

    def cells(self, now: datetime) -> list[str]:
        slot = str(self.slot) if self.slot else "-"
        return [
            slot,
            self.task,
            self.node or "-",
            self.titled,
            self.condition,
            self.message,
            age(self.created, now),
        ]


@dataclass
class View:
    """A service and what belongs to it, as last heard."""

    service: Document
    tasks: dict[str, Document] = field(default_factory=dict)  # by name
    revisions: dict[str, Document] = field(default_factory=dict)  # by name
    newest: Newest = field(default_factory=dict)  # of its secrets, when looking began
    _sought: set[str] = field(default_factory=set)  # names of revisions that were looked for

    @property
    def name(self) -> str:
        return str(self.service["metadata"]["name"])

    @property
    def met(self) -> bool:
        return not self._unseen and IN_EFFECT.met(self.service)

    @property
    def hopeless(self) -> str:
        return "" if self._unseen else IN_EFFECT.hopeless(self.service)

    @property
    def progress(self) -> str:
        return self._unseen or progress(self.service)

    @property
    def _unseen(self) -> str:
        return unseen(self.service, self.newest)

    def take_revisions(self, kept: Sequence[Document]) -> None:
        """All that there are now; those that are named and not among them are gone."""
        self.revisions = {each["metadata"]["name"]: each for each in kept}
        self._sought |= self._named()

    @property
    def unknown(self) -> bool:
        """Whether it names a revision that was made since the revisions were read."""
        return bool(self._named() - self._sought)

    def _named(self) -> set[str]:
        named = {text(task, "spec", "revision") for task in self.tasks.values()}
        return named | {text(self.service, "status", "revision")}

    def rows(self) -> list[Row]:
        slots: dict[tuple[int, str], list[Document]] = {}
        for task in self.tasks.values():
            slots.setdefault(_slot(task), []).append(task)
        shown: list[Row] = []
        for _, tasks in sorted(slots.items()):
            tasks.sort(key=lambda task: str(task["metadata"].get("creationTimestamp")))
            live = [self._row(task) for task in tasks if _state(task) not in _OVER]
            ended = [self._row(task) for task in tasks if _state(task) in _OVER][-1:]
            if live and (any(row.settled for row in live) or (ended[:1] and not ended[0].failed)):
                ended = []
            shown += [*ended, *live]
        return shown

    def head(self, now: datetime) -> Iterator[str]:
        return summary(self.service, self.revisions, now)

    def document(self) -> Document:
        """For scripts: all of it at one moment."""
        status = self.service.get("status") or {}
        update = status.get("update") or {}
        return {
            "service": self.name,
            "state": update.get("state", ""),
            "revision": update.get("revision") or status.get("revision", ""),
            "message": update.get("message") or self.progress,
            "replicas": desired_replicas(self.service),
            "running": status.get("running") or 0,
            "updated": status.get("updated") or 0,
            "failed": update.get("failed") or 0,
            "done": self.met,
            "halted": self.hopeless,
            "tasks": [row._asdict() for row in self.rows()],
        }

    def _row(self, task: Document) -> Row:
        revision = text(task, "spec", "revision")
        status = task.get("status") or {}
        desired = text(task, "spec", "desiredState", default="Running")
        state, ready = _state(task), bool(status.get("ready"))
        leaving = desired != "Running" and state not in _OVER
        said = str(status.get("error") or status.get("message") or "")
        if state == "Running" and ready and not leaving:
            said = ""
        return Row(
            slot=_slot(task)[0],
            task=str(task["metadata"]["name"]),
            node=text(task, "spec", "node", default=""),
            revision=revision,
            number=_number(self.revisions.get(revision)),
            state=state,
            leaving=leaving,
            ready=ready,
            message=clean(said),
            created=str(task["metadata"].get("creationTimestamp") or ""),
        )


def summary(
    service: Document, kept: Mapping[str, Document], now: datetime, *, first: bool = True
) -> Iterator[str]:
    """A service's update in some lines; `kept` has its revisions by name."""
    if not first:
        yield ""
    update = columns.field(service, "status", "update") or {}
    current = text(service, "status", "revision")
    yield f"Service:   {service['metadata']['name']}"
    if is_job(service):
        yield f"State:     {service_condition(service)}"
        yield f"Revision:  {_titled(current, kept)}"
        yield f"Progress:  {clean(str(condition(service, 'Progressing').get('message') or ''))}"
        return
    if not update:
        yield "State:     never updated"
        yield f"Revision:  {_titled(current, kept)}"
    else:
        state = str(update.get("state"))
        since = f" for {age(update['since'], now)}" if update.get("since") else ""
        yield f"State:     {WORDS.get(state, state)}{since}"
        yield f"Revision:  {_titled(str(update.get('revision')), kept)}"
        if update.get("previous") and update["previous"] != update.get("revision"):
            yield f"Before:    {_titled(update['previous'], kept)}"
    status = service.get("status") or {}
    failed = update.get("failed") or 0
    yield (
        f"Progress:  {status.get('updated') or 0}/{desired_replicas(service)} run "
        f"{current}, {status.get('running') or 0} run in all"
        + (f", {failed} failed" if failed else "")
    )
    if update.get("message"):
        yield f"Message:   {clean(update['message'])}"
    if columns.field(service, "spec", "paused"):
        yield "Held:      spec.paused is true; `ctl rollout resume` goes on"


def fitting(rows: Sequence[Row], most: int) -> tuple[Sequence[Row], int]:
    """As many rows as there is room for, those first about which there is something to see; and
    how many were left out."""
    if len(rows) <= most:
        return rows, 0
    chosen = sorted(rows, key=lambda row: row.settled)[: max(0, most - 1)]
    kept = set(chosen)
    return [row for row in rows if row in kept], len(rows) - len(kept)


def _slot(task: Document) -> tuple[int, str]:
    """Of a service of one task a node the node is the slot."""
    slot = int(columns.field(task, "spec", "slot") or 0)
    return slot, "" if slot else text(task, "spec", "node", default="")


def _state(task: Document) -> str:
    return text(task, "status", "state", default="New")


def _number(revision: Document | None) -> int:
    return 0 if revision is None else int(revision["spec"]["number"])


def _titled(name: str, kept: Mapping[str, Document]) -> str:
    found = kept.get(name)
    return name if found is None else f"{_number(found)} ({name}, {_image(found)})"


def _image(revision: Document) -> str:
    return clean(str(revision["spec"]["template"].get("image", "")))
