"""The room: what is put together with what. No panel code, no rules; the paint loop, the danger keys, and leaving."""

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, ClassVar, Protocol

from rich.console import RenderableType
from textual.app import SystemCommand
from textual.message import Message
from textual.screen import Screen

import themes
from andon.board import Board
from andon.clock import Clock
from andon.config import Config
from andon.events import ActStepped, Event
from andon.keeper import Keeper
from andon.model import MetricKind  # noqa: F401 - kept importable for annotations read at run time
from tui import commands
from tui.doing import Doing
from tui.moment import Moment, View
from tui.panels.danger import data_age, data_at, grace_s, rollback_words
from tui.panels.facts import stop_word
from tui.panels.looks import Painter, here
from tui.panels.panel import Panel
from tui.panels.words import short
from tui.screens.floor import FloorScreen
from tui.screens.frame import RoomScreen
from tui.screens.line import LineScreen
from tui.screens.reason import ReasonScreen
from tui.sight import Sight
from tui.terminal import Armed, Danger, GatedApp, Terminal
