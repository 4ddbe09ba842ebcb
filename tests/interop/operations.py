"""Every operation of the API, by boto3 and by the AWS CLI, and the classic flow; and that both agree with `IdentityAdmin`."""

import time

import boto3
from botocore import xform_name

import cases
from cases import APP, GOOGLE, ISSUER, ROLE, Case, operator
from harness import Place, Stage, check, equal, matches, suite, tampered
from refusals import Refused, aws_cli_answer

PROVIDERS = {"SupportedLoginProviders": {GOOGLE: APP}}


def with_boto3(place: Place):
    aws = operator(place)

    def call(operation: str, **input) -> dict:
        answer = getattr(aws, xform_name(operation))(**input)
        answer.pop("ResponseMetadata")
        return answer

    def pages(operation: str, size: int, **input) -> list[dict]:
        if aws.can_paginate(xform_name(operation)):
            pages = aws.get_paginator(xform_name(operation)).paginate(**input, PaginationConfig={"PageSize": size})
            return [page for page in pages]
        return by_hand(call, operation, size, **input)

    return call, pages


def with_cli(place: Place, service: str = "cognito-identity"):
    def call(operation: str, **input) -> dict:
        return aws_cli_answer(Case("", "", operation, input, "", place=place), service)

    return call, lambda operation, size, **input: by_hand(call, operation, size, **input)


def by_hand(call, operation: str, size: int, **input) -> list[dict]:
    pages, token = [], {}
    while True:
        pages.append(call(operation, MaxResults=size, **input, **token))
        if not pages[-1].get("NextToken"):
            return pages
        token = {"NextToken": pages[-1]["NextToken"]}
        assert len(pages) < 100, "endless pages"


def caller(place: Place, keys: dict, secret: str = "SecretKey") -> dict:
    return boto3.client(
        "sts",
        endpoint_url=place.endpoint,
        region_name=place.region,
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys[secret],
        aws_session_token=keys["SessionToken"],
        config=cases.Config(retries={"total_max_attempts": 1}),
    ).get_caller_identity()


def refused(code: str, call) -> None:
    try:
        call()
    except Refused as refusal:
        equal(refusal.code, code)
    except boto3.exceptions.botocore.exceptions.ClientError as error:
        equal(error.response["Error"]["Code"], code)
    else:
        raise AssertionError("not refused")


def not_found(call) -> None:
    refused("ResourceNotFoundException", call)


def run(stage: Stage) -> None:
    place = stage.pools["open"]
    for name, connect in (("boto3", with_boto3), ("AWS CLI", with_cli)):
        with suite(f"operations, {name}"):
            operations(stage, place, name, *connect(place))
    with suite("IdentityAdmin"):
        agreement(stage, place)
    with suite("classic flow, AWS CLI"):
        web_identity(stage.pools["trusted"])


def operations(stage: Stage, place: Place, name: str, call, pages) -> None:
    def does(what: str):
        return check(f"{name} {what}")

    with does("CreateIdentityPool, DescribeIdentityPool"):
        made = call(
            "CreateIdentityPool", IdentityPoolName=f"{name} pool", AllowUnauthenticatedIdentities=True,
            DeveloperProviderName=place.provider, IdentityPoolTags={"team": "a"}, **PROVIDERS,
        )  # fmt: skip
        pool = made["IdentityPoolId"]
        matches(pool, r"us-east-1:[0-9a-f-]{36}")
        assert "AllowClassicFlow" not in made, "unset members are left out"
        equal(call("DescribeIdentityPool", IdentityPoolId=pool), made)
    with does("UpdateIdentityPool replaces all settings"):
        call("UpdateIdentityPool", IdentityPoolId=pool, IdentityPoolName="renamed", AllowUnauthenticatedIdentities=True, **PROVIDERS)
        now = call("DescribeIdentityPool", IdentityPoolId=pool)
        equal(now["IdentityPoolName"], "renamed")
        equal(now["SupportedLoginProviders"], {GOOGLE: APP})
        equal(now["DeveloperProviderName"], place.provider)
    with does("SetIdentityPoolRoles, GetIdentityPoolRoles"):
        equal(call("GetIdentityPoolRoles", IdentityPoolId=pool)["Roles"], {})
        roles = {"authenticated": ROLE, "unauthenticated": ROLE}
        call("SetIdentityPoolRoles", IdentityPoolId=pool, Roles=roles)
        equal(call("GetIdentityPoolRoles", IdentityPoolId=pool), {"IdentityPoolId": pool, "Roles": roles})
    with does("SetPrincipalTagAttributeMap, GetPrincipalTagAttributeMap"):
        tags = {"department": "custom:department"}
        call("SetPrincipalTagAttributeMap", IdentityPoolId=pool, IdentityProviderName=GOOGLE, UseDefaults=False, PrincipalTags=tags)
        mapped = call("GetPrincipalTagAttributeMap", IdentityPoolId=pool, IdentityProviderName=GOOGLE)
        equal((mapped["PrincipalTags"], mapped["UseDefaults"]), (tags, False))
    with does("TagResource, UntagResource, ListTagsForResource"):
        arn = f"arn:aws:cognito-identity:us-east-1:123456789012:identitypool/{pool}"
        call("TagResource", ResourceArn=arn, Tags={"team": "b", "stage": "test"})
        equal(call("ListTagsForResource", ResourceArn=arn)["Tags"], {"team": "b", "stage": "test"})
        call("UntagResource", ResourceArn=arn, TagKeys=["stage"])
        equal(call("ListTagsForResource", ResourceArn=arn)["Tags"], {"team": "b"})
    with does("ListIdentityPools by pages"):
        more = [call("CreateIdentityPool", IdentityPoolName=f"more {n}", AllowUnauthenticatedIdentities=False)["IdentityPoolId"] for n in range(5)]
        listed = pages("ListIdentityPools", 3)
        assert len(listed) > 1 and all(len(page["IdentityPools"]) <= 3 for page in listed)
        ids = [entry["IdentityPoolId"] for page in listed for entry in page["IdentityPools"]]
        equal(len(ids), len(set(ids)))
        assert {pool, place.pool_id, *more} <= set(ids)
        for other in more:
            call("DeleteIdentityPool", IdentityPoolId=other)
            not_found(lambda: call("DescribeIdentityPool", IdentityPoolId=other))
    with does("GetId, GetOpenIdToken: a guest, in the classic flow"):
        guest = call("GetId", IdentityPoolId=pool)["IdentityId"]
        answer = call("GetOpenIdToken", IdentityId=guest)
        equal(answer["IdentityId"], guest)
        role = boto3.client("sts", endpoint_url=place.endpoint, region_name=place.region, config=cases.Config(signature_version=cases.UNSIGNED))
        given = role.assume_role_with_web_identity(RoleArn=ROLE, RoleSessionName="session", WebIdentityToken=answer["Token"])
        equal((given["SubjectFromWebIdentityToken"], given["Audience"]), (guest, pool))
        keys = given["Credentials"]
        matches(caller(place, keys, "SecretAccessKey")["Arn"], r"arn:aws:sts::\d+:assumed-role/local-authenticated/session")
        equal(stage.identity_of("open", keys["AccessKeyId"]), guest)
    with does("GetCredentialsForIdentity: a guest, in the enhanced flow"):
        keys = call("GetCredentialsForIdentity", IdentityId=guest)["Credentials"]
        matches(caller(place, keys)["UserId"], ".*:CognitoIdentityCredentials")
        equal(stage.identity_of("open", keys["AccessKeyId"]), guest)
    with does("GetOpenIdTokenForDeveloperIdentity: a user with tags"):
        vended = call(
            "GetOpenIdTokenForDeveloperIdentity", IdentityPoolId=pool, Logins={place.provider: "ann"},
            PrincipalTags={"tenant": "t1"}, TokenDuration=60,
        )  # fmt: skip
        ann = vended["IdentityId"]
        keys = call("GetCredentialsForIdentity", IdentityId=ann, Logins={ISSUER: vended["Token"]})["Credentials"]
        caller(place, keys)
        signed = [request for request in stage.requests("open") if request["key"] == keys["AccessKeyId"]]
        equal([(request["identity"], request["tags"]) for request in signed], [(ann, {"tenant": "t1"})])
    with does("GetOpenIdTokenForDeveloperIdentity: a guest becomes a user"):
        vended = call("GetOpenIdTokenForDeveloperIdentity", IdentityPoolId=pool, IdentityId=guest, Logins={place.provider: "ben"})
        equal(vended["IdentityId"], guest)
    with does("LookupDeveloperIdentity both ways"):
        found = call("LookupDeveloperIdentity", IdentityPoolId=pool, DeveloperUserIdentifier="ann")
        equal((found["IdentityId"], found["DeveloperUserIdentifierList"]), (ann, ["ann"]))
        equal(call("LookupDeveloperIdentity", IdentityPoolId=pool, IdentityId=ann)["DeveloperUserIdentifierList"], ["ann"])
    with does("MergeDeveloperIdentities, LookupDeveloperIdentity by pages"):
        for user in ("cat", "dan"):
            call("GetOpenIdTokenForDeveloperIdentity", IdentityPoolId=pool, Logins={place.provider: user})
            merged = call(
                "MergeDeveloperIdentities", IdentityPoolId=pool, DeveloperProviderName=place.provider,
                SourceUserIdentifier=user, DestinationUserIdentifier="ann",
            )  # fmt: skip
            equal(merged["IdentityId"], ann)
        users = [user for page in by_hand(call, "LookupDeveloperIdentity", 1, IdentityPoolId=pool, IdentityId=ann) for user in page["DeveloperUserIdentifierList"]]
        equal(sorted(users), ["ann", "cat", "dan"])
    with does("UnlinkDeveloperIdentity"):
        call("UnlinkDeveloperIdentity", IdentityPoolId=pool, IdentityId=ann, DeveloperProviderName=place.provider, DeveloperUserIdentifier="dan")
        not_found(lambda: call("LookupDeveloperIdentity", IdentityPoolId=pool, DeveloperUserIdentifier="dan"))
    with does("DescribeIdentity"):
        about = call("DescribeIdentity", IdentityId=ann)
        equal((about["IdentityId"], about["Logins"]), (ann, [place.provider]))
        assert about["CreationDate"] and about["LastModifiedDate"]
    with does("UnlinkIdentity: the last login of an external user"):
        token = stage.token(GOOGLE, f"{name} eve")
        eve = call("GetId", IdentityPoolId=pool, Logins={GOOGLE: token})["IdentityId"]
        equal(call("GetId", IdentityPoolId=pool, Logins={GOOGLE: token})["IdentityId"], eve)
        call("UnlinkIdentity", IdentityId=eve, Logins={GOOGLE: token}, LoginsToRemove=[GOOGLE])
        equal(call("DescribeIdentity", IdentityId=eve).get("Logins", []), [])
    with does("ListIdentities by pages, with and without the disabled"):
        everyone = [entry["IdentityId"] for page in pages("ListIdentities", 2, IdentityPoolId=pool) for entry in page["Identities"]]
        equal(len(everyone), len(set(everyone)))
        # ann, ben (the guest), eve, and what was merged into ann.
        equal(len(everyone), 5)
        enabled = [entry["IdentityId"] for page in pages("ListIdentities", 2, IdentityPoolId=pool, HideDisabled=True) for entry in page["Identities"]]
        assert {ann, guest} <= set(enabled) < set(everyone)
    with does("DeleteIdentities"):
        equal(call("DeleteIdentities", IdentityIdsToDelete=[ann]).get("UnprocessedIdentityIds", []), [])
        not_found(lambda: call("DescribeIdentity", IdentityId=ann))
        again = call("GetOpenIdTokenForDeveloperIdentity", IdentityPoolId=pool, Logins={place.provider: "ann"})["IdentityId"]
        assert again != ann, "a deleted user starts anew"
    with does("DeleteIdentityPool"):
        call("DeleteIdentityPool", IdentityPoolId=pool)
        not_found(lambda: call("DescribeIdentityPool", IdentityPoolId=pool))
        not_found(lambda: call("DescribeIdentity", IdentityId=again))


def web_identity(place: Place) -> None:
    """The tokens of the classic flow, at roles that trust the signed-in users of one pool."""
    (call, _), (sts, _) = with_cli(place), with_cli(place, "sts")
    user = {"IdentityPoolId": place.pool_id, "Logins": {place.provider: "classic"}}
    vended = call("GetOpenIdTokenForDeveloperIdentity", **user)
    brief = call("GetOpenIdTokenForDeveloperIdentity", TokenDuration=1, **user)["Token"]
    guest = call("GetOpenIdToken", IdentityId=call("GetId", IdentityPoolId=place.pool_id)["IdentityId"])["Token"]

    def assume(token: str, role: str = "members") -> dict:
        arn = f"arn:aws:iam::123456789012:role/{role}"
        return sts("AssumeRoleWithWebIdentity", RoleArn=arn, RoleSessionName="cli", WebIdentityToken=token)

    with check("AWS CLI assume-role-with-web-identity: a developer user's token"):
        given = assume(vended["Token"])
        equal((given["SubjectFromWebIdentityToken"], given["Audience"]), (vended["IdentityId"], place.pool_id))
        matches(caller(place, given["Credentials"], "SecretAccessKey")["Arn"], r"arn:aws:sts::\d+:assumed-role/members/cli")
    time.sleep(2)
    for what, code, *asked in [
        ("a guest, where the role wants the amr of the signed-in", "AccessDenied", guest),
        ("a role that trusts another pool's aud", "AccessDenied", vended["Token"], "strangers"),
        ("an expired token", "ExpiredTokenException", brief),
        ("a tampered token", "InvalidIdentityToken", tampered(vended["Token"])),
    ]:
        with check(f"AWS CLI assume-role-with-web-identity is refused: {what}"):
            refused(code, lambda: assume(*asked))


def agreement(stage: Stage, place: Place) -> None:
    """What `IdentityAdmin` did, others see; what others did, `IdentityAdmin` sees."""
    place = stage.pools["closed"]
    others = {"boto3": with_boto3(place), "AWS CLI": with_cli(place)}
    call = others["boto3"][0]
    users = [f"admin-{number}" for number in range(4)]
    ids = {user: vend(call, place, user) for user in users}

    def admin(action: str, **more):
        said = stage.order("admin", pool="closed", action=action, **more)
        if "error" in said:
            raise AssertionError(said)
        return said["answer"]

    def agree(after: str) -> None:
        """Everything that can be asked of the pool, asked of all three."""
        with check(f"IdentityAdmin, boto3 and the AWS CLI agree {after}"):
            own = {
                user: admin("identity_of_user", user=user) for user in users
            }, sorted((entry["identity"], tuple(entry["providers"])) for entry in admin("identities", page=2, hide_disabled=False))
            of_identity = {identity: sorted(admin("users_of_identity", identity=identity)) for identity in sorted(set(own[0].values()) - {None})}
            for name, (call, pages) in others.items():
                seen = {user: lookup(call, place, user) for user in users}
                listed = pages("ListIdentities", 3, IdentityPoolId=place.pool_id)
                identities = sorted((entry["IdentityId"], tuple(entry.get("Logins", []))) for page in listed for entry in page["Identities"])
                equal((name, seen, identities), (name, *own))
                for identity, their in of_identity.items():
                    found = call("LookupDeveloperIdentity", IdentityPoolId=place.pool_id, IdentityId=identity)
                    equal((name, sorted(found["DeveloperUserIdentifierList"])), (name, their))
                    about = admin("describe", identity=identity)
                    equal((name, call("DescribeIdentity", IdentityId=identity).get("Logins", [])), (name, about["providers"]))

    agree("on a new pool")
    with check("IdentityAdmin merges"):
        equal(admin("merge", **{"from": users[1], "into": users[0]}), ids[users[0]])
    agree("after its merge")
    with check("IdentityAdmin unlinks a user"):
        admin("unlink_user", user=users[2], identity=ids[users[2]])
    agree("after its unlinking")
    with check("IdentityAdmin forgets a user, and those merged with it"):
        equal(admin("forget_user", user=users[0])["identity"], ids[users[0]])
    agree("after its forgetting")
    with check("boto3 deletes what IdentityAdmin has seen"):
        call("DeleteIdentities", IdentityIdsToDelete=[ids[users[3]]])
    agree("after the deletion by boto3")


def vend(call, place: Place, user: str) -> str:
    return call("GetOpenIdTokenForDeveloperIdentity", IdentityPoolId=place.pool_id, Logins={place.provider: user})["IdentityId"]


def lookup(call, place: Place, user: str) -> str | None:
    try:
        return call("LookupDeveloperIdentity", IdentityPoolId=place.pool_id, DeveloperUserIdentifier=user)["IdentityId"]
    except (Refused, boto3.exceptions.botocore.exceptions.ClientError) as error:
        assert "ResourceNotFoundException" in str(error), error
        return None
