"""What is said on the way in about secrets that reach containers otherwise than as files."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from api.server.documents import Document

_SOCKETS = ("/docker.sock", "/containerd.sock", "/podman.sock", "/crio.sock")


def rendered(template: Document) -> Iterator[Document]:
    """The secrets, with the keys, that a valid template's files are made from, as mounts."""
    files = template.get("secretFiles") or ()
    if not files:
        return
    from api.rendering.language import program

    for file in files:
        for reference in program(file["content"]).references:
            yield {"name": reference.secret, "key": reference.needed_key}


def exposed(variable: str, secret: str) -> str:
    """A warning."""
    return (
        f"secretEnv {variable}: the value of secret {secret} will be in the open: the container"
        " engine keeps it on the node's disk and shows it to whoever may inspect the container,"
        " every process in there inherits it, and programs print their environment when they fail;"
        " deliver it as a file instead, with secrets or secretFiles"
    )


def opened(template: Document) -> Iterator[str]:
    """Warnings of bind mounts that show a container what others keep to themselves."""
    for mount in template.get("mounts") or ():
        source = posixpath.normpath(mount.get("source") or ".").replace("//", "/")
        if mount.get("type") != "bind":
            continue
        if source == "/proc" or source.startswith("/proc/"):
            yield (
                f"bind mount of {mount['source']}: whoever runs in there sees into every container"
                " on the node that runs as the same user, mounted secrets included"
            )
        elif source.endswith(_SOCKETS):
            yield (
                f"bind mount of {mount['source']}: whoever can use a container engine's socket has"
                " the run of the node, and every secret on it"
            )
        elif (source == "/sys" or f"{source}/".startswith("/sys/kernel/")) and not mount.get(
            "readOnly"
        ):
            yield (
                f"bind mount of {mount['source']}: whoever can write there traces and changes what"
                " the node's kernel does, for every process on it; mount it with readOnly: true"
            )
        elif source == "/" and not mount.get("readOnly"):
            yield (
                "bind mount of /: whoever can write to the node's root has the run of the node, and"
                " every secret on it; mount it with readOnly: true"
            )
