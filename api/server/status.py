"""Failures as the API says them: one JSON Status, in Kubernetes' form, with a way on.

Failure                  what a handler raises; carries the Status
  not_found()            404 NotFound
  already_exists()       409 AlreadyExists
  conflict()             409 Conflict             changed meanwhile: read again
  invalid()              422 Invalid              every problem of the object, as causes
  bad_request() …        400, 401, 403, 405, 408, 410, 413, 415, 429, 503
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from api.store.contract import Compacted, Conflict, StoreError, TooLarge, Unavailable
from api.types.kinds import Kind

RETRY_AFTER = 1  # seconds


class Cause(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One problem of an object. `index` is its place in a bulk request."""

    field: str = ""
    message: str
    reason: str = "FieldValueInvalid"
    index: int | None = None


class Failure(Exception):
    """A request that can't be done. `code` is HTTP's, `reason` Kubernetes' word for it."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        retry_after: int = 0,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = dict(details or {})
        self.retry_after = retry_after
        if retry_after:
            self.details["retryAfterSeconds"] = retry_after

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details:
            status["details"] = self.details
        return status


def success(kind: Kind, name: str, uid: str = "", message: str = "") -> dict[str, Any]:
    """What a delete answers when the object is gone."""
    details = {"name": name, "kind": kind.plural, "group": "skep.dev"}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        **({"message": message} if message else {}),
        "details": {**details, **({"uid": uid} if uid else {})},
    }


def title(kind: Kind, namespace: str, name: str) -> str:
    """How texts name an object: `service default/web`, `node a`."""
    return f"{kind.name.lower()} {namespace}/{name}" if namespace else f"{kind.name.lower()} {name}"


def not_found(kind: Kind, namespace: str, name: str) -> Failure:
    return _about(404, "NotFound", kind, name, f"{title(kind, namespace, name)} does not exist")


def already_exists(kind: Kind, namespace: str, name: str) -> Failure:
    message = f"{title(kind, namespace, name)} exists already; change it with apply, PUT or PATCH"
    return _about(409, "AlreadyExists", kind, name, message)


def conflict(kind: Kind, namespace: str, name: str, why: str = "") -> Failure:
    why = why or "it was changed meanwhile; read it again and repeat the change on what it is now"
    message = f"{title(kind, namespace, name)} can't be written: {why}"
    return _about(409, "Conflict", kind, name, message)


def invalid(kind: Kind, namespace: str, name: str, causes: Sequence[Cause]) -> Failure:
    said = "; ".join(_sentence(cause) for cause in causes[:3])
    more = f"; and {len(causes) - 3} more" if len(causes) > 3 else ""
    message = f"{title(kind, namespace, name)} is invalid: {said}{more}"
    return _about(422, "Invalid", kind, name, message, causes=causes)


def invalid_items(causes: Sequence[Cause]) -> Failure:
    """A bulk request in which something is wrong: nothing of it was written."""
    objects = len({cause.index for cause in causes})
    message = (
        f"{len(causes)} problem{'s' if len(causes) > 1 else ''} in {objects} of the objects;"
        " nothing was written"
    )
    causes_out = [msgspec.to_builtins(cause) for cause in causes]
    return Failure(422, "Invalid", message, details={"causes": causes_out})


def bad_request(message: str) -> Failure:
    return Failure(400, "BadRequest", message)


def unauthorized(message: str) -> Failure:
    return Failure(401, "Unauthorized", message)


def too_slow(seconds: float) -> Failure:
    message = f"the request's body did not arrive within {seconds:g} s; send it again, at once"
    return Failure(408, "Timeout", message)


def forbidden(message: str) -> Failure:
    return Failure(403, "Forbidden", message)


def forbidden_items(causes: Sequence[Cause]) -> Failure:
    """A bulk request with objects that the caller may not write: nothing of it was written."""
    said = "; ".join(cause.message for cause in causes[:3])
    more = f"; and {len(causes) - 3} more" if len(causes) > 3 else ""
    details = {"causes": [msgspec.to_builtins(cause) for cause in causes]}
    message = f"{said}{more}; nothing was written"
    return Failure(403, "Forbidden", message, details=details)


def no_path(path: str) -> Failure:
    return Failure(404, "NotFound", f"there is nothing at {path}")


def not_allowed(method: str, what: str) -> Failure:
    return Failure(405, "MethodNotAllowed", f"{method} is not possible on {what}")


def too_large_patch(steps: int, most: int) -> Failure:
    message = f"the patch has {steps} steps, and at most {most} are taken"
    return Failure(413, "RequestEntityTooLarge", message)


def field_conflicts(kind: Kind, name: str, found: Sequence[tuple[str, str]]) -> Failure:
    """Server-side apply meets fields of others: `found` has who and which."""
    causes = [
        Cause(field=field, message=f'conflict with "{who}"', reason="FieldManagerConflict")
        for who, field in found
    ]
    by_manager: dict[str, list[str]] = {}
    for who, field in found:
        by_manager.setdefault(who, []).append(field)
    said = "; ".join(f'with "{who}": {", ".join(each)}' for who, each in by_manager.items())
    count = "1 conflict" if len(found) == 1 else f"{len(found)} conflicts"
    message = (
        f"Apply failed with {count}: {said}. Leave these fields out, give them the value they have,"
        " or take them over with force"
    )
    return _about(409, "Conflict", kind, name, message, causes=causes)


def expired(message: str) -> Failure:
    return Failure(410, "Expired", message)


def too_large(limit: int) -> Failure:
    message = f"the request is larger than {limit:,} bytes, which is as much as is taken at once"
    return Failure(413, "RequestEntityTooLarge", message)


def unsupported_media(given: str, possible: Sequence[str]) -> Failure:
    message = f"content type {given or '(none)'} is not taken here; send {' or '.join(possible)}"
    return Failure(415, "UnsupportedMediaType", message)


def unavailable(message: str) -> Failure:
    return Failure(503, "ServiceUnavailable", message, retry_after=RETRY_AFTER)


def from_store(error: StoreError, *, writing: bool) -> Failure:
    """A store's error that no handler knew better what to do with."""
    if isinstance(error, Unavailable):
        doubt = "; it may or may not have been written" if writing else ""
        return unavailable(
            f"the store (etcd) does not answer{doubt}; repeating the request is safe."
            " Running containers go on"
        )
    if isinstance(error, Conflict):
        message = "the object was changed meanwhile; read it again and repeat the change"
        return Failure(409, "Conflict", message)
    if isinstance(error, Compacted):
        return expired("the version asked for is no longer kept; list again and go on from there")
    if isinstance(error, TooLarge):
        return Failure(413, "RequestEntityTooLarge", f"too large for the store: {error}")
    return Failure(500, "InternalError", f"the store failed: {error}")


def _sentence(cause: Cause) -> str:
    return f"{cause.field}: {cause.message}" if cause.field else cause.message


def _about(
    code: int, reason: str, kind: Kind, name: str, message: str, *, causes: Sequence[Cause] = ()
) -> Failure:
    details: dict[str, Any] = {"name": name, "kind": kind.plural, "group": "skep.dev"}
    if causes:
        details["causes"] = [msgspec.to_builtins(cause) for cause in causes]
    return Failure(code, reason, message, details=details)
