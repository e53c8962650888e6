"""The rules of the house about code: who may import whom and when, and the calls that are never made."""

import ast
import importlib.metadata
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
PACKAGES = ("andon", "adapters", "tui", "themes")
SCREEN = ("textual", "rich")
NETWORK = ("httpx", "httpx_sse", "httpcore", "anyio", "ssl", "http.client", "urllib.request")
MAY_START_TASKS = {"andon/engine.py", "andon/acts.py", "andon/calling.py", "andon/duty.py", "andon/unrecorded.py"}
"""Where a task that is started is also watched."""

LIGHT = ("tui.__main__", "tui.cli", "tui.commands")
"""What every command imports, `andon --version` and `andon status` too."""


def sources(*folders: str) -> list[Path]:
    """The Python files in these folders, programs without an ending included."""
    found = []
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                with path.open("rb") as handle:
                    if path.suffix == ".py" or re.match(rb"#!.*python", handle.readline()):
                        found.append(path)
    return found


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def brought_in(*modules: str) -> set[str]:
    """What a fresh interpreter holds after it imported these."""
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", code, *modules], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def among(held: set[str], unwanted: tuple[str, ...]) -> set[str]:
    return {name for name in held if any(name == one or name.startswith(f"{one}.") for one in unwanted)}


CORE = [module_of(path) for path in sources("andon")]
LIGHT_NOW = [module_of(path) for path in sources("tui") if module_of(path) in LIGHT]


@pytest.mark.parametrize("module", CORE)
def test_the_core_brings_in_no_screen_no_network_and_no_vendor(module):
    unwanted = (*SCREEN, "httpx", "httpx_sse", "plotext", "adapters", "tui", "themes")
    assert not among(brought_in(module), unwanted)


@pytest.mark.parametrize("module", LIGHT_NOW)
def test_a_command_starts_without_a_screen_a_network_or_yaml(module):
    assert not among(brought_in(module), (*SCREEN, *NETWORK, "plotext", "yaml", "keyring", "numpy", "adapters"))


def imports(tree: ast.Module) -> Iterator[tuple[str, int, bool]]:
    """Name, line, and whether it is imported at the top, where its absence would end the program."""
    inside = {
        id(node)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef) or _for_types(outer)
        for node in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, id(node) not in inside
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, node.lineno, id(node) not in inside


def _for_types(node: ast.AST) -> bool:
    """Whether it is read by a type checker only."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def test_everything_imported_is_a_declared_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {canonicalize_name(Requirement(want).name) for want in project["dependencies"]}
    extras = {
        canonicalize_name(Requirement(want).name) for all_ in project["optional-dependencies"].values() for want in all_
    }
    providers = importlib.metadata.packages_distributions()
    for path in sources(*PACKAGES):
        for name, line, at_the_top in imports(ast.parse(path.read_bytes())):
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or top in PACKAGES:
                continue
            by = {canonicalize_name(one) for one in providers.get(top, [top])}
            allowed = declared if at_the_top else declared | extras
            assert by & allowed, f"{name_of(path)}:{line}: {name} is no dependency in pyproject.toml"


# The calls that are never made. Each rule yields (line, words) for what breaks it in one file.

Breach = tuple[int, str]


def called(node: ast.AST) -> str:
    """The last name of what is called: `execute` in `self.db.execute(…)`."""
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute):
            return node.func.attr
        if isinstance(node.func, ast.Name):
            return node.func.id
    return ""


def put_together(node: ast.AST) -> bool:
    """Whether a text is made from parts where it stands: an f-string, +, % or .format with something not constant."""
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        textual = any(_is_text(side) or put_together(side) for side in (node.left, node.right))
        return textual and not all(isinstance(side, ast.Constant) for side in (node.left, node.right))
    return called(node) == "format" and isinstance(node, ast.Call) and _is_text(getattr(node.func, "value", None))


def _is_text(node: ast.AST | None) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def dropped_tasks(tree: ast.Module) -> Iterator[Breach]:
    for node in ast.walk(tree):
        dropped = isinstance(node, ast.Expr) and called(node.value) in ("create_task", "ensure_future")
        if dropped and not _in_a_group(node.value, tree):
            yield node.lineno, "a task that nobody keeps may vanish while it runs, and its error with it"


def tasks(tree: ast.Module) -> Iterator[Breach]:
    for node in ast.walk(tree):
        if called(node) == "create_task" and not _in_a_group(node, tree):
            yield node.lineno, "a task that nobody watches; add the file to MAY_START_TASKS if its errors are seen"


def _in_a_group(node: ast.AST, tree: ast.Module) -> bool:
    groups = {
        item.optional_vars.id
        for outer in ast.walk(tree)
        if isinstance(outer, ast.AsyncWith)
        for item in outer.items
        if called(item.context_expr) == "TaskGroup" and isinstance(item.optional_vars, ast.Name)
    }
    owner = getattr(getattr(node, "func", None), "value", None)
    return isinstance(owner, ast.Name) and owner.id in groups


def unsafe_words(tree: ast.Module) -> Iterator[Breach]:
    unsafe = {"shell": True, "verify": False, "follow_redirects": True}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for word in node.keywords:
                if word.arg in unsafe and isinstance(word.value, ast.Constant) and word.value.value is unsafe[word.arg]:
                    yield word.value.lineno, f"{word.arg}={word.value.value} is never right here"
            if called(node) in ("eval", "exec", "system", "popen", "create_subprocess_shell"):
                yield node.lineno, f"{called(node)} runs text as code"


def sql_from_parts(tree: ast.Module) -> Iterator[Breach]:
    for node in ast.walk(tree):
        if called(node) in ("execute", "executemany", "executescript") and node.args:
            sql = node.args[0]
            if put_together(sql) and not all(map(_is_ours, _parts(sql))):
                yield sql.lineno, "SQL put together from parts; hand values over as parameters, or say why not there"


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    """What goes into a text beside its constants."""
    if isinstance(node, ast.JoinedStr):
        yield from (part.value for part in node.values if isinstance(part, ast.FormattedValue))
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield from (*_parts(node.left), *_parts(node.right))
    elif not isinstance(node, ast.Constant):
        yield node


def _is_ours(node: ast.AST) -> bool:
    """A constant of the module, or a whole number."""
    return (isinstance(node, ast.Name) and node.id.isupper()) or called(node) == "int"


def excused(line: str) -> bool:
    """Whether the line gives a reason; a bare `noqa` is none."""
    return bool(re.search(r"#\s*(noqa: \w+ [-–—] )?(?!noqa|type:)\w.{3,}", line))


MARKUP_TAKERS = {"Static", "Label", "Button", "Checkbox", "RadioButton", "Option", "Tab", "TabPane", "Collapsible"}
MARKUP_TAKERS |= {"update", "from_markup", "add_row", "add_option", "add_leaf", "set_label"}
MARKUP_NAMES = {"border_title", "border_subtitle", "tooltip", "label"}


def text_as_markup(tree: ast.Module) -> Iterator[Breach]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            plain = any(word.arg == "markup" and _is_false(word.value) for word in node.keywords)
            if called(node) == "notify" and (node.args or node.keywords) and not plain:
                yield node.lineno, "notify() reads markup; say markup=False"
            named = [word.value for word in node.keywords if word.arg in MARKUP_NAMES | {"content"}]
            parts = node.args[:1] if called(node) == "from_markup" else [*node.args, *named]
            if called(node) in MARKUP_TAKERS and not plain and any(map(put_together, parts)):
                yield node.lineno, f"{called(node)}() reads markup; give it Content made from cleaned text"
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None and put_together(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Attribute) and target.attr in MARKUP_NAMES for target in targets):
                yield node.lineno, "a title reads markup; give it Content made from cleaned text"


def _is_false(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def broad_catches(tree: ast.Module, lines: list[str]) -> Iterator[Breach]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or (
                isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")
            )
            raised_again = any(isinstance(inner, ast.Raise) and inner.exc is None for inner in node.body)
            near = lines[max(0, node.lineno - 2) : node.body[0].lineno]
            if broad and not raised_again and not any(map(excused, near)):
                yield node.lineno, "catches everything without saying why"


@pytest.mark.parametrize("path", sources(*PACKAGES, "examples", "benchmarks"), ids=name_of)
def test_the_calls_that_are_never_made(path):
    text = path.read_text()
    tree, name = ast.parse(text), name_of(path)
    lines = text.splitlines()
    breaches = [*unsafe_words(tree), *(found for found in sql_from_parts(tree) if not excused(lines[found[0] - 1]))]
    if name.startswith(PACKAGES):
        breaches += [*broad_catches(tree, lines), *dropped_tasks(tree)]
        if name not in MAY_START_TASKS:
            breaches += tasks(tree)
    if name.startswith("tui"):
        breaches += text_as_markup(tree)
    assert not breaches, "\n".join(f"{name}:{line}: {words}" for line, words in sorted(breaches))


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (unsafe_words, "run('ls', shell=True)"),
        (unsafe_words, "Client(verify=False)"),
        (unsafe_words, "client.get(url, follow_redirects=True)"),
        (unsafe_words, "os.system('ls')"),
        (sql_from_parts, "db.execute(f'delete from {table}')"),
        (sql_from_parts, "db.execute('delete from ' + table)"),
        (sql_from_parts, "db.execute('delete from %s' % table)"),
        (sql_from_parts, "db.execute('delete from {}'.format(table))"),
        (dropped_tasks, "asyncio.create_task(work())"),
        (dropped_tasks, "asyncio.ensure_future(work())"),
        (tasks, "self.task = loop.create_task(work())"),
        (text_as_markup, "Static(f'[b]{title}')"),
        (text_as_markup, "self.query_one(Label).update(f'{title}')"),
        (text_as_markup, "Label('hello ' + title)"),
        (text_as_markup, "self.app.notify('done')"),
        (text_as_markup, "self.border_title = f'{line}'"),
        (text_as_markup, "Content.from_markup(f'[b]{title}[/b]')"),
    ],
)
def test_each_rule_finds_what_it_forbids(rule, code):
    assert list(rule(ast.parse(code)))


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (sql_from_parts, "db.execute('select * from events where seq > ?', (seq,))"),
        (sql_from_parts, "db.execute('select 1 ' + 'from events')"),
        (sql_from_parts, "db.execute(f'select {_ROW} from events limit {int(n)}')"),
        (tasks, "async def f():\n async with asyncio.TaskGroup() as group:\n  group.create_task(work())"),
        (text_as_markup, "Static(Content(f'{title}'))"),
        (text_as_markup, "Static(f'{title}', markup=False)"),
        (text_as_markup, "Static('[b]Holds[/b]')"),
        (text_as_markup, "Content.from_markup('[b]$title[/b]', title=f'{title}')"),
        (text_as_markup, "self.notify('done', markup=False)"),
        (dropped_tasks, "async def f():\n async with asyncio.TaskGroup() as group:\n  group.create_task(work())"),
        (dropped_tasks, "self.coming = asyncio.ensure_future(work())"),
        (text_as_markup, "with self.condition: self.condition.notify()"),
        (text_as_markup, "self.count = self.count + 1"),
    ],
)
def test_no_rule_forbids_what_is_fine(rule, code):
    assert not list(rule(ast.parse(code)))


def test_a_reason_excuses_and_a_bare_noqa_does_not():
    assert excused("    except Exception as error:  # noqa: BLE001 - whatever it was, the feed goes on")
    assert excused("    # a plug-in may raise anything")
    assert not excused("    except Exception:  # noqa: BLE001")
    assert not excused("    except Exception:")
