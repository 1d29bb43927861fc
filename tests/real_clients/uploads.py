"""Uploads to a server that is full: everyone sees the 429, no handler runs, and memory stays where it was.

Then slow and silent ones, which must not turn the reading of refused bodies into a way to hold the server.
`--full` is the long form: 10 tries of each and 1,000 slow ones, in place of 3 and 300.
"""

import asyncio
import sys
import time
from collections import Counter
from statistics import median

from server import Server, fail_if, node, output, python, table

FULL = "--full" in sys.argv
TRIES = 10 if FULL else 3
SLOW = 1_000 if FULL else 300
SILENT = 100

SIZES = {"200 kB": 200_000, "8 MB": 8_000_000, "40 MB": 40_000_000}

# The layer's bounds on what it reads of refused uploads (src/refuse/drain.rs): how many, and seconds.
AT_ONCE, SILENCE, IN_ALL = 256, 5, 60

# KiB. Of the server, for one upload at a time: far less than the upload. For the slow ones: for each connection.
GROWTH, GROWTH_EACH = 8 << 10, 32

# Seconds within which a busy machine of two cores comes to what is due.
SLACK = 5


def curl(*options):
    def upload(url, size, tries):
        one = ["curl", "-s", *options, "--data-binary", "@-", "-o", "/dev/null", "-w", "%{http_code}", url]
        return "\n".join(output(one, input="\0" * size) for _ in range(tries))

    return upload


# By itself curl asks before it sends more than 1 MB. With `Expect:` it sends at once, as the others do.
CLIENTS = {
    "requests h1": lambda *args: output(python("requests-upload", *args)),
    "curl h1": curl("-H", "Expect:"),
    "curl h1, asks": curl("-H", "Expect: 100-continue"),
    "curl h2c": curl("-H", "Expect:", "--http2-prior-knowledge"),
    "node fetch h1": lambda *args: output(node("fetch-upload", *args)),
    "httpx h2c, file": lambda *args: output(python("httpx-file-upload", *args)),
}
if FULL:
    # It copies what is left of the bytes for each frame, so 40 MB take it 10 to 20 seconds.
    CLIENTS["httpx h2c, bytes"] = lambda *args: output(python("httpx-upload", *args))


def in_words(seen):
    others = [f"{what}: {count}" for what, count in seen.items() if what != "429"]
    return ", ".join([f"{seen['429']} of {TRIES}", *others])


def matrix(failures):
    with Server() as server:
        server.hold()
        before, _ = server.memory()
        server.forget_peak()
        rows = []
        for name, upload in CLIENTS.items():
            row = [name]
            for size, bytes_ in SIZES.items():
                seen = Counter(upload(server.url, bytes_, TRIES).split("\n"))
                row.append(in_words(seen))
                if seen["429"] != TRIES:
                    failures.append(f"{name}, {size}: {row[-1]}")
            rows.append(row)
        handled, answers = server.seen()
        now, peak = server.memory()

    table(["saw the 429", *SIZES], rows)
    print(f"{len(answers)} refused, the handler ran {handled} times")
    print(f"memory: {before} KiB before, {peak} at most, {now} after\n", flush=True)
    if handled or {answer.status for answer in answers} != {429}:
        failures.append(f"the handler ran {handled} times")
    if peak - before > GROWTH:
        failures.append(f"memory grew by {peak - before} KiB")


class Upload:
    """A client that sends one byte a second, or nothing at all, and notes when it was answered and cut off."""

    def __init__(self, port, pause):
        self.port, self.pause = port, pause
        self.status = self.answered = self.closed = None

    async def run(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        start = time.monotonic()
        writer.write(b"POST / HTTP/1.1\r\nhost: server\r\ncontent-length: 1000000\r\n\r\n")
        sender = asyncio.create_task(self._send(writer))
        try:
            self.status = int((await reader.readline()).split()[1])
            self.answered = time.monotonic() - start
            await reader.read()
        except (ConnectionError, IndexError):
            pass
        self.closed = time.monotonic() - start
        sender.cancel()
        writer.close()

    async def _send(self, writer):
        while self.pause:
            await asyncio.sleep(self.pause)
            writer.write(b"x")


async def get(port):
    """The status of a small request on a connection of its own, and how many seconds it took."""
    start = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nhost: server\r\nconnection: close\r\n\r\n")
    status = int((await reader.read()).split()[1])
    writer.close()
    return status, time.monotonic() - start


async def crowd(server, count, pause):
    """So many uploads at once, and small requests all the while: refused while it is full, served from then on."""
    uploads = [Upload(server.port, pause) for _ in range(count)]
    running = asyncio.gather(*(upload.run() for upload in uploads))
    small = {}
    full = True
    while not running.done():
        if full and all(upload.answered for upload in uploads):
            full = False
            await asyncio.to_thread(server.free)
        status, took = await get(server.port)
        small.setdefault(status, []).append(took)
        await asyncio.sleep(0.1)
    await running
    return uploads, small


def hostile(failures):
    rows = []
    for what, count, pause, longest in [("silent", SILENT, None, SILENCE), ("a byte a second", SLOW, 1, IN_ALL)]:
        with Server() as server:
            server.hold()
            before, _ = server.memory()
            server.forget_peak()
            uploads, small = asyncio.run(crowd(server, count, pause))
            deadline = time.monotonic() + SLACK
            while (left := server.connections()) and time.monotonic() < deadline:
                time.sleep(0.05)
            now, peak = server.memory()
            _, answers = server.seen()

        refused = [upload for upload in uploads if upload.status == 429]
        answered = [upload.answered for upload in refused]
        drained = [upload.closed for upload in uploads if upload.closed > longest / 2]
        served = small.get(200, [])
        rows.append(
            [
                f"{count} {what}",
                f"{len(refused)} of {count}",
                f"{median(answered) * 1e3:.1f}, {max(answered) * 1e3:.1f} ms",
                f"{len(drained)}, {min(drained):.1f} to {max(drained):.1f} s",
                f"{len(served)}, {median(served) * 1e3:.1f}, {max(served) * 1e3:.1f} ms",
                f"{before}, {peak}, {now} KiB",
                left,
            ]
        )
        handled = sum(answer.method == "POST" and answer.status == 200 for answer in answers)
        checks = {
            f"{count - len(refused)} did not see their 429": len(refused) == count,
            f"{handled} ran": handled == 0,
            f"an answer took {max(answered):.1f} s": max(answered) < SLACK,
            f"{len(drained)} were read": len(drained) == min(count, AT_ONCE),
            f"one was read for {max(drained):.1f} s": max(drained) < longest + SLACK,
            f"one was cut off after {min(drained):.1f} s": min(drained) > longest - 0.5,
            f"small requests got {set(small)}": set(small) <= {200, 429} and len(served) > 10,
            f"a small request took {max(served):.1f} s": max(served) < SLACK,
            f"memory grew by {peak - before} KiB": peak - before < GROWTH + count * GROWTH_EACH,
            f"{left} connections are left": left == 0,
        }
        failures += [f"{count} {what}: {failure}" for failure, holds in checks.items() if not holds]
    table(
        [
            "uploads at once",
            "saw the 429",
            "answered (median, last)",
            "read on, cut off after",
            "others served meanwhile (median, slowest)",
            "memory before, most, after",
            "connections left",
        ],
        rows,
    )


async def slow_for_ever(port, answered):
    """Takes one place after the other, as each is for a minute at most."""
    while True:
        upload = Upload(port, 1)
        running = asyncio.create_task(upload.run())
        await asyncio.sleep(0.1)
        answered.append(upload.status)
        await running


async def while_all_places_are_taken():
    """What the bound on how many are read at once costs the others: a 429 and a reset, and some lose the 429."""
    with Server() as server:
        server.hold()
        answered = []
        slow = [asyncio.create_task(slow_for_ever(server.port, answered)) for _ in range(AT_ONCE)]
        while len(answered) < AT_ONCE:
            await asyncio.sleep(0.05)
        rows = []
        for name, upload in CLIENTS.items():
            # Few: httpx takes more than half a minute for each.
            seen = await asyncio.to_thread(upload, server.url, SIZES["8 MB"], 3)
            rows.append([name, in_words(Counter(seen.split("\n")))])
        for task in slow:
            task.cancel()
    table([f"saw the 429 while {AT_ONCE} slow ones are read", "8 MB"], rows)


def main():
    failures = []
    matrix(failures)
    hostile(failures)
    if FULL:
        # A fact, not a promise; and httpx may take a minute to find out.
        asyncio.run(while_all_places_are_taken())
    fail_if(failures)


main()
