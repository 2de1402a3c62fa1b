"""Rules of a secret's fields for values that the system makes or fetches.

As all rules they say nothing about parts that are of the wrong type.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

import msgspec

from api.schema.problem import Code, Path, Problem, quoted
from api.types import cron
from api.types.generated import AUTHORITY_LIFE, CERTIFICATE_LIFE, Generate, forms, keys_of
from api.types.quantity import parse_duration
from api.types.randomtext import impossible, is_words

LEAST_EVERY = 60.0  # seconds
LEAST_LIFE = 600.0
LEAST_REFRESH = 10.0
_TEXT = ("length", "charset", "alphabet", "classes", "separator")


def has_system_values(obj: dict[str, Any]) -> bool:
    """Whether values come from elsewhere than the object: it is complete without data."""
    return bool(obj.get("generate") or obj.get("source"))


def system_values(obj: dict[str, Any]) -> Iterator[Problem]:
    generate = obj.get("generate")
    wanted: dict[str, Generate] = {}
    for name, given in generate.items() if isinstance(generate, dict) else ():
        path: Path = ("generate", name)
        try:
            wanted[name] = msgspec.convert(given, Generate)
        except (msgspec.ValidationError, TypeError):
            continue
        yield from _generate(wanted[name], given, path, obj)
    yield from _rotation(obj)
    yield from _source(obj)
    yield from _collisions(obj, wanted)


def _generate(
    wanted: Generate, given: dict[str, Any], path: Path, obj: dict[str, Any]
) -> Iterator[Problem]:
    sorts = forms(wanted)
    for other in sorts[1:]:
        message = f"there is {sorts[0]} already, and a value is one thing"
        yield Problem((*path, other), message, f"keep one of {' and '.join(sorts)}", Code.FORBIDDEN)
    for field in _TEXT if sorts else ():
        if field in given:
            message = f"{field} is of random text, and this is {sorts[0]}"
            yield Problem((*path, field), message, f"remove it, or {sorts[0]}", Code.FORBIDDEN)
    if "encoding" in given and "bytes" not in given:
        yield Problem((*path, "encoding"), "there are no bytes to encode", "give bytes")
    if wanted.x509 is not None:
        yield from _certificate(given["x509"], (*path, "x509"), obj)
    elif not sorts:
        yield from _text(wanted, given, path)


def _text(wanted: Generate, given: dict[str, Any], path: Path) -> Iterator[Problem]:
    if "alphabet" in given and "charset" in given:
        message = "there is an alphabet already"
        yield Problem((*path, "charset"), message, "keep one of the two", Code.FORBIDDEN)
    words = is_words(wanted)
    if words and wanted.classes:
        yield Problem((*path, "classes"), "words are of one class", code=Code.FORBIDDEN)
    if "separator" in given and not words:
        hint = "remove it, or use charset words"
        yield Problem((*path, "separator"), "stands between words", hint, Code.FORBIDDEN)
    try:
        why = impossible(wanted)
    except KeyError:  # a class that the schema has complained about
        return
    if why:
        field = "length" if "can't hold" in why else "classes" if "there is no" in why else ""
        yield Problem((*path, field or "alphabet"), why)


def _certificate(given: dict[str, Any], path: Path, obj: dict[str, Any]) -> Iterator[Problem]:
    authority = given.get("isCA") is True
    if authority and given.get("ca"):
        message = "an authority signs itself"
        hint = "remove it; to sign below another authority, give its ca.crt and ca.key in data"
        yield Problem((*path, "ca"), message, hint, Code.FORBIDDEN)
    if not authority and "overlap" in given:
        yield Problem((*path, "overlap"), "only an authority has one", code=Code.FORBIDDEN)
    metadata = obj.get("metadata")
    if given.get("ca") and isinstance(metadata, dict) and metadata.get("name") == given["ca"]:
        message = "is the secret itself"
        hint = "keep the authority in a secret of its own, which no service needs to see"
        yield Problem((*path, "ca"), message, hint)
    life = _seconds(given.get("lifetime", AUTHORITY_LIFE if authority else CERTIFICATE_LIFE))
    if life is not None and life < LEAST_LIFE:
        message = f"expected at least 10m, got {given['lifetime']}"
        yield Problem((*path, "lifetime"), message, "clocks differ by minutes")
    before = _seconds(given.get("renewBefore"))
    if life is not None and before is not None and before >= life:
        message = "is as long as its life, or longer: it would be renewed all the time"
        yield Problem((*path, "renewBefore"), message, "give less than its lifetime")
    names = given.get("dnsNames")
    for index, text in enumerate(names if isinstance(names, list) else ()):
        labels = str(text).removeprefix("*.").split(".")
        if any(len(label) > 63 or label[:1] == "-" or label[-1:] == "-" for label in labels):
            message = f"expected a DNS name, got {quoted(str(text))}"
            hint = "parts have at most 63 characters, and no '-' at either end"
            yield Problem((*path, "dnsNames", index), message, hint)
    addresses = given.get("ipAddresses")
    for index, text in enumerate(addresses if isinstance(addresses, list) else ()):
        try:
            ipaddress.ip_address(text)
        except ValueError:
            message = f"expected an IP address, got {quoted(str(text))}"
            yield Problem((*path, "ipAddresses", index), message, "names go into dnsNames")


def _rotation(obj: dict[str, Any]) -> Iterator[Problem]:
    rotation = obj.get("rotation")
    if not isinstance(rotation, dict):
        return
    if not obj.get("generate"):
        hint = "remove it; what is fetched is looked at every source.refresh, and values of yours"
        hint += " change when you give others"
        yield Problem(("rotation",), "there is nothing to make anew", hint, Code.FORBIDDEN)
    every, expression = rotation.get("every"), rotation.get("cron")
    if every and expression:
        message = "there is every already"
        yield Problem(("rotation", "cron"), message, "keep one of the two", Code.FORBIDDEN)
    if not every and not expression:
        yield Problem(("rotation",), "says no time", "give every or cron", Code.REQUIRED)
    seconds = _seconds(every)
    if seconds is not None and seconds < LEAST_EVERY:
        yield Problem(("rotation", "every"), f"expected at least 1m, got {every}")
    yield from cron_problems(rotation, ("rotation",))


def cron_problems(block: dict[str, Any], path: Path) -> Iterator[Problem]:
    """Of a block with `cron` and `timeZone`."""
    expression, zone = block.get("cron"), block.get("timeZone", "UTC")
    if isinstance(expression, str) and expression:
        try:
            cron.Cron(expression)
        except ValueError as error:
            hint = "for example 30 2 * * MON-FRI, or @daily"
            if "=" in expression.partition(" ")[0]:
                hint = "name the time zone in timeZone"
            yield Problem((*path, "cron"), str(error), hint)
    if isinstance(zone, str) and zone:
        try:
            cron.zone(zone)
        except ValueError as error:
            yield Problem((*path, "timeZone"), str(error), "a name such as Europe/Berlin or UTC")


def _source(obj: dict[str, Any]) -> Iterator[Problem]:
    source = obj.get("source")
    if not isinstance(source, dict):
        return
    place = source.get("path")
    if isinstance(place, str) and {".", ".."} & set(place.split("/")):
        message = f"expected a path without '.' and '..', got {quoted(place)}"
        yield Problem(("source", "path"), message)
    seconds = _seconds(source.get("refresh"))
    if seconds is not None and seconds < LEAST_REFRESH:
        message = f"expected at least 10s, got {source['refresh']}"
        yield Problem(("source", "refresh"), message)


def _collisions(obj: dict[str, Any], wanted: dict[str, Generate]) -> Iterator[Problem]:
    """A key is given, made or fetched: one of the three, and once."""
    taken: dict[str, str] = {}
    for name, each in wanted.items():
        for key in keys_of(name, each):
            if key in taken:
                message = f"gives the key {quoted(key)}, which {taken[key]} gives too"
                hint = "use another name, or a secret of its own"
                yield Problem(("generate", name), message, hint, Code.DUPLICATE)
            taken.setdefault(key, f"generate.{name}")
    fetched = _mapping(_mapping(obj, "source"), "keys")
    for key in fetched:
        if key in taken:
            message = f"the key is made by {taken[key]} already"
            yield Problem(("source", "keys", key), message, "remove one", Code.DUPLICATE)
        taken.setdefault(key, "source")
    for field in ("data", "stringData", "sealed"):
        for key in _mapping(obj, field):
            if key in taken:
                message = f"the key comes from {taken[key]} too"
                hint = "remove it here to have it made, or there to keep what you give"
                if taken[key] == "source":
                    hint = "remove one of the two"
                yield Problem((field, key), message, hint, Code.DUPLICATE)


def _mapping(obj: dict[str, Any], field: str) -> dict[str, Any]:
    value = obj.get(field)
    return value if isinstance(value, dict) else {}


def _seconds(value: object) -> float | None:
    if not isinstance(value, str) or not value:
        return None
    try:
        return parse_duration(value)
    except (ValueError, OverflowError):
        return None
