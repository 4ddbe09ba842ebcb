"""`RefreshTokenLogins` before servers that others wrote: the user pools of moto and of cognito-local, and an OAuth 2.0 server.

Neither emulator knows `GetTokensFromRefreshToken`; both know `REFRESH_TOKEN_AUTH`, which rotates nothing. The OAuth 2.0 server rotates.
"""

import json
import subprocess

from harness import HERE, SCRATCH, SERVERS, check, environment, equal, free_port, serve, suite, until
from servers import answers, client

USER, PASSWORD = "alice@example.com", "Wonderland-1"


class Logins:
    """`interop_stage refresh`: logins that renew themselves."""

    def __init__(self, target: str, **setup):
        self.process = subprocess.Popen(
            [f"{target}/debug/interop_stage", "refresh", json.dumps(setup)],
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

    def renew(self) -> dict:
        print(file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())


def run(target: str) -> None:
    with suite("refresh tokens"):
        port = free_port()
        serve([SERVERS / "moto_server", "-H", "127.0.0.1", "-p", str(port)], SCRATCH / "moto-user-pools.log")
        user_pool(target, "moto", f"http://127.0.0.1:{port}")

        port = free_port()
        home = SCRATCH / "cognito-local"
        home.mkdir(exist_ok=True)
        program = HERE / "node_modules" / "cognito-local" / "lib" / "bin" / "start.js"
        settings = environment(PORT=str(port), HOST="127.0.0.1")
        serve(["sh", "-c", 'cd "$0" && exec node "$1"', home, program], SCRATCH / "cognito-local.log", settings)
        user_pool(target, "cognito-local", f"http://127.0.0.1:{port}")

        port = free_port()
        program = HERE / "node_modules" / ".bin" / "oauth2-mock-server"
        serve([program, "-a", "127.0.0.1", "-p", str(port)], SCRATCH / "oauth2.log")
        oauth2(target, f"http://127.0.0.1:{port}")


def user_pool(target: str, server: str, endpoint: str) -> None:
    until(lambda: answers(endpoint), server, 60)
    idp = client(endpoint, "cognito-idp")
    pool = idp.create_user_pool(PoolName="app")["UserPool"]["Id"]
    flows = ["ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"]
    app = idp.create_user_pool_client(UserPoolId=pool, ClientName="app", ExplicitAuthFlows=flows)
    app = app["UserPoolClient"]["ClientId"]
    idp.admin_create_user(UserPoolId=pool, Username=USER, MessageAction="SUPPRESS")
    idp.admin_set_user_password(UserPoolId=pool, Username=USER, Password=PASSWORD, Permanent=True)
    attributes = idp.admin_get_user(UserPoolId=pool, Username=USER)["UserAttributes"]
    sub = next(attribute["Value"] for attribute in attributes if attribute["Name"] == "sub")
    signed_in = idp.initiate_auth(
        ClientId=app, AuthFlow="USER_PASSWORD_AUTH", AuthParameters={"USERNAME": USER, "PASSWORD": PASSWORD}
    )["AuthenticationResult"]
    setup = {"user_pool": pool, "endpoint": endpoint, "client_id": app, "initiate_auth": True}
    with Logins(target, refresh_token=signed_in["RefreshToken"], **setup) as logins:
        for times in ("once", "again"):
            with check(f"{server}: an ID token of the same user, {times}"):
                renewed = logins.renew()
                [login] = renewed["answer"]
                equal(login["sub"], sub)
                region = pool.split("_")[0]
                equal(login["provider"], f"cognito-idp.{region}.amazonaws.com/{pool}")
    with check(f"{server}: a refresh token that nobody issued signs the user out"):
        with Logins(target, refresh_token="of-nobody", **setup) as logins:
            equal(logins.renew()["error"], "SignedOut")
    with check(f"{server}: a client that does not exist is a wrong setting"):
        other = setup | {"client_id": "0123456789abcdefghijklmnop"}
        with Logins(target, refresh_token=signed_in["RefreshToken"], **other) as logins:
            equal(logins.renew()["error"], "Configuration")


def oauth2(target: str, endpoint: str) -> None:
    until(lambda: answers(endpoint), "oauth2-mock-server", 60)
    setup = {"endpoint": f"{endpoint}/token", "client_id": "app", "provider": "idp.example.com"}
    with Logins(target, refresh_token="first", **setup) as logins:
        kept = {"first"}
        for times in ("once", "again"):
            with check(f"an OAuth 2.0 server: an ID token, {times}, and the refresh token that it was rotated to"):
                renewed = logins.renew()
                [login] = renewed["answer"]
                equal(login["provider"], "idp.example.com")
                equal(renewed["kept"] in kept, False)
                kept.add(renewed["kept"])
