"""`ctl seal verify` and `rotate`: what is sealed in files, looked at and sealed anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from api.ctl.errors import CtlError, Invalid, Usage
from api.ctl.sealedfiles import File, SealedValue, read_all, sealed_values
from api.ctl.sealingkeys import fetch, key_option, known_keys
from api.ctl.session import Session, verb

if TYPE_CHECKING:
    from api.calls import Calls
    from api.seal.keyfile import KeyFile
    from api.types.sealing import Verdict

_BATCH_BYTES = 4 * 1024 * 1024  # a manager takes more, and answers one such in a second
_BATCH = 500


@verb("verify")
@click.argument("paths", nargs=-1, metavar="FILE|DIR...")
@click.option("--offline", is_flag=True, help="Ask no manager: what can be told from the files.")
@key_option
def verify(session: Session, paths: tuple[str, ...], offline: bool, key_file: str) -> None:
    """Say whether all sealed values in files will open where they stand.

    \b
    Without a manager: whether they are whole, for this namespace, name and key, and sealed to a
    key that is known. A manager tries to open them, too, and shows nothing of them. Exit code 4:
    some will not.
    \b
    ctl seal verify secrets/
    ctl seal verify --offline --key .sealing-key.json secrets/     # such as in CI
    """
    values = list(sealed_values(session, read_all(paths, recursive=True)))
    keys = known_keys(session, key_file) if offline or key_file else fetch(session)
    problems = {index: why for index, each in enumerate(values) if (why := _wrong(each, keys))}
    if not offline:
        rest = [index for index in range(len(values)) if index not in problems]
        verdicts = _ask(session, [values[index] for index in rest], reseal=False)
        problems |= {
            index: verdict.problem
            for index, verdict in zip(rest, verdicts, strict=True)
            if verdict.problem
        }
    _refuse(values, problems)
    if keys is None and values:
        session.output.note("no sealing keys are known here: whether theirs are was not looked at")
    behind = _behind(values, keys)
    old = (
        f"; {behind} of them not with the newest key: `ctl seal rotate` does that" if behind else ""
    )
    what = "is whole and in its place" if offline else "opens"
    session.output.data(f"{len(values)} sealed values: each {what}{old}")


@verb("rotate")
@click.argument("paths", nargs=-1, metavar="FILE|DIR...")
@click.option("--all", "every", is_flag=True, help="Directories with all below them.")
@click.option("--dry-run", is_flag=True, help="Say what would be sealed anew, and write nothing.")
def rotate(session: Session, paths: tuple[str, ...], every: bool, dry_run: bool) -> None:
    """Seal what is in files anew, to the cluster's newest key.

    \b
    A manager opens and seals each value; nothing of it leaves there in the clear. Scopes stay,
    values that are sealed to the newest key stay as they are, and a file in which something does
    not open is left alone.
    \b
    ctl seal rotate secret.yaml
    ctl seal rotate --all secrets/
    """
    _require_all(paths, every)
    files = read_all(paths, recursive=every)
    newest = fetch(session).newest.id
    values = [each for each in sealed_values(session, files) if _key_of(each) != newest]
    verdicts = _ask(session, values, reseal=True)
    problems = {index: each.problem for index, each in enumerate(verdicts) if each.problem}
    broken = {values[index].file.name for index in problems}
    for file in files:
        mine = [
            (value, verdict.sealed)
            for value, verdict in zip(values, verdicts, strict=True)
            if value.file is file
        ]
        if mine and file.name not in broken:
            _rewrite(session, file, mine, newest, dry_run)
    if not values:
        session.output.data(f"unchanged: all is sealed to the newest key, {newest}")
    _refuse(values, problems)


def _require_all(paths: Sequence[str], every: bool) -> None:
    from pathlib import Path

    found = [path for path in paths if Path(path).is_dir()]
    if found and not every:
        raise Usage(f"{found[0]} is a directory", f"ctl seal rotate --all {found[0]}")


def _rewrite(
    session: Session,
    file: File,
    mine: Sequence[tuple[SealedValue, str]],
    newest: str,
    dry_run: bool,
) -> None:
    from api.seal.manifests import replace_values

    splices = []
    for secret in file.secrets:
        sealed = {value.place.key: text for value, text in mine if value.secret is secret}
        if sealed:
            splices += replace_values(secret, sealed)
    texts = {value.text: text for value, text in mine}

    def after(obj: dict[str, object]) -> dict[str, object]:
        sealed = obj.get("sealed")
        if obj.get("kind") != "Secret" or not isinstance(sealed, dict):
            return obj
        return obj | {"sealed": {key: texts.get(text, text) for key, text in sealed.items()}}

    changed = file.edited(splices, after)
    if not dry_run:
        file.write(changed)
    trial = " (dry run)" if dry_run else ""
    session.output.data(f"{file.name}: {len(mine)} values sealed to key {newest}{trial}")


def _wrong(value: SealedValue, keys: KeyFile | None) -> str:
    """What can be told of a value without the key that opens it; empty: nothing."""
    from api.seal.errors import SealError
    from api.seal.sealed import Sealed

    others = [value.place._replace(key=key) for key in value.secret.texts("sealed")]
    others += [value.place._replace(name=secret.name) for secret in value.file.secrets]
    try:
        sealed = Sealed.parse(value.text)
        sealed.require(value.place, others)
    except SealError as error:
        return str(error)
    if keys is None or keys.key(sealed.key_id) is not None:
        return ""
    known = ", ".join(key.id for key in keys.keys)
    return f"was sealed to the key {sealed.key_id}, which is not among the known ones: {known}"


def _ask(session: Session, values: Sequence[SealedValue], *, reseal: bool) -> list[Verdict]:
    """A manager's verdict of each."""
    batches: list[list[SealedValue]] = [[]]
    size = 0
    for value in values:
        size += len(value.text)
        if batches[-1] and (size > _BATCH_BYTES or len(batches[-1]) >= _BATCH):
            batches.append([])
            size = len(value.text)
        batches[-1].append(value)

    async def work(client: Calls) -> list[Verdict]:
        found: list[Verdict] = []
        for batch in filter(None, batches):
            given = [(*value.place, value.text) for value in batch]
            found += await (client.reseal(given) if reseal else client.verify_sealed(given))
        return found

    return session.ask(work)


def _refuse(values: Sequence[SealedValue], problems: dict[int, str]) -> None:
    """Raises Invalid with all of them."""
    if problems:
        lines = [
            f"{values[index].where}: sealed.{values[index].place.key}: {why}"
            for index, why in sorted(problems.items())
        ]
        count = len(lines)
        raise Invalid(f"{count} of {len(values)} sealed values will not open", lines=lines)


def _behind(values: Sequence[SealedValue], keys: KeyFile | None) -> int:
    if keys is None or not keys.keys:
        return 0
    return sum(_key_of(value) != keys.newest.id for value in values)


def _key_of(value: SealedValue) -> str:
    from api.seal.errors import SealError
    from api.seal.sealed import Sealed

    try:
        return Sealed.parse(value.text).key_id
    except SealError:
        return ""


def sealed_to(session: Session, paths: Sequence[str], id: str) -> list[SealedValue]:
    """What in files is sealed to that key. Raises CtlError."""
    values = list(sealed_values(session, read_all(paths, recursive=True)))
    unread = [value for value in values if not _key_of(value)]
    if unread:
        raise CtlError(f"{unread[0].where}: can't be read", "see `ctl seal verify`")
    return [value for value in values if _key_of(value) == id]
