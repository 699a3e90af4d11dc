"""The wheel holds everything the package reads at run time, says the right things of itself, and works elsewhere."""

import os
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "makespan"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

pytest.importorskip("hatchling", reason="the build backend is not installed here")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built without a network and outside the checkout."""
    target = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(target)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = target.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def unpacked(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def information(unpacked, name):
    (path,) = unpacked.glob(f"*.dist-info/{name}")
    return path.read_text()


def test_every_file_of_the_package_is_inside_and_nothing_else(unpacked):
    inside = unpacked / "makespan"
    ours = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert ours == {path.relative_to(inside) for path in inside.rglob("*") if path.is_file()}
    assert {path.name for path in unpacked.iterdir()} == {"makespan", f"makespan-{PROJECT['version']}.dist-info"}


@pytest.mark.parametrize(
    "pattern",
    [
        "py.typed",
        "catalog/data/*/*.yaml",
        "catalog/data/prices.csv",
        "report/assets/echarts.min.js",
        "report/assets/LICENSE.echarts",
        "report/templates/*.j2",
        "scenario/starter.yaml",
        "validation/data/*.csv",
    ],
)
def test_data_of_every_kind_is_inside_and_whole(unpacked, pattern):
    files = sorted(PACKAGE.glob(pattern))
    assert files
    for path in files:
        assert (unpacked / "makespan" / path.relative_to(PACKAGE)).read_bytes() == path.read_bytes()


def test_metadata(wheel, unpacked):
    said = Parser().parsestr(information(unpacked, "METADATA"))
    assert (said["Name"], said["Version"]) == ("makespan", PROJECT["version"])
    assert said["License-Expression"] == "Apache-2.0"
    assert sorted(said.get_all("License-File")) == ["LICENSE", "NOTICE"]
    assert said["Requires-Python"] == ">=3.11"
    needs = {line.split("<")[0].split(">")[0].replace("-", ".") for line in said.get_all("Requires-Dist")}
    assert needs == {"click", "jinja2", "numpy", "pydantic", "rich", "ruamel.yaml"}
    assert wheel.name == f"makespan-{PROJECT['version']}-py3-none-any.whl"
    assert "makespan = makespan.cli.main:main" in information(unpacked, "entry_points.txt")


def test_it_runs_without_the_checkout(unpacked, tmp_path):
    """The files of the wheel alone: the catalog, the starter and the schema are found where they were unpacked."""

    def run(*arguments):
        environment = os.environ | {"PYTHONPATH": str(unpacked), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    where = run("-c", "import makespan; print(makespan.__file__)")
    assert Path(where.stdout.strip()).is_relative_to(unpacked), where.stderr
    for arguments, said in (
        (["init"], "wrote scenario.yaml"),
        (["check", "scenario.yaml"], "scenario.yaml: no problems"),
        (["catalog", "show", "h100-sxm"], "h100-sxm"),
        (["schema"], '"$schema"'),
        (["plan", "scenario.yaml", "--replicates", "20"], "report.html"),
    ):
        done = run("-m", "makespan", *arguments)
        assert (done.returncode, said in done.stdout) == (0, True), done.stdout + done.stderr
