"""Canaries: one for each private part of Textual that the room leans on. One that fails says what to look at first."""

import ast
import functools
import importlib
import inspect
import pkgutil
import signal
import sys
import termios
import textwrap
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import pytest
from textual import constants, events
from textual._ansi_sequences import ANSI_SEQUENCES_KEYS
from textual._context import active_app
from textual._keyboard_protocol import FUNCTIONAL_KEYS
from textual._xterm_parser import XTermParser
from textual.app import App
from textual.content import Content
from textual.drivers import _writer_thread
from textual.drivers.linux_driver import LinuxDriver
from textual.widget import Widget
from textual.widgets import Static

import tui
from tests.helpers import until
from tui.screen_out import Gate
from tui.terminal import GatedApp

PARTS = {
    "App._batch_count": "test_canary_app_display_paints_every_frame_and_batches_hold_it_back",
    "App._begin_batch": "test_canary_app_display_paints_every_frame_and_batches_hold_it_back",
    "App._context": "test_canary_an_app_that_runs_knows_its_driver_its_screens_and_its_context",
    "App._display": "test_canary_app_display_paints_every_frame_and_batches_hold_it_back",
    "App._driver": "test_canary_an_app_that_runs_knows_its_driver_its_screens_and_its_context",
    "App._exception": "test_canary_handle_exception_keeps_the_error_and_calls_fatal_error",
    "App._exit_renderables": "test_canary_handle_exception_keeps_the_error_and_calls_fatal_error",
    "App._fatal_error": "test_canary_handle_exception_keeps_the_error_and_calls_fatal_error",
    "App._handle_exception": "test_canary_handle_exception_keeps_the_error_and_calls_fatal_error",
    "App._print_error_renderables": "test_canary_handle_exception_keeps_the_error_and_calls_fatal_error",
    "App._running": "test_canary_an_app_that_runs_knows_its_driver_its_screens_and_its_context",
    "App._screen_stack": "test_canary_an_app_that_runs_knows_its_driver_its_screens_and_its_context",
    "Driver._app": "test_canary_a_driver_knows_its_app_its_loop_and_whether_there_is_a_mouse",
    "Driver._loop": "test_canary_a_driver_knows_its_app_its_loop_and_whether_there_is_a_mouse",
    "Driver._mouse": "test_canary_a_driver_knows_its_app_its_loop_and_whether_there_is_a_mouse",
    "LinuxDriver._get_terminal_size": "test_canary_linux_driver_has_the_parts_that_are_replaced_or_called",
    "LinuxDriver._key_thread": "test_canary_linux_driver_has_the_parts_that_are_replaced_or_called",
    "LinuxDriver._must_signal_resume": "test_canary_linux_driver_has_the_parts_that_are_replaced_or_called",
    "LinuxDriver._patch_iflag": "test_canary_the_flags_of_a_raw_terminal",
    "LinuxDriver._patch_lflag": "test_canary_the_flags_of_a_raw_terminal",
    "MessagePump._close_messages_no_wait": "test_canary_handle_exception_keeps_the_error_and_calls_fatal_error",
    "parser._awaiting": "test_canary_xterm_parser_waits_without_limit_only_between_sequences",
    "parser._timeout_time": "test_canary_xterm_parser_gives_alt_keys_when_its_time_is_up",
    "textual._ansi_sequences": "test_canary_key_tables_name_the_danger_keys",
    "textual._keyboard_protocol": "test_canary_key_tables_name_the_danger_keys",
    "textual._xterm_parser": "test_canary_xterm_parser_still_fails_on_a_released_key",
}
"""Every private part that is used, called or replaced, and the test that fails when it changes."""


def test_each_private_part_that_is_used_has_its_canary() -> None:
    used = {part for module in modules() for part in private_parts(inspect.getsource(module), vars(module))}
    assert used == set(PARTS)
    assert {name for name in PARTS.values() if name not in globals()} == set()


def test_the_search_finds_what_is_replaced_by_mistake() -> None:
    """The mutant: a widget that happens to name a method, and an attribute, as Textual does."""
    found = private_parts(inspect.getsource(Mutant), {"Mutant": Mutant})
    assert found == {"Widget._render", "Widget._size", "app._registry"}


class Mutant(Widget):
    def _render(self) -> Any:
        self._size = len(self.app._registry)
        return ""


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(tui.__path__, "tui."):
        if found.name != "tui.__main__":
            yield importlib.import_module(found.name)


def private_parts(source: str, names: Mapping[str, Any]) -> set[str]:
    """What a module takes of Textual that has a private name: inherited, replaced, reached into or imported."""
    tree = ast.parse(source)
    found = set()
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        theirs = private_names(names[node.name])
        said = {item.attr for item in ast.walk(node) if isinstance(item, ast.Attribute)}
        said |= {item.name for item in ast.walk(node) if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)}
        said |= {item.id for item in ast.walk(node) if isinstance(item, ast.Name)}
        found |= {f"{theirs[item]}.{item}" for item in said & theirs.keys()}
    ours = {item.split(".")[-1] for item in found} | defined(tree)
    for item in ast.walk(tree):
        if isinstance(item, ast.Attribute) and hidden(item.attr) and item.attr not in ours:
            owner = item.value.id if isinstance(item.value, ast.Name) else getattr(item.value, "attr", "")
            if owner not in ("self", "cls") and not isinstance(names.get(owner), ModuleType):
                found.add(f"{owner}.{item.attr}")
        if isinstance(item, ast.ImportFrom) and (item.module or "").startswith("textual._"):
            found.add(item.module or "")
    return found


def private_names(kind: type) -> dict[str, str]:
    """The private names of Textual's classes behind one of ours, and whose they are: of the class or of its objects."""
    found: dict[str, str] = {}
    for base in kind.__mro__:
        if base.__module__.startswith("textual."):
            found = dict.fromkeys(filter(hidden, (*vars(base), *stored(base))), base.__name__) | found
    return found


@functools.cache
def stored(kind: type) -> frozenset[str]:
    """The names of the attributes that a class gives its objects."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    stores = (item for item in ast.walk(tree) if isinstance(item, ast.Attribute) and isinstance(item.ctx, ast.Store))
    return frozenset(item.attr for item in stores if getattr(item.value, "id", "") == "self")


def defined(tree: ast.Module) -> set[str]:
    """The names that a module gives to attributes, functions and methods of its own, and of named tuples."""
    found = {item.name for item in ast.walk(tree) if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)}
    found |= {item.id for item in ast.walk(tree) if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store)}
    stores = (item for item in ast.walk(tree) if isinstance(item, ast.Attribute) and isinstance(item.ctx, ast.Store))
    found |= {item.attr for item in stores if getattr(item.value, "id", "") == "self"}
    return found | {"_replace", "_fields", "_asdict"}


def hidden(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


# The parser, and the tables of keys


def test_canary_xterm_parser_waits_without_limit_only_between_sequences() -> None:
    parser = XTermParser()
    assert parser._awaiting.timeout is None
    assert list(parser.feed("\x1b[1;")) == []
    assert parser._awaiting.timeout is not None


def test_canary_xterm_parser_gives_alt_keys_when_its_time_is_up() -> None:
    parser = XTermParser()
    list(parser.feed("\x1ba"))
    parser._timeout_time = 0.0
    assert [event.key for event in parser.tick() if isinstance(event, events.Key)] == ["alt+a"]


def test_canary_xterm_parser_still_fails_on_a_released_key() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        list(XTermParser().feed("\x1b[20;1:3~"))


def test_canary_xterm_parser_keeps_where_the_mouse_was_in_these_attributes() -> None:
    parser = XTermParser()
    list(parser.feed("\x1b[<35;10;5M"))
    assert (parser.last_x, parser.last_y) == (9.0, 4.0)


def test_canary_key_tables_name_the_danger_keys() -> None:
    assert [FUNCTIONAL_KEYS[name] for name in ("1S", "14~", "19~", "20~")] == ["f4", "f4", "f8", "f9"]
    assert [key.value for key in ANSI_SEQUENCES_KEYS["\x1bOS"]] == ["f4"]  # type: ignore[union-attr]
    assert [key.value for key in ANSI_SEQUENCES_KEYS["\x1b[20~"]] == ["f9"]  # type: ignore[union-attr]


def test_canary_linux_driver_has_the_parts_that_are_replaced_or_called() -> None:
    own = vars(LinuxDriver)
    for name in ("start_application_mode", "stop_application_mode", "disable_input", "close", "run_input_thread"):
        assert name in own
    for name in ("_patch_lflag", "_patch_iflag", "_get_terminal_size", "process_message", "write"):
        assert name in own
    made = inspect.getsource(LinuxDriver.__init__)
    assert "self._must_signal_resume = False" in made
    assert "self._key_thread: Thread | None = None" in made


def test_canary_stock_writer_is_still_bounded_and_blocking() -> None:
    assert _writer_thread.MAX_QUEUED_WRITES == 30


# The app and its driver


async def test_canary_app_display_paints_every_frame_and_batches_hold_it_back() -> None:
    painted: list[object] = []

    class Small(App[None]):
        def compose(self) -> Iterator[Static]:
            yield Static("one", markup=False)

        def _display(self, screen: Any, renderable: Any) -> None:
            painted.append(renderable)
            super()._display(screen, renderable)

    app = Small()
    async with app.run_test() as pilot:
        await until(lambda: painted)
        assert app._batch_count == 0
        app._begin_batch()
        assert app._batch_count == 1
        painted.clear()
        app.query_one(Static).update("two")
        await pilot.pause()
        assert not painted
        app._batch_count -= 1
        app.screen.check_idle()
        await until(lambda: painted)


async def test_canary_line_filters_see_every_strip() -> None:
    class Small(GatedApp[None]):
        def compose(self) -> Iterator[Static]:
            yield Static(Content("a\x1bb\u202ec"))

    app = Small()
    async with app.run_test():
        assert isinstance(app.get_line_filters()[-1], Gate)
        text = "\n".join(strip.text for strip in app.screen._compositor.render_strips())
    assert "a\ufffdb\ufffdc" in text


async def test_canary_handle_exception_keeps_the_error_and_calls_fatal_error() -> None:
    called: list[object] = []

    class Small(App[None]):
        def _fatal_error(self) -> None:
            called.append(self._exception)
            self._close_messages_no_wait()

        def _print_error_renderables(self) -> None:
            called.append(list(self._exit_renderables))

    app = Small()
    error = RuntimeError("x")
    with pytest.raises(RuntimeError, match="x"):
        async with app.run_test():
            app._handle_exception(error)
    assert called[0] is error
    assert [] in called
    assert app.return_code == 1


async def test_canary_an_app_that_runs_knows_its_driver_its_screens_and_its_context() -> None:
    app: App[None] = App()
    assert not app._running
    assert app._driver is None
    async with app.run_test():
        assert app._running
        assert app._driver is not None
        assert app._screen_stack == [app.screen]
        token = active_app.set(App())
        with app._context():
            assert active_app.get() is app
        active_app.reset(token)


@pytest.fixture
async def driver() -> Any:
    """Textual's driver, of which nothing is started; the process keeps its handlers of signals."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTSTP, signal.SIGCONT)}
    yield LinuxDriver(App(), mouse=False)
    for number, handler in before.items():
        signal.signal(number, handler)


async def test_canary_a_driver_knows_its_app_its_loop_and_whether_there_is_a_mouse(driver: LinuxDriver) -> None:
    import asyncio

    assert isinstance(driver._app, App)
    assert driver._loop is asyncio.get_running_loop()
    assert driver._mouse is False
    assert driver.fileno == sys.__stdin__.fileno()  # type: ignore[union-attr]
    assert driver.attrs_before is None
    assert not driver.exit_event.is_set()


async def test_canary_a_message_goes_by_process_message_into_the_queue_of_the_app() -> None:
    app: App[None] = App()
    async with app.run_test():
        driver = app._driver
        assert driver is not None
        before = app.message_queue_size
        assert isinstance(before, int)
        sent: list[object] = []
        driver.send_message = sent.append  # type: ignore[method-assign]
        key = events.Key("a", "a")
        driver.process_message(key)
        assert sent == [key]


def test_canary_the_flags_of_a_raw_terminal() -> None:
    everything = 0xFFFF_FFFF
    for flag in (termios.ECHO, termios.ICANON, termios.IEXTEN, termios.ISIG):
        assert not LinuxDriver._patch_lflag(everything) & flag
    for flag in (termios.IXON, termios.IXOFF, termios.ICRNL, termios.INLCR, termios.IGNCR):
        assert not LinuxDriver._patch_iflag(everything) & flag


def test_canary_the_switches_that_are_read_at_import() -> None:
    assert constants.ESCAPE_DELAY == 0.1
    assert constants.DISABLE_KITTY_KEY is False
