"""`ctl edit`: an object in your editor, written back when you close it."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from api.ctl.errors import CtlError, Invalid, Usage
from api.ctl.patches import declared, merge_patch
from api.ctl.resources import Target, named
from api.ctl.session import Session, verb
from api.ctl.suggestions import kinds_then_names
from api.types.kinds import SECRET

if TYPE_CHECKING:
    from api.client import Client

Document = dict[str, Any]

_HEAD = """\
# Change what you want; an unchanged or empty file leaves everything as it is.
"""


@verb("edit")
@click.argument("what", nargs=-1, required=True, shell_complete=kinds_then_names)
def command(session: Session, what: tuple[str, ...]) -> None:
    """Change an object in your editor ($EDITOR). What is invalid opens again, with the reasons.

    \b
    ctl edit service/web
    """
    found = named(what)
    if len(found) != 1:
        raise Usage("edit one object at a time")
    if found[0].kind is SECRET:
        raise Usage(
            "a secret's values can't be read back, so it can't be edited",
            f"ctl create secret {found[0].name} --replace --from-file=KEY=PATH",
        )
    target, namespace = found[0], session.namespace
    live: Document = session.run(lambda client: client.get(target.kind, namespace, target.name))
    before = declared(live)
    text = _HEAD + str(yaml.safe_dump(before, sort_keys=False, allow_unicode=True))
    reasons: list[str] = []
    while True:
        edited = _in_editor(text)
        if not _content(edited) or (edited == text and not reasons):
            session.output.data(f"{target} unchanged")
            return
        if edited == text:  # closed as it was opened: the user gives up
            kept = _kept(edited)
            raise Invalid(f"{target} unchanged; your text is kept in {kept}", lines=reasons)
        obj, reasons = _read(edited, live)
        if obj is not None:
            patch = merge_patch(before, obj)
            if not patch:
                session.output.data(f"{target} unchanged")
                return
            reasons = _written(session, target, live, patch, edited)
            if not reasons:
                session.output.data(f"{target} edited")
                return
        text = _with_reasons(edited, reasons)


def _written(
    session: Session, target: Target, live: Document, patch: Document, edited: str
) -> list[str]:
    """Write it: what the server says against it, nothing when it is done. Raises CtlError."""
    try:
        return session.run(lambda client: _write(client, target, live, patch))
    except CtlError as error:
        error.hint = f"your text is kept in {_kept(edited)}; `ctl edit {target}` begins anew"
        raise


def _kept(text: str) -> Path:
    """A file that only this user can read, so that no work is lost."""
    handle, name = tempfile.mkstemp(prefix="ctl-edit-", suffix=".yaml")
    with os.fdopen(handle, "w") as file:
        file.write(_content(text))
    return Path(name)


async def _write(client: Client, target: Target, live: Document, patch: Document) -> list[str]:
    """What the server says against it; nothing: it is written. Raises ApiError."""
    from api.client import ApiError

    metadata = live["metadata"]
    patch.setdefault("metadata", {})["resourceVersion"] = metadata["resourceVersion"]
    try:
        await client.patch(target.kind, metadata.get("namespace", ""), target.name, patch)
    except ApiError as error:
        if error.code != 422:
            raise
        causes = [f"{cause.get('field')}: {cause.get('message')}" for cause in error.causes]
        return causes or [error.message]
    return []


def _read(text: str, live: Document) -> tuple[Document | None, list[str]]:
    """The object in the text, or what is wrong with it."""
    from api import manifest

    namespace = live["metadata"].get("namespace", "")
    loaded = manifest.load([manifest.source("edited", text.encode())], namespace=namespace)
    if loaded.problems:
        return None, [str(problem) for problem in loaded.problems]
    if len(loaded.objects) != 1:
        return None, [f"there must be one object, not {len(loaded.objects)}"]
    obj = loaded.objects[0]
    if _identity(obj, namespace) != _identity(live, namespace):
        kind, name = live["kind"], live["metadata"]["name"]
        words = f"kind, metadata.name and metadata.namespace must stay: this is {kind} {name}"
        return None, [words]
    return obj, []


def _identity(obj: Document, namespace: str) -> tuple[str, str, str]:
    metadata = obj["metadata"]
    return obj["kind"], metadata.get("namespace") or namespace, metadata["name"]


def _in_editor(text: str) -> str:
    """Raises CtlError."""
    editor = os.environ.get("EDITOR") or os.environ.get("VISUAL") or "vi"
    with tempfile.TemporaryDirectory(prefix="ctl-edit-") as directory:
        path = Path(directory) / "object.yaml"
        path.write_text(text)
        try:
            done = subprocess.run([*shlex.split(editor), str(path)], check=False)  # noqa: S603
        except OSError as error:
            raise CtlError(
                f"the editor {editor!r} can't be started: {error}", "set EDITOR"
            ) from None
        if done.returncode:
            raise CtlError(f"the editor {editor!r} ended with {done.returncode}; nothing changed")
        return path.read_text()


def _with_reasons(text: str, reasons: list[str]) -> str:
    """The text again, with why it was refused above it."""
    head = "".join(f"# {line}\n" for reason in reasons for line in reason.splitlines())
    return f"{_HEAD}# It was refused:\n{head}{_content(text)}"


def _content(text: str) -> str:
    """Without the comments at the top."""
    lines = text.splitlines(keepends=True)
    while lines and (lines[0].startswith("#") or not lines[0].strip()):
        lines.pop(0)
    return "".join(lines)
