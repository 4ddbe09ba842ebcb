"""The program, from Python alone: no line of Rust, no stage. What every developer of the feature keeps running."""

import base64
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from harness import CLIENTS, HERE, SCRATCH, check, environment, equal, free_port, matches, program, report, suite, until

ISSUER = "cognito-identity.amazonaws.com"
REPOSITORY = HERE.parent.parent
FACEBOOK = "graph.facebook.com"
USER_POOL = "us-east-1_Example"


class Running:
    """`cognito-identity-pool local --json`, as a script has it."""

    def __init__(self, target: str, *options: str, stderr=subprocess.DEVNULL, env: dict | None = None, command: list | None = None):
        self.process = subprocess.Popen(
            [*(command or []), str(program(target)), "local", "--json", "--guests", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment(**(env or {})),
            text=True,
        )
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the program ended with {self.process.wait(10)}")
        ready = json.loads(line)
        self.url, self.env = ready["ready"], ready["environment"]
        self.pool_id, self.provider = self.env["COGNITO_IDENTITY_POOL_ID"], self.env["COGNITO_DEVELOPER_PROVIDER"]
        self.backend = self.client()
        self.app = self.client(signature_version=UNSIGNED)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self, how: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(20)

    def client(self, service: str = "cognito-identity", keys: dict | None = None, **config):
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=self.env["AWS_REGION"],
            aws_access_key_id=keys["AccessKeyId"] if keys else self.env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=keys["SecretKey"] if keys else self.env["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=keys["SessionToken"] if keys else None,
            config=Config(retries={"total_max_attempts": 1}, read_timeout=20, **config),
        )

    def admin(self, method: str, path: str, body=None, token: str | None = None, **headers: str):
        request = urllib.request.Request(
            f"{self.url}/_local{path}",
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"x-local-admin": token or self.env["COGNITO_LOCAL_ADMIN_TOKEN"], **headers},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def trust(self, **provider) -> str:
        return self.admin("POST", "/providers", provider)["provider"]

    def token(self, provider: str, sub: str, **more) -> str:
        return self.admin("POST", "/tokens", {"provider": provider, "sub": sub, **more})["token"]

    def vend(self, user: str) -> dict:
        return self.backend.get_open_id_token_for_developer_identity(IdentityPoolId=self.pool_id, Logins={self.provider: user})

    def get_id(self, **logins: str) -> str:
        return self.app.get_id(IdentityPoolId=self.pool_id, Logins=logins)["IdentityId"]

    def exchange(self, identity: str, **logins: str) -> dict:
        return self.app.get_credentials_for_identity(IdentityId=identity, Logins=logins)["Credentials"]

    def caller(self, keys: dict) -> dict:
        return self.client("sts", keys).get_caller_identity()

    def requests(self) -> list[dict]:
        return self.admin("GET", "/requests?limit=100000")["requests"]

    def identity_of(self, access_key: str) -> str:
        given = [request["identity_id"] for request in self.requests() if request["issued_access_key_id"] == access_key]
        equal(len(given), 1)
        return given[0]


def refused(call, code: str, message: str = ".*") -> None:
    try:
        answer = call()
    except ClientError as error:
        equal(error.response["Error"]["Code"], code)
        matches(error.response["Error"]["Message"], message)
    else:
        raise AssertionError(f"not refused, but answered {answer}")


def run(target: str) -> None:
    javascript(target)
    with suite("program, Python alone"):
        with Running(target) as pool:
            logins(pool)
            roles_and_tags(pool)
            steering(pool)
        state(target)
        own_provider(target)
        hosts(target)
        ends(target)
        commands(target)
        as_documented(target)
    with suite("program under load"):
        undrained(target)
        hostile(target)


def javascript(target: str) -> None:
    with suite("program, JavaScript alone"):
        folder = SCRATCH / "javascript-alone"
        shutil.copytree(REPOSITORY / "examples" / "javascript", folder)
        shutil.copy(HERE / "javascript" / "program.mjs", folder)
        (folder / "node_modules").symlink_to(HERE / "node_modules")
        env = {"HELPER": str(folder / "pool.mjs"), "STATE": str(folder / "state.json"), "COGNITO_IDENTITY_POOL_PROGRAM": str(program(target))}
        done = subprocess.run(
            ["node", "program.mjs"], cwd=folder, env=environment(**env), capture_output=True, text=True, timeout=240
        )
        said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        for answer in said:
            report(f"JavaScript alone: {answer['check']}", answer.get("error"))
        if done.returncode or not said:
            report("program.mjs runs to its end", done.stderr[-500:])


def logins(pool: Running) -> None:
    with check("social login, and a user pool's, without a line of Rust"):
        facebook, users = pool.trust(provider=FACEBOOK), pool.trust(user_pool=USER_POOL, client_id="app")
        for provider in (facebook, users):
            token = pool.token(provider, "alice")
            identity = pool.get_id(**{provider: token})
            equal(pool.get_id(**{provider: pool.token(provider, "alice", claims={"email": "a@example.com"})}), identity)
            keys = pool.exchange(identity, **{provider: token})
            matches(pool.caller(keys)["Arn"], r".*:assumed-role/local-authenticated/CognitoIdentityCredentials")
            equal(pool.identity_of(keys["AccessKeyId"]), identity)
        equal(users, f"cognito-idp.us-east-1.amazonaws.com/{USER_POOL}")
    with check("a guest who signs in keeps the identity, and loses it with the last login"):
        guest = pool.get_id()
        token = pool.token(FACEBOOK, "guest of old")
        pool.exchange(guest, **{FACEBOOK: token})
        equal(pool.get_id(**{FACEBOOK: token}), guest)
        pool.app.unlink_identity(IdentityId=guest, Logins={FACEBOOK: token}, LoginsToRemove=[FACEBOOK])
        state = {known["identity_id"]: known["state"] for known in pool.admin("GET", "/identities")["identities"]}
        equal(state[guest], "inaccessible")
        refused(lambda: pool.exchange(guest), "NotAuthorizedException", "Access to Identity .* is forbidden.")
        matches(pool.requests()[-1]["why"], "the identity has lost its last login.*")
    with check("forged, expired and foreign tokens are refused, each with its rule and its reason"):
        for more, rule, why in (
            ({"forged": True}, "BadTokenSignature", ".*is simulated here.*"),
            ({"audience": "another"}, "UnsupportedProvider", ".*for another.*"),
            ({"without_audience": True}, "MissingClaim", ".* has .*"),
        ):
            users = f"cognito-idp.us-east-1.amazonaws.com/{USER_POOL}"
            token = pool.token(users, "mallory", **more)
            refused(lambda token=token: pool.get_id(**{users: token}), "NotAuthorizedException")
            last = pool.requests()[-1]
            equal(last["rule"], rule)
            matches(last["why"], why)
            assert last["advice"], last
        token = pool.token(users, "mallory", lifetime_seconds=0)
        pool.admin("POST", "/clock", {"advance_seconds": 400})
        refused(lambda: pool.get_id(**{users: token}), "NotAuthorizedException")
        last = pool.requests()[-1]
        equal(last["rule"], "TokenExpired")
        matches(last["why"], r".* ended 40\d s ago; the pool's clock was moved on by 400 s")
        pool.admin("DELETE", "/clock")


def roles_and_tags(pool: Running) -> None:
    aws, users = pool.backend, f"cognito-idp.us-east-1.amazonaws.com/{USER_POOL}"
    arn = "arn:aws:iam::123456789012:role/"
    with check("role mapping by rules"):
        rule = {"Claim": "department", "MatchType": "Equals", "Value": "research", "RoleARN": f"{arn}research"}
        aws.set_identity_pool_roles(
            IdentityPoolId=pool.pool_id,
            Roles={"authenticated": f"{arn}everybody", "unauthenticated": f"{arn}guest"},
            RoleMappings={
                f"{users}:app": {"Type": "Rules", "AmbiguousRoleResolution": "Deny", "RulesConfiguration": {"Rules": [rule]}}
            },
        )
        token = pool.token(users, "alice", claims={"department": "research"})
        keys = pool.exchange(pool.get_id(**{users: token}), **{users: token})
        matches(pool.caller(keys)["Arn"], r".*:assumed-role/research/.*")
        other = pool.token(users, "bob", claims={"department": "sales"})
        identity = pool.get_id(**{users: other})
        refused(lambda: pool.exchange(identity, **{users: other}), "NotAuthorizedException", "The ambiguous role mapping.*")
    with check("principal tags by claims"):
        aws.set_principal_tag_attribute_map(
            IdentityPoolId=pool.pool_id, IdentityProviderName=users, UseDefaults=False, PrincipalTags={"tenant": "custom:tenant"}
        )
        token = pool.token(users, "alice", claims={"department": "research", "custom:tenant": "t1"})
        keys = pool.exchange(pool.get_id(**{users: token}), **{users: token})
        given = [request for request in pool.requests() if request["issued_access_key_id"] == keys["AccessKeyId"]]
        equal(given[0]["principal_tags"], {"tenant": "t1"})


def steering(pool: Running) -> None:
    with check("time travel: tokens and credentials end, and the present is believed"):
        vended = pool.vend("alice")
        keys = pool.exchange(vended["IdentityId"], **{ISSUER: vended["Token"]})
        pool.admin("POST", "/clock", {"advance_seconds": 3700})
        refused(lambda: pool.exchange(vended["IdentityId"], **{ISSUER: vended["Token"]}), "NotAuthorizedException", ".*Token expired.*")
        refused(lambda: pool.caller(keys), "ExpiredToken")
        equal(pool.vend("alice")["IdentityId"], vended["IdentityId"])
        pool.admin("DELETE", "/clock")
        pool.caller(keys)
    with check("a clock that disagrees is refused, as on AWS"):
        pool.admin("POST", "/clock", {"offset_seconds": 3600})
        refused(lambda: pool.vend("alice"), "InvalidSignatureException")
        pool.admin("DELETE", "/clock")
    with check("faults and throttling"):
        pool.admin("POST", "/faults", {"operation": "GetId", "fault": "Status", "status": 503, "count": 2})
        for _ in range(2):
            refused(pool.get_id, "503")
        pool.get_id()
        pool.admin("POST", "/throttling", {"on": True})
        throttled = 0
        for _ in range(100):
            try:
                pool.get_id()
            except ClientError as error:
                equal(error.response["Error"]["Code"], "TooManyRequestsException")
                throttled += 1
        assert throttled > 0
        pool.admin("POST", "/throttling", {"on": False})
    with check("what was asked, by whom"):
        vended = pool.vend("carol")
        last = pool.requests()[-1]
        equal((last["operation"], last["status"], last["identity_id"]), ("GetOpenIdTokenForDeveloperIdentity", 200, vended["IdentityId"]))
        equal(last["access_key_id"], pool.env["AWS_ACCESS_KEY_ID"])
    with check("reset starts anew, and keeps the pool and its providers"):
        pool.admin("POST", "/reset", {})
        equal(pool.requests(), [])
        equal(pool.admin("GET", "/identities")["total"], 0)
        pool.get_id(**{FACEBOOK: pool.token(FACEBOOK, "alice")})
    with check("the headers of a refusal say rule, reason and advice"):
        request = urllib.request.Request(
            pool.url,
            data=json.dumps({"IdentityPoolId": pool.pool_id, "Logins": {"login.mycompany.myapp": "user"}}).encode(),
            headers={"x-amz-target": "AWSCognitoIdentityService.GetId", "content-type": "application/x-amz-json-1.1"},
        )
        try:
            urllib.request.urlopen(request)
            raise AssertionError("not refused")
        except urllib.error.HTTPError as error:
            equal(error.headers["x-local-rule"], "PublicProviderOnly")
            matches(error.headers["x-local-why"], "login.mycompany.myapp is the pool's developer provider.*")
            matches(error.headers["x-local-advice"], ".*GetCredentialsForIdentity.*")


def state(target: str) -> None:
    with check("two runs with one state file: ids, tokens, credentials and providers stay good"):
        file = str(SCRATCH / "program-state.json")
        with Running(target, "--state", file) as pool:
            pool.trust(provider=FACEBOOK)
            vended = pool.vend("alice")
            keys = pool.exchange(vended["IdentityId"], **{ISSUER: vended["Token"]})
            social = pool.get_id(**{FACEBOOK: pool.token(FACEBOOK, "alice")})
            first = pool.env
            try:
                Running(target, "--state", file)
                raise AssertionError("two pools keep their state in one file")
            except RuntimeError:
                pass
        with Running(target, "--state", file) as pool:
            same = ("COGNITO_IDENTITY_POOL_ID", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
            equal([pool.env[name] for name in same], [first[name] for name in same])
            equal(pool.vend("alice")["IdentityId"], vended["IdentityId"])
            pool.exchange(vended["IdentityId"], **{ISSUER: vended["Token"]})
            pool.caller(keys)
            equal(pool.get_id(**{FACEBOOK: pool.token(FACEBOOK, "alice")}), social)
        equal(os.stat(file).st_mode & 0o777, 0o600)
    with check("kill -9 leaves a state that the next run goes on with"):
        file = str(SCRATCH / "killed-state.json")
        ids = []
        for round in range(5):
            pool = Running(target, "--state", file)
            ids += [pool.get_id() for _ in range(50)]
            written = lambda pool=pool: ids[-1] in Path(file).read_text()
            until(written, "the state", 10)
            # In the middle of whatever it does next.
            threading.Thread(target=ask_until_it_ends, args=[pool], daemon=True).start()
            time.sleep(0.01 * round)
            pool.stop(signal.SIGKILL)
        with Running(target, "--state", file) as pool:
            known = {identity["identity_id"] for identity in pool.admin("GET", "/identities?limit=100000")["identities"]}
            equal(set(ids) - known, set())


def ask_until_it_ends(pool: Running) -> None:
    try:
        while True:
            pool.get_id()
    except Exception:
        pass


class Provider:
    """An OIDC provider of the developer's own, with keys that nobody here has."""

    def __init__(self, port: int):
        self.name = f"localhost:{port}/realms/app"
        self.key = rsa.generate_private_key(65537, 2048)
        encoded = lambda number: base64.urlsafe_b64encode(number.to_bytes((number.bit_length() + 7) // 8)).rstrip(b"=").decode()
        numbers = self.key.public_key().public_numbers()
        jwks = {"keys": [{"kty": "EC", "kid": "other"}, {"kty": "RSA", "kid": "one", "use": "sig", "n": encoded(numbers.n), "e": encoded(numbers.e)}]}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.dumps(jwks).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def token(self, **claims) -> str:
        part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
        now = int(time.time())
        claims = {"iss": f"http://{self.name}", "sub": "alice", "aud": ["account", "my-app"], "iat": now, "exp": now + 60, **claims}
        signed = f"{part({'alg': 'RS256', 'kid': 'one'})}.{part(claims)}"
        signature = self.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def own_provider(target: str) -> None:
    with check("a provider of one's own, by its JWKS URL, which may start later"):
        port = free_port()
        spec = f"localhost:{port}/realms/app,jwks=http://127.0.0.1:{port}/certs,audience=my-app"
        with Running(target, "--identity-provider", spec) as pool:
            early = Provider(free_port())
            early.name = f"localhost:{port}/realms/app"
            refused(lambda: pool.get_id(**{f"localhost:{port}/realms/app": early.token()}), "ExternalServiceException")
            provider = Provider(port)
            get_id = lambda **claims: pool.get_id(**{provider.name: provider.token(**claims)})

            def known():
                try:
                    return get_id()
                except ClientError:
                    return None

            identity = until(known, "the provider's keys", 20)
            equal(get_id(), identity)
            for claims in ({"aud": "another"}, {"iss": "http://localhost/other"}, {"exp": 1}):
                refused(lambda claims=claims: get_id(**claims), "NotAuthorizedException")
            stranger = Provider(free_port())
            stranger.name = provider.name
            refused(lambda: pool.get_id(**{provider.name: stranger.token()}), "NotAuthorizedException")


def ask(url: str, host: str, path: str = "/.well-known/jwks_uri") -> tuple[int, str]:
    at = urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname, at.port, timeout=10)
    connection.putrequest("GET", path, skip_host=True)
    connection.putheader("Host", host)
    connection.endheaders()
    answer = connection.getresponse()
    said = answer.status, answer.read().decode()
    connection.close()
    return said


def hosts(target: str) -> None:
    with check("hosts: AWS's own and loopback always, an emulator's when allowed, others are told how"):
        with Running(target, "--allow-host", "10.0.2.2") as pool:
            for host in ("localhost", "127.0.0.1", "cognito-identity.us-east-1.amazonaws.com", "pool.localhost", "10.0.2.2:4599"):
                equal(ask(pool.url, host)[0], 200)
            status, told = ask(pool.url, "pool:4599")
            equal(status, 421)
            assert "--allow-host pool" in told, told
    with check("the settings of examples/compose are those of a pool that its containers reach"):
        port, state = free_port(), SCRATCH / "compose-state.json"
        shutil.copy(REPOSITORY / "examples/compose/local.toml", SCRATCH / "local.toml")
        with Running(target, "--config", str(SCRATCH / "local.toml"), "--port", str(port), "--state", str(state)) as pool:
            equal(ask(pool.url, "pool:4599")[0], 200)
            equal(ask(pool.url, "evil.example")[0], 421)
            compose = (REPOSITORY / "examples/compose/compose.yaml").read_text()
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "COGNITO_IDENTITY_POOL_ID", "COGNITO_DEVELOPER_PROVIDER"):
                assert f"{name}: {pool.env[name]}\n" in compose, name
            pool.vend("user-42")
    with check("settings: a flag wins over a variable, a variable over the file"):
        file = SCRATCH / "settings.toml"
        file.write_text('provider = "login.file"\naccount = "111111111111"\nregion = "eu-west-1"\n')
        env = {"COGNITO_LOCAL_CONFIG": str(file), "COGNITO_LOCAL_ACCOUNT": "222222222222", "COGNITO_LOCAL_REGION": "eu-west-2"}
        with Running(target, "--region", "eu-west-3", env=env) as pool:
            about = pool.admin("GET", "")
            equal((about["region"], about["account_id"], pool.provider), ("eu-west-3", "222222222222", "login.file"))


def ends(target: str) -> None:
    for how in (signal.SIGTERM, signal.SIGINT):
        with check(f"{how.name} ends it in order"):
            pool = Running(target)
            equal(pool.stop(how), 0)
    with check("as process 1, SIGTERM ends it in order"):
        if subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True).returncode:
            print("   not as process 1: no PID namespace here")
            return
        pool = Running(target, command=["unshare", "--pid", "--fork", "--kill-child"])
        children = Path(f"/proc/{pool.process.pid}/task/{pool.process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        equal(pool.process.wait(20), 0)
    run = lambda *command: subprocess.run(
        [program(target), "local", *command], env=environment(), capture_output=True, text=True, timeout=60
    )
    with check("local exec: the command has the environment, and its exit code is the program's"):
        script = 'test -n "$AWS_ENDPOINT_URL_COGNITO_IDENTITY" && echo "$COGNITO_IDENTITY_POOL_ID" && exit 7'
        done = run("--region", "eu-west-1", "exec", "--", "sh", "-c", script)
        equal(done.returncode, 7)
        matches(done.stdout, r"eu-west-1:[0-9a-f-]{36}\n")
        equal(run("exec", "--", "sh", "-c", "kill -TERM $$").returncode, 128 + signal.SIGTERM)
        equal(run("exec", "--", "/does/not/exist").returncode, 1)
    with check("local exec: a refusal is written with its reason"):
        call = f'"{CLIENTS}/aws" cognito-identity get-id --identity-pool-id "$COGNITO_IDENTITY_POOL_ID"'
        done = run("exec", "--", "sh", "-c", call)
        assert "refused by GuestsNotAllowed: no login was shown" in done.stderr, done.stderr
    with check("nonsense ends it at once, with a word about what is wrong"):
        for options, word in ((["--port", "x"], "--port"), (["--region", "x", "--pool-id", "us-east-1:1"], "region"), (["--nothing"], "--nothing")):
            done = run(*options)
            assert done.returncode != 0 and word in done.stderr, done.stderr


def commands(target: str) -> None:
    def run(*arguments: str, input: str | None = None, code: int = 0, env: dict | None = None) -> str:
        done = subprocess.run(
            [program(target), *arguments], env=environment(**(env or {})), capture_output=True, text=True, timeout=60, input=input or ""
        )
        equal((done.returncode, done.stderr if done.returncode != code else ""), (code, ""))
        return done.stdout + done.stderr

    with Running(target) as pool:
        env = pool.env
        pool.trust(provider=FACEBOOK)
        with check("explain: a token under the wrong key, offline"):
            vended = pool.vend("alice")
            wrong = json.dumps({"login.mycompany.myapp": vended["Token"]})
            said = run("explain", "--pool", pool.pool_id, input=wrong, code=1)
            assert f"its key is `{ISSUER}`" in said and vended["Token"] not in said, said
            said = json.loads(run("explain", "--json", input=vended["Token"]))
            equal((said["causes"], said["tokens"][0]["sub"]), ([], vended["IdentityId"]))
            said = run("explain", "--pool", pool.pool_id, "--identity", pool.vend("bob")["IdentityId"], input=vended["Token"], code=1)
            assert "identity" in said, said
            assert "no id" in run("explain", "us-east-1", code=1)
        with check("doctor and policy"):
            said = json.loads(run("doctor", "--json", env=env))
            equal(said["healthy"], True)
            assert "not as `login.other`" in run("doctor", "--provider", "login.other", env=env, code=1)
            policy = json.loads(run("policy", "vendor", "--pool", pool.pool_id, "--account", "123456789012"))
            assert "cognito-identity:GetOpenIdTokenForDeveloperIdentity" in json.dumps(policy)
            assert "cognito-identity:DeleteIdentities" in run("policy", "admin", "--pool", pool.pool_id)
        with check("lookup, merge, unlink and forget; not without a yes"):
            alice, bob = pool.vend("alice")["IdentityId"], pool.vend("bob")["IdentityId"]
            equal(json.loads(run("lookup", "--user", "alice", "--json", env=env))["identity_id"], alice)
            equal(json.loads(run("lookup", "--identity", bob, "--json", env=env))["users"], ["bob"])
            assert "--yes" in run("merge", "--from", "alice", "--into", "bob", env=env, code=1)
            equal(json.loads(run("merge", "--from", "alice", "--into", "bob", "--yes", "--json", env=env))["identity_id"], bob)
            equal(json.loads(run("unlink", "--user", "alice", "--yes", "--json", env=env))["unlinked"], "alice")
            assert "no identity" in run("lookup", "--user", "alice", env=env, code=1)
            equal(json.loads(run("forget", "--user", "bob", "--yes", "--json", env=env))["deleted"], [bob])
            assert "no identity" in run("lookup", "--user", "bob", env=env, code=1)
    with check("help and completions"):
        assert "COGNITO_LOCAL_PORT" in run("local", "--help")
        for shell in ("bash", "zsh", "fish"):
            assert "cognito-identity-pool" in run("completions", shell)


def as_documented(target: str) -> None:
    with check("the guide's walk, as pasted"):
        guide = (REPOSITORY / "docs/local_pool.md").read_text()
        blocks = re.findall(r"```sh\n(.*?)```", guide, re.DOTALL)
        start = next(block for block in blocks if "--env-file" in block).splitlines()[-1]
        walk = next(block for block in blocks if "get-open-id-token" in block)
        folder = SCRATCH / "walk"
        folder.mkdir()
        names = {"PATH": f"{program(target).parent}:{CLIENTS}:{os.environ['PATH']}"}
        start = start.replace("--port 4599", f"--port {free_port()}")
        pool = subprocess.Popen(
            ["sh", "-c", f"exec {start}"], cwd=folder, env=environment(**names), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            until((folder / "pool.env").exists, "pool.env", 20)
            done = subprocess.run(
                ["sh", "-euc", f'{walk}\necho "$TOKEN"'], cwd=folder, env=environment(**names), capture_output=True, text=True, timeout=60
            )
            matches(done.stdout, r"eyJ[\w-]+\.[\w-]+\.[\w-]+\n")
        finally:
            pool.terminate()
            equal(pool.wait(20), 0)


def many(pool: Running, count: int) -> None:
    """So many requests on one connection, each answered."""
    at = urlsplit(pool.url)
    connection = http.client.HTTPConnection(at.hostname, at.port, timeout=20)
    headers = {"x-amz-target": "AWSCognitoIdentityService.GetId", "content-type": "application/x-amz-json-1.1"}
    body = json.dumps({"IdentityPoolId": "us-east-1:0"})
    for _ in range(count):
        connection.request("POST", "/", body, headers)
        answer = connection.getresponse()
        answer.read()
        equal(answer.status, 400)
    connection.close()


def undrained(target: str) -> None:
    with check("stderr that nobody reads: 10,000 requests are served, and it ends in order"):
        read, write = os.pipe()
        pool = Running(target, stderr=write)
        os.close(write)
        many(pool, 10_000)
        equal(pool.stop(), 0)
        os.close(read)
    with check("stderr that is closed: 10,000 requests are served"):
        read, write = os.pipe()
        with Running(target, stderr=write) as pool:
            os.close(write)
            os.close(read)
            many(pool, 10_000)
            equal(pool.stop(), 0)
        with Running(target, command=["sh", "-c", 'exec "$@" 2>&-', "sh"]) as pool:
            many(pool, 100)
            equal(pool.stop(), 0)
    with check("stderr that is read slowly: 10,000 requests are served, and what is missing is counted"):
        read, write = os.pipe()
        pool = Running(target, stderr=write)
        os.close(write)
        said = bytearray()
        served = threading.Event()

        def slow():
            while chunk := os.read(read, 4096):
                said.extend(chunk)
                if not served.is_set():
                    time.sleep(0.02)

        reader = threading.Thread(target=slow)
        reader.start()
        many(pool, 10_000)
        served.set()
        equal(pool.stop(), 0)
        reader.join(20)
        os.close(read)
        lines = [json.loads(line) for line in said.decode().splitlines()]
        answered = sum(1 for line in lines if "operation" in line)
        equal(answered + sum(line.get("dropped_lines", 0) for line in lines), 10_000)


def hostile(target: str) -> None:
    with Running(target, "--quiet") as pool:
        at = urlsplit(pool.url)
        with check("1,000 idle connections, and one that is served"):
            idle = [socket.create_connection((at.hostname, at.port), timeout=10) for _ in range(1000)]
            pool.get_id()
            for connection in idle:
                connection.close()
        with check("hostile bytes and hosts"):
            for sent in (
                b"\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
                b"GET / HTTP/1.1\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
                b"POST /_local/reset HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
                b"GET /_local/state HTTP/1.1\r\nHost: evil.example\r\n\r\n",
                b"A" * 1_000_000,
                b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
            ):
                with socket.create_connection((at.hostname, at.port), timeout=10) as connection:
                    try:
                        connection.sendall(sent)
                        answer = connection.recv(65536)
                    except ConnectionError:
                        answer = b""
                    assert b" 200 " not in answer[:20], answer[:200]
            pool.get_id()
