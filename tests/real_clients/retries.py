"""Each client is refused twice by a server of its own, waits as it was told, and is served.

How long it waited is the server's figure: from its refusal to the next request. POST is not retried by most clients
unless they are asked to: then the 429 is what their caller gets.
"""

import tempfile
from concurrent.futures import ThreadPoolExecutor

from server import Server, fail_if, node, output, python, table

REFUSALS = 2

# Milliseconds. A timer may fire a little early by the other's clock, and two busy cores may be late.
EARLY, LATE = 5, 900


def curl(method, url):
    # Not to /dev/null: curl truncates what it wrote before it tries again, and fails on a device.
    with tempfile.NamedTemporaryFile() as file:
        body = ["-d", "mail"] if method == "POST" else []
        command = ["curl", "-s", "--retry", "5", *body, "-o", file.name, "-w", "%{http_code}", url]
        return f'{output(["curl", "--version"]).split()[1]} {output(command)}'


# Name, what runs it, whether it retries a POST; None where there is no choice of method.
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
    """What the client said, and the answers that it was given."""
    with Server() as server:
        server.hold(REFUSALS)
        said = run(method, server.url)
        return said, server.seen()[1]


def waits(answers):
    """What was told and what was waited, for each refusal that was followed by another request."""
    return [(one.told, then.came - one.answered) for one, then in zip(answers, answers[1:])]


def judge(name, method, retries, said, answers):
    """What is not as it has to be."""
    statuses = [answer.status for answer in answers]
    wanted = "200" if retries else "429"
    if said.split()[-1] not in (wanted, "OK"):
        yield f"{name} {method}: {wanted} was due, the client said: {said}"
    if len(answers) != (REFUSALS + 1 if retries else 1):
        yield f"{name} {method}: the server answered {statuses}"
    for told, waited in waits(answers):
        if told is None or not told - EARLY <= waited <= told + LATE:
            yield f"{name} {method}: was told {told} ms, and waited {waited} ms"


def try_out(client):
    name, run, retries_post = client
    said, answers = attempt(run, "GET")
    failures = list(judge(name, "GET", True, said, answers))
    told_and_waited = waits(answers)
    row = [
        name,
        said.split()[0],
        len(told_and_waited),
        ", ".join(f"{told}" for told, _ in told_and_waited),
        ", ".join(f"{waited}" for _, waited in told_and_waited),
        said.split()[-1],
    ]
    if retries_post is None:
        return [*row, "all calls are POSTs"], failures
    said, answers = attempt(run, "POST")
    failures += judge(name, "POST", retries_post, said, answers)
    post = "retried, too" if len(answers) > 1 else "not retried"
    return [*row, f"{post}: {said.split()[-1]}"], failures


def main():
    with ThreadPoolExecutor(4) as pool:
        rows, failures = zip(*pool.map(try_out, CLIENTS))
    # Shows that these checks can fail.
    control = ("urllib3, told to ignore the hint", lambda *call: output(python("impatient", *call)), False)
    row, caught = try_out(control)
    rows = [*rows, row]
    failures = sum(failures, [])
    if not any("waited" in failure for failure in caught):
        failures.append("a client that does not wait was not found out")

    table(["client", "version", "refused", "told (ms)", "waited (ms)", "then", "POST"], rows)
    fail_if(failures)


if __name__ == "__main__":
    main()
