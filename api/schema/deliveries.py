"""Rules about what a template's containers are given: where it goes, and texts made of secrets."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any

from api.schema.parts import block, items
from api.schema.problem import Code, Path, Problem, field_path, quoted
from api.types.places import CONFIGS, SECRETS, forbidden

_ROOTS = {
    "secrets": SECRETS,
    "secretFiles": SECRETS,
    "configs": CONFIGS,
    "mounts": "/",
}


def problems(template: dict[str, Any], path: Path) -> Iterator[Problem]:
    yield from _targets(template, path)
    yield from _swaps(template, path)
    yield from _contents(template, (*path, "secretFiles"))
    yield from _variables(template, (*path, "secretEnv"))


def _targets(template: dict[str, Any], path: Path) -> Iterator[Problem]:
    """No two of mounts, secrets and configs at one place in the container; none where none can."""
    taken: dict[str, Path] = {}
    for name, root in _ROOTS.items():
        for index, item in items(template, name):
            default = item.get("name") if name != "mounts" else None
            target = item.get("target") or default
            if not isinstance(target, str) or not target:
                continue
            place = posixpath.normpath(posixpath.join(root, target)).replace("//", "/")
            here = (*path, name, index)
            key = "target" if "target" in item else "name"
            if place in taken:
                message = f"{place} is taken by {field_path(taken[place])}"
                yield Problem((*here, key), message, "give it another target", Code.DUPLICATE)
                continue
            taken[place] = here
            if name != "mounts" and (why := forbidden(place)):
                yield Problem((*here, key), why, "give it another target", Code.FORBIDDEN)


def _swaps(template: dict[str, Any], path: Path) -> Iterator[Problem]:
    """What is replaced in a running container is where its directory is ours alone."""
    mounts = [
        (field, *each) for field in ("secrets", "secretFiles") for each in items(template, field)
    ]
    for field, index, mount in mounts:
        target = mount.get("target")
        if mount.get("onChange", "restart") == "restart" or not isinstance(target, str):
            continue
        if not posixpath.join("/run/secrets", target).startswith("/run/secrets/"):
            message = (
                "is outside /run/secrets, where no new version can replace it as onChange says"
            )
            hint = "give it a target under /run/secrets, or onChange: restart"
            yield Problem((*path, field, index, "target"), message, hint)


def _contents(template: dict[str, Any], path: Path) -> Iterator[Problem]:
    for index, item in items(template, "secretFiles"):
        content = item.get("content")
        if not isinstance(content, str) or not content:
            continue
        from api.rendering.language import Wrong, program  # Jinja2 is for those who use it

        try:
            program(content)
        except Wrong as error:
            for fault in error.faults:
                yield Problem((*path, index, "content"), str(fault))


def _variables(template: dict[str, Any], path: Path) -> Iterator[Problem]:
    for name in block(template, "secretEnv"):
        if name in block(template, "env"):
            message = f"{quoted(name)} is in env too"
            yield Problem((*path, name), message, "remove one of the two", Code.DUPLICATE)
