"""The house rules that a machine can check."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import makespan

ROOT = Path(__file__).resolve().parents[2]
TEXT = [
    path
    for path in (
        ROOT / name
        for name in subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.split("\n")
    )
    if path.is_file()
    and path.suffix in {".py", ".md", ".yaml", ".toml", ".html", ".csv", ""}
    and path.stat().st_size < 2_000_000
]


def test_version_is_said_once():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert makespan.__version__ == project["version"]


def test_every_public_name_loads():
    for name in makespan.__all__:
        assert getattr(makespan, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="speed"):
        _ = makespan.speed


def test_importing_the_package_imports_no_numpy():
    code = "import sys, makespan, makespan.cli.main; print(sorted({'numpy', 'pydantic', 'rich', 'ruamel.yaml'} & sys.modules.keys()))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_links_in_documents_lead_somewhere():
    broken = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def test_lock_files_name_no_package_index():
    for name in ("requirements.lock", "requirements-dev.lock"):
        assert "://" not in (ROOT / name).read_text()


@pytest.mark.skipif(not TEXT, reason="not a git checkout")
def test_nothing_names_a_path_of_one_machine():
    pattern = re.compile(r"/(?:home|root|work|Users)/[A-Za-z]")
    hits = [f"{path.relative_to(ROOT)}" for path in TEXT if pattern.search(path.read_text(errors="ignore"))]
    assert hits == []


def test_every_accelerator_has_a_usual_node_and_fabric():
    from makespan import catalog
    from makespan.scenario import parse_cluster

    for name in catalog.names("accelerator"):
        cluster = parse_cluster(f"64x{name}")
        assert (cluster.node.name, cluster.fabric.name) == (catalog.usual_node(name), catalog.usual_fabric(name))
