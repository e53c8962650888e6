"""What andon stands on: its versions, and of each source the adapter, the server, who we are, what it cannot do."""

import platform
from collections.abc import Iterable
from concurrent.futures import Future
from importlib import metadata
from typing import TYPE_CHECKING, ClassVar

from textual.widget import Widget

from andon.ports import Can
from andon.registry import Adapter
from tui import VERSION, commands
from tui.moment import Moment
from tui.panels.looks import Painter
from tui.panels.panel import Panel
from tui.panels.sheet import Sheet
from tui.panels.top import engine_bit
from tui.screens.frame import RoomScreen, bindings

if TYPE_CHECKING:
    from andon.identities import Known

LIBRARIES = ("textual", "plotext", "httpx", "msgspec", "numpy", "PyYAML")
CLAIMS = {
    "live": "stream",
    "cancel": "cancel a run",
    "deploy": "deploy",
    "abort": "abort a rollout",
    "share": "shift traffic by share",
    "compare_and_set": "compare before it deploys",
}
"""What an adapter says it can or cannot do, in words."""
AT = {"cancel": "ci", **dict.fromkeys(("deploy", "abort", "share", "compare_and_set"), "deploy")}
"""At which station that matters; else at all."""


def lacking(can: Can | None, adapter: Adapter) -> list[str]:
    """What a source cannot do of that which its stations could ask of it."""
    if can is None:
        return []
    asked = [name for name in CLAIMS if name not in AT or getattr(adapter, AT[name]) is not None]
    return [CLAIMS[name] for name in asked if not getattr(can, name)]


def versions() -> list[tuple[str, str]]:
    """What is installed: name and version."""
    found = [("andon", VERSION), ("python", platform.python_version())]
    for name in LIBRARIES:
        try:
            found.append((name.lower(), metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return found


class AboutPage(Panel):
    """The page; `↑ ↓` move it where not all has room."""

    top = 0
    rows = 0
    """How many rows there are in all."""
    future: "Future[tuple[Known, ...]] | None" = None

    def __init__(self, painter: Painter, *, id: str, classes: str) -> None:  # noqa: A002 - Textual's name
        super().__init__(painter, id=id, classes=classes)
        self.versions = versions()

    @property
    def known(self) -> "tuple[Known, ...] | None":
        """What the sources answered; None: not yet, or nobody could ask."""
        future = self.future
        done = future is not None and future.done() and not future.cancelled() and future.exception() is None
        return future.result() if future is not None and done else None

    def draw(self, moment: Moment, sheet: Sheet) -> None:
        """Versions, config and ledger, then each source."""
        page = Sheet(sheet.width, 8 + 4 * len(moment.config.connections))
        self.rows = self._page(moment, page)
        self.top = max(0, min(self.top, self.rows - sheet.height))
        for y in range(min(sheet.height, self.rows - self.top)):
            x = 0
            for text, ink in page.row(self.top + y):
                x = sheet.put(x, y, text, ink.fg, bold=ink.bold, bg=ink.bg)
        if self.rows - self.top > sheet.height:
            sheet.right(sheet.width - 2, sheet.height - 1, f"▾ {self.rows - self.top - sheet.height} more rows", "mid")

    def _page(self, moment: Moment, sheet: Sheet) -> int:
        """Draw all of it; returns how many rows it took."""
        x = sheet.parts(1, 0, (" ".join(self.versions[0]), "fg", True))
        rest = ", ".join(f"{name} {version}" for name, version in self.versions[1:])
        sheet.put(x + 2, 0, rest, "mid", most=sheet.width - x - 3)
        config = moment.config
        rows = (
            ("config", f"{config.path}, digest {config.digest or 'none'}, theme {config.theme}"),
            ("ledger", config.ledger or "in the user's state folder"),
            ("immune", f"{engine_bit(moment).words}; {self._lease(moment)}"),
        )
        for y, (name, words) in enumerate(rows, 1):
            sheet.put(1, y, name, "dim")
            sheet.put(9, y, words, "mid", most=sheet.width - 10)
        y = 5
        for x, name in ((1, "source"), (14, "adapter"), (26, "server, and who we are to it")):
            sheet.put(x, y, name, "dim")
        y += 1
        known = {item.source: item for item in self.known or ()}
        for name, connection in config.connections.items():
            y = self._source(sheet, y, name, connection.adapter, known.get(name))
        return y

    def _lease(self, moment: Moment) -> str:
        lease = moment.view.lease
        return f"the lease is {lease.holder}'s, epoch {lease.epoch}" if lease is not None else "nobody has the lease"

    def _source(self, sheet: Sheet, y: int, name: str, adapter: Adapter, known: "Known | None") -> int:
        """One source in two or three rows; returns the row after it."""
        end = sheet.width - 1
        sheet.put(1, y, name, "fg", bold=True, most=12)
        sheet.put(14, y, adapter.name, "mid", most=11)
        if known is None:
            words = "asking" if self.known is None and not self._failed() else self._failed() or "no line uses it"
            sheet.put(26, y, words, "dim", most=end - 26)
        elif known.identity is None:
            sheet.parts(26, y, ("✗ ", "stop", True), (known.words, "fg"), most=end - 26)
        else:
            found = known.identity
            words = " as ".join(part for part in (found.server, found.account) if part) or "answers"
            x = sheet.parts(26, y, ("✓ ", "ok"), (words, "fg"), most=end - 26)
            if found.missing:
                sheet.put(x + 1, y, f"missing: {', '.join(found.missing)}", "stop", most=end - x - 1)
        lacks = lacking(known.can, adapter) if known is not None else []
        if lacks:
            y += 1
            sheet.put(26, y, f"cannot {', '.join(lacks)}", "mid", most=end - 26)
        y += 1
        against = (
            f"verified against {adapter.verified}" if adapter.verified else "not said what it was verified against"
        )
        sheet.put(26, y, f"{against}; {adapter.title}", "dim", most=end - 26)
        return y + 1

    def _failed(self) -> str:
        """Why the sources were not asked; empty: they were."""
        if self.future is None or not self.future.done():
            return ""
        if self.future.cancelled():
            return "not asked: andon is leaving"
        error = self.future.exception()
        return f"not asked: {type(error).__name__}" if error is not None else ""


class AboutScreen(RoomScreen):
    """What andon stands on."""

    where = commands.ABOUT
    first_keys: ClassVar[tuple[str, ...]] = ("clear", "back", "keys", "leave")
    BINDINGS: ClassVar = bindings(commands.ABOUT)

    def __init__(self, painter: Painter) -> None:
        super().__init__(painter)
        self.page = AboutPage(painter, id="about-page", classes="frame")

    def steps(self, line: str) -> tuple[str, ...]:
        """Where we are."""
        return ("about",)

    def ask(self, future: "Future[tuple[Known, ...]]") -> None:
        """The sources were asked."""
        self.page.future = future

    @property
    def own(self) -> tuple[object, ...]:
        """What is on top, and whether the sources have answered."""
        future = self.page.future
        return (self.page.top, future is not None and future.done())

    def body(self) -> Iterable[Widget]:
        """The page."""
        yield self.page

    def move(self, step: int) -> None:
        """Other rows."""
        self.page.top = max(0, min(self.page.top + step, max(0, self.page.rows - self.page.size.height)))
