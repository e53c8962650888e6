"""The config: which outside systems there are, and which lines run over them.

A config can run programs and send tokens, so it is read from `-c`, `$ANDON_CONFIG` or the user's config folder, never from
the current folder, and must belong to the user or root and not be writable by others. Every error names the file, the
line, the column and the key (`yamlfile.FileError`).
"""

from pathlib import Path

from andon.configfile import duration, schema
from andon.configplace import content, places
from andon.configreader import Reader
from andon.configured import Config, Connection, Entry, LineConfig
from andon.yamlfile import Document

__all__ = ["Config", "Connection", "Entry", "LineConfig", "duration", "load", "places", "schema"]


def load(path: Path) -> Config:
    """The config at `path`. Raises FileError; opens no connection."""
    found = content(path)
    return Reader(Document(str(path), found), path, found).read()
