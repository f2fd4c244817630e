"""What README, the requirements, the checks and the configuration say of one another is true."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from dashboard.__main__ import main
from dashboard.config import REPOSITORY, Config
from dashboard.sampling.catalogue import catalogue
from dashboard.sampling.settings import KNOBS

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
CHECKS = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
RUNTIME = REPOSITORY / "requirements.txt"
DEVELOPMENT = REPOSITORY / "requirements-dev.txt"

# Variables that README names and another program reads.
FOREIGN = {"HF_HOME", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_TOKEN"}


def commands() -> list[str]:
    """The lines of README's indented blocks."""
    return [line.strip() for line in README.splitlines() if line.startswith("    ")]


def requirements(path: Path) -> list[str]:
    """The lines of a requirements file without comments."""
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def imports(source: Path) -> list[str]:
    """The import statements at the top of a file, as they would be written again."""
    body = ast.parse(source.read_text(encoding="utf-8")).body
    found = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    return [
        ast.unparse(node) for node in found if not (isinstance(node, ast.ImportFrom) and node.module == "__future__")
    ]


def settings_table() -> dict[str, str]:
    """README's table of variables: name -> default, both as written."""
    return dict(re.findall(r"^\| `([A-Z_]+)` \| (.+?) \|", README, flags=re.MULTILINE))


def tracked_files() -> list[Path]:
    """The files that git tracks or would add."""
    if shutil.which("git") is None or not (REPOSITORY / ".git").exists():
        pytest.skip("this is no git checkout")
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(listing, cwd=REPOSITORY, capture_output=True, check=True, text=True).stdout
    return [path for name in found.split("\0") if name and (path := REPOSITORY / name).is_file()]


def test_readme_starts_the_app_and_the_tests_with_one_command_each() -> None:
    assert "pip install -r requirements.txt && streamlit run streamlit_app.py" in commands()
    assert "pip install -r requirements-dev.txt && pytest" in commands()
    assert (REPOSITORY / "streamlit_app.py").is_file()


def test_the_checks_install_and_test_with_readmes_words_and_pytest_has_the_last_one() -> None:
    lines = [line.strip() for line in CHECKS.splitlines() if line.strip()]
    assert any(line.startswith("pip install") and line.endswith("-r requirements-dev.txt") for line in lines)
    assert lines[-1].split()[0] == "pytest"
    assert "set -euo pipefail" in lines
    for check in ("ruff check .", "ruff format --check .", "mypy", "lint-imports"):
        assert check in lines


@pytest.mark.parametrize("path", [RUNTIME, DEVELOPMENT], ids=lambda path: path.name)
def test_every_requirement_is_pinned_to_one_version(path: Path) -> None:
    lines = requirements(path)
    if path is DEVELOPMENT:
        assert lines.pop(0) == "-r requirements.txt"
    loose = [line for line in lines if not re.fullmatch(r"[A-Za-z0-9_-]+==[0-9][0-9a-z.]*", line)]
    assert not loose
    assert len(lines) >= 8


def test_what_is_pinned_is_what_is_installed() -> None:
    from importlib.metadata import version

    pins = dict(line.split("==") for path in (RUNTIME, DEVELOPMENT) for line in requirements(path) if "==" in line)
    # A build's local part (2.13.0+cpu) does not make it another version.
    assert pins == {name: version(name).partition("+")[0] for name in pins}


def test_every_package_that_the_app_imports_is_required() -> None:
    from importlib.metadata import packages_distributions

    required = {line.split("==")[0].lower().replace("_", "-") for line in requirements(RUNTIME)}
    sources = [REPOSITORY / "streamlit_app.py", *(REPOSITORY / "dashboard").rglob("*.py")]
    imported = {
        name
        for source in sources
        for name in re.findall(r"^\s*(?:from|import) (\w+)", source.read_text(encoding="utf-8"), flags=re.MULTILINE)
    }
    owners = packages_distributions()
    # A name without an owner is Python's own, the project's, or a word at the beginning of a docstring's line.
    outside = {owner.lower().replace("_", "-") for name in imported for owner in owners.get(name, ())}
    # Where huggingface_hub raises its HTTP client's errors as they are, their class is needed to catch them.
    assert outside - {"httpx2"} <= required
    assert {"torch", "streamlit", "sqlalchemy"} <= outside


def test_readme_lists_every_setting_of_the_operator_and_no_other() -> None:
    assert set(settings_table()) == {field.upper() for field in Config.model_fields}


@pytest.mark.parametrize(
    "name", [name for name, field in Config.model_fields.items() if isinstance(field.default, int | float)]
)
def test_readme_gives_the_default_of_each_number(name: str) -> None:
    default = Config.model_fields[name].default
    written = str(default).lower() if isinstance(default, bool) else f"{default:g}"
    assert settings_table()[name.upper()] == f"`{written}`"


def test_every_variable_that_readme_names_is_read_somewhere() -> None:
    ours = {field.upper() for field in Config.model_fields}
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)(?:=[^`]*)?`", README))
    assert named - ours - FOREIGN == {"NUCLEUS_LENS_REQUIRE_BROWSER"}
    assert "NUCLEUS_LENS_REQUIRE_BROWSER=1" in CHECKS
    assert named >= FOREIGN


def test_readmes_headless_command_is_understood(capsys: pytest.CaptureFixture[str]) -> None:
    command = next(line for line in commands() if line.startswith("python -m dashboard generate"))
    options = re.findall(r"--[a-z-]+", command)
    with pytest.raises(SystemExit) as end:
        main(["generate", "--help"])
    assert end.value.code == 0
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert options
    assert set(options) <= known
    assert {f"--{knob.name.replace('_', '-')}" for knob in KNOBS} <= known


def test_readme_lists_the_models_of_the_catalogue() -> None:
    listed = re.findall(r"^\| `([a-z0-9-]+)` \|", README, flags=re.MULTILINE)
    offered = catalogue(Config(models_allowed=tuple(listed)))
    assert listed == list(offered)
    assert set(catalogue(Config(models_allowed=()))) <= set(listed)


def test_every_file_that_readme_points_to_exists() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)|(?:src|srcset)=\"([^\"]+)\"", README)
    paths = [link or picture for link, picture in targets]
    assert len(paths) >= 4
    assert not [path for path in paths if not (REPOSITORY / path).exists()]


def test_nothing_that_a_page_imports_needs_torch_or_transformers() -> None:
    pages = [REPOSITORY / "streamlit_app.py", *(REPOSITORY / "dashboard" / "app_pages").glob("*.py")]
    # Their imports alone: run as a whole, a page starts to load a model in the background.
    script = ["import sys", *(line for page in pages for line in imports(page))]
    assert "from dashboard.sampling.store import LoadState, ModelStore" in script
    script.append("print(sorted({'torch', 'transformers', 'streamlit', 'plotly'} & set(sys.modules)))")
    run = [sys.executable, "-c", "\n".join(script)]
    told = subprocess.run(run, cwd=REPOSITORY, capture_output=True, check=True, text=True)
    assert told.stdout.strip() == "['plotly', 'streamlit']"


def test_streamlit_sends_no_statistics_and_asks_nothing_at_its_first_start() -> None:
    config = tomllib.loads((REPOSITORY / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
    assert config["browser"]["gatherUsageStats"] is False
    assert config["server"]["showEmailPrompt"] is False


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_each_theme_has_the_ten_colours_that_plotly_needs(theme: str) -> None:
    config = tomllib.loads((REPOSITORY / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
    colours = config["theme"][theme]["chartCategoricalColors"]
    assert len(colours) == 10
    assert len(set(colours)) == 10


def test_no_file_names_the_host_of_a_package_registry() -> None:
    # Put together here, so that this file does not name them either.
    hosts = [
        ".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("pytorch", "org"), ("npmjs", "org"))
    ]
    found = re.compile("|".join(map(re.escape, [*hosts, "extra-" + "index-url"])).encode())
    files = tracked_files()
    assert Path(__file__) in files
    assert not [path for path in files if found.search(path.read_bytes())]
