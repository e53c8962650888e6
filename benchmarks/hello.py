"""The smallest Textual program: one label. The room's start and memory are told as multiples of its."""

from textual.app import App, ComposeResult
from textual.widgets import Static

READY = "hello, ready"


class Hello(App[None]):
    """One label."""

    def compose(self) -> ComposeResult:
        """The label."""
        yield Static(READY)


if __name__ == "__main__":
    Hello().run()
