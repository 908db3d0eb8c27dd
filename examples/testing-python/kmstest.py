"""A client of the control API of `kms serve --test` (docs/testing.md). Its url is the endpoint_url for boto3."""

import json
import os
import subprocess
import urllib.error
import urllib.parse
import urllib.request


class TestKMS:
    __test__ = False  # for pytest: it is not a test

    def __init__(self, url, process=None):
        self.url, self._process = url, process

    def _request(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/test/v1{path}", data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(f"{method} {path}: {json.load(error)['error']}") from None

    def now(self): return self._request("GET", "/clock")["now"]
    def advance(self, **by): return self._request("POST", "/advance", by)  # days=30
    def inject(self, **fault): return self._request("POST", "/faults", fault)  # operations=["Encrypt"], error="ThrottlingException", count=2
    def calls(self, *names): return self._request("GET", "/calls?" + urllib.parse.urlencode([("operation", n) for n in names]))["calls"]
    def seed(self, *keys): self._request("POST", "/seed", {"version": 1, "keys": keys})
    def reset(self): self._request("POST", "/reset")
    def fork(self, **options): return TestKMS(self._request("POST", "/fork", options)["url"])
    def delete(self): self._request("DELETE", "")

    def stop(self):
        self._process.terminate()
        self._process.communicate()


def start(program=os.environ.get("KMS", "kms")):
    """Start a service, which stop ends."""
    process = subprocess.Popen([program, "serve", "--test", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    url = process.stdout.readline().strip()
    if not url:
        process.communicate()
        raise RuntimeError(f"{program} serve --test has ended; run it to see why")
    return TestKMS(url, process)
