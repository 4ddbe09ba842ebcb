"""`client.py SETTINGS`: one of the Python clients. Orders and answers are those of benches/peers/src/main.rs."""

import concurrent.futures
import datetime
import json
import os
import sys
import tempfile
import time
import urllib.request

SETTINGS = json.loads(sys.argv[1])
ROLE = "arn:aws:iam::123456789012:role/local-authenticated"


def vended(user: str) -> dict:
    with urllib.request.urlopen(f"{SETTINGS['backend']}/{user}", timeout=10) as answer:
        return json.load(answer)


class Boto3:
    """The web identity provider of botocore: a token in a file, and STS."""

    def __init__(self, who: dict):
        if who["state"] == "guest":
            raise No("it starts from a token file: getting a guest's token is the app's")
        if who["state"] == "social":
            raise No("a role trusts the pool, not the provider: getting the pool's token is the app's")
        self.file = tempfile.NamedTemporaryFile("w", suffix=".jwt")
        self.write(vended(who["user"])["Token"])
        os.environ.update(AWS_WEB_IDENTITY_TOKEN_FILE=self.file.name, AWS_ROLE_ARN=ROLE)
        self.start()

    def write(self, token: str) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.file.write(token)
        self.file.flush()

    def start(self) -> None:
        import botocore.session

        self.credentials = botocore.session.Session().get_credentials()

    def ask(self) -> str:
        return self.credentials.get_frozen_credentials().access_key

    def again(self) -> str:
        # Another session, which reads the same file.
        self.start()
        return self.ask()

    def switch(self, who: dict) -> None:
        self.write(vended(who["user"])["Token"])

    def late(self) -> None:
        """Eight minutes before the end of its credentials, which live an hour: by the clocks of what keeps them, and of what
        fetches them."""
        import botocore.credentials

        now = botocore.credentials._local_now
        late = lambda: now() + datetime.timedelta(minutes=52)
        self.credentials._time_fetcher = botocore.credentials._local_now = late


class Crt:
    """awscrt's `new_cognito`: an identity id and a token."""

    def __init__(self, who: dict):
        if who["state"] == "guest":
            raise No("it takes an identity id: GetId is the app's")
        if who["state"] == "social":
            raise No("it takes an identity id: GetId is the app's")
        from awscrt import auth, io

        options = io.TlsContextOptions()
        options.override_default_trust_store_from_path(None, SETTINGS["ca"])
        self.provider = auth.AwsCredentialsProvider.new_cognito(
            endpoint="localhost",
            identity=who["identity"],
            tls_ctx=io.ClientTlsContext(options),
            logins=[(who["login"], who["token"])],
        )

    def start(self):
        return self.provider.get_credentials()

    def ask(self) -> str:
        return self.start().result(60).access_key_id

    again = ask

    def switch(self, who: dict) -> None:
        raise No("made for one identity: another user is a new provider")


class No(Exception):
    """There is no such call, and why."""


def said(calls) -> dict:
    keys, errors = [], []
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as threads:
        for done in [threads.submit(call) for call in calls]:
            try:
                keys.append(done.result())
            except Exception as error:
                errors.append(f"{type(error).__name__}: {error}")
    return {"keys": keys, "errors": errors}


def obey(order: dict) -> dict:
    global client
    match order["do"]:
        case "make":
            client = CLIENTS[SETTINGS["client"]](order)
        case "ask":
            return said([client.ask] * order["callers"])
        case "again":
            return said([client.again])
        case "switch":
            client.switch(order)
        case "late":
            getattr(client, "late", lambda: None)()
        case "cancel":
            raise No("a call cannot be cancelled")
        case "hit":
            client.ask()
            start = time.perf_counter_ns()
            for _ in range(order["calls"]):
                client.ask()
            return {"ns": (time.perf_counter_ns() - start) // order["calls"]}
        case "cold":
            raise No("a guest's first credentials are not its own to get")
    return {}


CLIENTS = {"boto3": Boto3, "awscrt": Crt}
client = None
for line in sys.stdin:
    try:
        answer = obey(json.loads(line))
    except No as no:
        answer = {"no": str(no)}
    print(json.dumps(answer), flush=True)
