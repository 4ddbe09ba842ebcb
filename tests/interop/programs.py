"""`cognito-identity-pool credentials`, judged by the AWS CLI, boto3 and the JavaScript SDK: every other program of the machine acts
as the signed-in user, follows a switch and a sign-out, and many of them make one exchange."""

import json
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


from harness import CLIENTS, HERE, SCRATCH, check, environment, equal, matches, program, suite, until
from program import Running


class Backend:
    """The app's own backend: it knows users by their bearer, and vends tokens at the pool."""

    def __init__(self, pool: Running):
        self.asked = 0
        backend = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers.get("content-length", 0)))
                backend.asked += 1
                kind, _, bearer = self.headers.get("authorization", "").partition(" ")
                if kind != "Bearer" or not bearer.startswith("session of "):
                    self.send_response(401)
                    self.send_header("content-length", "0")
                    return self.end_headers()
                vended = pool.vend(bearer.removeprefix("session of "))
                body = json.dumps({"identityId": vended["IdentityId"], "token": vended["Token"]}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}/aws/identity"


class Person:
    """Who is signed in on this machine: a file that the bearer command prints."""

    def __init__(self):
        self.file = SCRATCH / "bearer"
        self.command = f"cat {self.file}"

    def is_(self, user: str | None) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(f"session of {user}\n" if user else "")
        new.rename(self.file)


def run(target: str) -> None:
    with suite("credentials of the program"), Running(target) as pool:
        backend, person = Backend(pool), Person()
        source = ["--pool", pool.pool_id, "--backend", backend.url, "--bearer-command", person.command]
        endpoints = {
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_COGNITO_IDENTITY": pool.url,
            "AWS_ENDPOINT_URL_STS": pool.url,
        }
        endpoint(target, pool, person, source, endpoints)
        process(target, pool, person, source, endpoints)


def follows(name: str, pool: Running, person: Person, who, lease: float) -> None:
    """`who()` is the access key that signed; it acts as each user in turn, within the lease."""

    def acts_as(user: str):
        identity = pool.vend(user)["IdentityId"]

        def does():
            who()
            last = [request for request in pool.requests() if request["operation"] == "GetCallerIdentity"][-1]
            return last["status"] == 200 and last["identity_id"] == identity

        until(does, f"{name} as {user}", lease)

    with check(f"{name}: acts as the signed-in user"):
        person.is_("alice")
        acts_as("alice")
    with check(f"{name}: follows a switch within the lease"):
        person.is_("bob")
        acts_as("bob")
        person.is_("alice")
        acts_as("alice")
    with check(f"{name}: follows a sign-out within the lease"):
        person.is_(None)

        def fails():
            try:
                who()
            except Exception:
                return True

        until(fails, f"{name}: the end", lease)
    with check(f"{name}: and a sign-in"):
        person.is_("bob")
        until(lambda: not _raises(who), f"{name}: again", lease)


def _raises(call) -> bool:
    try:
        call()
    except Exception:
        return True
    return False


def cli(env: dict):
    def call():
        done = subprocess.run(
            [CLIENTS / "aws", "sts", "get-caller-identity", "--output", "json"],
            env=environment(**env), capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(done.stderr)

    return call


class LongLived:
    """A program with one client and the default chain: `whoami.py` or `whoami.mjs`."""

    def __init__(self, command: list, env: dict):
        self.process = subprocess.Popen(
            command, env=environment(**env), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(10)

    def __call__(self):
        print("who", file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])


BOTO3 = [CLIENTS / "python", HERE / "whoami.py"]
JAVASCRIPT = ["node", HERE / "javascript" / "whoami.mjs"]


def endpoint(target: str, pool: Running, person: Person, source: list, endpoints: dict) -> None:
    person.is_("alice")
    server = subprocess.Popen(
        [program(target), "credentials", "serve", *source, "--lease", "15"],
        env=environment(**endpoints), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        at_the_endpoint(target, server, pool, person, source, endpoints)
    finally:
        server.kill()


def at_the_endpoint(target: str, server, pool: Running, person: Person, source: list, endpoints: dict) -> None:
    printed = {}
    for line in server.stdout:
        if line.startswith("# ready"):
            break
        name, _, value = line.removeprefix("export ").strip().partition("=")
        printed[name] = value
    url, token = printed["AWS_CONTAINER_CREDENTIALS_FULL_URI"], printed["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
    env = endpoints | printed
    with LongLived(BOTO3, env) as client:
        follows("boto3 at the endpoint", pool, person, client, 20)
    follows("AWS CLI at the endpoint", pool, person, cli(env), 20)
    with LongLived(JAVASCRIPT, env) as client:
        follows("JavaScript SDK at the endpoint", pool, person, client, 20)
    with check("the endpoint wants its token, a loopback host and no web page"):

        def ask(**headers: str) -> int:
            try:
                with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
                    return answer.status
            except urllib.error.HTTPError as error:
                return error.code

        person.is_("alice")
        until(lambda: ask(Authorization=token) == 200, "credentials", 10)
        equal(ask(), 403)
        equal(ask(Authorization=token[:-1]), 403)
        equal(ask(Authorization=token, Host="evil.example"), 403)
        equal(ask(Authorization=token, Origin="http://evil.example"), 403)
    with check("the endpoint makes one exchange for 100 who ask at once"):
        person.is_("a herd")
        before = len([request for request in pool.requests() if request["operation"] == "GetCredentialsForIdentity"])
        until(lambda: ask(Authorization=token) == 200, "credentials", 10)
        time.sleep(1.1)
        threads = [threading.Thread(target=lambda: ask(Authorization=token)) for _ in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        after = len([request for request in pool.requests() if request["operation"] == "GetCredentialsForIdentity"])
        equal(after - before, 1)
    server.terminate()
    with check("the endpoint ends in order"):
        equal(server.wait(20), 0)
    with check("credentials exec: the command acts as the user, whatever keys stood in the environment"):
        person.is_("alice")
        done = subprocess.run(
            [program(target), "credentials", "exec", *source, "--", CLIENTS / "aws", "sts", "get-caller-identity"],
            env=environment(**endpoints, AWS_ACCESS_KEY_ID="AKIAOTHER", AWS_SECRET_ACCESS_KEY="other"),
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        equal((done.returncode, done.stderr), (0, ""))
        equal(pool.requests()[-1]["identity_id"], pool.vend("alice")["IdentityId"])


def process(target: str, pool: Running, person: Person, source: list, endpoints: dict) -> None:
    cache = SCRATCH / "credentials-cache"
    command = [str(program(target)), "credentials", "process", *source, "--cache", str(cache)]
    config = SCRATCH / "aws-config"
    quoted = " ".join(f'"{part}"' if " " in part else part for part in command)
    config.write_text(f"[default]\ncredential_process = {quoted}\n")
    env = endpoints | {"AWS_CONFIG_FILE": str(config)}
    with LongLived(BOTO3, env) as client:
        follows("boto3 by credential_process", pool, person, client, 310)
    follows("AWS CLI by credential_process", pool, person, cli(env), 310)

    def printed() -> dict:
        done = subprocess.run(command, env=environment(**endpoints), capture_output=True, text=True, timeout=60)
        equal((done.returncode, done.stderr), (0, ""))
        return json.loads(done.stdout)

    exchanges = lambda: len([request for request in pool.requests() if request["operation"] == "GetCredentialsForIdentity"])
    with check("50 processes at once make one exchange"):
        person.is_("one of fifty")
        before = exchanges()
        running = [subprocess.Popen(command, env=environment(**endpoints), stdout=subprocess.PIPE, text=True) for _ in range(50)]
        keys = {json.loads(process.communicate(timeout=120)[0])["AccessKeyId"] for process in running}
        equal((len(keys), exchanges() - before), (1, 1))
    with check("the cache is its owner's alone"):
        for file in cache.iterdir():
            equal(file.stat().st_mode & 0o777, 0o600)
        equal(cache.stat().st_mode & 0o777, 0o700)
    with check("kill -9 at any moment leaves a cache that is read"):
        for round in range(40):
            person.is_(f"killed {round}")
            killed = subprocess.Popen(command, env=environment(**endpoints), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(0.004 * round)
            killed.send_signal(signal.SIGKILL)
            killed.wait()
            for file in cache.glob("*.json"):
                json.loads(file.read_text())
        person.is_("alice")
        matches(printed()["AccessKeyId"], "ASIA.*")
    with check("nobody is signed in: no credentials, and none of the last user's left behind"):
        person.is_(None)
        done = subprocess.run(command, env=environment(**endpoints), capture_output=True, text=True, timeout=60)
        equal((done.returncode, done.stdout), (1, ""))
        assert "nobody is signed in" in done.stderr, done.stderr
        equal(list(cache.glob("*.json")), [])
    with check("the bearer is in no file"):
        person.is_("a secret session")
        printed()
        for file in cache.iterdir():
            assert b"a secret session" not in file.read_bytes(), file
