"""Runs examples/saturated.rs, and reads its record of requests, its memory and its connections."""

import os
import re
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "target" / "clients"


@dataclass
class Exchange:
    """A request and its response. Times are in milliseconds."""

    arrived: int
    responded: int
    method: str
    status: int
    hint: int | None


class Server:
    def __init__(self, name="a", status=429):
        example = Path(os.environ.get("SATURATED", ROOT / "target/debug/examples/saturated"))
        self.process = subprocess.Popen([example, name, "0", str(status)], stdout=subprocess.PIPE, text=True)
        self.url, self.controls = (self.process.stdout.readline().split()[0] for _ in range(2))
        self.port = int(self.url.rpartition(":")[2])
        self.proc = Path(f"/proc/{self.process.pid}")
        self.idle = self._sockets()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def _control(self, path, method="POST"):
        with urllib.request.urlopen(urllib.request.Request(self.controls + path, method=method), timeout=30) as response:
            return response.read().decode()

    def hold(self, refusals=None):
        """Fills the budget until `free`, or until this many refusals."""
        self._control("/hold" if refusals is None else f"/hold/{refusals}")

    def free(self):
        self._control("/free")

    def seen(self):
        """Returns the calls of the handler and all exchanges since the last `hold`."""
        handled, *lines = self._control("/seen", "GET").splitlines()
        exchanges = []
        for arrived, responded, method, status, hint in map(str.split, lines):
            hint = None if hint == "-" else int(hint)
            exchanges.append(Exchange(int(arrived), int(responded), method, int(status), hint))
        return int(handled.split()[1]), exchanges

    def memory(self):
        """Returns the resident memory, and its peak since `forget_peak`, in KiB."""
        status = (self.proc / "status").read_text()
        return tuple(int(re.search(rf"{key}:\s+(\d+) kB", status)[1]) for key in ("VmRSS", "VmHWM"))

    def forget_peak(self):
        (self.proc / "clear_refs").write_text("5")

    def connections(self):
        """Returns the number of open connections, those of the controls included."""
        return self._sockets() - self.idle

    def _sockets(self):
        def is_socket(fd):
            try:
                return os.readlink(fd).startswith("socket:")
            except FileNotFoundError:
                return False

        return sum(map(is_socket, (self.proc / "fd").iterdir()))


def python(*args):
    return [CACHE / "python/bin/python", ROOT / "tests/real_clients/callers.py", *map(str, args)]


def node(*args):
    return ["node", CACHE / "node/callers.mjs", *map(str, args)]


def output(command, **options):
    """Returns the output of a command, or its exit status and error if it printed nothing."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300, **options)
    return done.stdout.strip() or f"exit {done.returncode}: {done.stderr.strip()[-200:]}"


def table(head, rows):
    """Prints a Markdown table, and returns it."""
    rows = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    text = "\n".join(lines)
    print(text + "\n", flush=True)
    return text


def fail_if(failures):
    """Prints the failures, and ends the program."""
    for failure in failures:
        print(f"FAILED: {failure}")
    raise SystemExit(1 if failures else 0)
