"""Four instances of the example backend, as processes, on one shared store: killed, stopped and cut off from it while guests sign in,
users are denied and forgotten. What they agree on holds all the same.

- A guest belongs to one device, whichever instances its owner and a thief ask.
- A denied user is vended nothing anywhere once the announced staleness is over.
- A forgotten user has no identity afterwards.
- An honest user meets no refusal that does not pass: 429, 503, or a connection that breaks.
"""

import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
from botocore import UNSIGNED
from botocore.config import Config

from harness import HERE, SCRATCH, SERVERS, Pool, check, environment, equal, free_port, serve, stop, suite, until
from stores import listens

INSTANCES = 4
MAX_STALE = 4
# `max_stale`, and the 5 s that a list may lag.
STALENESS = MAX_STALE + 5
GUESTS = {"dynalite": 1000, "moto": 150, "redis": 1000}
# Beside the users whom guests become.
DENIED, FORGOTTEN = 5, 5


class Proxy:
    """A way to the store that can be cut."""

    def __init__(self, port: int):
        self.target, self.cut = port, False
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        self.open: set[socket.socket] = set()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            near, _ = self.listener.accept()
            if self.cut:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.open |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self.pass_on, args=(source, sink), daemon=True).start()

    def pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for one in (source, sink):
            self.open.discard(one)
            one.close()

    def set(self, cut: bool) -> None:
        self.cut = cut
        if cut:
            for one in list(self.open):
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass


class Instance:
    def __init__(self, target: str, pool: Pool, name: str, scheme: str, store: int, users: int):
        self.proxy, self.port = Proxy(store), free_port()
        self.log = SCRATCH / f"fleet-{name}-{self.port}.log"
        self.setup = {
            "port": self.port, "pool_id": pool.pool_id, "provider": pool.provider, "cognito": pool.endpoint,
            "key": pool.env["AWS_ACCESS_KEY_ID"], "secret": pool.env["AWS_SECRET_ACCESS_KEY"],
            "store": f"{scheme}://127.0.0.1:{self.proxy.port}", "max_stale": MAX_STALE, "users": users,
        }  # fmt: skip
        self.command = [Path(target) / "debug" / "interop_stage", "backend", json.dumps(self.setup)]
        self.start()

    def start(self) -> None:
        self.process = serve(self.command, self.log)
        until(lambda: listens(self.port), "an instance of the backend", 30)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def post(self, path: str, body: dict, bearer: str | None = None, timeout: float = 3) -> tuple[int, dict]:
        """Status and answer; 0 if the connection breaks or nothing comes."""
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {bearer}"} if bearer else {})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("POST", path, json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read()
            return response.status, json.loads(text) if text else {}
        except (OSError, http.client.HTTPException):
            return 0, {}
        finally:
            connection.close()


PASSES = (0, 429, 503)


class Fleet:
    def __init__(self, target: str, name: str, scheme: str, store: int):
        self.name, self.guests = name, GUESTS[name]
        self.pool = Pool(target, "--guests")
        users = self.guests + DENIED + FORGOTTEN
        self.instances = [Instance(target, self.pool, name, scheme, store, users) for _ in range(INSTANCES)]
        anonymous = Config(signature_version=UNSIGNED, retries={"total_max_attempts": 3}, max_pool_connections=32)
        where = {"endpoint_url": self.pool.endpoint, "region_name": self.pool.pool_id.split(":")[0]}
        self.client = boto3.client("cognito-identity", **where, config=anonymous)
        self.operator = boto3.client(
            "cognito-identity", **where,
            aws_access_key_id=self.pool.env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.pool.env["AWS_SECRET_ACCESS_KEY"],
        )  # fmt: skip
        self.over = threading.Event()
        self.wrong: list[str] = []
        self.claims: dict[str, set] = {}
        self.linked = 0
        self.lock = threading.Lock()

    def any(self) -> Instance:
        return random.choice(self.instances)

    def honest(self, what: str, status: int, answer: dict) -> None:
        if status not in PASSES:
            self.wrong.append(f"{what}: {status} {answer}")

    def claim(self, guest: str, device: str) -> dict:
        """A session of a device that names a guest, at any instance."""
        instance = self.any()
        status, begun = instance.post("/session", {"device": device, "guest": guest})
        if status != 200:
            self.honest("session", status, begun)
            return {}
        if begun["guestClaim"]:
            with self.lock:
                self.claims.setdefault(guest, set()).add(device)
        return begun | {"instance": instance}

    def become(self, number: int) -> None:
        """A guest whose id a thief knows becomes a user."""
        guest = self.client.get_id(IdentityPoolId=self.pool.pool_id)["IdentityId"]
        devices = [f"{number:08d}-0000-4000-8000-{who:012d}" for who in range(2)]
        end = time.monotonic() + 60
        # Both at once now and then; otherwise the owner is first.
        both = number % 4 == 0
        owner = None
        while time.monotonic() < end:
            for device in devices if both or owner else devices[:1]:
                begun = self.claim(guest, device)
                if begun.get("guestClaim"):
                    owner = owner or device
                    if device == owner and self.sign_in(number, guest, begun):
                        return
            both = False
        self.wrong.append(f"guest {number} never became a user")

    def sign_in(self, number: int, guest: str, begun: dict) -> bool:
        instance = begun["instance"]
        form = {"email": f"{number}@example.com", "password": "wonderland"}
        status, signed_in = instance.post("/sign-in", form, begun["session"])
        if status == 401:
            # The instance was killed, and with it the session.
            return False
        if status != 200:
            self.honest("sign-in", status, signed_in)
            return False
        ask = {"reason": "firstUse", "guest": {"identityId": guest, "claim": begun["guestClaim"]}}
        status, vended = instance.post("/aws/identity", ask, signed_in["session"], 15)
        if status == 401:
            return False
        if status != 200:
            self.honest("identity", status, vended)
            return False
        with self.lock:
            self.linked += vended["identityId"] == guest
        return True

    def session(self, number: int) -> tuple[Instance, str] | None:
        instance = self.any()
        status, begun = instance.post("/session", {})
        if status != 200:
            return None
        status, signed_in = instance.post("/sign-in", {"email": f"{number}@example.com", "password": "wonderland"}, begun["session"])
        return (instance, signed_in["session"]) if status == 200 else None

    def until_done(self, what: str, number: int) -> None:
        """An operator tries at one instance after the other, for longer than the trouble lasts."""
        attempts = []
        end = time.monotonic() + 300
        while time.monotonic() < end:
            begun = time.monotonic()
            status, answer = self.any().post(f"/operator/{what}/user-{number}", {}, timeout=40)
            if status == 200 and answer["complete"]:
                return
            if status not in (*PASSES, 200):
                self.wrong.append(f"{what} {number}: {status} {answer}")
            attempts.append(f"{status} {answer} after {time.monotonic() - begun:.1f} s")
            time.sleep(0.2)
        self.wrong.append(f"{what} {number} was never done: {attempts[-5:]}")

    def deny(self, number: int) -> None:
        time.sleep(random.uniform(1, 6))
        self.until_done("deny", number)
        known = time.monotonic() + STALENESS
        while time.monotonic() < known + 4:
            session = self.session(number)
            if not session:
                continue
            asked = time.monotonic()
            status, _ = session[0].post("/aws/identity", {"reason": "firstUse"}, session[1], 10)
            if status == 200 and asked > known:
                self.wrong.append(f"denied user {number} was vended to {asked - known:.1f} s after the announced staleness")
            time.sleep(0.05)

    def forget(self, number: int) -> None:
        """The app lets the user in for a while yet, from sessions at instances that have not heard; not until it is complete, as whoever
        comes afterwards is somebody new."""
        done = threading.Event()

        def goes_on() -> None:
            session = None
            while not done.is_set():
                session = session or self.session(number)
                status = session[0].post("/aws/identity", {"reason": "firstUse"}, session[1], 10)[0] if session else 0
                session = session if status in (200, 503) else None
                time.sleep(0.05)

        with ThreadPoolExecutor() as pool:
            going_on = [pool.submit(goes_on) for _ in range(2)]
            time.sleep(random.uniform(1, 4))
            threading.Timer(STALENESS, done.set).start()
            self.until_done("forget", number)
            for one in going_on:
                one.result()

    def trouble(self) -> None:
        """One instance at a time is killed, stopped for longer than a list serves, or cut off for as long."""
        while not self.over.is_set():
            instance = self.any()
            match random.choice(("kill", "stop", "cut")):
                case "kill":
                    instance.kill()
                    self.over.wait(0.5)
                    instance.start()
                case "stop":
                    os.killpg(instance.process.pid, signal.SIGSTOP)
                    self.over.wait(MAX_STALE + 1)
                    os.killpg(instance.process.pid, signal.SIGCONT)
                case "cut":
                    instance.proxy.set(True)
                    self.over.wait(MAX_STALE + 2)
                    instance.proxy.set(False)
            self.over.wait(0.5)

    def live(self) -> None:
        trouble = threading.Thread(target=self.trouble, daemon=True)
        trouble.start()
        first = self.guests
        with ThreadPoolExecutor(16) as guests, ThreadPoolExecutor(16) as operators:
            forgotten = [operators.submit(self.forget, first + DENIED + n) for n in range(FORGOTTEN)]
            others = [operators.submit(self.deny, first + n) for n in range(DENIED)]
            others += [guests.submit(self.become, number) for number in range(self.guests)]
            for one in others:
                one.result()
            # A forgetting takes longer than it is from one trouble to the next: while they go on, whether it completes is luck.
            self.over.set()
            trouble.join()
            for one in forgotten:
                one.result()

    def identity_of(self, number: int) -> str | None:
        try:
            return self.operator.lookup_developer_identity(
                IdentityPoolId=self.pool.pool_id, DeveloperUserIdentifier=f"user-{number}"
            )["IdentityId"]
        except self.operator.exceptions.ResourceNotFoundException:
            return None

    def judge(self) -> None:
        with check(f"fleet on {self.name}: each guest belongs to one device"):
            equal([guest for guest, devices in self.claims.items() if len(devices) != 1], [])
            equal(len(self.claims), self.guests)
        with check(f"fleet on {self.name}: nothing happened that may not, and honest users met nothing that does not pass"):
            equal(self.wrong[:5], [])
        with check(f"fleet on {self.name}: {self.guests} guests became users with what they had, nearly all of them"):
            # Whose instance lost its store between ticket and link signs in without the guest.
            assert self.linked > self.guests * 0.8, self.linked
        with check(f"fleet on {self.name}: forgotten users have no identity"):
            first = self.guests + DENIED
            equal([self.identity_of(first + n) for n in range(FORGOTTEN)], [None] * FORGOTTEN)

    def end(self) -> None:
        for instance in self.instances:
            stop(instance.process)
        stop(self.pool.server)


def run(target: str) -> None:
    stage = Path(target) / "debug" / "interop_stage"
    redis = shutil.which("valkey-server") or shutil.which("redis-server")
    with suite("fleet"):
        for name, scheme, command in (
            ("dynalite", "http", ["node", HERE / "node_modules" / "dynalite" / "cli.js", "--createTableMs", "10", "--port"]),
            ("moto", "http", [SERVERS / "moto_server", "-H", "127.0.0.1", "-p"]),
            ("redis", "redis", [redis, "--bind", "127.0.0.1", "--save", "", "--dir", SCRATCH, "--port"]),
        ):
            port = free_port()
            store = serve([*command, port], SCRATCH / f"fleet-{name}.log")
            until(lambda: listens(port), name, 60)
            if scheme == "http":
                subprocess.run([stage, "table", f"http://127.0.0.1:{port}"], env=environment(), check=True, timeout=60)
            fleet = Fleet(target, name, scheme, port)
            fleet.live()
            fleet.judge()
            fleet.end()
            stop(store)
