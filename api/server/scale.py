"""The `scale` subresource of services: how many, in the words of Kubernetes' autoscaling/v1."""

from __future__ import annotations

from typing import Any

from api.server import patches, status
from api.server.documents import Document, decode
from api.server.patches import Patch
from api.server.resources import Resources, WriteOptions
from api.types.kinds import SERVICE

SCALE_VERSION = "autoscaling/v1"


class Scales:
    """Reads and writes scales."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def get(self, namespace: str, name: str) -> Document:
        """Raises Failure 404, and 400 for a service that has no number of replicas."""
        item = self._resources.item(SERVICE, namespace, name)
        return _scale(decode(item.value), item.revision)

    async def write(
        self, namespace: str, name: str, patch: Patch, options: WriteOptions
    ) -> tuple[Document, list[str]]:
        """Change `spec.replicas` and nothing else; warnings with it. Raises Failure, StoreError."""
        item = self._resources.item(SERVICE, namespace, name)
        wanted = patch.change(_scale(decode(item.value), item.revision))
        metadata, replicas = _checked(wanted, namespace, name)
        kept = {k: metadata[k] for k in ("uid", "resourceVersion") if metadata.get(k)}
        if patch.envelope.get("metadata") is None:  # a patch that does not insist on a version
            kept.pop("resourceVersion", None)
        change: Document = {"metadata": kept, "spec": {"replicas": replicas}}
        merge = patches.merging(SERVICE, change)
        written = await self._resources.patch(SERVICE, namespace, name, merge, options)
        return _scale(decode(written.value), written.revision), list(written.warnings)


def _scale(service: Document, revision: int) -> Document:
    given = service["metadata"]
    spec = service.get("spec", {})
    if spec.get("mode", "replicated") != "replicated":
        title = status.title(SERVICE, given["namespace"], given["name"])
        if spec["mode"] == "replicated-job":
            raise status.bad_request(
                f"{title} is a job, which has no replicas; spec.job.completions says how many of"
                " its tasks have to succeed"
            )
        raise status.bad_request(
            f"{title} is {spec['mode']}: it has a task on every node that fits, and no number of"
            " replicas"
        )
    names = ("name", "namespace", "uid", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": SCALE_VERSION,
        "metadata": {
            **{field: given[field] for field in names if field in given},
            "resourceVersion": str(revision),
        },
        "spec": {"replicas": spec.get("replicas", 1)},
        "status": {"replicas": service.get("status", {}).get("running", 0)},
    }


def _checked(wanted: Document, namespace: str, name: str) -> tuple[Document, Any]:
    """Its metadata, and how many it asks for. Raises Failure 400."""
    for field, expected in (("apiVersion", SCALE_VERSION), ("kind", "Scale")):
        if wanted.get(field) not in (None, "", expected):
            raise status.bad_request(f"{field} must be {expected}")
    metadata, spec = ({} if wanted.get(f) is None else wanted[f] for f in ("metadata", "spec"))
    if not isinstance(metadata, dict) or not isinstance(spec, dict):
        raise status.bad_request("metadata and spec of a Scale must be objects")
    for field, expected in (("name", name), ("namespace", namespace)):
        if metadata.get(field) not in (None, "", expected):
            raise status.bad_request(f"metadata.{field} must be {expected}")
    return metadata, spec.get("replicas", 0)
