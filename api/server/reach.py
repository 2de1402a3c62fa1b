"""What of a service reaches out of its containers to their node, and who may ask for it.

Who has the run of a node has every secret and container on it, whatever namespace they are in. So
that takes a role for the whole cluster: were it enough to be an operator of one namespace, its
walls would be paint. What a container has for itself (sysctls, limits, names) anybody may set.

A change that leaves the template alone is not asked about: who scales a service takes nothing
more for it. One that does change it is, as another image in the same box is another program.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from api.server import status
from api.server.documents import Document
from api.server.status import Failure
from api.types.kinds import SERVICE, Kind
from api.types.user import Grant

# Those with which a process gets out of its container, or at others' data.
_STRONG = frozenset({
    "ALL", "BPF", "CHECKPOINT_RESTORE", "DAC_READ_SEARCH", "MAC_ADMIN", "MAC_OVERRIDE", "PERFMON",
    "SYS_ADMIN", "SYS_BOOT", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO", "SYS_TIME", "SYSLOG",
})  # fmt: skip


# Kubernetes' list (Pod Security Standards, baseline): no more than a container has by default.
_USUAL_TYPES = frozenset({"container_t", "container_init_t", "container_kvm_t"})


def may_reach(grants: Sequence[Grant]) -> bool:
    """Whether somebody with these may have containers reach their nodes."""
    return any(grant.role in ("admin", "operator") and not grant.namespaces for grant in grants)


def require(kind: Kind, name: str, document: Document, old: Document | None) -> None:
    """For who may not. `old` is what is stored, if anything. Raises Failure 403, with all."""
    if kind is not SERVICE:
        return
    template = _template(document)
    if old is not None and _content(template) == _content(_template(old)):
        return
    fields = list(reaching(template))
    if fields:
        raise _refusal(name, fields)


def reaching(template: Document) -> Iterator[str]:
    """The fields that reach out, as a user would name them."""
    if template.get("privileged"):
        yield "privileged"
    for device in template.get("devices") or ():
        # Those of a generic resource were given out by whoever started the node's agent.
        if source := device.get("source"):
            yield f"device {source}"
    security = template.get("security") or {}
    for field in ("seccomp", "appArmor"):
        if security.get(field) == "unconfined":
            yield f"security.{field} unconfined"
    if security.get("seccompProfile"):
        yield "security.seccompProfile"  # it may allow what the default one does not
    for part, value in (security.get("seLinux") or {}).items():
        if value and (part != "type" or value not in _USUAL_TYPES):
            yield f"security.seLinux.{part}"
    for name in (template.get("capabilities") or {}).get("add") or ():
        if name.removeprefix("CAP_") in _STRONG:
            yield f"capability {name}"
    for mount in template.get("mounts") or ():
        if mount.get("type") == "bind":
            yield f"bind mount of {mount.get('source', '')}"


def _template(document: Document) -> Document:
    found: Document = document.get("spec", {}).get("template", {})
    return found


def _content(template: Document) -> dict[str, Any]:
    """Without the number that only says: once more."""
    return {field: value for field, value in template.items() if field != "forceUpdate"}


def _refusal(name: str, fields: Sequence[str]) -> Failure:
    return status.forbidden(
        f"service {name} would reach out of its containers to their node ({', '.join(fields)}),"
        " which takes the role operator or admin for the whole cluster; leave it out, or have"
        " somebody with that role apply it"
    )
