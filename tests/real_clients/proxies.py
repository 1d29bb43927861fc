"""Responses behind the proxies of ops/, with one of two instances full, with both full, and with one stopped.

The configurations run unchanged except for the ports. A variant changes one line, to show the purpose of the line. The
versions of nginx and HAProxy are those of the machine.
"""

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import h2.config
import h2.connection
import h2.events

from retries import EARLY, LATE, waits
from server import ROOT, Server, fail_if, node, output, python, table

# Requests of each kind, so that round robin reaches each instance twice.
REQUESTS = 4

# Bytes of an upload that fits HAProxy's buffer, and of one that does not.
SMALL, LARGE = 5, 8_000_000

def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def proxy(config, a, b, change=("", "")):
    """Runs a proxy with a configuration of ops/ in front of `a` and `b`; yields its URL."""
    port = free_port()
    text = (ROOT / "ops" / config).read_text()
    before, after = change
    assert before in text, f"{config} has no {before!r}"
    text = text.replace(before, after).replace(":8080", f":{port}")
    text = text.replace(":3100", f":{a.port}").replace(":3200", f":{b.port}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config"
        if config.startswith("nginx"):
            user = "user root;" if os.geteuid() == 0 else ""
            kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            paths = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
            text = f"{user} pid {folder}/pid; events {{}} http {{ access_log off; {paths}\n{text}}}"
            command = ["nginx", "-p", folder, "-e", f"{folder}/log", "-c", file, "-g", "daemon off;"]
        else:
            command = ["haproxy", "-db", "-f", file]
        file.write_text(text)
        log = (Path(folder) / "output").open("w+")
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_for(port, process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def wait_for(port, process, log):
    for _ in range(200):
        with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port)):
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    log.seek(0)
    raise SystemExit(f"the proxy does not listen: {log.read()}")


def request(url, size):
    """Returns the status, the server that responded, and whether the retry hint is missing."""
    body = ["--data-binary", "@-", "-H", "Expect:"] if size else []
    fields = "%{http_code},%header{x-served-by},%header{retry-after}"
    printed = output(["curl", "-s", "-o", "/dev/null", "-m", "60", *body, "-w", fields, url], input="\0" * size)
    status, server, hint = printed.split(",")
    lacks = status != "200" and not (hint and int(hint) >= 1)
    return f"{status} {server or 'proxy'}" + (", no hint" if lacks else "")


def requests(url, size):
    seen = Counter(request(url, size) for _ in range(REQUESTS))
    return dict(sorted(seen.items()))


def in_words(seen):
    return ", ".join(f"{count} × {what}" for what, count in seen.items())


SERVED_BY_B = {"200 b"}
REFUSED_BY_A, REFUSED = {"429 a", "200 b"}, {"429 a", "429 b"}
BUSY_A, BUSY = {"503 a", "200 b"}, {"503 a", "503 b"}
BAD_GATEWAY = {"502 proxy, no hint"}

POST_TOO = ("http_429;", "http_429 non_idempotent;")
POST_TOO_NO_ERROR = ("error http_429;", "http_429 non_idempotent;")
NGINX_DEFAULT = (" max_fails=0;", ";")
HAPROXY_POST_TOO = ("    http-request disable-l7-retry if METH_POST\n", "")


@dataclass
class Config:
    """A configuration, and the expected results of GET, POST, and a large POST in each case."""

    file: str
    a_full: list
    # The allowed results: HAProxy's second try advances its round robin, so that it always ends at the same instance.
    both_full: list
    a_gone: set = field(default_factory=lambda: SERVED_BY_B)
    status: int = 429
    variant: str = ""
    change: tuple = ("", "")


ALL_B, ALL_REFUSED, ALL_BUSY = [SERVED_BY_B] * 3, [REFUSED] * 3, [BUSY] * 3
ONLY_GET = [SERVED_BY_B, REFUSED_BY_A, REFUSED_BY_A]

CONFIGS = [
    Config("nginx/pass.conf", [REFUSED_BY_A] * 3, ALL_REFUSED),
    Config("nginx/retry.conf", ONLY_GET, ALL_REFUSED),
    Config("nginx/retry.conf", ALL_B, ALL_REFUSED, variant="POST, too", change=POST_TOO),
    Config(
        "nginx/retry.conf",
        ALL_B,
        ALL_REFUSED,
        a_gone=SERVED_BY_B | BAD_GATEWAY,
        variant="POST, too, no `error`",
        change=POST_TOO_NO_ERROR,
    ),
    Config(
        "nginx/retry.conf",
        ALL_B,
        [REFUSED | BAD_GATEWAY, BAD_GATEWAY, BAD_GATEWAY],
        variant="no max_fails=0",
        change=NGINX_DEFAULT,
    ),
    Config("haproxy/pass.cfg", [REFUSED_BY_A] * 3, ALL_REFUSED),
    Config("haproxy/retry.cfg", [SERVED_BY_B, BUSY_A, BUSY_A], ALL_BUSY, status=503),
    Config(
        "haproxy/retry.cfg",
        [SERVED_BY_B, SERVED_BY_B, BUSY_A],
        ALL_BUSY,
        status=503,
        variant="POST, too",
        change=HAPROXY_POST_TOO,
    ),
]


def over_http(failures):
    rows = []
    for config in CONFIGS:
        name = f"{config.file}, {config.variant}" if config.variant else config.file
        with Server("a", config.status) as a, Server("b", config.status) as b:
            cases = [
                ("a is full", a.hold, set.__eq__, config.a_full),
                ("both are full", b.hold, set.issubset, config.both_full),
                ("a is gone", lambda: (b.free(), a.process.kill()), set.__eq__, [config.a_gone] * 3),
            ]
            for case, begin, matches, expected in cases:
                with proxy(config.file, a, b, config.change) as url:
                    begin()
                    got = [requests(url, size) for size in (0, SMALL, LARGE)]
                rows.append([name, case, *map(in_words, got)])
                if not all(map(matches, map(set, got), expected)):
                    failures.append(f"{name}, {case}: {got}")
    seen = table(["configuration", "and", "GET", "POST of 5 bytes", "POST of 8 MB"], rows)
    if seen not in (ROOT / "ops/README.md").read_text():
        failures.append("ops/README.md shows another table")


@contextlib.contextmanager
def running(url, count):
    """Holds this many uploads that are being served and do not end."""
    port = int(url.rpartition(":")[2])
    with contextlib.ExitStack() as uploads:
        while count:
            upload = uploads.enter_context(socket.create_connection(("127.0.0.1", port)))
            upload.sendall(b"POST / HTTP/1.1\r\nhost: pool\r\ncontent-length: 10\r\n\r\nx")
            upload.settimeout(0.3)
            try:
                upload.recv(1)
                upload.close()
            except TimeoutError:
                count -= 1
        yield


def settings_of_haproxy(failures):
    with Server("a") as a, Server("b") as b:
        # The instance that refuses has the fewest connections.
        a.hold()
        for change, wanted in [(("", ""), REFUSED_BY_A), (("roundrobin", "leastconn"), {"429 a"})]:
            with proxy("haproxy/pass.cfg", a, b, change) as url, running(url, 2):
                got = requests(url, 0)
            print(f"haproxy/pass.cfg, balance {change[1] or 'roundrobin'}, a is full, b serves 2: {in_words(got)}")
            if set(got) != wanted:
                failures.append(f"{change}: {got}")
        # HAProxy's own 503 has a retry hint as well.
        a.free()
        with proxy("haproxy/pass.cfg", a, b, ("maxconn 500", "maxconn 1")) as url, running(url, 2):
            got = requests(url, 0)
        print(f"haproxy/pass.cfg, past maxconn and timeout queue: {in_words(got)}\n")
        if set(got) != {"503 proxy"}:
            failures.append(f"HAProxy's own queue: {got}")


def form_of_refusal(url):
    """Returns the frames of the refusal of a gRPC call, its status and its pushback."""
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as stream:
        stream.settimeout(10)
        client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        client.initiate_connection()
        call = {":method": "POST", ":scheme": "http", ":authority": "pool", ":path": "/grpc.health.v1.Health/Check"}
        client.send_headers(1, [*call.items(), ("content-type", "application/grpc"), ("te", "trailers")])
        client.send_data(1, bytes(5), end_stream=True)
        frames, headers = [], {}
        while "the end" not in frames:
            stream.sendall(client.data_to_send())
            received = stream.recv(65_536)
            assert received, "closed before the end"
            for event in client.receive_data(received):
                if isinstance(event, h2.events.ResponseReceived):
                    headers = dict(event.headers)
                    frames.append("headers that end the stream" if event.stream_ended else "headers")
                elif isinstance(event, h2.events.TrailersReceived):
                    frames.append("trailers")
                elif isinstance(event, h2.events.DataReceived):
                    frames.append("data")
                elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                    frames.append("the end")
        return ", ".join(frames[:-1]), headers.get("grpc-status"), headers.get("grpc-retry-pushback-ms")


CALLERS = {
    "grpcio": lambda url: output(python("grpcio", "POST", url)),
    "grpc-js": lambda url: output(node("@grpc/grpc-js", "POST", url)),
}


def over_grpc(failures):
    rows = []
    for config in ["no proxy", "nginx/grpc.conf", "haproxy/grpc.cfg"]:
        with Server() as server, contextlib.ExitStack() as stack:
            # One instance in both roles, so that one clock measures refusal and retry.
            url = server.url if config == "no proxy" else stack.enter_context(proxy(config, server, server))
            server.hold()
            form, status, pushback = form_of_refusal(url)
            row = [config, form, status, pushback]
            if (form, status) != ("headers that end the stream", "8") or not pushback:
                failures.append(f"{config}: the refusal arrived as {row[1:]}")
            for name, call in CALLERS.items():
                server.hold(2)
                result = call(url).split()[-1]
                # Health checks of nginx and HAProxy go to /healthz, which is not recorded.
                times = waits(server.seen()[1])
                row.append(f"{result} after {', '.join(f'{waited} for {hint}' for hint, waited in times)} ms")
                waited_for_hint = all(hint and hint - EARLY <= waited <= hint + LATE for hint, waited in times)
                if result != "OK" or len(times) != 2 or not waited_for_hint:
                    failures.append(f"{config}, {name}: {row[-1]}")
            rows.append(row)
    callers = [f"{name}: wait for hint" for name in CALLERS]
    table(["configuration", "a refusal's frames", "grpc-status", "pushback", *callers], rows)


def versions():
    nginx = subprocess.run(["nginx", "-v"], stderr=subprocess.PIPE, text=True).stderr.split("/")[1].strip()
    haproxy = output(["haproxy", "-v"]).split()[2]
    with tempfile.NamedTemporaryFile("w") as file:
        text = (ROOT / "ops/haproxy/retry.cfg").read_text().replace("retry-on conn-failure 503", "retry-on 429")
        file.write(text)
        file.flush()
        parses = subprocess.run(["haproxy", "-c", "-f", file.name], capture_output=True).returncode == 0
    print(f"nginx {nginx}, HAProxy {haproxy} (`retry-on 429` {'parses' if parses else 'does not parse'})\n", flush=True)


def main():
    failures = []
    versions()
    over_http(failures)
    settings_of_haproxy(failures)
    over_grpc(failures)
    fail_if(failures)


main()
