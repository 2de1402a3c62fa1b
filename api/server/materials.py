"""What is said on the way in about secrets that reach containers otherwise than as files."""

from __future__ import annotations

from collections.abc import Iterator

from api.server.documents import Document


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
