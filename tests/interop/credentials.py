"""Credentials for every client in every situation: STS verifies them, and the pool's record gives them to the right identity."""

import base64
import hashlib
import hmac
import json
import subprocess
import time
import urllib.request

from cases import FACEBOOK, GOOGLE, ISSUER, OIDC, ROLE, operator
from harness import HERE, SCRATCH, Stage, check, environment, equal, matches, report, suite, tampered

ARN = r"arn:aws:sts::\d{12}:assumed-role/[\w-]+/CognitoIdentityCredentials"
CLIENTS = {
    "JS v3 fromCognitoIdentity": ["developer"],
    "JS v3 fromCognitoIdentityPool": ["guest", "google", "facebook", "oidc", "two logins"],
    "JS v2 CognitoIdentityCredentials, enhanced": ["developer", "guest", "google", "facebook", "oidc", "two logins"],
    "JS v2 CognitoIdentityCredentials, basic": ["guest", "google", "facebook", "oidc", "two logins"],
    # It has one login, whose name is the issuer that the token itself names.
    "Amplify JS": ["guest", "google", "oidc"],
}


def node(script: str, given: dict) -> list[dict]:
    file = SCRATCH / f"{script}.json"
    file.write_text(json.dumps(given))
    done = subprocess.run(
        ["node", HERE / "javascript" / f"{script}.mjs", file],
        env=environment(AWS_SDK_JS_SUPPRESS_MAINTENANCE_MODE_MESSAGE="1"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        report(f"{script}.mjs runs to its end", done.stderr[-500:])
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def run(stage: Stage) -> None:
    place = stage.pools["open"]
    aws = operator(place)
    with suite("credentials, JavaScript"):
        vended = aws.get_open_id_token_for_developer_identity(IdentityPoolId=place.pool_id, Logins={place.provider: "javascript"})
        maps = {
            "google": {GOOGLE: stage.token(GOOGLE, "js")},
            "facebook": {FACEBOOK: stage.token(FACEBOOK, "js")},
            "oidc": {OIDC: stage.token(OIDC, "js")},
        }
        maps["two logins"] = {GOOGLE: stage.token(GOOGLE, "js two"), OIDC: stage.token(OIDC, "js two")}
        owners = {name: aws.get_id(IdentityPoolId=place.pool_id, Logins=logins)["IdentityId"] for name, logins in maps.items()}
        owners["developer"] = vended["IdentityId"]
        situations = [{"name": "developer", "identity": vended["IdentityId"], "map": {ISSUER: vended["Token"]}}, {"name": "guest"}]
        situations += [{"name": name, "map": logins} for name, logins in maps.items()]
        said = node(
            "credentials",
            {"place": vars(place), "situations": [situation | {"role": ROLE} for situation in situations]},
        )
        answers = {(answer["client"], answer["situation"]): answer for answer in said}
        guests = []
        for client, known in CLIENTS.items():
            for situation in known:
                with check(f"{client}: {situation}"):
                    answer = answers[client, situation]
                    assert "error" not in answer, answer["error"]
                    matches(answer["arn"], ARN)
                    equal(stage.identity_of("open", answer["key"]), owners.get(situation, answer["identity"]))
                    equal(answer["identity"], owners.get(situation, answer["identity"]))
                    if situation == "guest":
                        guests.append(answer["identity"])
        with check("every guest is another one"):
            equal(len(set(guests)), len([name for name, known in CLIENTS.items() if "guest" in known]))
        with check("no client signs an unsigned operation"):
            unsigned = ("GetId", "GetCredentialsForIdentity", "GetOpenIdToken")
            equal([request for request in stage.requests("open") if request["operation"] in unsigned and request["authorization"]], [])
        with check("throttling at the documented quota, and an end of it"):
            throttled = stage.pools["throttled"]
            slow = operator(throttled)
            refused = 0
            for _ in range(60):
                try:
                    slow.get_id(IdentityPoolId=throttled.pool_id)
                except slow.exceptions.TooManyRequestsException:
                    refused += 1
            assert refused, "60 GetId in a row"
            time.sleep(1)
            slow.get_id(IdentityPoolId=throttled.pool_id)
    with suite("tokens, aws-jwt-verify"):
        verify(stage)


def part(value: dict) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def verify(stage: Stage) -> None:
    place, other = stage.pools["open"], stage.pools["closed"]
    aws = operator(place)

    def vend(place, **more):
        answer = operator(place).get_open_id_token_for_developer_identity(
            IdentityPoolId=place.pool_id, Logins={place.provider: "verified"}, **more
        )
        return answer["IdentityId"], answer["Token"]

    with urllib.request.urlopen(place.jwks_uri, timeout=10) as response:
        jwks = json.load(response)
    identity, token = vend(place)
    _, brief = vend(place, TokenDuration=1)
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    kid = jwks["keys"][0]["kid"]
    confused = f"{part({'alg': 'HS256', 'kid': kid})}.{part(claims)}"
    secret = base64.urlsafe_b64decode(jwks["keys"][0]["n"] + "==")
    signature = base64.urlsafe_b64encode(hmac.new(secret, confused.encode(), hashlib.sha256).digest()).rstrip(b"=").decode()
    guest = aws.get_id(IdentityPoolId=place.pool_id)["IdentityId"]
    swapped = token.split(".")
    swapped[1] = part(claims | {"sub": guest})
    bad = {
        "a tampered signature": tampered(token),
        "another identity under the same signature": ".".join(swapped),
        "an expired token": brief,
        "a token of another pool with the same keys": vend(other)[1],
        "a guest's token": aws.get_open_id_token(IdentityId=guest)["Token"],
        "a token of an external provider": stage.token(GOOGLE, "verified", aud=place.pool_id),
        "no signature, alg none": f"{part({'alg': 'none', 'kid': kid})}.{part(claims)}.",
        "HS256 with the public key as the secret": f"{confused}.{signature}",
        "no token": "token",
    }
    time.sleep(2)
    said = {
        answer["name"]: answer
        for answer in node(
            "verify",
            {
                "issuer": f"https://{place.issuer}",
                "audience": place.pool_id,
                "jwks": jwks,
                "provider": place.provider,
                "tokens": {"good": token} | bad,
            },
        )
    }
    with check("aws-jwt-verify accepts a developer token, by the pool's key set"):
        equal(said["good"], {"name": "good", "sub": identity})
    for name in bad:
        with check(f"aws-jwt-verify rejects {name}"):
            assert "error" in said[name], said[name]
    with check("aws-jwt-verify accepts tokens of the old and of the new key after a rotation that keeps the old"):
        stage.order("rotate", pool="open", keep=True)
        with urllib.request.urlopen(place.jwks_uri, timeout=10) as response:
            rotated = json.load(response)
        fresh = vend(place)[1]
        assert fresh.split(".")[0] != token.split(".")[0], "another kid"
        given = {"issuer": f"https://{place.issuer}", "audience": place.pool_id, "jwks": rotated, "provider": place.provider}
        equal([answer.get("sub") for answer in node("verify", given | {"tokens": {"old": token, "new": fresh}})], [identity] * 2)
