"""One GET without the asynchronous client, whose import alone takes longer than this answer.

For what must feel instant: completion at the prompt, and `ctl version`.
"""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from api.ctl.errors import CtlError, Unreachable

if TYPE_CHECKING:
    from api.context import Context


def get(context: Context, path: str, *, seconds: float) -> Any:
    """The decoded JSON at `path`, from the first manager that answers. Raises CtlError."""
    why = "no server is named in the context"
    for server in context.servers:
        parts = urlsplit(server)
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port or 443, timeout=seconds, context=context.tls()
        )
        try:
            connection.request("GET", path, headers={"Accept": "application/json"})
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            why = str(error)
            continue
        finally:
            connection.close()
        if response.status != 200:
            raise CtlError(f"{server} answered {response.status} {response.reason} to {path}")
        return json.loads(body)
    raise Unreachable(why)
