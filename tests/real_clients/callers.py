"""Python's clients in typical use: callers.py CLIENT METHOD URL, or CLIENT-upload URL BYTES TRIES.

A client prints its version and its final result; an upload prints the result of each try.
"""

import io
import json
import sys


def urllib3(method, url, **settings):
    import urllib3

    retries = urllib3.Retry(5, **settings)
    return urllib3.__version__, urllib3.PoolManager().request(method, url, retries=retries).status


def urllib3_without_hint(method, url):
    return urllib3(method, url, respect_retry_after_header=False, status_forcelist=[429])


def requests(method, url):
    import requests
    from urllib3 import Retry

    session = requests.Session()
    session.mount("http://", requests.adapters.HTTPAdapter(max_retries=Retry(5)))
    return requests.__version__, session.request(method, url).status_code


def httpx_retries(method, url):
    from importlib.metadata import version

    import httpx
    from httpx_retries import RetryTransport

    with httpx.Client(transport=RetryTransport()) as client:
        return version("httpx-retries"), client.request(method, url).status_code


def grpcio(_, url):
    import grpc

    policy = {
        "maxAttempts": 5,
        "initialBackoff": "0.1s",
        "maxBackoff": "0.1s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["RESOURCE_EXHAUSTED"],
    }
    config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})
    channel = grpc.insecure_channel(url.removeprefix("http://"), options=[("grpc.service_config", config)])
    # Without serializers it takes bytes: an empty message needs no generated code.
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    try:
        check(b"", timeout=60)
        return grpc.__version__, "OK"
    except grpc.RpcError as error:
        return grpc.__version__, error.code().name


def requests_upload(url, upload):
    import requests

    return requests.post(url, data=upload).status_code


def httpx_file_upload(url, upload):
    return httpx_upload(url, io.BytesIO(upload))


def httpx_upload(url, upload):
    import httpx

    with httpx.Client(http1=False, http2=True, timeout=60) as client:
        return client.post(url, content=upload).status_code


def outcome(of, *args):
    try:
        return of(*args)
    except Exception as error:  # The result that the caller would get in place of a response.
        return type(error).__name__


def main(client, *args):
    call = globals()[client.replace("-", "_")]
    if client.endswith("-upload"):
        url, size, tries = args
        upload = bytes(int(size))
        for _ in range(int(tries)):
            print(outcome(call, url, upload))
    else:
        print(*call(*args))


main(*sys.argv[1:])
