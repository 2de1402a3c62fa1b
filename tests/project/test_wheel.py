"""What a user installs: a wheel, in an environment of its own, with nothing of this tree near."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without a network: hatchling is among the tests' packages."""
    out = tmp_path_factory.mktemp("wheel")
    _run(
        sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)
    )
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def bin_(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a clean environment that has the wheel, and sees our libraries only."""
    home = tmp_path_factory.mktemp("clean")
    _run(sys.executable, "-m", "venv", "--without-pip", str(home))
    python = home / "bin" / "python"
    _run(
        *(sys.executable, "-m", "pip", "--python", str(python), "install"),
        *("--quiet", "--no-deps", "--no-index", str(wheel)),
    )
    site = Path(_run(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"))
    # A line in a .pth adds the directory, but not the .pth files in it: not our editable install.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin"


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def test_it_holds_the_schemas_and_nothing_of_the_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    schemas = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("schemas/v1/*.json")}
    assert schemas
    assert schemas <= set(names)
    assert "controllers/agent/network/runtime" in names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "api",
        "controllers",
        "schemas",
    }
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_its_code_is_its_own(bin_: Path, tmp_path: Path) -> None:
    script = "import api, controllers; print(api.__file__, controllers.__file__)"
    for file in _run(str(bin_ / "python"), "-c", script, cwd=tmp_path).split():
        assert Path(file).is_relative_to(bin_.parent)


def test_ctl_explains_a_service_from_the_schemas(bin_: Path, tmp_path: Path) -> None:
    assert "replicas" in _run(str(bin_ / "ctl"), "explain", "service.spec", cwd=tmp_path)


def test_both_programs_say_their_version(bin_: Path, wheel: Path, tmp_path: Path) -> None:
    version = wheel.name.split("-")[1]
    assert version in _run(str(bin_ / "skepd"), "--version", cwd=tmp_path)
    assert version in _run(str(bin_ / "ctl"), "version", "--client", cwd=tmp_path)


def test_the_schemas_load_and_validate(bin_: Path, tmp_path: Path) -> None:
    script = (
        "import json; from api import schema; from api.types.kinds import KINDS;"
        "print(json.dumps([len(schema.for_kind(kind)) for kind in KINDS]))"
    )
    assert all(json.loads(_run(str(bin_ / "python"), "-c", script, cwd=tmp_path)))
