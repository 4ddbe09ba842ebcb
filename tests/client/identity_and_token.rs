//! Two things that an app takes into its own hands: a fixed identity id, and the token itself.

use std::time::Duration;

use crate::stage::{Order, Stage, google_login, key};
use cognito_identity_pool::{
    CognitoCredentialsProvider, Error, ErrorKind, IdentityId, LocalIdentityPool, Login, TokenVerifier,
    client::IdentityPolicy, error::CauseKind,
};

const MINUTE: Duration = Duration::from_secs(60);

async fn a_guest(stage: &Stage) -> IdentityId {
    let elsewhere = stage.provider();
    elsewhere.switch_to(Login::guest()).ready().await.unwrap().identity_id
}

#[tokio::test]
async fn a_guest_with_a_fixed_identity_asks_for_credentials_alone() {
    let stage = Stage::start().await;
    let known = a_guest(&stage).await;
    let provider = stage.provider();
    let own = provider.switch_to(Login::guest()).ready().await.unwrap().identity_id;
    stage.pool.clear_requests();
    let fixed = provider.switch_to(Login::guest().identity_id(known.clone()));
    assert_eq!(fixed.identity_id().await.unwrap(), known);
    assert_eq!(fixed.ready().await.unwrap().identity_id, known);
    assert_eq!(stage.cognito_calls(), (0, 1));
    // The guest of this device is as it was.
    assert_eq!(
        provider.switch_to(Login::guest()).ready().await.unwrap().identity_id,
        own
    );
    assert_eq!(stage.calls("GetId"), 0);
}

#[tokio::test]
async fn a_fixed_identity_that_is_gone_is_an_error_and_never_a_new_guest() {
    let stage = Stage::start().await;
    let known = a_guest(&stage).await;
    stage.delete(&known).await;
    let before = stage.identities().await;
    let provider = stage
        .builder()
        .identity_policy(IdentityPolicy::Recreate)
        .build()
        .unwrap();
    let login = Login::guest().identity_id(known);
    let error = provider.switch_to(login).ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IdentityNotFound);
    assert_eq!(stage.identities().await, before);
}

#[tokio::test]
async fn an_external_login_with_a_fixed_identity_shows_no_guest_and_must_fit() {
    let stage = Stage::start().await;
    let issuer = stage.google();
    let alice = stage
        .provider()
        .switch_to(google_login(&issuer, "alice"))
        .ready()
        .await
        .unwrap()
        .identity_id;
    let provider = stage.provider();
    let guest = provider.switch_to(Login::guest()).ready().await.unwrap().identity_id;
    stage.pool.clear_requests();
    let session = provider.switch_to(google_login(&issuer, "alice").identity_id(alice.clone()));
    assert_eq!(session.ready().await.unwrap().identity_id, alice);
    assert_eq!(stage.cognito_calls(), (0, 1));
    assert_eq!(
        provider.switch_to(Login::guest()).ready().await.unwrap().identity_id,
        guest
    );
    // Somebody else's identity is refused by Cognito, and not exchanged for another one.
    let bob = provider.switch_to(google_login(&issuer, "bob").identity_id(alice));
    let error = bob.ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAuthorized, "{error:?}");
    assert_eq!(stage.calls("GetId"), 0);
}

#[tokio::test]
async fn a_developers_token_is_the_one_at_hand_while_a_minute_is_left() {
    let stage = Stage::start().await;
    let backend = stage.backend("alice");
    let alice = stage
        .provider()
        .switch_to(Login::developer(backend.clone()).subject("alice"));
    let verifier = TokenVerifier::builder(stage.pool.identity_pool_id(), crate::stage::PROVIDER)
        .configure(&stage.pool.client_config())
        .jwks_uri(stage.pool.jwks_uri())
        .build()
        .unwrap();
    let token = alice.open_id_token().await.unwrap();
    let identity = alice.ready().await.unwrap().identity_id;
    assert_eq!(
        verifier.verify(token.expose_secret()).await.unwrap().identity_id(),
        &identity
    );
    stage.clock.advance(13 * MINUTE);
    assert_eq!(
        alice.open_id_token().await.unwrap().expose_secret(),
        token.expose_secret()
    );
    assert_eq!((backend.calls(), stage.cognito_calls()), (1, (0, 1)));
    stage.clock.advance(MINUTE + Duration::from_secs(30));
    let fresh = alice.open_id_token().await.unwrap();
    assert_ne!(fresh.expose_secret(), token.expose_secret());
    assert_eq!(
        verifier.verify(fresh.expose_secret()).await.unwrap().identity_id(),
        &identity
    );
    // Credentials were not touched by it.
    assert_eq!((backend.calls(), stage.cognito_calls()), (2, (0, 1)));
    assert!(!format!("{fresh:?}").contains(&fresh.expose_secret()[..20]));
}

#[tokio::test]
async fn a_token_of_somebody_else_is_not_handed_out() {
    let stage = Stage::start().await;
    let (backend, bob) = (stage.backend("alice"), stage.backend("bob"));
    let provider = stage.provider();
    let alice = provider.switch_to(Login::developer(backend.clone()));
    alice.ready().await.unwrap();
    stage.clock.advance(20 * MINUTE);
    backend.order(Order::Answer(bob.vend(None).await.unwrap()));
    let error = alice.open_id_token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IdentityChanged);
    // After a switch the handle is silent.
    provider.switch_to(Login::developer(bob));
    assert_eq!(alice.open_id_token().await.unwrap_err().kind(), ErrorKind::SessionEnded);
    provider.sign_out();
    assert_eq!(
        provider.session().open_id_token().await.unwrap_err().kind(),
        ErrorKind::SignedOut
    );
}

#[tokio::test]
async fn guests_and_external_logins_get_their_token_from_cognito_if_the_pool_allows_it() {
    let stage = Stage::start().await;
    let provider = stage.provider();
    for login in [Login::guest(), google_login(&stage.google(), "alice")] {
        let session = provider.switch_to(login);
        let token = session.open_id_token().await.unwrap();
        let identity = session.identity_id().await.unwrap();
        let claims = token.unverified_claims().unwrap();
        assert_eq!(claims.sub.as_deref(), Some(identity.as_str()));
    }
    let pool = LocalIdentityPool::builder()
        .allow_guests(true)
        .allow_classic_flow(false)
        .start()
        .await
        .unwrap();
    let provider = CognitoCredentialsProvider::builder(pool.identity_pool_id())
        .configure(&pool.client_config())
        .build()
        .unwrap();
    let guest = provider.switch_to(Login::guest());
    let error: Error = guest.open_id_token().await.unwrap_err();
    assert_eq!(error.causes()[0].kind, CauseKind::ClassicFlowDisabled);
    key(&provider).await;
}
