"""The server of examples/saturated.rs, what it says of its callers, and what the kernel says of it."""

import os
import re
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "target" / "clients"


@dataclass
class Answer:
    """Times are in milliseconds."""

    came: int
    answered: int
    method: str
    status: int
    told: int | None


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

    def _ask(self, path, method="POST"):
        with urllib.request.urlopen(urllib.request.Request(self.controls + path, method=method), timeout=30) as answer:
            return answer.read().decode()

    def hold(self, refusals=None):
        """Is full from now on, until `free`, or until so many were refused."""
        self._ask("/hold" if refusals is None else f"/hold/{refusals}")

    def free(self):
        self._ask("/free")

    def seen(self):
        """How often the handler ran since the last `hold`, and all answers since."""
        handled, *lines = self._ask("/seen", "GET").splitlines()
        answers = []
        for came, answered, method, status, told in map(str.split, lines):
            told = None if told == "-" else int(told)
            answers.append(Answer(int(came), int(answered), method, int(status), told))
        return int(handled.split()[1]), answers

    def memory(self):
        """What is resident now, and at most since `forget_peak`, in KiB."""
        status = (self.proc / "status").read_text()
        return tuple(int(re.search(rf"{key}:\s+(\d+) kB", status)[1]) for key in ("VmRSS", "VmHWM"))

    def forget_peak(self):
        (self.proc / "clear_refs").write_text("5")

    def connections(self):
        """How many are open, to its controls, too."""
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
    """What it printed; and, where that is nothing, how it ended."""
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
    """Ends the program, and says what was not as it has to be."""
    for failure in failures:
        print(f"FAILED: {failure}")
    raise SystemExit(1 if failures else 0)
