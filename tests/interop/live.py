"""What the real service says to the rules of the local pool: `tests/interop/run --live`.

It needs AWS credentials, where boto3 finds them, that may do what `TokenVendor` and `IdentityAdmin` do, and in the
environment COGNITO_IDENTITY_POOL_ID and COGNITO_DEVELOPER_PROVIDER: a scratch pool with a role for its users. It makes
developer users named `interop-…` there, deletes their identities at the end, and touches nothing else.
"""

import os
import re
import subprocess
import sys
import time
import uuid

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from harness import program, tampered

RULE = re.compile(r"^(documented|observed|assumed|deviation) +(\w+) (\w+)\n(?: {11}(.*)\n)?(?: {11}(.*)\n)", re.MULTILINE)


def known_rules(target: str) -> dict[str, tuple[str, str, str]]:
    """The fidelity table: rule -> how well it is known, error type, message."""
    printed = subprocess.run(
        [program(target), "local", "--rules"], capture_output=True, text=True, check=True
    ).stdout
    return {rule: (fidelity, error, message or "") for fidelity, rule, error, message, _ in RULE.findall(printed)}


def provoke(pool: str, provider: str) -> dict:
    """The rules that can be provoked without changing the pool: rule -> a call that it refuses."""
    region = pool.split(":")[0]

    def client(**more):
        config = Config(parameter_validation=False, retries={"mode": "standard"}, signature_version=more.pop("sign", None))
        return boto3.client("cognito-identity", region_name=region, config=config, **more)

    aws, unsigned = client(), client(sign=UNSIGNED)
    run = f"interop-{uuid.uuid4()}"
    issuer = "cognito-identity.amazonaws.com" + (".cn" if region.startswith("cn-") else "")
    if region.startswith(("cn-", "us-gov-")):
        issuer = issuer.replace("cognito-identity.", f"cognito-identity.{region}.")

    def vend(user: str, **more) -> dict:
        return aws.get_open_id_token_for_developer_identity(IdentityPoolId=pool, Logins={provider: f"{run}-{user}"}, **more)

    brief = vend("a", TokenDuration=1)
    a, b = vend("a"), vend("b")
    one, two = a["IdentityId"], b["IdentityId"]
    keys = aws.get_credentials_for_identity(IdentityId=one, Logins={issuer: a["Token"]})["Credentials"]
    users = client(
        aws_access_key_id=keys["AccessKeyId"], aws_secret_access_key=keys["SecretKey"], aws_session_token=keys["SessionToken"]
    )
    nobody = f"{region}:{uuid.uuid4()}"
    guests = aws.describe_identity_pool(IdentityPoolId=pool)["AllowUnauthenticatedIdentities"]
    time.sleep(2)

    def exchange(identity: str, token: str | None):
        return aws.get_credentials_for_identity(IdentityId=identity, **({"Logins": {issuer: token}} if token else {}))

    return {
        "identities": [one, two],
        "delete": lambda: aws.delete_identities(IdentityIdsToDelete=[one, two]),
        "rules": {
            "PoolNotFound": lambda: aws.describe_identity_pool(IdentityPoolId=nobody),
            "IdentityNotFound": lambda: aws.describe_identity(IdentityId=nobody),
            "Constraint": lambda: aws.get_id(IdentityPoolId="my pool"),
            "WrongType": lambda: vend("a", PrincipalTags={"tenant": ["t1"]}),
            "MissingAuthentication": lambda: unsigned.describe_identity_pool(IdentityPoolId=pool),
            "UnknownAccessKey": lambda: client(
                aws_access_key_id="AKIAIOSFODNN7EXAMPLE", aws_secret_access_key="x" * 40
            ).describe_identity_pool(IdentityPoolId=pool),
            "AccessDenied": lambda: users.describe_identity_pool(IdentityPoolId=pool),
            "UnsupportedDeveloperProvider": lambda: aws.get_open_id_token_for_developer_identity(
                IdentityPoolId=pool, Logins={f"{provider}.other": f"{run}-a"}
            ),
            "PublicProviderOnly": lambda: aws.get_id(IdentityPoolId=pool, Logins={provider: f"{run}-a"}),
            "CognitoTokenPassed": lambda: aws.get_id(IdentityPoolId=pool, Logins={issuer: a["Token"]}),
            "BadTokenSignature": lambda: exchange(one, tampered(a["Token"])),
            "TokenExpired": lambda: exchange(one, brief["Token"]),
            "LoginsDontMatch": lambda: exchange(one, b["Token"]),
            ("IdentityForbidden" if guests else "GuestsNotAllowed"): lambda: exchange(one, None),
            "DeveloperUserRegistered": lambda: vend("b", IdentityId=one),
            "DeveloperUserNotFound": lambda: aws.lookup_developer_identity(IdentityPoolId=pool, DeveloperUserIdentifier=f"{run}-c"),
            "LookupNeedsOne": lambda: aws.lookup_developer_identity(IdentityPoolId=pool),
            "LookupMismatch": lambda: aws.lookup_developer_identity(IdentityPoolId=pool, IdentityId=two, DeveloperUserIdentifier=f"{run}-a"),
            "NotLinked": lambda: aws.unlink_developer_identity(
                IdentityPoolId=pool, IdentityId=two, DeveloperProviderName=provider, DeveloperUserIdentifier=f"{run}-a"
            ),
            "InvalidNextToken": lambda: aws.list_identities(IdentityPoolId=pool, MaxResults=1, NextToken="none"),
        },
    }


def main(target: str) -> int:
    names = ("COGNITO_IDENTITY_POOL_ID", "COGNITO_DEVELOPER_PROVIDER")
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        print(f"{__doc__}\nnot set: {', '.join(missing)}", file=sys.stderr)
        return 2
    rules = known_rules(target)
    asked = provoke(*(os.environ[name] for name in names))
    confirmed = contradicted = 0
    try:
        for rule, call in asked["rules"].items():
            fidelity, code, message = rules[rule]
            pattern = ".*".join(map(re.escape, message.split("{}")))
            try:
                call()
                said = ("(not refused)", "")
            except ClientError as error:
                said = (error.response["Error"]["Code"], error.response["Error"]["Message"])
            if said[0] == code and re.fullmatch(pattern, said[1], re.DOTALL):
                confirmed += 1
                print(f"CONFIRMED    {rule} ({fidelity})")
            else:
                contradicted += 1
                print(f"CONTRADICTED {rule} ({fidelity}): {code}: {message}\n             is {said[0]}: {said[1]}")
    finally:
        asked["delete"]()
    print(f"{confirmed} confirmed, {contradicted} contradicted, {len(rules) - confirmed - contradicted} not asked")
    return 1 if contradicted else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
