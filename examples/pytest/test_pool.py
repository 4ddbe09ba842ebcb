"""What the fixture of conftest.py is good for. `pytest examples/pytest`"""

import pytest
from conftest import ISSUER


def test_each_user_has_an_identity_and_credentials_of_their_own(pool):
    alice, bob = pool.credentials("alice"), pool.credentials("bob")
    assert pool.identity_of(alice["AccessKeyId"]) == pool.identity("alice")
    assert pool.identity_of(bob["AccessKeyId"]) == pool.identity("bob") != pool.identity("alice")
    assert pool.client("sts", alice).get_caller_identity()["Arn"].endswith("/CognitoIdentityCredentials")


def test_a_guest_who_signs_in_with_facebook_keeps_their_identity(pool):
    facebook = pool.trust(provider="graph.facebook.com")
    app = pool.client(signed=False)
    guest = app.get_id(IdentityPoolId=pool.id)["IdentityId"]
    token = pool.token(facebook, "alice")
    pool.exchange(guest, {facebook: token})
    assert app.get_id(IdentityPoolId=pool.id, Logins={facebook: token})["IdentityId"] == guest


def test_an_hour_later_the_token_has_expired(pool):
    vended = pool.vend("alice")
    pool.advance(3600)
    with pytest.raises(Exception, match="Token expired"):
        pool.exchange(vended["IdentityId"], {ISSUER: vended["Token"]})
    refused = pool.requests()[-1]
    assert refused["rule"] == "TokenExpired" and "ended 2700 s ago" in refused["why"]


def test_the_app_copes_with_an_outage(pool):
    pool.fault("GetId", "Status", status=503, count=2)
    app = pool.client(signed=False)
    for _ in range(2):
        with pytest.raises(Exception, match="503"):
            app.get_id(IdentityPoolId=pool.id)
    assert app.get_id(IdentityPoolId=pool.id)["IdentityId"]


def test_nothing_is_left_of_the_tests_before(pool):
    assert pool.requests() == []
    assert pool.admin("GET", "/identities")["total"] == 0
