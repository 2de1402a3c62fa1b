"""What can be waited for: pure predicates over an object as it is now, None where it is not.

delete                        it is gone
create                        it exists
condition=Available[=True]    a condition has that status, for the spec as it is now
jsonpath={.path}[=value]      a path gives that value; without a value: gives any
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from api.ctl import jsonpath
from api.ctl.errors import Usage
from api.types.columns import condition, desired_replicas, field, is_job, text
from api.types.service import RESUME

Document = dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """One thing to wait for. `words` name it, in messages."""

    words: str
    met: Callable[[Document | None], bool]
    # What keeps it from being met, in words, as far as the object says.
    why_not: Callable[[Document | None], str] = lambda obj: (
        "" if obj is not None else "it does not exist"
    )
    # Why it will not come to it by itself; "" where it may.
    hopeless: Callable[[Document | None], str] = lambda obj: ""
    # For these, that the object does not exist is not an error but the point.
    absence: bool = False
    # Of services: only what is said of the secrets that there were when waiting began counts.
    of_newest: bool = False


def parse(text: str) -> Wanted:
    """What `--for` says. Raises Usage."""
    lower = text.lower()
    if lower == "delete":
        return Wanted("deleted", lambda obj: obj is None, _why_not_deleted, absence=True)
    if lower == "create":
        return Wanted("created", lambda obj: obj is not None, absence=True)
    kind, _, rest = text.partition("=")
    if kind == "condition" and rest:
        return _condition(rest)
    if kind == "jsonpath" and rest:
        return _jsonpath(rest)
    if text.isalpha():
        raise Usage(
            f"--for={text} is nothing that can be waited for",
            f"did you mean --for=condition={text}?",
        )
    raise Usage(
        f"--for={text} is nothing that can be waited for",
        "write delete, create, condition=NAME[=STATUS] or jsonpath='{.path}'=VALUE",
    )


def _condition(text: str) -> Wanted:
    kind, _, status = text.partition("=")
    status = status or "True"

    def found(obj: Document | None) -> dict[str, Any]:
        for item in field(obj or {}, "status", "conditions") or []:
            if str(item.get("type", "")).lower() == kind.lower():
                return dict(item)
        return {}

    def met(obj: Document | None) -> bool:
        if obj is None or not observed(obj):
            return False
        return str(found(obj).get("status", "")).lower() == status.lower()

    def why_not(obj: Document | None) -> str:
        if obj is None:
            return "it does not exist"
        item = found(obj)
        if not item:
            there = [str(each["type"]) for each in field(obj, "status", "conditions") or []]
            return f"it has no condition {kind}" + (
                f", only {' and '.join(there)}" if there else ""
            )
        return f"{kind} is {item.get('status')}: {item.get('message') or item.get('reason')}"

    return Wanted(f"condition {kind}={status}", met, why_not, of_newest=True)


def _jsonpath(text: str) -> Wanted:
    """`{.a.b}=value`: the value follows the closing brace, so that paths may hold `==`."""
    brace = text.rfind("}")
    where, equals, value = text[: brace + 1], text[brace + 1 : brace + 2], text[brace + 2 :]
    if brace < 0:
        where, equals, value = text.partition("=")
    path = jsonpath.path(where)
    value = value.strip("'\"")

    def values(obj: Document | None) -> list[str]:
        return [] if obj is None else [jsonpath.shown(each) for each in path.find(obj)]

    def met(obj: Document | None) -> bool:
        found = values(obj)
        return value in found if equals else any(found)

    def why_not(obj: Document | None) -> str:
        if obj is None:
            return "it does not exist"
        return f"{where} is {' '.join(values(obj)) or 'not there'}"

    return Wanted(f"{where} = {value}" if equals else f"{where} there", met, why_not)


def _why_not_deleted(obj: Document | None) -> str:
    if not field(obj or {}, "metadata", "deletionTimestamp"):
        return "nobody has asked for its deletion"
    finalizers = field(obj or {}, "metadata", "finalizers") or []
    if finalizers:
        return f"it waits for {', '.join(finalizers)}"
    return "it still exists"


def observed(obj: Document) -> bool:
    """Whether its controller has seen the spec as it is now, as far as the object says."""
    seen = field(obj, "status", "observedGeneration")
    if seen is None:
        # Zero is left out, so a service without it has not been seen by its controller at all.
        return obj.get("kind") != "Service"
    return int(seen) >= int(field(obj, "metadata", "generation") or 0)


_MOVING = {"updating": "updating", "rollback_started": "going back"}
_UNDER_WAY = ("updating", "paused", "rollback_started", "rollback_paused")


def rolled_back(obj: Document) -> bool:
    """Whether an update failed, and all tasks run the revision before it again."""
    update = field(obj, "status", "update") or {}
    return update.get("state") == "rollback_completed" and (
        update.get("previous") != update.get("revision")
    )


def halted(obj: Document | None) -> str:
    """Why an update, or a job, does not go on by itself; "" where it does, or nothing is known."""
    if obj is not None and is_job(obj):
        failed = observed(obj) and _is(obj, "Failed", "True")
        return f"the job failed: {condition(obj, 'Failed').get('message')}" if failed else ""
    update = field(obj or {}, "status", "update") or {}
    if obj is None or not update or not observed(obj):
        return ""
    if field(obj, "metadata", "annotations", RESUME) == update.get("since"):
        return ""  # somebody has just let it go on
    words = {"paused": "the update is paused", "rollback_paused": "the rollback is paused"}
    state = str(update.get("state"))
    said = "the update was rolled back" if rolled_back(obj) else words.get(state, "")
    return f"{said}: {update.get('message')}" if said else ""


def up_to_date(obj: Document | None) -> bool:
    """Whether what was applied is in effect: of a service, that all its tasks run as it says now;
    of a job, that its run is complete, or waits for the time of its schedule.

    Other kinds are in effect when they are written.
    """
    if obj is None:
        return False
    if obj.get("kind") != "Service":
        return True
    if is_job(obj):
        waits = bool(field(obj, "spec", "schedule")) and _is(obj, "Progressing", "False")
        return observed(obj) and (waits or _is(obj, "Complete", "True"))
    status = obj.get("status") or {}
    wanted = desired_replicas(obj)
    return (
        observed(obj)
        and field(obj, "status", "update", "state") not in _UNDER_WAY
        and not rolled_back(obj)
        and condition(obj, "Available").get("status") == "True"
        and int(status.get("updated") or 0) >= wanted
        and int(status.get("running") or 0) >= wanted
    )


def _is(obj: Document, kind: str, status: str) -> bool:
    return condition(obj, kind).get("status") == status


def progress(obj: Document | None) -> str:
    """How far a service is, for people who wait for it."""
    if obj is None:
        return "gone"
    status = obj.get("status") or {}
    wanted = desired_replicas(obj)
    if not observed(obj):
        return "waits for its controller"
    if is_job(obj):
        kind = "Failed" if _is(obj, "Failed", "True") else "Progressing"
        return str(condition(obj, kind).get("message") or "not begun")
    words = f"{status.get('updated') or 0}/{wanted} running"
    for kind in ("Available", "Progressing"):
        item = condition(obj, kind)
        message = str(item.get("message") or "")
        if item.get("status") == "False" and message:
            # Its controller begins with the same count.
            return message if message.startswith(words) else f"{words}: {message}"
    state = text(obj, "status", "update", "state")
    return f"{words}, {_MOVING[state]}" if state in _MOVING else words


IN_EFFECT = Wanted("in effect", up_to_date, progress, halted, of_newest=True)
