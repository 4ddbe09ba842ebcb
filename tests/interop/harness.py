"""PASS or FAIL a check, and what the checks share: servers that end, an environment without the user's own settings."""

import atexit
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CLIENTS, SERVERS = HERE / ".venv" / "clients" / "bin", HERE / ".venv" / "servers" / "bin"
SCRATCH = Path(tempfile.mkdtemp(prefix="interop-"))
COMMAND_SECONDS = 60

passed = 0
failed: list[str] = []


def report(name: str, problem: str | None = None) -> None:
    global passed
    if problem is None:
        passed += 1
        print(f"PASS {name}")
    else:
        failed.append(name)
        print(f"FAIL {name}: {problem}")


@contextmanager
def check(name: str):
    """The body is a check: whatever it raises is its failure, and the next check runs."""
    try:
        yield
    except (Exception, SystemExit) as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(at.filename).name}:{at.lineno}"
        report(name, f"{type(error).__name__} at {where} `{at.line}`: {error}"[:600])
    else:
        report(name)


@contextmanager
def suite(name: str):
    """The body makes checks; that it does not reach its end is one more failed check."""
    print(f"-- {name}")
    start = time.monotonic()
    try:
        yield
    except Exception as error:
        traceback.print_exc()
        report(f"{name}: all checks were made", f"{type(error).__name__}: {error}"[:300])
    print(f"-- {name}: {time.monotonic() - start:.1f} s")


def total() -> int:
    for name in failed:
        print(f"FAILED: {name}")
    print(f"{passed} passed, {len(failed)} failed")
    return 1 if failed or not passed else 0


def equal(actual, expected) -> None:
    if actual != expected:
        raise AssertionError(f"{actual!r} is not {expected!r}")


def matches(text: str, pattern: str) -> None:
    if not re.fullmatch(pattern, text, re.DOTALL):
        raise AssertionError(f"{text!r} does not match {pattern!r}")


def environment(**more: str) -> dict[str, str]:
    """PATH and what is given: no setting, proxy, profile or metadata service of whoever runs this."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(SCRATCH),
        "LANG": "C.UTF-8",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_PAGER": "",
        **more,
    }


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


_servers: list[subprocess.Popen] = []


def serve(command: list, log: Path, env: dict[str, str] | None = None) -> subprocess.Popen:
    """Starts a server, in a process group that ends with this program."""
    with open(log, "wb") as output:
        server = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env or environment(),
            start_new_session=True,
        )
    _servers.append(server)
    return server


def stop(server: subprocess.Popen) -> None:
    try:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(5)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    except ProcessLookupError:
        pass


def stop_all() -> None:
    for server in _servers:
        stop(server)


def until(condition, what: str, seconds: float = 30):
    """Waits for a server; no check is a wait for something to not happen."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.02)
    raise TimeoutError(f"{what} did not come within {seconds} s")


@dataclass
class Request:
    """A line of the pool's log."""

    status: int
    operation: str
    outcome: str
    identity: str
    key: str


def program(target: str) -> Path:
    """The program of this crate."""
    return Path(target) / "debug" / "cognito-identity-pool"


class Pool:
    """`cognito-identity-pool local`, and what it says of itself."""

    def __init__(self, target: str, *options: str, env: dict[str, str] | None = None):
        name = f"pool-{len(_servers)}"
        self.log, env_file = SCRATCH / f"{name}.log", SCRATCH / f"{name}.env"
        self.port = free_port()
        self.server = serve([program(target), "local", "--port", self.port, "--env-file", env_file, *options], self.log, env)
        until(lambda: "listening on" in self.log.read_text() or self.server.poll() is not None, "the pool", 10)
        if self.server.poll() is not None:
            raise RuntimeError(f"the pool ended: {self.log.read_text()}")
        # As a shell sources it, so that the file itself is checked, too.
        printed = subprocess.run(
            ["bash", "-c", 'source "$1" && env -0', "bash", env_file], capture_output=True, env={}, check=True, text=True
        ).stdout
        variables = dict(line.split("=", 1) for line in printed.split("\0") if line)
        self.env = {name: value for name, value in variables.items() if name.startswith(("AWS_", "COGNITO_"))}
        self.pool_id = self.env["COGNITO_IDENTITY_POOL_ID"]
        self.provider = self.env["COGNITO_DEVELOPER_PROVIDER"]
        self.endpoint = self.env["AWS_ENDPOINT_URL_COGNITO_IDENTITY"]

    def requests(self) -> list[Request]:
        lines = re.findall(r"^(\d{3}) (\S+) (\S+) (\S+) (\S+)$", self.log.read_text(), re.MULTILINE)
        return [Request(int(status), *rest) for status, *rest in lines]

    def identity_of(self, access_key: str) -> str:
        """The identity that the pool gave this access key to, by its own record."""
        given = [
            request.identity
            for request in self.requests()
            if request.key == access_key and request.operation in ("GetCredentialsForIdentity", "AssumeRoleWithWebIdentity")
        ]
        equal(len(given), 1)
        return given[0]


class Stage:
    """The pools of `stage/src/pools.rs`. `stage.pools[name]` describes one."""

    def __init__(self, target: str):
        self.process = subprocess.Popen(
            [Path(target) / "debug" / "interop_stage", "pools"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            start_new_session=True,
            text=True,
        )
        _servers.append(self.process)
        about = json.loads(self.process.stdout.readline())
        self.pools = {name: Place(name, **place) for name, place in about["pools"].items()}

    def order(self, order: str, **arguments):
        print(json.dumps({"order": order, **arguments}), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def token(self, issuer: str, sub: str, **arguments) -> str:
        return self.order("token", issuer=issuer, sub=sub, **arguments)

    def requests(self, pool: str) -> list[dict]:
        return self.order("requests", pool=pool)

    def identity_of(self, pool: str, access_key: str) -> str:
        """The identity that the pool gave this access key to, by its own record."""
        given = [request["identity"] for request in self.requests(pool) if request["issued"] == access_key]
        equal(len(given), 1)
        return given[0]


@dataclass
class Place:
    """Where a pool of the stage is, and the keys of its backend."""

    name: str
    endpoint: str
    pool_id: str
    region: str
    issuer: str
    jwks_uri: str
    provider: str
    access_key_id: str
    secret_access_key: str


def tampered(token: str) -> str:
    """The token with another signature."""
    signed, signature = token.rsplit(".", 1)
    middle = len(signature) // 2
    other = "A" if signature[middle] != "A" else "B"
    return f"{signed}.{signature[:middle]}{other}{signature[middle + 1 :]}"


@atexit.register
def leave_nothing() -> None:
    stop_all()
    shutil.rmtree(SCRATCH, ignore_errors=True)


# A program that is asked to end does so in the same way.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
