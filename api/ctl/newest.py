"""The newest versions of secrets, which a service's status may not be about yet.

A new version of a secret leaves a service's spec and generation as they are, so those don't tell
whether its controller has seen it. Its status says which versions that had seen; who waits reads
the secrets' versions when waiting begins, and believes nothing that is said of earlier ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from api.types.columns import field
from api.types.kinds import SECRET

if TYPE_CHECKING:
    from api.calls import Calls
    from api.types.template import TaskTemplate

Document = dict[str, Any]

Newest = Mapping[str, int]  # by the secret's name


async def newest(client: Calls, namespace: str, services: Sequence[Document]) -> Newest:
    """Of the secrets of a namespace, where any of its services given here is replaced for one."""
    if not any(pinned(service) for service in services):
        return {}
    secrets = await client.list(SECRET, namespace)
    return {
        secret["metadata"]["name"]: int(field(secret, "status", "version") or 0)
        for secret in secrets.items
    }


def unseen(service: Document, newest: Newest) -> str:
    """What its status is not about yet, in words; "" where that is nothing."""
    if not newest:
        return ""
    seen = field(service, "status", "observedSecrets") or {}
    for name in sorted(pinned(service)):
        if seen.get(name, 0) < newest.get(name, 0):
            return f"its controller has not seen version {newest[name]} of secret {name} yet"
    return ""


def pinned(service: Document) -> frozenset[str]:
    """The secrets whose new versions replace its tasks."""
    from api.rendering import pinned_secrets

    return pinned_secrets(template_of(service))


def template_of(service: Document) -> TaskTemplate:
    import msgspec

    from api.types.template import TaskTemplate

    return msgspec.convert(service["spec"]["template"], TaskTemplate)
