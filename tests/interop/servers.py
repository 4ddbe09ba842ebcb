"""Servers that others wrote: this crate's provider in front of moto and ministack, and the local pool in front of ministack.

ministack checks signature, session token, expiry and role policy (`AUTH=true`); moto's credentials live 90 s and its
tokens are opaque.
"""

import json
import subprocess
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
from botocore.config import Config

import cases
from cases import ISSUER
from harness import SCRATCH, SERVERS, Place, Pool, Stage, check, environment, equal, free_port, matches, serve, suite, until

# The account of the pool's roles. ministack takes it for the access key of that account's root user, too.
ACCOUNT = "123456789012"
REGION = "us-east-1"
DEVELOPER = "login.mycompany.myapp"


class App:
    """`interop_stage app`: this crate's provider and an S3 client."""

    def __init__(self, target: str, **setup):
        self.process = subprocess.Popen(
            [f"{target}/debug/interop_stage", "app", json.dumps({"region": REGION} | setup)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.process.stdin.close()
        self.process.wait(10)

    def order(self, order: str, **arguments) -> dict:
        print(json.dumps({"order": order, **arguments}), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def put(self, key: str, body: str = "hello") -> dict:
        return self.order("put", bucket="app", key=key, body=body)

    def get(self, key: str) -> dict:
        return self.order("get", bucket="app", key=key)

    def who(self) -> dict:
        return self.order("who")["answer"]


class Recorder:
    """Passes requests on to `upstream`, and keeps the operations of the identity-pool API."""

    def __init__(self, upstream: str):
        self.operations: list[str] = []
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                recorder.operations.append(self.headers.get("x-amz-target", "").rpartition(".")[2])
                asked = urllib.request.Request(upstream + self.path, data=body, headers=dict(self.headers), method="POST")
                try:
                    answer = urllib.request.urlopen(asked, timeout=20)
                except urllib.error.HTTPError as error:
                    answer = error
                content = answer.read()
                self.send_response(answer.status)
                for name in ("content-type", "x-amzn-errortype", "date"):
                    if name in answer.headers:
                        self.send_header(name, answer.headers[name])
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{server.server_port}"

    def count(self, operation: str) -> int:
        return self.operations.count(operation)


def client(endpoint: str, service: str, **config):
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=ACCOUNT,
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, **config),
    )


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def run_moto(target: str) -> None:
    with suite("moto"):
        port = free_port()
        serve([SERVERS / "moto_server", "-H", "127.0.0.1", "-p", str(port)], SCRATCH / "moto.log")
        endpoint = f"http://127.0.0.1:{port}"
        until(lambda: answers(endpoint), "moto", 60)
        pool = client(endpoint, "cognito-identity").create_identity_pool(
            IdentityPoolName="app", AllowUnauthenticatedIdentities=True, DeveloperProviderName=DEVELOPER
        )["IdentityPoolId"]
        client(endpoint, "s3").create_bucket(Bucket="app")
        developer = {"user": "user-42", "provider": DEVELOPER, "key": "test", "secret": "test"}
        for login, setup, calls in (
            ("a guest", {}, ["GetId", "GetCredentialsForIdentity"]),
            ("a developer user", {"developer": developer}, ["GetOpenIdTokenForDeveloperIdentity", "GetCredentialsForIdentity"]),
        ):
            recorder = Recorder(endpoint)
            with App(target, cognito=recorder.endpoint, pool_id=pool, s3=endpoint, **setup) as app:
                with check(f"moto: {login} puts and gets objects"):
                    equal(app.put("object", "of " + login), {"answer": None})
                    equal(app.get("object"), {"answer": "of " + login})
                with check(f"moto: {login} has an identity"):
                    matches(app.who()["identity"], r"us-east-1:[0-9a-f-]{36}")
                with check(f"moto: {login} gets credentials once for many calls, although they live 90 s"):
                    for number in range(10):
                        equal(app.get("object"), {"answer": "of " + login})
                    equal(recorder.operations, calls)


def policy(action: list[str], resource: str) -> str:
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def trust(pool: str, amr: str) -> str:
    """The trust policy as the developer guide has it."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": ISSUER},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {
            "StringEquals": {f"{ISSUER}:aud": pool},
            "ForAnyValue:StringLike": {f"{ISSUER}:amr": amr},
        },
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


ROOT_TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
                "Action": ["sts:AssumeRole", "sts:TagSession"],
            }
        ],
    }
)


def run_ministack(target: str, stage: Stage) -> None:
    with suite("ministack"):
        port = free_port()
        env = environment(
            MINISTACK_ACCOUNT_ID=ACCOUNT, AUTH="true", GATEWAY_PORT=str(port), BIND_HOST="127.0.0.1", IOT_MTLS_ENABLED="0"
        )  # fmt: skip
        serve([SERVERS / "ministack"], SCRATCH / "ministack.log", env)
        endpoint = f"http://127.0.0.1:{port}"
        until(lambda: answers(f"{endpoint}/_ministack/health"), "ministack", 60)
        iam, s3 = client(endpoint, "iam"), client(endpoint, "s3")
        s3.create_bucket(Bucket="app")

        def role(name: str, trusted: str) -> str:
            arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trusted)["Role"]["Arn"]
            iam.put_role_policy(RoleName=name, PolicyName="app", PolicyDocument=policy(["s3:PutObject", "s3:GetObject"], f"arn:aws:s3:::app/{name}/*"))
            return arn

        user_role = role("local-authenticated", ROOT_TRUST)
        opens(target, stage, endpoint, user_role)
        guests(target, endpoint, role)
        trusted(stage, endpoint, role)


def opens(target: str, stage: Stage, endpoint: str, user_role: str) -> None:
    """The pool in front of ministack: its credentials open what the role's policy opens there."""
    keys = environment(AWS_ACCESS_KEY_ID=ACCOUNT, AWS_SECRET_ACCESS_KEY="test", AWS_REGION=REGION)

    def before(seconds: int) -> Place:
        """The program, which says of the credentials what the server says."""
        pool = Pool(target, "--sts-endpoint", endpoint, "--sts-seconds", str(seconds), env=keys)
        return Place(
            str(seconds), pool.endpoint, pool.pool_id, REGION, ISSUER, "", pool.provider,
            pool.env["AWS_ACCESS_KEY_ID"], pool.env["AWS_SECRET_ACCESS_KEY"],
        )  # fmt: skip

    def app(place: Place, **more) -> App:
        developer = {"user": "user-42", "provider": place.provider, "key": place.access_key_id, "secret": place.secret_access_key}
        return App(target, cognito=place.endpoint, pool_id=place.pool_id, s3=endpoint, developer=developer, **more)

    own = "local-authenticated"
    with app(before(3600)) as user:
        with check("pool before ministack: a user is allowed what the role allows"):
            equal(user.put(f"{own}/mine"), {"answer": None})
            equal(user.get(f"{own}/mine"), {"answer": "hello"})
        with check("pool before ministack: a user is denied what the role does not allow"):
            equal(user.put("other/theirs"), {"error": "AccessDenied"})
    with app(before(3)) as user:
        with check("pool before ministack: credentials of three seconds are renewed in time"):
            seen = set()
            end = time.monotonic() + 8
            while time.monotonic() < end:
                equal(user.put(f"{own}/renewed"), {"answer": None})
                seen.add(user.who()["key"])
                time.sleep(0.5)
            assert len(seen) >= 2, seen
            equal(user.who()["asked"], 1)
    # The server ends them sooner than the pool says.
    about = stage.order("front", name="front", sts=endpoint, account=ACCOUNT, role=user_role, seconds=3, claimed=3600)
    liar = Place("front", **about)
    with app(liar, rejection=True) as user:
        with check("pool before ministack: ExpiredToken is followed by fresh credentials and the same operation again"):
            equal(user.put(f"{own}/first"), {"answer": None})
            first = user.who()["key"]
            time.sleep(4)
            equal(user.put(f"{own}/second"), {"answer": None})
            equal(user.get(f"{own}/second"), {"answer": "hello"})
            assert user.who()["key"] != first
    with app(liar) as user:
        with check("pool before ministack: without the interceptor ExpiredToken is the answer"):
            equal(user.put(f"{own}/first"), {"answer": None})
            time.sleep(4)
            equal(user.put(f"{own}/second"), {"error": "ExpiredToken"})
    with check("the program stands before no server of another machine unless told to"):
        try:
            Pool(target, "--sts-endpoint", "https://sts.example.com", env=keys)
        except RuntimeError as refused:
            assert "allow-remote-sts" in str(refused), refused
        else:
            raise AssertionError("it does")


def guests(target: str, endpoint: str, role) -> None:
    """ministack's own identity pool: the guest flow of this crate's provider."""
    aws = client(endpoint, "cognito-identity")
    pool = aws.create_identity_pool(IdentityPoolName="app", AllowUnauthenticatedIdentities=True)["IdentityPoolId"]
    aws.set_identity_pool_roles(IdentityPoolId=pool, Roles={"unauthenticated": role("guest", trust(pool, "unauthenticated"))})
    recorder = Recorder(endpoint)
    with App(target, cognito=recorder.endpoint, pool_id=pool, s3=endpoint) as guest:
        with check("ministack: a guest is allowed what the guests' role allows, and no more"):
            equal(guest.put("guest/mine"), {"answer": None})
            equal(guest.get("guest/mine"), {"answer": "hello"})
            equal(guest.put("user/theirs"), {"error": "AccessDenied"})
        with check("ministack: a guest needs one GetId and one GetCredentialsForIdentity"):
            equal(recorder.operations, ["GetId", "GetCredentialsForIdentity"])


def trusted(stage: Stage, endpoint: str, role) -> None:
    """The pool's tokens before ministack's evaluation of the documented trust policy."""
    place, china = stage.pools["open"], stage.pools["china"]
    token = vend(place)
    sts = client(endpoint, "sts", signature_version=cases.UNSIGNED)

    def assume(arn: str, token: str) -> dict:
        return sts.assume_role_with_web_identity(RoleArn=arn, RoleSessionName="session", WebIdentityToken=token)

    def denied(arn: str, token: str) -> None:
        try:
            assume(arn, token)
        except sts.exceptions.ClientError as error:
            equal(error.response["Error"]["Code"], "AccessDenied")
        else:
            raise AssertionError("allowed")

    right = role("right", trust(place.pool_id, "authenticated"))
    with check("ministack trusts the pool's token: iss, aud and amr"):
        matches(assume(right, token)["AssumedRoleUser"]["Arn"], ".*assumed-role/right/session")
    with check("ministack trusts the developer provider's name in amr"):
        assume(role("provider", trust(place.pool_id, place.provider)), token)
    with check("ministack does not trust it for another pool (aud)"):
        denied(role("aud", trust(china.pool_id, "authenticated")), token)
    with check("ministack does not trust it as a guest's (amr)"):
        denied(role("amr", trust(place.pool_id, "unauthenticated")), token)
    with check("ministack does not trust another issuer's token (iss)"):
        denied(role("iss", trust(china.pool_id, "authenticated")), vend(china))


def vend(place: Place) -> str:
    return cases.operator(place).get_open_id_token_for_developer_identity(
        IdentityPoolId=place.pool_id, Logins={place.provider: "trusted"}
    )["Token"]
