"""What every request goes through: an id, a log line, figures, and errors into Statuses.

Log lines hold method, path, who, code and time: never a body, a query (exec's commands are in
it) or a header.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from urllib.parse import quote

import msgspec
import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from api.pki.identity import identity_of
from api.server import status
from api.server.audit import Audit
from api.server.limits import Busy
from api.server.metrics import Metrics
from api.server.paths import CORE_PREFIX, PREFIX, Target, parse, parse_core
from api.server.status import Failure
from api.store.contract import StoreError
from api.types.assignment import STATUS_HEADER

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

REQUEST_ID = "X-Request-Id"
_QUIET = frozenset({"heartbeat", "statuses"})  # of nodes, all the time: only failures are news
_HEADER_BYTES = 7000  # clients read at most 8 KiB
_GONE_AWAY = 499  # as nginx says it
_HELD = frozenset({"assignments", "streams", "log", "exec"})

_log = structlog.get_logger("skep.access")
_request_id: ContextVar[str] = ContextVar("request_id", default="")


def access(metrics: Metrics, audit: Audit) -> Middleware:
    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        id = secrets.token_hex(8)
        _request_id.set(id)
        who = _who(request)  # the connection may be gone at the end
        begun = time.perf_counter()
        code = _GONE_AWAY
        try:
            response = await handler(request)
            code = response.status
            if not response.prepared:
                response.headers[REQUEST_ID] = id
            return response
        finally:
            seconds = time.perf_counter() - begun
            target = target_of(request)
            sub = target.sub[0] if target is not None and target.sub else ""
            held = _is_held(request, target)
            resource = str(target) if target is not None and code != 404 else _resource(request)
            metrics.request(request.method, resource, code, None if held else seconds)
            if sub not in _QUIET or code >= 400:
                _log_line(request, id, who, code, seconds)
            audit.note(request, target, id, who, code, seconds * 1000)

    return count


def limited(busy: Busy) -> Middleware:
    """Within `failures`: one client's share."""

    @web.middleware
    async def share(request: web.Request, handler: Handler) -> web.StreamResponse:
        with busy.one_more(_who(request), held=_is_held(request, target_of(request))):
            return await handler(request)

    return share


@web.middleware
async def failures(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Whatever goes wrong is answered with a JSON Status."""
    try:
        _require_oneself(request)
        return await handler(request)
    except Failure as error:
        failure = error
    except StoreError as error:
        failure = status.from_store(error, writing=request.method != "GET")
    except web.HTTPException as error:
        failure = _from_http(request, error)
    except ConnectionError:
        # The client went away. Nobody gets this answer; raised, it would be a failure in the log.
        return web.Response(status=_GONE_AWAY)
    except Exception:
        id = _request_id.get()
        _log.exception("request failed", id=id, method=request.method, path=request.path)
        message = f"the server failed; its log says why under the request id {id}"
        failure = Failure(500, "InternalError", message)
    response = answer(failure)
    if "Upgrade" in request.headers:
        said = quote(msgspec.json.encode(failure.status()))
        response.headers[STATUS_HEADER] = said[:_HEADER_BYTES]
    return response


def _require_oneself(request: web.Request) -> None:
    """`kubectl --as` must not be done in one's own name. Raises Failure 403."""
    if any(name.lower().startswith("impersonate-") for name in request.headers):
        raise status.forbidden(
            "nobody may act as somebody else here; use a context of that user, see `ctl user"
            " certificate`"
        )


def answer(failure: Failure) -> web.Response:
    headers = {"Retry-After": str(failure.retry_after)} if failure.retry_after else None
    return web.Response(
        status=failure.code,
        body=msgspec.json.encode(failure.status()),
        content_type="application/json",
        headers=headers,
    )


def _from_http(request: web.Request, error: web.HTTPException) -> Failure:
    """aiohttp's own refusals."""
    if error.status == 404:
        return status.no_path(request.path)
    if error.status == 405:
        return status.not_allowed(request.method, request.path)
    return Failure(error.status, "BadRequest", error.reason)


def _is_held(request: web.Request, target: Target | None) -> bool:
    sub = target.sub[0] if target is not None and target.sub else ""
    return sub in _HELD or "watch" in request.query


def _resource(request: web.Request) -> str:
    route = request.match_info.route.resource
    name = route.canonical if route is not None else ""
    return "" if "{" in name else name.rpartition("/")[2]


def target_of(request: web.Request) -> Target | None:
    """The object or collection that the path names."""
    path = request.path
    if path.startswith(CORE_PREFIX):
        return parse_core(path[len(CORE_PREFIX) :])
    return parse(path[len(PREFIX) :]) if path.startswith(PREFIX) else None


def _who(request: web.Request) -> str:
    certificate = request.transport.get_extra_info("peercert") if request.transport else None
    return str(identity_of(certificate) or "")


def _log_line(request: web.Request, id: str, who: str, code: int, seconds: float) -> None:
    # Reading that went well is most of what happens, and a line costs as much as the answer.
    log = _log.debug if request.method in ("GET", "HEAD") and code < 400 else _log.info
    log(
        "request",
        id=id,
        method=request.method,
        path=request.path,
        code=code,
        ms=round(seconds * 1000, 1),
        who=who,
        remote=request.remote,
    )
