"""What `kubectl apply --prune --applyset` asks for: which kinds may be the parent of a set.

It looks in the list of CustomResourceDefinitions for those with a certain label. Ours are no such
definitions; the list names configs, whose objects can carry a set's labels without harm.
"""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from api.server import status
from api.server.selectors import SelectorError, parse_labels
from api.types.kinds import CONFIG, KINDS, SECRET, Kind
from api.types.meta import API_GROUP

PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
IS_PARENT = "applyset.kubernetes.io/is-parent-type"
_PARENTS = (CONFIG, SECRET)


def add_routes(app: web.Application, guard: Any) -> None:
    """`guard` wraps a handler so that whoever has an identity may ask."""

    async def list_all(request: web.Request) -> web.Response:
        try:
            wanted = parse_labels(request.query.get("labelSelector", ""))
        except SelectorError as error:
            raise status.bad_request(str(error)) from None
        found = [_definition(kind) for kind in KINDS]
        items = [
            each
            for each in found
            if all(one.holds(each["metadata"].get("labels", {})) for one in wanted)
        ]
        body = {
            "kind": "CustomResourceDefinitionList",
            "apiVersion": "apiextensions.k8s.io/v1",
            "metadata": {"resourceVersion": "1"},
            "items": items,
        }
        return web.Response(body=msgspec.json.encode(body), content_type="application/json")

    async def show(request: web.Request) -> web.Response:
        for kind in KINDS:
            definition = _definition(kind)
            if definition["metadata"]["name"] == request.match_info["name"]:
                return web.Response(
                    body=msgspec.json.encode(definition), content_type="application/json"
                )
        raise status.no_path(request.path)

    app.router.add_get(PATH, guard(list_all))
    app.router.add_get(PATH + "/{name}", guard(show))


def _definition(kind: Kind) -> dict[str, Any]:
    labels = {"labels": {IS_PARENT: "true"}} if kind in _PARENTS else {}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{API_GROUP}", **labels},
        "spec": {
            "group": API_GROUP,
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": list(kind.short_names),
            },
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": [{"name": "v1", "served": True, "storage": True}],
        },
    }
