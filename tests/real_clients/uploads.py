"""Uploads to a full server: every client sees the 429, no handler runs, and memory does not grow.

Then slow and silent uploads, which must not occupy the server through the reading of refused bodies.
`--full` is the long form: 10 tries of each client and 1,000 slow uploads, in place of 3 and 300.
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

# The defaults of RefusedUpload: concurrent uploads, idle timeout and timeout in seconds.
# One layer reads half of the 256 uploads of the process. A slow upload is read for as long as a silent one.
MAX_CONCURRENT, IDLE_TIMEOUT = 128, 5

# Allowed growth of the server's memory, in KiB: for one upload at a time, far less than its size; and per connection.
GROWTH, GROWTH_EACH = 8 << 10, 32

# Allowed lateness on a busy machine of two cores, in seconds.
SLACK = 5


def curl(*options):
    def upload(url, size, tries):
        one = ["curl", "-s", *options, "--data-binary", "@-", "-o", "/dev/null", "-w", "%{http_code}", url]
        return "\n".join(output(one, input="\0" * size) for _ in range(tries))

    return upload


# By default, curl sends `Expect: 100-continue` before more than 1 MB. With `Expect:` it sends at once, as the others do.
CLIENTS = {
    "requests h1": lambda *args: output(python("requests-upload", *args)),
    "curl h1": curl("-H", "Expect:"),
    "curl h1, Expect": curl("-H", "Expect: 100-continue"),
    "curl h2c": curl("-H", "Expect:", "--http2-prior-knowledge"),
    "node fetch h1": lambda *args: output(node("fetch-upload", *args)),
    "httpx h2c, file": lambda *args: output(python("httpx-file-upload", *args)),
}
if FULL:
    # It copies the remaining bytes for each frame, so that 40 MB take 10 to 20 seconds.
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
        handled, exchanges = server.seen()
        now, peak = server.memory()

    table(["saw the 429", *SIZES], rows)
    print(f"{len(exchanges)} refused, the handler ran {handled} times")
    print(f"memory: {before} KiB before, {peak} at most, {now} after\n", flush=True)
    if handled or {exchange.status for exchange in exchanges} != {429}:
        failures.append(f"the handler ran {handled} times")
    if peak - before > GROWTH:
        failures.append(f"memory grew by {peak - before} KiB")


class Upload:
    """A client that sends one byte per `pause`, or none, and records the times of its response and of the connection's end."""

    def __init__(self, port, pause):
        self.port, self.pause = port, pause
        self.status = self.responded = self.closed = None

    async def run(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        start = time.monotonic()
        writer.write(b"POST / HTTP/1.1\r\nhost: server\r\ncontent-length: 1000000\r\n\r\n")
        sender = asyncio.create_task(self._send(writer))
        try:
            self.status = int((await reader.readline()).split()[1])
            self.responded = time.monotonic() - start
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
    """Returns the status of a small request on its own connection, and its duration in seconds."""
    start = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nhost: server\r\nconnection: close\r\n\r\n")
    status = int((await reader.read()).split()[1])
    writer.close()
    return status, time.monotonic() - start


async def concurrent_uploads(server, count, pause):
    """Runs concurrent uploads, and small requests meanwhile, which are refused while the server is full and served afterwards."""
    uploads = [Upload(server.port, pause) for _ in range(count)]
    running = asyncio.gather(*(upload.run() for upload in uploads))
    small = {}
    full = True
    while not running.done():
        if full and all(upload.responded for upload in uploads):
            full = False
            await asyncio.to_thread(server.free)
        status, took = await get(server.port)
        small.setdefault(status, []).append(took)
        await asyncio.sleep(0.1)
    await running
    return uploads, small


def hostile(failures):
    rows = []
    for what, count, pause, longest in [("silent", SILENT, None, IDLE_TIMEOUT), ("a byte a second", SLOW, 1, IDLE_TIMEOUT)]:
        with Server() as server:
            server.hold()
            before, _ = server.memory()
            server.forget_peak()
            uploads, small = asyncio.run(concurrent_uploads(server, count, pause))
            deadline = time.monotonic() + SLACK
            while (left := server.connections()) and time.monotonic() < deadline:
                time.sleep(0.05)
            now, peak = server.memory()
            _, exchanges = server.seen()

        refused = [upload for upload in uploads if upload.status == 429]
        responded = [upload.responded for upload in refused]
        read = [upload.closed for upload in uploads if upload.closed > longest / 2]
        served = small.get(200, [])
        rows.append(
            [
                f"{count} {what}",
                f"{len(refused)} of {count}",
                f"{median(responded) * 1e3:.1f}, {max(responded) * 1e3:.1f} ms",
                f"{len(read)}, {min(read):.1f} to {max(read):.1f} s",
                f"{len(served)}, {median(served) * 1e3:.1f}, {max(served) * 1e3:.1f} ms",
                f"{before}, {peak}, {now} KiB",
                left,
            ]
        )
        handled = sum(exchange.method == "POST" and exchange.status == 200 for exchange in exchanges)
        checks = {
            f"{count - len(refused)} did not see the 429": len(refused) == count,
            f"{handled} ran": handled == 0,
            f"a response took {max(responded):.1f} s": max(responded) < SLACK,
            f"{len(read)} were read": len(read) == min(count, MAX_CONCURRENT),
            f"an upload was read for {max(read):.1f} s": max(read) < longest + SLACK,
            f"an upload was cut off after {min(read):.1f} s": min(read) > longest - 0.5,
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
            "responded (median, last)",
            "read on, cut off after",
            "others served meanwhile (median, slowest)",
            "memory before, most, after",
            "connections left",
        ],
        rows,
    )


async def slow_uploads(port, responded):
    """Runs slow uploads one after the other, as each is read for some seconds at most."""
    while True:
        upload = Upload(port, 1)
        running = asyncio.create_task(upload.run())
        await asyncio.sleep(0.1)
        responded.append(upload.status)
        await running


async def while_the_most_uploads_are_read():
    """The effect of MAX_CONCURRENT on other uploads: a 429 and a reset, and some clients lose the 429."""
    with Server() as server:
        server.hold()
        responded = []
        slow = [asyncio.create_task(slow_uploads(server.port, responded)) for _ in range(MAX_CONCURRENT)]
        while len(responded) < MAX_CONCURRENT:
            await asyncio.sleep(0.05)
        rows = []
        for name, upload in CLIENTS.items():
            # Three tries: httpx takes more than half a minute for each.
            seen = await asyncio.to_thread(upload, server.url, SIZES["8 MB"], 3)
            rows.append([name, in_words(Counter(seen.split("\n")))])
        for task in slow:
            task.cancel()
    table([f"saw the 429 while {MAX_CONCURRENT} slow uploads are read", "8 MB"], rows)


def main():
    failures = []
    matrix(failures)
    hostile(failures)
    if FULL:
        # For information, without checks. httpx can take a minute.
        asyncio.run(while_the_most_uploads_are_read())
    fail_if(failures)


main()
