"""`tests/interop/run peers [--check]`: other clients of an identity pool beside this crate's, all before the same local pool.

What it counts are requests that the pool has answered, and whose credentials came back. It writes the table in
docs/performance.md; with `--check` it counts again, and fails if the table there says something else. It needs the
privilege to listen at port 443, or user namespaces: awscrt speaks to nothing else.
"""

import argparse
import concurrent.futures
import datetime
import http.server
import importlib.metadata
import json
import platform
import re
import subprocess
import sys
import threading
import time
import traceback
import tomllib
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import harness
from cases import GOOGLE, ISSUER, operator
from harness import Place, Pool, environment, until

ROOT = HERE.parent.parent.parent
GUIDE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- peers: written by `tests/interop/run peers` -->", "<!-- /peers -->"
PEERS = {
    "this crate": "rust",
    "IdentityCache::lazy()": "rust",
    "reqsign": "rust",
    "JavaScript v3": "javascript",
    "JavaScript v2": "javascript",
    "Amplify": "javascript",
    "boto3": "python",
    "awscrt": "python",
}
# Those that ask the backend themselves. To the others the app gives a token, and a new one when it has expired.
ASKS_THE_BACKEND = ("this crate", "IdentityCache::lazy()", "JavaScript v3")
NO_GUESTS = ("boto3", "awscrt")
HERD = 20
BRIEF = 20
RUST: Path | None = None
STARTING = threading.Lock()
OPERATIONS = ("GetId", "GetOpenIdToken", "GetCredentialsForIdentity", "AssumeRoleWithWebIdentity")


class No(Exception):
    """There is no such call, and why."""


class Backend(http.server.BaseHTTPRequestHandler):
    """`GET /USER`: the user's identity id and a token for it."""

    def do_GET(self) -> None:
        self.server.asked += 1
        body = json.dumps(self.server.vend(self.path[1:])).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


class Scene:
    """A pool, a backend, and one client before them."""

    def __init__(self, target: str, peer: str, front, *options: str):
        self.peer, self.front = peer, front
        # One after the other: its files are named by how many servers there are, and a free port is free until it is taken.
        with STARTING:
            self.pool = Pool(target, "--guests", "--identity-provider", GOOGLE, *options)
        keys = {"access_key_id": self.pool.env["AWS_ACCESS_KEY_ID"], "secret_access_key": self.pool.env["AWS_SECRET_ACCESS_KEY"]}
        place = Place("peers", self.pool.endpoint, self.pool.pool_id, "us-east-1", ISSUER, "", self.pool.provider, **keys)
        self.operator = operator(place)
        self.backend = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
        self.backend.asked, self.backend.vend = 0, self.vend
        threading.Thread(target=self.backend.serve_forever, daemon=True).start()
        settings = {
            "client": peer,
            "endpoint": self.pool.endpoint,
            "pool_id": self.pool.pool_id,
            "region": "us-east-1",
            "backend": f"http://127.0.0.1:{self.backend.server_port}",
            "ca": front and front.ca,
        }
        command = {
            "rust": [RUST or Path(target) / "release" / "peers"],
            "javascript": ["node", HERE / "client.mjs"],
            "python": [sys.executable, "-B", HERE / "client.py"],
        }[PEERS[peer]]
        self.process = subprocess.Popen(
            [*command, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(
                AWS_ENDPOINT_URL_STS=self.pool.endpoint,
                AWS_REGION="us-east-1",
                AWS_SDK_JS_SUPPRESS_MAINTENANCE_MODE_MESSAGE="1",
            ),
            start_new_session=True,
            text=True,
        )
        with STARTING:
            harness._servers.append(self.process)

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.backend.shutdown()
        self.backend.server_close()
        for server in (self.process, self.pool.server):
            harness.stop(server)

    def vend(self, user: str) -> dict:
        answer = self.operator.get_open_id_token_for_developer_identity(
            IdentityPoolId=self.pool.pool_id, Logins={self.pool.provider: user}
        )
        return {"IdentityId": answer["IdentityId"], "Token": answer["Token"]}

    def admin(self, path: str, body=None, method: str | None = None):
        request = urllib.request.Request(
            f"{self.pool.endpoint.rstrip('/')}/_local/{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method or ("GET" if body is None else "POST"),
            headers={"x-local-admin": self.pool.env["COGNITO_LOCAL_ADMIN_TOKEN"], "content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    def order(self, do: str, **more) -> dict:
        if self.front:
            self.front.target = self.pool.port
        print(json.dumps({"do": do, **more}), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.peer} ended at {do}")
        answer = json.loads(line)
        if "no" in answer:
            raise No(answer["no"])
        return answer

    def who(self, state: str, user: str) -> dict:
        if state == "developer":
            vended = self.vend(user)
            return {"state": state, "user": user, "login": ISSUER, "identity": vended["IdentityId"], "token": vended["Token"]}
        if state == "social":
            token = self.admin("tokens", {"provider": GOOGLE, "sub": user})["token"]
            return {"state": state, "user": user, "login": GOOGLE, "token": token}
        return {"state": state}

    def make(self, state: str, user: str = "alice") -> None:
        self.order("make", **self.who(state, user))

    def counted(self, do: str, **more) -> tuple[dict, int, list[dict]]:
        """The answer, how often the backend was asked meanwhile, and what the pool was asked."""
        asked, before = self.backend.asked, self.admin("requests?limit=10000")["next"]
        answer = self.order(do, **more)
        record = self.admin(f"requests?from={before}&limit=10000")["requests"]
        return answer, self.backend.asked - asked, [one for one in record if one["operation"] in OPERATIONS]

    def identity_of(self, key: str) -> str:
        record = self.admin("requests?limit=10000")["requests"]
        return next(one["identity_id"] for one in record if one["issued_access_key_id"] == key)

    def one(self, answer: dict) -> str | None:
        """The access key of the only caller, or None for an error."""
        return answer["keys"][0] if answer["keys"] else None


# What is counted. Each returns the cell of one peer.


def round_trips(scene: Scene, state: str, again: bool) -> str:
    scene.make(state)
    answer, asked, record = scene.counted("ask", callers=1)
    if again:
        if not answer["keys"]:
            return "refused"
        answer, asked, record = scene.counted("again")
    if not answer["keys"]:
        return "refused"
    by_the_app = state == "developer" and scene.peer not in ASKS_THE_BACKEND
    return f"{'app' if by_the_app else asked} + {len(record)}"


def herd(scene: Scene) -> str:
    scene.make("developer" if scene.peer in NO_GUESTS else "guest")
    answer, _, record = scene.counted("ask", callers=HERD)
    if answer["errors"]:
        raise RuntimeError(answer["errors"][0])
    identities = {one["identity_id"] for one in record if one["issued_access_key_id"]}
    people = "" if scene.peer in NO_GUESTS else f", {len(identities)} guest{'s' * (len(identities) > 1)}"
    return f"{len(record)}{people}"


def cancelled(scene: Scene) -> str:
    scene.make("guest")
    scene.admin("faults", {"operation": "GetCredentialsForIdentity", "fault": "Latency", "milliseconds": 600, "count": 2})
    answer, _, record = scene.counted("cancel", milliseconds=300)
    if not answer["keys"]:
        raise RuntimeError(answer["errors"])
    return str(len(record))


def expired_token(scene: Scene) -> str:
    scene.make("developer")
    if not scene.one(scene.order("ask", callers=1)):
        return "refused"
    scene.admin("clock", {"advance_seconds": 7200})
    answer, asked, record = scene.counted("again")
    if answer["keys"]:
        return f"recovers, {asked} + {len(record)}"
    try:
        scene.order("switch", **scene.who("developer", "alice"))
    except No:
        return "error"
    renewed = scene.order("ask", callers=1)
    return f"error; {'good' if renewed['keys'] else 'error'} with a new token"


def switched(scene: Scene) -> str:
    state = "social" if scene.peer == "Amplify" else "developer"
    scene.make(state, "alice")
    alice = scene.identity_of(scene.one(scene.order("ask", callers=1)))
    scene.order("switch", **scene.who(state, "bob"))
    key = scene.one(scene.order("ask", callers=1))
    if key is None:
        return "error"
    return "the old user's" if scene.identity_of(key) == alice else "the new user's"


def outage(scene: Scene) -> tuple[str, str, str]:
    """While the credentials are good for four seconds; after their end; and the guest's identity when it is over."""
    guest = scene.peer not in NO_GUESTS
    scene.make("guest" if guest else "developer")
    key = scene.one(scene.order("ask", callers=1))
    got = time.monotonic()
    before = scene.identity_of(key)
    for operation in OPERATIONS:
        scene.admin("faults", {"operation": operation, "fault": "Status", "status": 500, "count": 1000})

    def at(seconds: float) -> None:
        time.sleep(max(0.0, got + seconds - time.monotonic()))

    at(BRIEF - 4)
    if scene.peer == "boto3":
        scene.order("late")
    during = scene.order("ask", callers=1)
    if during["keys"] and scene.one(during) != key:
        raise RuntimeError("refreshed in an outage")
    at(BRIEF + 2)
    # Its credentials live an hour at least.
    after = "no such state" if scene.peer == "boto3" else "expired ones" if scene.order("ask", callers=1)["keys"] else "error"
    scene.admin("faults", method="DELETE")
    identity = "no guests"
    if guest:
        def recovered() -> str | None:
            key = scene.one(scene.order("again" if scene.peer == "Amplify" else "ask", callers=1))
            return scene.identity_of(key) if key else None

        identity = "the same" if until(recovered, "recovery", 40) == before else "another"
    return "served" if during["keys"] else "error", after, identity


ROWS = {
    "guest, first time": lambda scene: round_trips(scene, "guest", False),
    "guest, again": lambda scene: round_trips(scene, "guest", True),
    "developer user, first time": lambda scene: round_trips(scene, "developer", False),
    "developer user, again, the token still good": lambda scene: round_trips(scene, "developer", True),
    "social login, first time": lambda scene: round_trips(scene, "social", False),
    "social login, again": lambda scene: round_trips(scene, "social", True),
    f"{HERD} callers at once, cold: requests": herd,
    "a caller gives up, the next one asks: requests": cancelled,
    "the token has expired": expired_token,
    "after a change of user, an existing client gets": switched,
}
OUTAGE = (
    "outage, credentials still good",
    "outage, credentials expired",
    "the guest's identity after the outage",
)


def behaviour(target: str, peer: str, front) -> dict[str, str]:
    cells = {}
    notes = cells["notes"] = {}

    def tell(rows, count, *options: str) -> None:
        try:
            with Scene(target, peer, front, *options) as scene:
                said = count(scene)
                said = (said,) if isinstance(said, str) else said
        except No as no:
            said = ("no such call",) * len(rows)
            notes[rows[0]] = str(no)
        except Exception as error:
            raise RuntimeError(f"{peer}: {rows[0]}") from error
        cells.update(zip(rows, said))

    for row, count in ROWS.items():
        tell((row,), count)
    tell(OUTAGE, outage, "--credentials-seconds", str(BRIEF))
    return cells


def times(target: str, peer: str, front) -> tuple[float | None, float | None]:
    """Nanoseconds of a cached call, and of a guest's first credentials."""
    taken = []
    for do, more in (("hit", {"calls": 200 if peer == "awscrt" else 20_000}), ("cold", {"times": 50})):
        with Scene(target, peer, front) as scene:
            try:
                scene.make("developer" if peer in NO_GUESTS else "guest")
                # What is not cached has no cached call.
                taken.append(None if do == "hit" and peer == "awscrt" else scene.order(do, **more)["ns"])
            except No:
                taken.append(None)
    return taken[0], taken[1]


def versions() -> dict[str, str]:
    locked = tomllib.loads((ROOT / "benches" / "peers" / "Cargo.lock").read_text())["package"]
    crates = {package["name"]: package["version"] for package in locked}

    def npm(name: str) -> str:
        return json.loads((HERE.parent / "node_modules" / name / "package.json").read_text())["version"]

    python = importlib.metadata.version
    return {
        "this crate": crates["cognito-identity-pool"],
        "IdentityCache::lazy()": f"aws-smithy-runtime {crates['aws-smithy-runtime']}, over a provider of 60 lines on "
        f"aws-sdk-cognitoidentity {crates['aws-sdk-cognitoidentity']}",
        "reqsign": f"reqsign-aws-core {crates['reqsign-aws-core']} behind the signer of reqsign-core {crates['reqsign-core']} "
        "(its cached call signs a request)",
        "JavaScript v3": f"@aws-sdk/credential-providers {npm('@aws-sdk/credential-providers')}",
        "JavaScript v2": f"aws-sdk {npm('aws-sdk')}",
        "Amplify": f"@aws-amplify/auth {npm('@aws-amplify/auth')}",
        "boto3": f"botocore {python('botocore')}, its web identity provider",
        "awscrt": f"awscrt {python('awscrt')}, `new_cognito`",
    }


def table(cells: dict[str, dict], taken: dict[str, tuple]) -> str:
    names = list(PEERS)
    code = {"IdentityCache::lazy()": "`lazy()`"}
    lines = [
        BEGIN,
        f"{datetime.date.today().isoformat()}, `tests/interop/run peers`, node {node_version()}, Python {platform.python_version()}.",
        "",
        "| | " + " | ".join(code.get(name, name) for name in names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for row in [*ROWS, *OUTAGE]:
        lines.append(f"| {row} | " + " | ".join(cells[name][row] for name in names) + " |")
    for index, row in enumerate(("a cached call, ratio", "a guest's first credentials, ratio")):
        ours = taken["this crate"][index]
        ratios = [f"{taken[name][index] / ours:.2f}" if taken[name][index] else "no such call" for name in names]
        lines.append(f"| {row} | " + " | ".join(ratios) + " |")
    lines += ["", "No such call, and why:", ""]
    for name in names:
        why = {}
        for row, reason in cells[name]["notes"].items():
            why.setdefault(reason, []).append(row)
        lines += [f"- {code.get(name, name)}: {reason} ({'; '.join(rows)})" for reason, rows in why.items()]
    lines += ["", "Versions: " + "; ".join(f"{code.get(name, name)} {version}" for name, version in versions().items()) + ".", END]
    return "\n".join(lines)


def node_version() -> str:
    return subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip().lstrip("v")


def counted_rows(text: str) -> list[str]:
    """The rows of the table that every run must find again."""
    inside = text.partition(BEGIN)[2].partition(END)[0]
    return [line for line in inside.splitlines() if re.match(r"\| |- ", line) and ", ratio |" not in line]


def main() -> int:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--target", required=True, help="cargo's target directory")
    arguments.add_argument("--check", action="store_true", help="write nothing; fail if the guide's table says something else")
    arguments.add_argument("--rust", type=Path, help="the program of benches/peers, if not the release build in TARGET")
    options = arguments.parse_args()
    global RUST
    RUST = options.rust
    # After the network namespace is entered, see below: it listens at port 443.
    import crt

    ca, certificate = crt.throw_away_ca()
    front = crt.Front(certificate)
    front.ca = ca
    fronts = {peer: front if peer == "awscrt" else None for peer in PEERS}
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        running = {peer: threads.submit(behaviour, options.target, peer, fronts[peer]) for peer in PEERS}
        cells, failed = {}, False
        for peer, run in running.items():
            try:
                cells[peer] = run.result()
            except Exception:
                traceback.print_exc()
                failed = True
    if failed:
        return 1
    guide = GUIDE.read_text()
    # One at a time: they take turns with the machine.
    taken = {peer: (None, None) if options.check and peer != "this crate" else times(options.target, peer, fronts[peer]) for peer in PEERS}
    written = table(cells, taken)
    if options.check:
        said, found = counted_rows(guide), counted_rows(written)
        wrong = [line for line in said if line not in found] + [line for line in found if line not in said]
        for line in wrong:
            print(f"{'the guide says' if line in said else 'counted now'}: {line}")
        print(f"{len(found) - sum(line not in said for line in found)} passed, {sum(line not in said for line in found)} failed")
        return 1 if wrong or not found else 0
    before, begin, rest = guide.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        print(f"{GUIDE.name} has no place for the table: {BEGIN} … {END}")
        return 1
    GUIDE.write_text(before + written + after)
    print(written)
    return 0


if __name__ == "__main__":
    sys.exit(main())
