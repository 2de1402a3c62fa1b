"""Where in a container secrets and configs may be."""

from __future__ import annotations

SECRETS = "/run/secrets"  # where relative targets are
CONFIGS = "/run/configs"

_KERNELS = ("/proc", "/sys")
_HOSTS = "/etc/hosts"


def forbidden(place: str) -> str:
    """Why no file can be put there in a container, in words; empty: it can."""
    for kernels in _KERNELS:
        if place == kernels or place.startswith(f"{kernels}/"):
            return f"{place} is in {kernels}, which is the kernel's"
    for ours in (SECRETS, CONFIGS):
        if place.startswith(f"{ours}/.."):
            return f"names in {ours} that begin with two dots are kept for new versions"
    if place == _HOSTS:
        return f"{place} names the namespace's services, and is kept by the node"
    return "the container's root can't be mounted over" if place == "/" else ""
