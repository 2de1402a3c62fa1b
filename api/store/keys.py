"""The layout of the store: /skep/v1/<plural>/<namespace>/<name>.

Objects of kinds without a namespace have `-` in its place, so every object key has four parts.
Three trees beside the objects hold what is never served: secrets' payloads, nodes' sessions and
the cluster's own facts; and one record the data keys that all values are sealed with.
"""

from __future__ import annotations

from api.types.kinds import BY_PLURAL, Kind
from api.types.secret import Secret

ROOT = "/skep/v1/"
OBJECTS = ROOT + "objects/"
PAYLOADS = ROOT + "payloads/"
SESSIONS = ROOT + "sessions/"
CLUSTER = ROOT + "cluster"
RING = ROOT + "keyring"

_NO_NAMESPACE = "-"


def object_key(kind: Kind, namespace: str, name: str) -> str:
    return f"{OBJECTS}{kind.plural}/{namespace or _NO_NAMESPACE}/{name}"


def kind_prefix(kind: Kind, namespace: str = "") -> str:
    """All objects of a kind, or those of one namespace."""
    return f"{OBJECTS}{kind.plural}/" + (f"{namespace}/" if namespace else "")


def parse_object_key(key: str) -> tuple[Kind, str, str]:
    """The kind, namespace ("" where it has none) and name. Raises ValueError."""
    parts = key.removeprefix(OBJECTS).split("/")
    if not key.startswith(OBJECTS) or len(parts) != 3 or parts[0] not in BY_PLURAL:
        raise ValueError(f"{key!r} is not the key of an object")
    plural, namespace, name = parts
    return BY_PLURAL[plural], "" if namespace == _NO_NAMESPACE else namespace, name


def payload_key(namespace: str, name: str, version: int = 0) -> str:
    """The bytes of one version of a secret; 0: of the only one that there was before secrets had
    several."""
    key = f"{PAYLOADS}{namespace}/{name}"
    return f"{key}/{version:010d}" if version else key


def payload_keys(secret: Secret) -> list[str]:
    """All keys under which a secret's bytes are: what goes when it goes."""
    namespace, name = secret.metadata.namespace, secret.metadata.name
    versions = [0, *(known.version for known in secret.status.versions if known.kept)]
    return [payload_key(namespace, name, version) for version in versions]


def session_key(node: str) -> str:
    """There while the node's agent sends heartbeats: it hangs on a lease."""
    return f"{SESSIONS}{node}"
