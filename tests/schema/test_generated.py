"""What secrets may ask for: the schema, the structs and what makes it say the same."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from api.generate import text
from api.pki import certificates
from api.schema.files import resolved
from api.types.generated import Certificate, Generate, Generated, SshKey
from api.types.randomtext import ALPHABETS, CLASSES, WORDS

SECRET = resolved("Secret")["properties"]
GENERATE: dict[str, Any] = SECRET["generate"]["additionalProperties"]["properties"]
X509: dict[str, Any] = GENERATE["x509"]["properties"]
TOLD: dict[str, Any] = SECRET["status"]["properties"]["generated"]["additionalProperties"]


@pytest.mark.parametrize(
    ("struct", "described"),
    [
        (Generate, GENERATE),
        (Certificate, X509),
        (SshKey, GENERATE["ssh"]["properties"]),
        (Generated, TOLD["properties"]),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)  # fmt: skip
def test_every_field_is_in_both(struct: type[msgspec.Struct], described: dict[str, Any]) -> None:
    fields = {field.encode_name for field in msgspec.structs.fields(struct)}
    assert fields == set(described)
    assert all(len(each.get("description", "")) > 5 for each in described.values())


def test_what_can_be_chosen_can_be_made() -> None:
    assert set(GENERATE["charset"]["enum"]) == {*ALPHABETS, WORDS}
    assert set(GENERATE["classes"]["items"]["enum"]) == set(CLASSES)
    assert set(GENERATE["encoding"]["enum"]) == set(text._ENCODINGS)
    assert set(X509["keyType"]["enum"]) == set(certificates._MAKE)
    assert set(X509["usages"]["items"]["enum"]) == set(certificates._USAGES)
