"""Each client is refused twice by its own server, waits for the retry hint, and is served.

The wait is measured by the server: from a refusal to the next request. Most clients do not retry a POST by default: their
caller gets the 429.
"""

import tempfile
from concurrent.futures import ThreadPoolExecutor

from server import Server, fail_if, node, output, python, table

REFUSALS = 2

# Allowed deviation of a wait, in milliseconds: clocks differ a little, and a busy machine is late.
EARLY, LATE = 5, 900


def curl(method, url):
    # Not to /dev/null: curl truncates its output file before a retry, which fails on a device.
    with tempfile.NamedTemporaryFile() as file:
        body = ["-d", "mail"] if method == "POST" else []
        command = ["curl", "-s", "--retry", "5", *body, "-o", file.name, "-w", "%{http_code}", url]
        return f'{output(["curl", "--version"]).split()[1]} {output(command)}'


# Name, function, and whether the client retries a POST; None if all calls are POSTs.
CLIENTS = [
    ("curl --retry", curl, True),
    ("urllib3", lambda *call: output(python("urllib3", *call)), False),
    ("requests + Retry", lambda *call: output(python("requests", *call)), False),
    ("httpx-retries", lambda *call: output(python("httpx-retries", *call)), False),
    ("got", lambda *call: output(node("got", *call)), False),
    ("ky", lambda *call: output(node("ky", *call)), False),
    ("undici RetryAgent", lambda *call: output(node("undici", *call)), False),
    ("grpcio", lambda *call: output(python("grpcio", *call)), None),
    ("grpc-js", lambda *call: output(node("@grpc/grpc-js", *call)), None),
]


def attempt(run, method):
    """Returns the output of the client, and the exchanges that its server recorded."""
    with Server() as server:
        server.hold(REFUSALS)
        printed = run(method, server.url)
        return printed, server.seen()[1]


def waits(exchanges):
    """Returns hint and wait for each refusal that was followed by another request."""
    return [(one.hint, following.arrived - one.responded) for one, following in zip(exchanges, exchanges[1:])]


def check(name, method, retries, printed, exchanges):
    """Yields the failures."""
    statuses = [exchange.status for exchange in exchanges]
    wanted = "200" if retries else "429"
    if printed.split()[-1] not in (wanted, "OK"):
        yield f"{name} {method}: the client printed, in place of {wanted}: {printed}"
    if len(exchanges) != (REFUSALS + 1 if retries else 1):
        yield f"{name} {method}: the server responded {statuses}"
    for hint, waited in waits(exchanges):
        if hint is None or not hint - EARLY <= waited <= hint + LATE:
            yield f"{name} {method}: the hint was {hint} ms, the client waited {waited} ms"


def try_out(client):
    name, run, retries_post = client
    printed, exchanges = attempt(run, "GET")
    failures = list(check(name, "GET", True, printed, exchanges))
    hints_and_waits = waits(exchanges)
    row = [
        name,
        printed.split()[0],
        len(hints_and_waits),
        ", ".join(f"{hint}" for hint, _ in hints_and_waits),
        ", ".join(f"{waited}" for _, waited in hints_and_waits),
        printed.split()[-1],
    ]
    if retries_post is None:
        return [*row, "all calls are POSTs"], failures
    printed, exchanges = attempt(run, "POST")
    failures += check(name, "POST", retries_post, printed, exchanges)
    post = "retried, too" if len(exchanges) > 1 else "not retried"
    return [*row, f"{post}: {printed.split()[-1]}"], failures


def main():
    with ThreadPoolExecutor(4) as pool:
        rows, failures = zip(*pool.map(try_out, CLIENTS))
    # A client that ignores the hint: the checks must fail.
    control = ("urllib3, set to ignore the hint", lambda *call: output(python("urllib3-without-hint", *call)), False)
    row, caught = try_out(control)
    rows = [*rows, row]
    failures = sum(failures, [])
    if not any("waited" in failure for failure in caught):
        failures.append("the checks did not fail for a client that does not wait")

    table(["client", "version", "refused", "hint (ms)", "waited (ms)", "then", "POST"], rows)
    fail_if(failures)


if __name__ == "__main__":
    main()
