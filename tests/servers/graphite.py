"""A real Graphite (graphite-web over whisper files), as Debian installs it, in a folder, with the points of a test."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.servers.need import need
from tests.servers.process import Program, answers, free_port

STEP_S = 10
"""Seconds of a point in its files."""

_SETTINGS = """\
import logging
SECRET_KEY = "only for tests"
TIME_ZONE = "UTC"
ALLOWED_HOSTS = ["127.0.0.1"]
STORAGE_DIR = WHISPER_DIR = {folder!r}
STANDARD_DIRS = [{folder!r}]
INDEX_FILE = {folder!r} + "/index"
LOG_DIR = {folder!r}
LOG_FILE_INFO = LOG_FILE_EXCEPTION = LOG_FILE_CACHE = LOG_FILE_RENDERING = "-"
CARBONLINK_HOSTS = []
REPLICATION_FACTOR = 0
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": {folder!r} + "/graphite.db"}}}}
DEFAULT_CACHE_DURATION = 60
"""

_SERVE = """\
import json, os, sys, wsgiref.simple_server, socketserver
import whisper
folder, port = sys.argv[1], int(sys.argv[2])
for name, points in json.load(open(folder + "/points.json")).items():
    path = folder + "/" + name.replace(".", "/") + ".wsp"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if not os.path.exists(path):
        whisper.create(path, [({step}, 20000)], xFilesFactor=0.0)
        whisper.update_many(path, points)
from graphite.wsgi import application
from django.core.management import call_command
call_command("migrate", run_syncdb=True, verbosity=0)
class Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True
    def server_bind(self):
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", self.server_address[1]
        self.setup_environ()
class Quiet(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *_): pass
server = Server(("127.0.0.1", port), Quiet)
server.set_app(application)
server.serve_forever()
"""


class Graphite:
    """One Graphite. `points` are, by series, pairs of time and value at most `STEP_S` apart."""

    def __init__(self, folder: Path, points: Mapping[str, Sequence[tuple[float, float]]]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.program = Program("graphite", folder)
        (folder / "points.json").write_text(json.dumps({name: list(pairs) for name, pairs in points.items()}))
        (folder / "local_settings.py").write_text(_SETTINGS.format(folder=str(folder)))
        (folder / "serve.py").write_text(_SERVE.replace("{step}", str(STEP_S)))

    def start(self) -> None:
        """Start it; it returns when it answers."""
        env = {"PYTHONPATH": str(self.folder), "GRAPHITE_SETTINGS_MODULE": "local_settings"}
        need("graphite-manage")
        serve = ["/usr/bin/python3", "-W", "ignore", str(self.folder / "serve.py"), str(self.folder), str(self.port)]
        self.program.start(serve, env)
        self.program.ready(lambda: answers(f"{self.url}/render?format=json"), within_s=60)

    def stop(self) -> None:
        """End it."""
        self.program.stop()
