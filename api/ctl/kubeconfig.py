"""A context in the form that kubectl reads."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api.ctl.errors import CtlError

if TYPE_CHECKING:
    from api.context import Context


def kubeconfig(name: str, context: Context) -> dict[str, Any]:
    """With the first of the context's servers: kubectl knows one a cluster."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [
            {
                "name": name,
                "cluster": {
                    "server": context.servers[0],
                    "certificate-authority-data": _base64(context.ca),
                },
            }
        ],
        "users": [
            {
                "name": name,
                "user": {
                    "client-certificate-data": _base64(context.cert),
                    "client-key-data": _base64(context.key),
                },
            }
        ],
        "contexts": [
            {
                "name": name,
                "context": {"cluster": name, "user": name, "namespace": context.namespace},
            }
        ],
    }


def write(path: Path, name: str, context: Context) -> None:
    """0600, whole or not at all. Raises CtlError."""
    import yaml

    from api.pki.files import write_private

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(path, yaml.safe_dump(kubeconfig(name, context), sort_keys=False))
    except OSError as error:
        raise CtlError(f"{path} can't be written: {error.strerror or error}") from None


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
