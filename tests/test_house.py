"""The rules of the house that no other tool holds: what the files say, what is pinned, what the documents promise."""

import ast
import hashlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NOT_OURS = {".git", ".venv", ".servers", "__pycache__", "dist", "build", "node_modules"}
APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
"""SHA-256 of the licence's text as its authors publish it."""

# Written so that this file does not hold what it looks for.
FORBIDDEN = {
    "a machine's own path": r"(?<![A-Za-z0-9_.])/(?:work|farm|root|opt[/]pypi|opt[/]wheels)/",
    "a folder outside the repository": r"\.\.[/]shared",
    "a package index's address": r"index[-]url\b|registry = [\"']http|\"resolved\": \"http|extra[-]index",
    "a package registry's host": r"(?:pypi|pythonhosted|npmjs|debian)[.](?:org|com)\b",
}
MAY_NAME = {
    "Makefile": {"a package index's address"},  # the option that keeps the address out
}


def files(*endings: str) -> Iterator[Path]:
    """Every text file of the repository, or those with these endings."""
    for path in sorted(ROOT.rglob("*")):
        inside = path.relative_to(ROOT).parts
        ours = not any(part in NOT_OURS or part.endswith(("_cache", ".egg-info", ".hypothesis")) for part in inside)
        if ours and path.is_file() and (not endings or path.name.endswith(endings)):
            yield path


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


DOCUMENTS = list(files(".md"))
PINS = {name: ROOT / "requirements" / f"{name}.txt" for name in ("run", "build", "dev", "servers")}


def pinned(name: str) -> dict[str, tuple[str, list[str]]]:
    """Distribution → its pinned version and its hashes."""
    found: dict[str, tuple[str, list[str]]] = {}
    for entry in PINS[name].read_text().replace("\\\n", " ").splitlines():
        if entry.strip() and not entry.startswith("#"):
            want, *hashes = entry.split(" --hash=")
            requirement = Requirement(want)
            (version,) = requirement.specifier
            assert version.operator == "==", entry
            found[canonicalize_name(requirement.name)] = (version.version, [text.strip() for text in hashes])
    return found


@pytest.mark.parametrize("path", list(files()), ids=name_of)
def test_no_file_knows_a_machine_or_a_registry(path):
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError:
        return
    for what, pattern in FORBIDDEN.items():
        if what not in MAY_NAME.get(name_of(path), ()):
            found = re.search(pattern, text)
            assert not found, f"{name_of(path)}:{text[: found.start()].count(chr(10)) + 1}: {what}: {found.group()}"


def test_the_licence_is_apache_2_word_for_word():
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2
    assert PROJECT["project"]["license"] == "Apache-2.0"


def test_every_run_time_dependency_gives_its_reason():
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    extras = PROJECT["project"].get("optional-dependencies", {}).values()
    for want in [*PROJECT["project"]["dependencies"], *(want for extra in extras for want in extra)]:
        (line,) = [line for line in lines if f'"{want}"' in line]
        assert re.search(r"# \w.{5,}", line), f"say on its line what {want} is for"


@pytest.mark.parametrize(
    ("name", "wants"),
    [
        ("run", PROJECT["project"]["dependencies"]),
        ("build", [*PROJECT["build-system"]["requires"], "editables"]),
        ("dev", PROJECT["dependency-groups"]["dev"]),
    ],
)
def test_every_dependency_is_pinned_to_a_version_that_it_allows(name, wants):
    pins = pinned(name)
    for requirement in map(Requirement, wants):
        version, _ = pins[canonicalize_name(requirement.name)]
        assert version in requirement.specifier, f"run `make pins`: {requirement} is pinned to {version}"


@pytest.mark.parametrize("name", PINS)
def test_every_pin_has_hashes_and_no_address(name):
    assert "://" not in PINS[name].read_text()
    assert "--index" not in PINS[name].read_text()
    for distribution, (_, hashes) in pinned(name).items():
        assert hashes, distribution
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", text) for text in hashes), distribution


def test_one_environment_can_hold_what_runs_builds_and_tests():
    chosen: dict[str, str] = {}
    for name in ("run", "build", "dev"):
        for distribution, (version, _) in pinned(name).items():
            assert chosen.setdefault(distribution, version) == version, f"{distribution} differs in {name}.txt"


def test_every_line_ends_plainly():
    for path in files(".py", ".md", ".toml", ".yaml", ".yml", ".sh", ".tcss", "Makefile", ".in"):
        body = path.read_bytes()
        assert b"\r" not in body, f"{name_of(path)}: carriage returns"
        assert not body or body.endswith(b"\n"), f"{name_of(path)}: no line end at its end"


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def code_of(document: Path) -> str:
    text = document.read_text()
    return "\n".join(
        re.findall(r"^```.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL) + re.findall(r"`([^`\n]+)`", text)
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_make_command_in_a_document_exists(document):
    for target in re.findall(r"(?:^|[\s&;])make ([a-z]+)", code_of(document), re.MULTILINE):
        assert target in targets(), f"{name_of(document)}: there is no `make {target}`"


def test_the_readme_gives_the_two_commands():
    commands = re.findall(r"make [a-z]+", code_of(ROOT / "README.md"))
    assert {"make demo", "make test"} <= set(commands)


def test_ci_checks_what_make_check_checks():
    parts = re.search(r"^check: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert parts
    steps = re.findall(r"^run make (\w+)$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert [step for step in steps if step != "servers"] == parts[1].split()


def anchor(heading: str) -> str:
    """A heading's anchor, as code hosts make it."""
    plain = re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).strip().lower())
    return plain.replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_link_in_a_document_leads_somewhere(document):
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(<?([^)>\s]+)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        place, _, part = link.partition("#")
        target = (document.parent / place).resolve() if place else document
        assert target.is_relative_to(ROOT), f"{name_of(document)}: {link} leads out of the repository"
        assert target.exists(), f"{name_of(document)}: {link} leads nowhere"
        if part and target.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert part in map(anchor, headings), f"{name_of(document)}: {link}: no such heading"


def test_the_changelog_is_kept():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## \[Unreleased\]$", text, re.MULTILINE)
    allowed = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= allowed


def test_every_shell_script_parses():
    for path in files():
        with path.open("rb") as handle:
            first = handle.readline()
        shell = re.match(rb"#!\s*\S*[/ ](bash|sh)\b", first)
        if shell:
            done = subprocess.run([shell[1].decode(), "-n", path], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr


def adapters() -> set[str]:
    return {path.stem for path in (ROOT / "adapters").glob("*.py") if not path.stem.startswith("_")}


def test_no_adapter_escapes_the_rule_that_none_imports_another():
    (rule,) = [rule for rule in PROJECT["tool"]["importlinter"]["contracts"] if rule["type"] == "independence"]
    assert {f"adapters.{name}" for name in adapters()} <= set(rule["modules"])


@pytest.mark.parametrize("name", sorted(adapters()))
def test_every_adapter_has_its_own_tests(name):
    assert (ROOT / "tests/adapters" / f"test_{name}.py").exists()


@pytest.mark.parametrize("name", PROJECT["project"]["entry-points"]["andon.adapters"])
def test_every_entry_point_leads_to_an_adapter_of_that_name(name):
    module, _, attribute = PROJECT["project"]["entry-points"]["andon.adapters"][name].partition(":")
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
    assigned = [node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)]
    assert attribute in {inner.id for node in assigned for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def test_the_tests_run_the_program_of_this_checkout():
    done = subprocess.run(
        [sys.executable, "-I", "-c", "import andon; print(andon.__file__)"], capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()).is_relative_to(ROOT)
