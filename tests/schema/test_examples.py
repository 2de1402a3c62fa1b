"""The examples are valid, complete, and tell editors their schema."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.manifest import load_paths
from api.schema import default, validate
from api.schema.files import DIRECTORY
from api.types.kinds import KINDS

EXAMPLES = Path(__file__).parents[2] / "manifests" / "examples"
FILES = sorted(EXAMPLES.glob("*.yaml"))


def test_there_is_one_of_each_kind_that_users_declare() -> None:
    """Named after its kind, and where there are more of one after what it shows."""
    kinds = {file.stem.partition("-")[0] for file in FILES}
    assert kinds == {kind.name.lower() for kind in KINDS if kind.declared}


def test_all_are_valid_together() -> None:
    loaded = load_paths([EXAMPLES])
    assert [str(problem) for problem in loaded.problems] == []
    assert [validate(default(obj)) for obj in loaded.objects] == [[]] * len(FILES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_editors_find_the_schema(file: Path) -> None:
    mark = "# yaml-language-server: $schema="
    first = file.read_text().splitlines()[0]
    assert first.startswith(mark)
    named = (file.parent / first.removeprefix(mark)).resolve()
    assert named == DIRECTORY / f"{file.stem.partition('-')[0]}.json"


def test_the_services_example_shows_every_field_of_a_service() -> None:
    """So that what is copied from it is all there is."""
    (loaded,) = load_paths([EXAMPLES / "service.yaml"]).objects
    filled, given = default(loaded)["spec"], loaded["spec"]
    assert filled.keys() == given.keys()
    left_out = filled["template"].keys() - given["template"].keys()
    assert left_out == {"forceUpdate"}
