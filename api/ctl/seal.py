"""`ctl seal`: secrets' values as they may be in git."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from api.ctl.create import ask, read_stdin, warn_of_newlines
from api.ctl.errors import CtlError, Invalid, Usage
from api.ctl.payload import require_key
from api.ctl.sealchecks import rotate, verify
from api.ctl.sealedfiles import File, namespace_of, read, read_file, write
from api.ctl.sealingkeys import key_option, sealing_keys
from api.ctl.sealkeys import key, keys
from api.ctl.session import Session, global_options, verb

if TYPE_CHECKING:
    from api.seal.keys import PublicKey
    from api.seal.manifests import Secret

_SCOPES = ["strict", "namespace", "cluster"]


def scope_option(default: str | None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        "--scope",
        type=click.Choice(_SCOPES),
        default=default,
        show_default=default is not None,
        help="Where it opens: strict, under this namespace, name and key only; namespace, in any"
        " secret of the namespace; cluster, in any.",
    )


@click.group("seal", invoke_without_command=True)
@global_options
@click.option("-f", "--filename", multiple=True, metavar="FILE", help="A manifest; - for stdin.")
@click.option("-o", "--output", default="", metavar="FILE", help="Write there, not to stdout.")
@click.option("-i", "--in-place", is_flag=True, help="Change the files themselves.")
@scope_option("strict")
@key_option
@click.pass_context
def command(
    ctx: click.Context,
    filename: tuple[str, ...],
    output: str,
    in_place: bool,
    scope: str,
    key_file: str,
) -> None:
    """Seal the values of the secrets in a manifest, so that it can be in git.

    \b
    Each value is sealed by itself to the cluster's public key; only its managers open it. What
    else is in the file stays as it is, to the character.
    \b
    ctl seal -f secret.yaml --in-place
    ctl seal set db-password password --file secret.yaml
    ctl seal key --fetch .sealing-key.json    # and then, anywhere: --key .sealing-key.json
    """
    session = ctx.find_object(Session)
    if ctx.invoked_subcommand is not None or session is None:
        if filename or output or in_place:
            raise Usage(f"-f, -o and -i are not for `ctl seal {ctx.invoked_subcommand}`")
        return
    _require_one_way(filename, output, in_place)
    files = [_given(name) for name in filename]
    key = sealing_keys(session, key_file).newest
    for file, text in [(file, _sealed(session, file, key, scope)) for file in files]:
        if in_place and text != file.text:
            file.write(text)
            session.output.data(f"{file.name} sealed to key {key.id}")
            _tell_committed(session, file)
        elif in_place:
            session.output.data(f"{file.name} unchanged (nothing in it is to be sealed)")
        elif output:
            write(Path(output), text)
        else:
            session.output.data(text, end="")


def _require_one_way(filename: tuple[str, ...], output: str, in_place: bool) -> None:
    if not filename:
        raise Usage("name what to seal: -f FILE", "`ctl seal --help` has examples")
    if output and in_place:
        raise Usage("-o and --in-place are two ways to say where to")
    if in_place and "-" in filename:
        raise Usage("stdin can't be changed in place", "leave --in-place out")
    if not in_place and len(filename) > 1:
        raise Usage("several files are only changed --in-place")


def _given(name: str) -> File:
    if name != "-":
        return read_file(Path(name))
    try:
        return read("stdin", sys.stdin.buffer.read().decode())
    except UnicodeDecodeError:
        raise CtlError("stdin is not UTF-8") from None


def _sealed(session: Session, file: File, key: PublicKey, scope: str) -> str:
    from api.seal.manifests import PLAIN, Uneditable, seal_all

    splices = []
    results: dict[int, dict[str, str]] = {}
    for secret in file.secrets:
        values = _values(secret)
        if not values:
            continue
        sealed = {k: _seal(session, secret, k, value, key, scope) for k, value in values.items()}
        results[id(secret)] = sealed
        try:
            splices += seal_all(file.text, secret, sealed)
        except Uneditable as error:
            raise CtlError(str(error)) from None
        _tell_namespace(session, secret, scope)
    if not splices:
        return file.text
    meant = {_identity(secret.object): results.get(id(secret), {}) for secret in file.secrets}

    def after(obj: Any) -> Any:
        sealed = meant.get(_identity(obj)) if obj.get("kind") == "Secret" else None
        if not sealed:
            return obj
        rest = {k: v for k, v in obj.items() if not (k in PLAIN and v)}
        return rest | {"sealed": {**(obj.get("sealed") or {}), **sealed}}

    return file.edited(splices, after)


def _values(secret: Secret) -> dict[str, bytes]:
    """What is in the clear. Raises CtlError where that is no valid secret."""
    from api import schema

    _require_valid(secret, secret.object)
    return schema.payload(secret.object)


def _require_valid(secret: Secret, obj: Mapping[str, Any]) -> None:
    """Raises Invalid."""
    from api import schema

    if problems := schema.validate(obj):
        where = f"{secret.source}:{secret.line}: secrets/{secret.name}"
        lines = [f"{where}: {problem}" for problem in problems]
        raise Invalid(f"{secret.source} was left as it is", lines=lines)


def _seal(
    session: Session, secret: Secret, key: str, value: bytes, to: PublicKey, scope: str
) -> str:
    from api.seal.place import Place, Scope
    from api.seal.sealed import seal

    return seal(value, Place(namespace_of(session, secret), secret.name, key), Scope(scope), to)


def _tell_namespace(session: Session, secret: Secret, scope: str) -> None:
    if not secret.namespace and scope != "cluster":
        namespace = namespace_of(session, secret)
        session.output.note(
            f"secrets/{secret.name} says no namespace; it is sealed for namespace {namespace}, and"
            " opens in no other"
        )


def _tell_committed(session: Session, file: File) -> None:
    """Sealing a file changes nothing of what was committed."""
    from api.ctl.plaintext import committed
    from api.seal.errors import SealError
    from api.seal.manifests import PLAIN, secrets

    try:
        before = secrets(file.name, committed(file.path))
    except SealError:
        return
    keys = [f"{k} of {each.name}" for each in before for f in PLAIN for k in each.texts(f)]
    if keys:
        session.output.warning(
            f"{file.name} was committed in the clear, and git keeps that: give {', '.join(keys)}"
            " another value where it counts, then `ctl seal set`"
        )


def _identity(obj: Mapping[str, Any]) -> tuple[str, str]:
    metadata = obj.get("metadata") or {}
    return str(metadata.get("namespace") or ""), str(metadata.get("name"))


@verb("set")
@click.argument("name")
@click.argument("value_key", metavar="KEY")
@click.option("-f", "--file", "filename", required=True, metavar="FILE", help="The manifest.")
@scope_option(None)
@key_option
def set_(
    session: Session,
    name: str,
    value_key: str,
    filename: str,
    scope: str | None,
    key_file: str,
) -> None:
    """Seal one value into a manifest; every other character of it stays.

    \b
    The value is read from stdin, byte for byte, or asked for at a terminal. A secret that the
    file does not have yet is added to it, and so is the file where there is none. A value that
    is replaced keeps its scope.
    \b
    ctl seal set db-password password --file secret.yaml
    pwgen 32 1 | tr -d '\\n' | ctl seal set db-password password --file secret.yaml
    """
    require_key(value_key)
    path = Path(filename)
    file = read_file(path) if path.exists() else File(filename, "", False, [])
    secret = _named(session, file, name)
    to = sealing_keys(session, key_file).newest
    value = ask(value_key).encode() if sys.stdin.isatty() else read_stdin()
    warn_of_newlines(session.output, {value_key: value}, [value_key])
    if secret is None:
        text = _with_secret(session, file, name, value_key, value, to, scope or "strict")
    else:
        text = _with_value(session, file, secret, value_key, value, to, scope)
    file.write(text)
    session.output.data(f"{filename}: {value_key} of secrets/{name} sealed to key {to.id}")


def _named(session: Session, file: File, name: str) -> Secret | None:
    wanted = session.given_namespace
    found = [
        secret
        for secret in file.secrets
        if secret.name == name and (not wanted or secret.namespace in ("", wanted))
    ]
    if len(found) > 1:
        spaces = ", ".join(secret.namespace or "none" for secret in found)
        raise Usage(f"{file.name} has {name} in several namespaces: {spaces}", "give -n")
    return found[0] if found else None


def _with_value(
    session: Session,
    file: File,
    secret: Secret,
    key: str,
    value: bytes,
    to: PublicKey,
    scope: str | None,
) -> str:
    from api.seal.errors import SealError
    from api.seal.manifests import PLAIN, Uneditable, set_value
    from api.seal.sealed import Sealed

    for field in PLAIN:
        if key in secret.texts(field):
            raise CtlError(
                f"{secret.place(key, field)}: {key} is there in the clear, in {field}",
                f"seal what is there first: ctl seal -f {file.name} --in-place",
            )
    old = secret.texts("sealed").get(key)
    if scope is None and old is not None:
        try:
            scope = Sealed.parse(old).scope.value
        except SealError:
            scope = None
    scope = scope or "strict"
    sealed = _seal(session, secret, key, value, to, scope)
    _tell_namespace(session, secret, scope)
    try:
        splices = set_value(file.text, secret, key, sealed)
    except Uneditable as error:
        raise CtlError(str(error)) from None
    me = _identity(secret.object)
    _require_valid(
        secret, {**secret.object, "sealed": {**(secret.object.get("sealed") or {}), key: sealed}}
    )

    def after(obj: Any) -> Any:
        if obj.get("kind") != "Secret" or _identity(obj) != me:
            return obj
        return obj | {"sealed": {**(obj.get("sealed") or {}), key: sealed}}

    return file.edited(splices, after)


def _with_secret(
    session: Session, file: File, name: str, key: str, value: bytes, to: PublicKey, scope: str
) -> str:
    """The manifest with a document more."""
    from api import schema
    from api.seal.manifests import written
    from api.seal.place import Place, Scope
    from api.seal.sealed import seal

    namespace = session.given_namespace or session.namespace
    sealed = seal(value, Place(namespace, name, key), Scope(scope), to)
    document = {
        "apiVersion": "skep.dev/v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "sealed": {key: sealed},
    }
    if problems := schema.validate(document):
        lines = [f"secrets/{name}: {problem}" for problem in problems]
        raise Invalid(f"{file.name} was left as it is", lines=lines)
    before = file.text
    if before and not before.endswith("\n"):
        before += "\n"
    return before + ("---\n" if before.strip() else "") + written(name, namespace, key, sealed)


for _command in (set_, verify, rotate, key, keys):
    command.add_command(_command)
