"""Opening the room: over a config, or over the plant for a demo."""

import argparse
import logging
import logging.handlers
import os
import shutil
import tempfile
from io import TextIOWrapper
from pathlib import Path

import msgspec

from andon import config as configs
from andon.clock import FastClock, WallClock
from andon.config import Config
from andon.engine import Engine
from andon.folders import make_private
from andon.keeper import Keeper
from andon.yamlfile import FileError
from tui.cli import complain
from tui.leaving import Harmless, at_the_end, end_in_order, guard_crashes, harden_process, usable
from tui.setup import Desk


def open_room(desk: Desk, args: argparse.Namespace) -> int:
    """The room; returns its exit code."""
    reason = usable()
    if reason:
        return complain(f"{reason}; `andon status` prints the same facts as text")
    desk.check_line(args.line)
    desk.keys()
    harden_process()
    end_in_order()
    keeper = desk.keeper()
    with at_the_end(keeper.close):
        log_path = _log_to(desk.state / "andon.log")
        guard_crashes(log_path)
        engine = desk.engine(keeper, duty=True, room=True)
        try:
            return _run(desk, args, keeper, engine, log_path)
        finally:
            engine.stop()


def _run(desk: Desk, args: argparse.Namespace, keeper: Keeper, engine: Engine, log_path: Path) -> int:
    from tui.app import Room

    room = Room(
        desk.config,
        keeper,
        engine,
        desk.clock,
        theme=desk.config.theme,
        line=args.line or "",
        wall=args.wall,
        log_path=log_path,
        keys=desk.keys(),
    )
    room.run()
    return room.return_code or 0


class _PrivateLog(logging.handlers.RotatingFileHandler):
    """A log that nobody else can read, also the file that it begins when one is full."""

    def _open(self) -> TextIOWrapper:
        flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.fdopen(os.open(self.baseFilename, flags, 0o600), "a", encoding="utf-8")


def _log_to(path: Path) -> Path:
    """Log to a private file, whoever logs in this process: when a source goes, when it is back; never to the screen.

    Raises FileError.
    """
    try:
        make_private(path.parent)
        handler = _PrivateLog(path, maxBytes=1 << 20, backupCount=1)
    except OSError as error:
        raise FileError(str(path), None, (), f"cannot be written: {error.strerror}") from error
    handler.setFormatter(Harmless("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("andon").setLevel(logging.INFO)
    logging.raiseExceptions = False  # a full disk is told in the room, not on its screen
    return path


def open_demo(args: argparse.Namespace) -> int:
    """The room over a plant of its own, in a folder that is gone afterwards."""
    end_in_order()
    folder = Path(tempfile.mkdtemp(prefix="andon-demo-"))
    with at_the_end(lambda: shutil.rmtree(folder, ignore_errors=True)):
        config = demo_config(folder, args.seed)
        clock = FastClock(args.speed) if args.speed != 1 else WallClock()
        return open_room(Desk(args, config, str(folder / "ledger.db"), clock), args)


def demo_config(folder: Path, seed: int) -> Config:
    """The sample config with this seed, and its world in `folder`."""
    here = Path(__file__).resolve().parent
    sample = next(path for path in (here / "sample_config.yaml", here.parent / "sample_config.yaml") if path.exists())
    config = configs.load(sample)
    changed = {"seed": seed, "world": str(folder / "plant.world")}
    connections = {
        name: msgspec.structs.replace(item, options=msgspec.structs.replace(item.options, **changed))
        if item.adapter.name == "plant"
        else item
        for name, item in config.connections.items()
    }
    return msgspec.structs.replace(config, connections=connections)
