"""Fixtures for pytest: an identity pool of its own for the test session, empty before each test.

Copy this file. It needs the program (`cargo install cognito-identity-pool --features cli`) and boto3:

    def test_alice(pool):
        keys = pool.credentials("alice")
        assert pool.identity_of(keys["AccessKeyId"]) == pool.identity("alice")
"""

import json
import os
import subprocess
import urllib.request

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config

PROGRAM = os.environ.get("COGNITO_IDENTITY_POOL_PROGRAM", "cognito-identity-pool")
ISSUER = "cognito-identity.amazonaws.com"


class Pool:
    def __init__(self, environment: dict[str, str]):
        self.environment = environment
        self.url = environment["COGNITO_LOCAL_URL"]
        self.id = environment["COGNITO_IDENTITY_POOL_ID"]
        self.provider = environment["COGNITO_DEVELOPER_PROVIDER"]

    def client(self, service: str = "cognito-identity", keys: dict | None = None, signed: bool = True):
        """A client of the backend's; with `keys` one of that user's, with signed=False one of an app's."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=self.environment["AWS_REGION"],
            aws_access_key_id=keys["AccessKeyId"] if keys else self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=keys["SecretKey"] if keys else self.environment["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=keys["SessionToken"] if keys else None,
            config=Config(signature_version=None if signed else UNSIGNED, retries={"total_max_attempts": 1}),
        )

    def vend(self, user: str) -> dict:
        """What your backend does for a user whom it has authenticated: IdentityId and Token."""
        return self.client().get_open_id_token_for_developer_identity(
            IdentityPoolId=self.id, Logins={self.provider: user}
        )

    def identity(self, user: str) -> str:
        return self.vend(user)["IdentityId"]

    def credentials(self, user: str) -> dict:
        vended = self.vend(user)
        return self.exchange(vended["IdentityId"], {ISSUER: vended["Token"]})

    def exchange(self, identity: str, logins: dict[str, str] | None = None) -> dict:
        """What an app does; without logins it is a guest."""
        app = self.client(signed=False)
        return app.get_credentials_for_identity(IdentityId=identity, Logins=logins or {})["Credentials"]

    def token(self, provider: str, sub: str, **more) -> str:
        """A token of a simulated social, OIDC or user-pool provider; `claims={…}`, `lifetime_seconds=…`, `forged=True`."""
        return self.admin("POST", "/tokens", {"provider": provider, "sub": sub, **more})["token"]

    def trust(self, **provider) -> str:
        """`provider="accounts.example.com"`, or `user_pool="us-east-1_Example", client_id="app"`."""
        return self.admin("POST", "/providers", provider)["provider"]

    def advance(self, seconds: int) -> None:
        self.admin("POST", "/clock", {"advance_seconds": seconds})

    def fault(self, operation: str, fault: str, **more) -> None:
        self.admin("POST", "/faults", {"operation": operation, "fault": fault, **more})

    def requests(self) -> list[dict]:
        return self.admin("GET", "/requests")["requests"]

    def identity_of(self, access_key_id: str) -> str:
        """Whom credentials were given to, by the pool's own record."""
        return next(r["identity_id"] for r in self.requests() if r["issued_access_key_id"] == access_key_id)

    def reset(self) -> None:
        self.admin("POST", "/reset", {})

    def admin(self, method: str, path: str, body: dict | None = None) -> dict:
        request = urllib.request.Request(
            f"{self.url}/_local{path}",
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"x-local-admin": self.environment["COGNITO_LOCAL_ADMIN_TOKEN"]},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


@pytest.fixture(scope="session")
def running_pool():
    server = subprocess.Popen(
        [PROGRAM, "local", "--guests", "--json", "--quiet"], stdout=subprocess.PIPE, text=True
    )
    try:
        yield Pool(json.loads(server.stdout.readline())["environment"])
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture
def pool(running_pool):
    running_pool.reset()
    return running_pool
