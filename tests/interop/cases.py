"""The refusals of the service that a client can provoke, as data: what is asked of which pool, and how it is refused.

They are numbered as in the specification: E.1 types, E.2 messages, E.3 constraints. What is asked is made with boto3 as
the operator, and can be asked again and again.
"""

import re
import time
from dataclasses import asdict, dataclass, field

import boto3
from botocore import UNSIGNED
from botocore.config import Config

from harness import Place, Stage, tampered

ISSUER = "cognito-identity.amazonaws.com"
GOOGLE, FACEBOOK, OIDC = "accounts.google.com", "graph.facebook.com", "login.example.com"
USER_POOL = "cognito-idp.us-east-1.amazonaws.com/us-east-1_Example"
SILENT = "www.amazon.com"
ROLE = "arn:aws:iam::123456789012:role/local-authenticated"
NOBODY = "00000000-0000-4000-8000-000000000000"
APP = "local-app"

GET_ID, CREDENTIALS, TOKEN = "GetId", "GetCredentialsForIdentity", "GetOpenIdToken"
VEND = "GetOpenIdTokenForDeveloperIdentity"
NO_AUTH = (GET_ID, CREDENTIALS, TOKEN, "UnlinkIdentity")


@dataclass
class Case:
    row: str
    what: str
    operation: str
    input: dict
    code: str
    message: str = ".*"
    """A pattern. Left open where the text of the real service is not known."""
    place: Place | None = None
    signer: dict = field(default_factory=dict)
    """`key`, `secret` and `token` if not the backend's; `{"key": None}` for none."""
    path: str = ""
    status: int = 400

    @property
    def name(self) -> str:
        return f"{self.row} {self.operation}: {self.what}"

    def plain(self) -> dict:
        return asdict(self) | {"name": self.name, "unsigned": self.operation in NO_AUTH}


def operator(place: Place, **config):
    return boto3.client(
        "cognito-identity",
        endpoint_url=place.endpoint,
        region_name=place.region,
        aws_access_key_id=place.access_key_id,
        aws_secret_access_key=place.secret_access_key,
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20, **config),
    )


exactly = re.escape


def login_failed(what: str) -> str:
    return exactly(f"Invalid login token. {what}")


DONT_MATCH = exactly(
    "Logins don't match. Please include at least one valid login for this identity or identity pool."
)
NO_GUESTS = exactly("Unauthenticated access is not supported for this identity pool.")
CONFIGURATION = exactly("Invalid identity pool configuration. Check assigned IAM roles for this pool.")
N = "NotAuthorizedException"


def all_cases(stage: Stage) -> list[Case]:
    place, closed, denied = stage.pools["open"], stage.pools["closed"], stage.pools["denied"]
    aws, pool, provider = operator(place), place.pool_id, place.provider
    cases: list[Case] = []

    def case(row, what, operation, input, code, message=".*", **more):
        cases.append(Case(row, what, operation, input, code, message, **({"place": place} | more)))

    def vend(user: str, pool: str = pool, **more) -> tuple[str, str]:
        answer = aws.get_open_id_token_for_developer_identity(IdentityPoolId=pool, Logins={provider: user}, **more)
        return answer["IdentityId"], answer["Token"]

    def guest(pool: str = pool) -> str:
        return aws.get_id(IdentityPoolId=pool)["IdentityId"]

    def new_pool(name: str, guests: bool = True, roles: bool = True, **more) -> str:
        made = aws.create_identity_pool(IdentityPoolName=name, AllowUnauthenticatedIdentities=guests, **more)
        if roles:
            aws.set_identity_pool_roles(
                IdentityPoolId=made["IdentityPoolId"], Roles={"authenticated": ROLE, "unauthenticated": ROLE}
            )
        return made["IdentityPoolId"]

    # Tokens that expire while the rest is made.
    alice, brief = vend("alice", TokenDuration=1)
    google_brief = stage.token(GOOGLE, "brief", lifetime=1)
    facebook_brief = stage.token(FACEBOOK, "brief", lifetime=1)
    expired_at = time.time() + 2

    alice, alices = vend("alice")
    bob, bobs = vend("bob")
    google = stage.token(GOOGLE, "carol")
    carol = aws.get_id(IdentityPoolId=pool, Logins={GOOGLE: google})["IdentityId"]
    daves = stage.token(GOOGLE, "dave")
    aws.get_id(IdentityPoolId=pool, Logins={GOOGLE: daves})

    # E.2 1
    for who, identity, logins in (
        ("another user's token", alice, {ISSUER: bobs}),
        ("another person's external login", carol, {GOOGLE: daves}),
    ):
        case("E.2 1", who, CREDENTIALS, {"IdentityId": identity, "Logins": logins}, N, DONT_MATCH)
    case("E.2 1", "another person's external login", TOKEN, {"IdentityId": carol, "Logins": {GOOGLE: daves}}, N, DONT_MATCH)
    case(
        "E.2 1", "a user's identity for another user", VEND,
        {"IdentityPoolId": pool, "IdentityId": carol, "Logins": {provider: "newcomer"}}, N, DONT_MATCH,
    )  # fmt: skip
    # E.2 2
    case("E.2 2", "a guest, where there are none", GET_ID, {"IdentityPoolId": closed.pool_id}, N, NO_GUESTS, place=closed)
    closed_user = operator(closed).get_open_id_token_for_developer_identity(
        IdentityPoolId=closed.pool_id, Logins={provider: "alice"}
    )["IdentityId"]
    case("E.2 2", "no logins, where there are no guests", CREDENTIALS, {"IdentityId": closed_user}, N, NO_GUESTS, place=closed)
    # E.2 3
    plain = new_pool("plain")
    unsupported = exactly("Token is not from a supported provider of this identity pool.")
    case("E.2 3", "a provider that the pool does not have", GET_ID, {"IdentityPoolId": plain, "Logins": {GOOGLE: google}}, N, unsupported)
    # E.2 4, 5
    expired = r"Invalid login token\. Token expired: \d+ >= \d+"
    case("E.2 4", "an expired developer token", CREDENTIALS, {"IdentityId": alice, "Logins": {ISSUER: brief}}, N, expired)
    case("E.2 4", "an expired external token", GET_ID, {"IdentityPoolId": pool, "Logins": {GOOGLE: google_brief}}, N, expired)
    case("E.2 4", "an expired external token", CREDENTIALS, {"IdentityId": carol, "Logins": {GOOGLE: google_brief}}, N, expired)
    case("E.2 4", "an expired external token", TOKEN, {"IdentityId": carol, "Logins": {GOOGLE: google_brief}}, N, expired)
    case("E.2 5", "an expired opaque token", GET_ID, {"IdentityPoolId": pool, "Logins": {FACEBOOK: facebook_brief}}, N, login_failed("Token is expired."))
    # E.2 6
    unverified = login_failed("Couldn't verify signed token.")
    forged = stage.token(GOOGLE, "carol", forged=True)
    case("E.2 6", "a tampered developer token", CREDENTIALS, {"IdentityId": alice, "Logins": {ISSUER: tampered(alices)}}, N, unverified)
    case("E.2 6", "a forged external token", GET_ID, {"IdentityPoolId": pool, "Logins": {GOOGLE: forged}}, N, unverified)
    case("E.2 6", "a forged external token", TOKEN, {"IdentityId": carol, "Logins": {GOOGLE: forged}}, N, unverified)
    # E.2 7
    mismatch = login_failed("Issuer doesn't match providerName")
    case("E.2 7", "a token under another provider's name", GET_ID, {"IdentityPoolId": pool, "Logins": {OIDC: google}}, N, mismatch)
    case(
        "E.2 7", "a developer token under China's name", CREDENTIALS,
        {"IdentityId": alice, "Logins": {"cognito-identity.cn-north-1.amazonaws.com.cn": alices}}, N, mismatch,
    )  # fmt: skip
    # E.2 8
    access_token = stage.token(GOOGLE, "carol", aud=None)
    case("E.2 8", "an access token", GET_ID, {"IdentityPoolId": pool, "Logins": {GOOGLE: access_token}}, N, login_failed("Missing a required claim: aud"))
    # E.2 9
    id_token = stage.token(USER_POOL, "erin")
    case("E.2 9", "an id token under Cognito's name", CREDENTIALS, {"IdentityId": alice, "Logins": {ISSUER: id_token}}, N, login_failed("Not a Cognito token."))
    # E.2 10
    passed = login_failed("Can't pass in a Cognito token.")
    case("E.2 10", "a developer token", GET_ID, {"IdentityPoolId": pool, "Logins": {ISSUER: alices}}, N, passed)
    case("E.2 10", "a developer token under the developer provider's name", CREDENTIALS, {"IdentityId": alice, "Logins": {provider: alices}}, N, passed)
    case("E.2 10", "a developer token", TOKEN, {"IdentityId": alice, "Logins": {ISSUER: alices}}, N, passed)
    # E.2 11
    case("E.2 11", "a user's identity without logins", CREDENTIALS, {"IdentityId": alice}, N, exactly(f"Access to Identity '{alice}' is forbidden."))
    merged = guest()
    aws.get_credentials_for_identity(IdentityId=merged, Logins={GOOGLE: google})
    case("E.2 11", "a guest that was merged into a user", CREDENTIALS, {"IdentityId": merged}, N, exactly(f"Access to Identity '{merged}' is forbidden."))
    case("E.2 11", "a user's identity without logins", TOKEN, {"IdentityId": alice}, N, exactly(f"Access to Identity '{alice}' is forbidden."))
    # E.2 12, 17
    mapped = new_pool("mapped", SupportedLoginProviders={GOOGLE: APP})
    rule = {"Claim": "department", "MatchType": "Equals", "Value": "research", "RoleARN": ROLE}
    mapping = {"Type": "Rules", "AmbiguousRoleResolution": "Deny", "RulesConfiguration": {"Rules": [rule]}}
    aws.set_identity_pool_roles(IdentityPoolId=mapped, Roles={"authenticated": ROLE, "unauthenticated": ROLE}, RoleMappings={GOOGLE: mapping})
    mapped_carol = aws.get_id(IdentityPoolId=mapped, Logins={GOOGLE: google})["IdentityId"]
    case(
        "E.2 12", "no rule of the role mapping applies", CREDENTIALS, {"IdentityId": mapped_carol, "Logins": {GOOGLE: google}}, N,
        rf"The ambiguous role mapping rules for: {exactly(GOOGLE)}.* denied this request\.",
    )  # fmt: skip
    case("E.2 17", "a pool with role mappings", TOKEN, {"IdentityId": guest(mapped)}, "InvalidParameterException", exactly("Basic (classic) flow is not supported with RoleMappings, please use enhanced flow."))
    # E.2 13, 18
    no_role = "arn:aws:iam::210987654321:rule/not-a-role"
    case("E.2 13", "something that is no role", "SetIdentityPoolRoles", {"IdentityPoolId": plain, "Roles": {"authenticated": no_role}}, N, exactly(f"Access to Role '{no_role}' is forbidden."))
    case(
        "E.2 18", "a role mapping for a provider that the pool does not have", "SetIdentityPoolRoles",
        {"IdentityPoolId": plain, "Roles": {"authenticated": ROLE}, "RoleMappings": {GOOGLE: mapping}},
        "InvalidParameterException", exactly(f"{GOOGLE} is not a valid RoleMapping ProviderName or is not a configured provider."),
    )  # fmt: skip
    # E.2 14, 15
    public = "Please provide a valid public provider"
    case("E.2 14", "the developer provider's name", GET_ID, {"IdentityPoolId": pool, "Logins": {provider: "alice"}}, "InvalidParameterException", public)
    case("E.2 14", "the developer provider's name", CREDENTIALS, {"IdentityId": alice, "Logins": {provider: "alice"}}, "InvalidParameterException", public)
    case("E.2 15", "another developer provider", VEND, {"IdentityPoolId": pool, "Logins": {"login.other.app": "alice"}}, N, "This identity pool does not support the specified developer provider")
    # E.2 16
    enhanced = new_pool("enhanced only", AllowClassicFlow=False)
    case("E.2 16", "a pool without the classic flow", TOKEN, {"IdentityId": guest(enhanced)}, "InvalidParameterException", exactly("Basic (classic) flow is not enabled, please use enhanced flow."))
    # E.2 19, 20
    gone = guest()
    aws.delete_identities(IdentityIdsToDelete=[gone])
    for operation in (CREDENTIALS, TOKEN, "DescribeIdentity"):
        case("E.2 19", "a deleted identity", operation, {"IdentityId": gone}, "ResourceNotFoundException", exactly(f"Identity '{gone}' not found."))
    unknown = f"us-east-1:{NOBODY}"
    for operation, more in (
        (GET_ID, {}),
        (VEND, {"Logins": {provider: "alice"}}),
        ("DescribeIdentityPool", {}),
        ("ListIdentities", {"MaxResults": 5}),
        ("LookupDeveloperIdentity", {"DeveloperUserIdentifier": "alice"}),
    ):
        case("E.2 20", "an unknown pool", operation, {"IdentityPoolId": unknown, **more}, "ResourceNotFoundException", exactly(f"IdentityPool '{unknown}' not found."))
    # E.2 21
    roleless = new_pool("no roles", roles=False)
    case("E.2 21", "a pool without roles", CREDENTIALS, {"IdentityId": guest(roleless)}, "InvalidIdentityPoolConfigurationException", CONFIGURATION)
    # E.2 22, and what only the service itself can provoke
    for error, status, message in (
        ("TooManyRequestsException", 400, "Rate exceeded"),
        ("LimitExceededException", 400, ".*"),
        ("ConcurrentModificationException", 400, ".*"),
        ("InternalErrorException", 500, ".*"),
    ):
        failing = stage.pools[error]
        row = "E.2 22" if status == 400 and message != ".*" else "E.1"
        for operation, input in (
            (GET_ID, {"IdentityPoolId": failing.pool_id}),
            (CREDENTIALS, {"IdentityId": unknown}),
            (TOKEN, {"IdentityId": unknown}),
            (VEND, {"IdentityPoolId": failing.pool_id, "Logins": {provider: "alice"}}),
        ):
            case(row, f"the service says {error}", operation, input, error, message, place=failing, status=status)
    case("E.1", "a provider that does not answer", GET_ID, {"IdentityPoolId": pool, "Logins": {SILENT: stage.token(SILENT, "carol")}}, "ExternalServiceException")
    # E.2 23, and the policies of signed operations
    case("E.2 23", "a resource control policy", GET_ID, {"IdentityPoolId": denied.pool_id}, "AccessDeniedException",
         exactly("User: anonymous is not authorized to perform: cognito-identity:GetId on resource: * with an explicit deny in a resource control policy"), place=denied)  # fmt: skip
    case("E.1", "the backend's policy", VEND, {"IdentityPoolId": denied.pool_id, "Logins": {provider: "alice"}}, "AccessDeniedException", place=denied)
    # E.2 24
    case("E.2 24", "a list for a tag's value", VEND, {"IdentityPoolId": pool, "Logins": {provider: "alice"}, "PrincipalTags": {"tenant": ["t1"]}}, "SerializationException", "Start of list found where not expected")
    # E.2 25
    case("E.2 25", "a path that the service does not have", GET_ID, {"IdentityPoolId": pool}, "404", path="/prod", status=404)
    # E.2 26
    case("E.2 26", "another guest for a user who has an identity", VEND, {"IdentityPoolId": pool, "IdentityId": guest(), "Logins": {provider: "alice"}}, "DeveloperUserAlreadyRegisteredException")
    # E.2 27
    case("E.2 27", "a user of another identity", "LookupDeveloperIdentity", {"IdentityPoolId": pool, "IdentityId": bob, "DeveloperUserIdentifier": "alice"}, "ResourceConflictException")
    aws.get_open_id_token_for_developer_identity(IdentityPoolId=pool, IdentityId=alice, Logins={provider: "alice", GOOGLE: stage.token(GOOGLE, "alice")})
    case("E.2 27", "a second login of one external provider", VEND, {"IdentityPoolId": pool, "Logins": {provider: "alice", GOOGLE: stage.token(GOOGLE, "other")}}, "ResourceConflictException")
    case("E.2 27", "a login that the identity does not have", "UnlinkDeveloperIdentity", {"IdentityPoolId": pool, "IdentityId": bob, "DeveloperProviderName": provider, "DeveloperUserIdentifier": "alice"}, "ResourceConflictException")
    # E.2 28
    case("E.2 28", "neither identity nor user", "LookupDeveloperIdentity", {"IdentityPoolId": pool}, "InvalidParameterException")
    case("E.2 28", "no developer provider", VEND, {"IdentityPoolId": pool, "Logins": {GOOGLE: google}}, "InvalidParameterException")
    vend("crowd-0")
    for number in range(1, 20):
        vend(f"crowd-{number}", IdentityId=guest())
        aws.merge_developer_identities(IdentityPoolId=pool, DeveloperProviderName=provider, SourceUserIdentifier=f"crowd-{number}", DestinationUserIdentifier="crowd-0")
    vend("crowd-20")
    case("E.2 28", "more than 20 logins", "MergeDeveloperIdentities", {"IdentityPoolId": pool, "DeveloperProviderName": provider, "SourceUserIdentifier": "crowd-20", "DestinationUserIdentifier": "crowd-0"}, "InvalidParameterException")
    # E.3
    one = "1 validation error detected: "
    failed_to = "failed to satisfy constraint: "
    pattern = exactly(r"Member must satisfy regular expression pattern: [\w-]+:[0-9a-f-]+")
    V = "ValidationException"
    case("E.3", "a pool's name for its id", GET_ID, {"IdentityPoolId": "my pool"}, V, f"{one}Value 'my pool' at 'identityPoolId' {failed_to}{pattern}")
    case("E.3", "a pool id of 56 characters", GET_ID, {"IdentityPoolId": "us-east-1:" + "0" * 46}, V, f"{one}Value '.*' at 'identityPoolId' {failed_to}Member must have length less than or equal to 55")
    case("E.3", "an empty identity id breaks two constraints", CREDENTIALS, {"IdentityId": ""}, V, f"2 validation errors detected: Value '' at 'identityId' {failed_to}.*; Value '' at 'identityId' {failed_to}.*")
    case("E.3", "a missing member", VEND, {"IdentityPoolId": pool}, V, f"{one}Value null at 'logins' {failed_to}Member must not be null")
    case("E.3", "a token of 50001 characters", CREDENTIALS, {"IdentityId": alice, "Logins": {ISSUER: "x" * 50001}}, V, exactly(one) + rf"Value '\{{{exactly(ISSUER)}=x+\}}' at 'logins' {failed_to}Map value must satisfy constraint: \[Member must have length less than or equal to 50000, Member must have length greater than or equal to 1\]")
    case("E.3", "a token duration of a day and a second", VEND, {"IdentityPoolId": pool, "Logins": {provider: "alice"}, "TokenDuration": 86401}, V, f"{one}Value '86401' at 'tokenDuration' {failed_to}Member must have value less than or equal to 86400")
    # E.1: signatures
    vended = aws.get_credentials_for_identity(IdentityId=alice, Logins={ISSUER: alices})["Credentials"]
    brief_place = stage.pools["brief"]
    brief_aws = operator(brief_place)
    late = brief_aws.get_credentials_for_identity(IdentityId=brief_aws.get_id(IdentityPoolId=brief_place.pool_id)["IdentityId"])["Credentials"]

    def signer(keys: dict) -> dict:
        return {"key": keys["AccessKeyId"], "secret": keys["SecretKey"], "token": keys["SessionToken"]}

    ask = {"IdentityPoolId": pool}
    for what, code, who in (
        ("no signature", "MissingAuthenticationTokenException", {"key": None}),
        ("an unknown access key", "UnrecognizedClientException", {"key": "AKIAIOSFODNN7EXAMPLE", "secret": "x" * 40}),
        ("another secret key", "InvalidSignatureException", {"key": place.access_key_id, "secret": "x" * 40}),
        ("credentials of an end user", "AccessDeniedException", signer(vended)),
        ("a session token of somebody else", "UnrecognizedClientException", signer(vended) | {"token": late["SessionToken"]}),
    ):
        case("E.1", what, "DescribeIdentityPool", ask, code, signer=who)
    time.sleep(max(0.0, expired_at - time.time(), late["Expiration"].timestamp() + 0.5 - time.time()))
    case("E.1", "credentials that have expired", "DescribeIdentityPool", {"IdentityPoolId": brief_place.pool_id}, "ExpiredTokenException", place=brief_place, signer=signer(late))
    return cases
