"""What commands print on stdout: results, as JSON or as text, and what happens when nobody takes them."""

import argparse
import os
import sys
from typing import Any

from andon.model import to_json
from andon.text import gate


class NotPrinted(Exception):
    """stdout takes nothing, and not because its reader left; the words say why."""


def out(value: Any, args: argparse.Namespace, text: str) -> None:
    """Print a result: JSON if it was asked for, else text; both gated. Raises BrokenPipeError, NotPrinted."""
    shown = to_json(value).decode() if getattr(args, "json", False) else text
    try:
        sys.stdout.write(gate(shown) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        leave_stdout()
        raise NotPrinted(f"stdout: {error.strerror}") from error


def leave_stdout() -> None:
    """Nobody reads it: what is left in it must not be tried again at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
