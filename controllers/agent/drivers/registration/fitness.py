"""Whether an engine has the runtime, and whether it can: what it says of itself. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controllers.agent.drivers.registration.configuration import NAME


def listed(info: Mapping[str, Any]) -> str:
    """The program of the runtime that the engine has; "" where it has none."""
    runtime = (info.get("Runtimes") or {}).get(NAME) or {}
    return str(runtime.get("path", ""))


def unfit(info: Mapping[str, Any]) -> str:
    """Why this engine can't have the runtime; "" where it can."""
    security = {
        option.partition("=")[2].partition(",")[0] for option in info.get("SecurityOptions") or ()
    }
    default = info.get("DefaultRuntime", "")
    if "rootless" in security:
        return "it runs without root, and may join no network namespace of root's"
    if "userns" in security:
        return (
            "it gives containers a user namespace (userns-remap), and skep's network namespaces are"
            " not in it"
        )
    if default != "runc":
        return f"its containers run by {default}, and the runtime {NAME} is runc underneath"
    return ""
