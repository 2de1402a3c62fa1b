"""Every example that a reader may copy is valid: manifests, and YAML blocks in Markdown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from api import manifest
from tests.docs.markdown import ROOT, Block, blocks

MANIFESTS = sorted((ROOT / "manifests").rglob("*.yaml"))
EXAMPLES = [block for block in blocks() if block.language in ("yaml", "yml")]
_SCHEMA_LINE = re.compile(r"^# yaml-language-server: \$schema=(\S+)$", re.MULTILINE)


def problems(name: str, text: str) -> list[str]:
    loaded = manifest.load([manifest.source(name, text.encode())])
    assert loaded.documents or loaded.problems, f"{name} holds no object"
    return [str(problem) for problem in loaded.problems]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_manifest_is_valid(path: Path) -> None:
    assert problems(path.name, path.read_text()) == []


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_manifest_tells_editors_its_schemas(path: Path) -> None:
    """One line a document, with the schema of its kind."""
    text = path.read_text()
    kinds = [document["kind"] for document in yaml.safe_load_all(text)]
    named = _SCHEMA_LINE.findall(text)
    assert [Path(name).stem for name in named] == [kind.lower() for kind in kinds]
    for name in named:
        assert (path.parent / name).resolve().is_relative_to(ROOT / "schemas" / "v1")
        assert (path.parent / name).exists()


@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_a_yaml_block_in_markdown_is_valid(block: Block) -> None:
    assert problems(str(block), block.text) == []
