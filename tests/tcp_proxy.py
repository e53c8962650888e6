"""A TCP proxy that passes bytes on until a rule says otherwise: cut, lose, hold, refuse. To be used as a context."""

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Literal, Self

Fate = Literal["pass", "cut", "lose", "hold"]
"""`cut`: it arrives, and then both ends lose each other. `lose`: it never arrives, and only the client learns that the
connection is gone; the server goes on waiting. `hold`: it never arrives, and nobody learns of it."""

Rule = Callable[[bytes], Fate]


class TcpProxy:
    """One place to connect to, in front of `port` of 127.0.0.1. `rule` decides on each piece that a client sends."""

    def __init__(self, port: int) -> None:
        self.rule: Rule = lambda sent: "pass"
        self.refuses = False
        """Whether a new connection is hung up at once."""
        self.opened = 0
        self._behind = port
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._listening, *self._open):
            _end(one)
        for thread in self._threads:
            thread.join(20)

    def _run(self, work: Callable[..., None], *values: object) -> None:
        thread = threading.Thread(target=work, args=values, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                try:
                    if self.refuses:
                        raise ConnectionRefusedError
                    server = socket.create_connection(("127.0.0.1", self._behind))
                except OSError:
                    _end(client)
                    continue
                self.opened += 1
                self._open += [client, server]
                self._run(self._pass_on, client, server, True)
                self._run(self._pass_on, server, client, False)

    def _pass_on(self, source: socket.socket, target: socket.socket, asks: bool) -> None:
        with contextlib.suppress(OSError):
            while sent := source.recv(65536):
                fate = self.rule(sent) if asks else "pass"
                if fate == "hold":
                    continue
                if fate == "lose":
                    _end(source)
                    return
                target.sendall(sent)
                if fate == "cut":
                    _end(source)
                    break
            _end(target)


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
