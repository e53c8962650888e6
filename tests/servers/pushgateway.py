"""A real Pushgateway in a folder."""

from pathlib import Path

from tests.servers.need import need
from tests.servers.process import Program, answers, free_port


class Pushgateway:
    """One gateway, which keeps nothing when it ends."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.program = Program("pushgateway", folder)

    def start(self) -> None:
        """Start it; it returns when it answers."""
        # Debian's keeps what it holds in a file of the system's, where the next one would find it.
        here = [f"--web.listen-address=127.0.0.1:{self.port}", "--persistence.file="]
        self.program.start([need("prometheus-pushgateway"), *here])
        self.program.ready(lambda: answers(f"{self.url}/-/ready"))

    def stop(self) -> None:
        """End it."""
        self.program.stop()
