"""A real git repository in a folder, committed to by the tests."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.servers.need import need


class Repository:
    """A git repository on branch `main`, with no configuration but its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.git = need("git")
        if not (folder / ".git").exists():
            folder.mkdir(parents=True, exist_ok=True)
            self.run("init", "-q", "-b", "main")

    def run(self, *args: str, env: Mapping[str, str] | None = None) -> str:
        """What `git ARGS` prints there."""
        plain = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(self.folder)}
        done = subprocess.run(
            [self.git, *args],
            cwd=self.folder,
            env={"PATH": os.environ.get("PATH", os.defpath), **plain, **(env or {})},
            capture_output=True,
            check=False,
            timeout=30,
        )
        if done.returncode:
            raise RuntimeError(f"git {args[0]}: {done.stderr.decode('utf-8', 'replace')}")
        return done.stdout.decode("utf-8", "replace").strip()

    def commit(self, title: str, files: Mapping[str, str], author: str = "Ann Lee <ann@example.org>") -> str:
        """Write the files, commit everything, and return the full revision."""
        for name, text in files.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text, encoding="utf-8")
        self.run("add", "-A")
        name, _, mail = author.partition(" <")
        who = {"NAME": name or "nobody", "EMAIL": mail.rstrip(">") or "nobody@example.org"}
        env = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()}
        self.run("commit", "-q", "--allow-empty", "--cleanup=verbatim", "-m", title, env=env)
        return self.run("rev-parse", "HEAD")
