"""Opening the room: over a config, or over the plant for a demo."""

import argparse
import logging
import logging.handlers
import os
import tempfile
from pathlib import Path

import msgspec

from andon import config as configs
from andon.clock import FastClock, WallClock
from andon.config import Config
from tui.cli import complain
from tui.setup import Desk


def open_room(desk: Desk, args: argparse.Namespace) -> int:
    """The room; returns its exit code."""
    from tui.leaving import guard_crashes, harden_process, usable

    reason = usable()
    if reason:
        return complain(f"{reason}; `andon status` prints the same facts as text")
    desk.check_line(args.line)
    harden_process()
    keeper = desk.keeper()
    log_path = _log_to(desk.state / "andon.log")
    guard_crashes(log_path)
    engine = desk.engine(keeper, duty=True, room=True)
    try:
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
        )
        room.run()
    finally:
        engine.stop()
        keeper.close()
    return room.return_code or 0


def _log_to(path: Path) -> Path:
    """Log to a private file: one line when a source goes, one when it is back; never to the screen."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=1 << 20, backupCount=1, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.getLogger("andon").addHandler(handler)
    logging.getLogger("andon").setLevel(logging.INFO)
    return path


def open_demo(args: argparse.Namespace) -> int:
    """The room over a plant of its own, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="andon-demo-") as folder:
        config = demo_config(Path(folder), args.seed)
        clock = FastClock(args.speed) if args.speed != 1 else WallClock()
        return open_room(Desk(args, config, str(Path(folder) / "ledger.db"), clock), args)


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
