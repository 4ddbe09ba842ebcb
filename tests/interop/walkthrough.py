"""The walk-through that AWS users know, with the AWS CLI and with boto3, and each refusal on its way."""

import json
import re
import subprocess

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from harness import CLIENTS, COMMAND_SECONDS, HERE, Pool, check, environment, equal, matches, suite, tampered

ISSUER = "cognito-identity.amazonaws.com"
ARN = r"arn:aws:sts::\d{12}:assumed-role/[\w-]+/CognitoIdentityCredentials"
UNKNOWN_POOL = "us-east-1:00000000-0000-4000-8000-000000000000"


class CliError(Exception):
    """What the CLI says on stderr: `An error occurred (Code) when calling the X operation: message`."""


class Cli:
    def __init__(self, env: dict[str, str]):
        self.env = environment(**env)

    def __call__(self, *arguments: str, **env: str):
        done = subprocess.run(
            [CLIENTS / "aws", *arguments, "--output", "json"],
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        if done.returncode:
            raise CliError(done.stderr.strip())
        return json.loads(done.stdout) if done.stdout.strip() else {}


def refused(call, code: str, message: str) -> None:
    """The call is refused with this code and a message of this pattern."""
    try:
        answer = call()
    except ClientError as error:
        equal(error.response["Error"]["Code"], code)
        matches(error.response["Error"]["Message"], message)
        equal(error.response["ResponseMetadata"]["HTTPStatusCode"], 400)
    except CliError as error:
        matches(str(error), rf".*An error occurred \({code}\) when calling the \w+ operation.*: {message}")
    else:
        raise AssertionError(f"not refused, but answered {answer}")


def client(pool: Pool, service: str = "cognito-identity", keys: dict | None = None, **config):
    """A boto3 client from nothing but the pool's environment, or with vended keys."""
    env = pool.env
    session = boto3.session.Session(
        aws_access_key_id=keys["AccessKeyId"] if keys else env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["SecretKey"] if keys else env["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=keys["SessionToken"] if keys else None,
        region_name=env["AWS_DEFAULT_REGION"],
    )
    endpoint = env["AWS_ENDPOINT_URL_STS" if service == "sts" else "AWS_ENDPOINT_URL_COGNITO_IDENTITY"]
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20, **config)
    return session.client(service, endpoint_url=endpoint, config=config)


def as_cli(pool: Pool):
    aws = Cli(pool.env)

    def token(user: str = "user-42", pool_id: str = pool.pool_id, provider: str = pool.provider):
        return aws(
            "cognito-identity", "get-open-id-token-for-developer-identity",
            "--identity-pool-id", pool_id, "--logins", f"{provider}={user}",
        )  # fmt: skip

    def exchange(identity_id: str, token: str | None = None):
        logins = ["--logins", f"{ISSUER}={token}"] if token else []
        return aws("cognito-identity", "get-credentials-for-identity", "--identity-id", identity_id, *logins)

    def get_id(pool_id: str = pool.pool_id):
        return aws("cognito-identity", "get-id", "--identity-pool-id", pool_id)

    def caller(keys: dict):
        return aws(
            "sts", "get-caller-identity",
            AWS_ACCESS_KEY_ID=keys["AccessKeyId"],
            AWS_SECRET_ACCESS_KEY=keys["SecretKey"],
            AWS_SESSION_TOKEN=keys["SessionToken"],
        )  # fmt: skip

    return token, exchange, get_id, caller


def as_boto3(pool: Pool):
    cognito = client(pool)

    def token(user: str = "user-42", pool_id: str = pool.pool_id, provider: str = pool.provider):
        return cognito.get_open_id_token_for_developer_identity(IdentityPoolId=pool_id, Logins={provider: user})

    def exchange(identity_id: str, token: str | None = None):
        logins = {"Logins": {ISSUER: token}} if token else {}
        return cognito.get_credentials_for_identity(IdentityId=identity_id, **logins)

    def get_id(pool_id: str = pool.pool_id):
        return cognito.get_id(IdentityPoolId=pool_id)

    def caller(keys: dict):
        return client(pool, "sts", keys).get_caller_identity()

    return token, exchange, get_id, caller


def live(target: str) -> None:
    """The plumbing of `run --live`, against the local pool, which keeps its own rules."""
    with suite("live"):
        pool = Pool(target)
        for name, code, env in (
            ("asks every rule that it can provoke, and deletes its users", 0, pool.env),
            ("asks nothing of a pool that is not named", 2, pool.env | {"COGNITO_IDENTITY_POOL_ID": ""}),
        ):
            with check(f"run --live {name}"):
                command = [CLIENTS / "python", "-B", HERE / "live.py", target]
                done = subprocess.run(command, env=environment(**env), capture_output=True, text=True, timeout=60)
                equal((done.returncode, re.findall("CONTRADICTED.*", done.stdout)), (code, []))
                assert code or re.search(r"^\d\d confirmed, 0 contradicted", done.stdout, re.MULTILINE), done.stdout
        with check("run --live leaves no identity behind"):
            equal(client(pool).list_identities(IdentityPoolId=pool.pool_id, MaxResults=60)["Identities"], [])


def run(target: str) -> None:
    for name, steps in (("AWS CLI", as_cli), ("boto3", as_boto3)):
        with suite(f"walk-through, {name}"):
            pool = Pool(target)
            token, exchange, get_id, caller = steps(pool)
            with check(f"{name}: a backend vends a token to a user"):
                first = token()
                matches(first["IdentityId"], r"us-east-1:[0-9a-f-]{36}")
            with check(f"{name}: the same user has the same identity again"):
                again = token()
                equal(again["IdentityId"], first["IdentityId"])
            with check(f"{name}: another user has another identity"):
                other = token("user-43")
                assert other["IdentityId"] != first["IdentityId"]
            with check(f"{name}: the token is exchanged for credentials"):
                answer = exchange(first["IdentityId"], first["Token"])
                equal(answer["IdentityId"], first["IdentityId"])
                keys = answer["Credentials"]
                matches(keys["AccessKeyId"], r"ASIA[A-Z0-9]{16}")
                equal(len(keys["SecretKey"]), 40)
            with check(f"{name}: STS verifies the credentials"):
                identity = caller(keys)
                matches(identity["Arn"], ARN)
                matches(identity["UserId"], r"AROA\w+:CognitoIdentityCredentials")
            with check(f"{name}: the pool's record gives them to the right identity"):
                equal(pool.identity_of(keys["AccessKeyId"]), first["IdentityId"])
                signed = [r for r in pool.requests() if r.operation == "GetCallerIdentity" and r.key == keys["AccessKeyId"]]
                equal([r.identity for r in signed], [first["IdentityId"]])

            with check(f"{name}: a tampered token is refused"):
                refused(
                    lambda: exchange(first["IdentityId"], tampered(first["Token"])),
                    "NotAuthorizedException",
                    r"Invalid login token\. Couldn't verify signed token\.",
                )
            with check(f"{name}: a wrong provider name is refused"):
                refused(
                    lambda: token(provider="login.other.app"),
                    "NotAuthorizedException",
                    "This identity pool does not support the specified developer provider",
                )
            with check(f"{name}: a guest is refused by a pool without guests"):
                refused(
                    get_id,
                    "NotAuthorizedException",
                    r"Unauthenticated access is not supported for this identity pool\.",
                )
            with check(f"{name}: an unknown pool is refused"):
                message = rf"IdentityPool '{UNKNOWN_POOL}' not found\."
                refused(lambda: token(pool_id=UNKNOWN_POOL), "ResourceNotFoundException", message)
                refused(lambda: get_id(UNKNOWN_POOL), "ResourceNotFoundException", message)
            with check(f"{name}: another user's token is refused"):
                refused(
                    lambda: exchange(first["IdentityId"], other["Token"]),
                    "NotAuthorizedException",
                    r"Logins don't match\. Please include at least one valid login for this identity or identity pool\.",
                )
            with check(f"{name}: an identity without its login is refused"):
                refused(
                    lambda: exchange(first["IdentityId"]),
                    "NotAuthorizedException",
                    r"Unauthenticated access is not supported for this identity pool\.",
                )
            with check(f"{name}: no refusal changed the pool"):
                equal(token()["IdentityId"], first["IdentityId"])

    with suite("walk-through, guests"):
        pool = Pool(target, "--guests")
        for name, steps in (("AWS CLI", as_cli), ("boto3", as_boto3)):
            token, exchange, get_id, caller = steps(pool)
            with check(f"{name}: a guest gets an identity and credentials that STS verifies"):
                guest = get_id()["IdentityId"]
                keys = exchange(guest)["Credentials"]
                matches(caller(keys)["Arn"], ARN)
                equal(pool.identity_of(keys["AccessKeyId"]), guest)
            with check(f"{name}: every guest is another one"):
                assert get_id()["IdentityId"] != guest
            with check(f"{name}: a user's identity is not served as a guest"):
                user = token()["IdentityId"]
                refused(lambda: exchange(user), "NotAuthorizedException", f"Access to Identity '{user}' is forbidden\\.")
