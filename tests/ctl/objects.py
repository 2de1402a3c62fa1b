"""Manifests that `ctl`'s tests apply. JSON is YAML, so they go as they are."""

from __future__ import annotations

import json
from typing import Any

Document = dict[str, Any]


def service(name: str, script: str = "", *, replicas: int = 1, **template: Any) -> Document:
    """A service of simulated containers; the script may echo, sleep, exit and cat."""
    command = {"command": ["sh", "-c", script]} if script else {}
    return {
        "apiVersion": "skep.dev/v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "template": {"image": "busybox", **command, **template},
            "restart": {"delay": "0s"},
        },
    }


def config(name: str, **data: str) -> Document:
    return {
        "apiVersion": "skep.dev/v1",
        "kind": "Config",
        "metadata": {"name": name},
        "data": data or {"k": "v"},
    }


def text(*documents: Document) -> str:
    return "\n---\n".join(json.dumps(document) for document in documents)
