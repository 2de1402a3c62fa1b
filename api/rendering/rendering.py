"""A text made into a file's bytes. It can take long, and much memory: that is its caller's care.

Unrenderable   the words say why; they hold names, never a value
"""

from __future__ import annotations

from collections.abc import Mapping

from jinja2 import Template, TemplateError, UndefinedError
from jinja2.runtime import StrictUndefined

from api.rendering.filters import FilterError, bytes_of, text_of
from api.rendering.language import Program, Reference, Wrong, environment, field_variable, program
from api.types.secret import SECRET_MAX_BYTES

Secrets = Mapping[str, Mapping[str, bytes]]  # by name and key


class Unrenderable(Exception):
    pass


def render(content: str, secrets: Secrets, fields: Mapping[str, str | int]) -> bytes:
    """`fields` by their names, as `language.FIELDS` lists them. Raises Unrenderable."""
    try:
        known = program(content)
    except Wrong as error:
        raise Unrenderable(str(error)) from None
    values: dict[str, object] = {field_variable(name): value for name, value in fields.items()}
    for reference in known.references:
        value = _value(reference, secrets)
        if value is not None:
            values[reference.variable] = text_of(value)
    try:
        return _bounded(known, values)
    except FilterError as error:
        raise Unrenderable(str(error)) from None
    except UndefinedError:
        absent = [str(each) for each in known.references if each.variable not in values]
        raise Unrenderable(f"{', '.join(absent)}: there is no such key") from None
    except MemoryError:
        raise Unrenderable("takes too much memory") from None
    except (TemplateError, TypeError, ValueError, SyntaxError, RecursionError) as error:
        # Python's words may quote a value.
        raise Unrenderable(f"can't be evaluated ({type(error).__name__})") from None


def _bounded(known: Program, values: Mapping[str, object]) -> bytes:
    sandbox = environment()
    sandbox.undefined = StrictUndefined
    template = Template.from_code(sandbox, sandbox.compile(known.tree), {})
    whole = bytearray()
    for part in template.generate(values):
        whole += bytes_of(part)
        if len(whole) > SECRET_MAX_BYTES:
            raise Unrenderable(f"is larger than {SECRET_MAX_BYTES} bytes, the most that is allowed")
    return bytes(whole)


def _value(reference: Reference, secrets: Secrets) -> bytes | None:
    """None where a key is not there. Raises Unrenderable."""
    data = secrets.get(reference.secret, {})
    if reference.key:
        return data.get(reference.key)
    if len(data) != 1:
        there = ", ".join(sorted(data)) or "none"
        raise Unrenderable(f"{reference} is one of several keys ({there}): write which")
    return next(iter(data.values()))
