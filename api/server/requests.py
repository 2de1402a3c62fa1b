"""What requests say, taken apart: bodies within their limits, selectors, numbers, flags.

Every function raises Failure in words for what can't be understood.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from api import manifest
from api.schema import Code
from api.schema.problem import choice
from api.server import admission, patches, status, tables
from api.server.auth import identify
from api.server.deletion import POLICIES, DeleteOptions
from api.server.documents import Document, Preconditions, as_document, parse_json, require_once
from api.server.managed import MOST_MANAGER
from api.server.patches import Patch
from api.server.paths import Target
from api.server.reach import may_reach
from api.server.resources import WriteOptions
from api.server.selectors import Selection, SelectorError
from api.server.selectors import selection as parse_selection
from api.server.tables import Form
from api.types.kinds import Kind

if TYPE_CHECKING:
    from api.server.app import Settings

_YAML = frozenset({"application/yaml", "text/yaml", "application/x-yaml", patches.APPLY})


async def document(request: web.Request, settings: Settings) -> Document:
    """The body as one object. Raises Failure 400, 408, 413."""
    data = await body(request, settings.max_body, settings.body_time)
    if request.content_type in _YAML:
        return from_yaml(data)
    # Without a content type, or with one that merely is not YAML, it is taken for JSON.
    parsed = as_document(parse_json(data))
    if request.query.get("fieldValidation") in (None, "", admission.STRICT):
        require_once(data)
    return parsed


async def delete_options(request: web.Request, settings: Settings) -> DeleteOptions:
    """Of the body and the query. Raises Failure 400, 408, 413."""
    data = await body(request, settings.max_body, settings.body_time)
    given = as_document(parse_json(data)) if data.strip() else {}
    wanted = given.get("preconditions")
    wanted = wanted if isinstance(wanted, dict) else {}
    grace = request.query.get("gracePeriodSeconds", given.get("gracePeriodSeconds"))
    return DeleteOptions(
        preconditions=Preconditions(
            uid=str(wanted.get("uid") or ""),
            resource_version=str(wanted.get("resourceVersion") or ""),
        ),
        dry_run=dry_run(request, given.get("dryRun")),
        force=str(grace) == "0",
        policy=_policy(request, given),
    )


def _policy(request: web.Request, given: Document) -> str:
    said = request.query.get("propagationPolicy") or given.get("propagationPolicy")
    if said is None or said == "":
        return "Orphan" if given.get("orphanDependents") is True else "Background"
    if said not in POLICIES:
        raise status.bad_request(f"propagationPolicy must be {choice(POLICIES)}")
    return str(said)


async def body(request: web.Request, limit: int, seconds: float) -> bytes:
    """Raises Failure 413 as soon as it is too large, whatever its length was said to be, and 408
    where it does not arrive in time."""
    if request.content_length is not None and request.content_length > limit:
        raise status.too_large(limit)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.content.iter_any():
                size += len(part)
                if size > limit:
                    raise status.too_large(limit)
                parts.append(part)
    except TimeoutError:
        raise status.too_slow(seconds) from None
    return b"".join(parts)


def from_yaml(data: bytes) -> Document:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise status.bad_request("the body is not UTF-8") from None
    loaded = manifest.load([manifest.Source("body", text)], check=lambda obj: [])
    for problem in loaded.problems:
        if problem.code in (Code.SYNTAX, Code.DUPLICATE, Code.TOO_LONG):
            raise status.bad_request(f"the body is not YAML that is taken: {problem}")
    if len(loaded.documents) != 1:
        raise status.bad_request("the body must be one YAML document")
    return as_document(loaded.documents[0].object)


def decoded(decoder: msgspec.json.Decoder[Any], data: bytes) -> Any:
    try:
        return decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise status.bad_request(f"the body can't be understood: {error}") from None


def selection(request: web.Request, target: Target) -> Selection:
    query = request.query
    try:
        return parse_selection(
            target.kind, query.get("labelSelector", ""), query.get("fieldSelector", "")
        )
    except SelectorError as error:
        raise status.bad_request(str(error)) from None


def form(request: web.Request) -> Form:
    """How the objects are wanted: as they are, in a table, or only their metadata."""
    return tables.form(request.headers.get("Accept", ""), request.query.get("includeObject", ""))


def revision(request: web.Request) -> int:
    text = request.query.get("resourceVersion", "")
    if text and not (text.isdecimal() and len(text) < 20):
        raise status.bad_request(f"resourceVersion {text!r} is not one that this server gave")
    return int(text or 0)


def number(request: web.Request, name: str) -> int:
    text = request.query.get(name, "")
    if not text:
        return 0
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise status.bad_request(f"{name} must be a number, 0 or more; it is {text!r}")
    return number


def flag(request: web.Request, name: str) -> bool:
    return request.query.get(name, "") in ("true", "1")


def dry_run(request: web.Request, more: object = None) -> bool:
    """`more` is what a body says of it: a list, as in the query."""
    given = [*request.query.getall("dryRun", []), *(more if isinstance(more, list) else [])]
    if any(value not in ("All", "") for value in given):
        raise status.bad_request("dryRun must be All: every stage, and nothing written")
    return "All" in given


def require(request: web.Request, method: str) -> None:
    if request.method != method:
        raise status.not_allowed(request.method, request.path)


def write_options(request: web.Request, *, manager: bool = False) -> WriteOptions:
    """Of the query. `manager`: who writes must be said. Raises Failure 400."""
    validation = request.query.get("fieldValidation") or admission.STRICT
    if validation not in (admission.STRICT, admission.WARN, admission.IGNORE):
        raise status.bad_request("fieldValidation must be Strict, Warn or Ignore")
    said = request.query.get("fieldManager", "")
    if len(said) > MOST_MANAGER or not said.isprintable():
        raise status.bad_request(
            f"fieldManager must be at most {MOST_MANAGER} printable characters"
        )
    if not said and not manager:
        said = request.headers.get("User-Agent", "").partition("/")[0][:MOST_MANAGER]
        said = said if said.isprintable() else ""
    confined = not may_reach(identify(request).grants)
    return WriteOptions(dry_run(request), validation, said, flag(request, "force"), confined)


async def patch(request: web.Request, kind: Kind, settings: Settings) -> Patch:
    """A merge or JSON patch. Raises Failure 400, 408, 413, 415."""
    match request.content_type:
        case patches.MERGE:
            return patches.merging(kind, await document(request, settings))
        case patches.JSON:
            data = await body(request, settings.max_body, settings.body_time)
            return patches.stepping(kind, data, settings.max_body)
    raise status.unsupported_media(
        request.content_type, [patches.MERGE, patches.JSON, patches.APPLY]
    )
