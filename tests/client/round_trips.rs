//! The table of round trips: how often backend and Cognito are asked, state by state.

use std::time::Duration;

use crate::stage::{Stage, Wallet};
use aws_credential_types::provider::ProvideCredentials;
use cognito_identity_pool::{
    CognitoCredentialsProvider, ErrorKind, Login, Logins,
    client::{ClassicFlow, Flow, IdentityOutcome},
    token::RefreshReason,
};

async fn credentials(provider: &CognitoCredentialsProvider) -> aws_credential_types::Credentials {
    provider.provide_credentials().await.unwrap()
}

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn developer_cold_asks_the_backend_once_and_cognito_once() {
    let stage = Stage::start().await;
    let (provider, backend) = (stage.provider(), stage.backend("alice"));
    provider.switch_to(Login::developer(backend.clone()));
    credentials(&provider).await;
    assert_eq!((backend.calls(), stage.cognito_calls()), (1, (0, 1)));
}

#[tokio::test]
async fn fresh_credentials_cost_nothing() {
    let stage = Stage::start().await;
    let (provider, backend) = (stage.provider(), stage.backend("alice"));
    provider.switch_to(Login::developer(backend.clone()));
    let first = credentials(&provider).await;
    for _ in 0..100 {
        assert_eq!(credentials(&provider).await.access_key_id(), first.access_key_id());
    }
    assert_eq!((backend.calls(), stage.cognito_calls()), (1, (0, 1)));
}

#[tokio::test]
async fn developer_with_expired_credentials_and_a_token_that_is_still_good_asks_cognito_alone() {
    let stage = Stage::start().await;
    let (provider, backend) = (stage.provider(), stage.backend("alice"));
    backend.token_seconds.store(86_400, std::sync::atomic::Ordering::SeqCst);
    provider.switch_to(Login::developer(backend.clone()));
    credentials(&provider).await;
    stage.clock.advance(HOUR);
    credentials(&provider).await;
    assert_eq!((backend.calls(), stage.cognito_calls()), (1, (0, 2)));
}

#[tokio::test]
async fn developer_with_both_expired_asks_each_once() {
    let stage = Stage::start().await;
    let (provider, backend) = (stage.provider(), stage.backend("alice"));
    provider.switch_to(Login::developer(backend.clone()));
    let first = credentials(&provider).await;
    stage.clock.advance(HOUR);
    let second = credentials(&provider).await;
    assert_ne!(first.access_key_id(), second.access_key_id());
    assert_eq!((backend.calls(), stage.cognito_calls()), (2, (0, 2)));
}

#[tokio::test]
async fn guest_cold_without_a_stored_id_asks_cognito_twice() {
    let stage = Stage::start().await;
    let provider = stage.provider();
    provider.switch_to(Login::guest());
    credentials(&provider).await;
    assert_eq!(stage.cognito_calls(), (1, 1));
}

#[tokio::test]
async fn guest_with_a_stored_id_asks_cognito_once() {
    let stage = Stage::start().await;
    let provider = stage.provider();
    let guest = provider.switch_to(Login::guest()).ready().await.unwrap();
    stage.pool.clear_requests();
    provider.sign_out();
    let again = provider.switch_to(Login::guest()).ready().await.unwrap();
    assert_eq!(again.identity_id, guest.identity_id);
    assert_eq!(again.outcome, IdentityOutcome::Kept);
    assert_eq!(stage.cognito_calls(), (0, 1));
}

#[tokio::test]
async fn the_identity_id_of_a_guest_costs_one_get_id_which_the_exchange_shares() {
    let stage = Stage::start().await;
    let provider = stage.provider();
    provider.switch_to(Login::guest());
    let id = provider.identity_id().await.unwrap();
    assert_eq!(stage.cognito_calls(), (1, 0));
    credentials(&provider).await;
    assert_eq!(stage.cognito_calls(), (1, 1));
    assert_eq!(provider.identity_id().await.unwrap(), id);
}

#[tokio::test]
async fn the_identity_id_of_a_developer_user_keeps_its_token_for_the_exchange() {
    let stage = Stage::start().await;
    let (provider, backend) = (stage.provider(), stage.backend("alice"));
    provider.switch_to(Login::developer(backend.clone()));
    let id = provider.identity_id().await.unwrap();
    assert_eq!((backend.calls(), stage.cognito_calls()), (1, (0, 0)));
    credentials(&provider).await;
    assert_eq!((backend.calls(), stage.cognito_calls()), (1, (0, 1)));
    assert_eq!(provider.identity_id().await.unwrap(), id);
}

#[tokio::test]
async fn a_token_that_is_rejected_as_expired_costs_one_more_of_each_once() {
    let stage = Stage::start().await;
    let (provider, backend) = (stage.provider(), stage.backend("alice"));
    backend.token_seconds.store(1, std::sync::atomic::Ordering::SeqCst);
    let stale = backend.vend(None).await.unwrap();
    backend.token_seconds.store(900, std::sync::atomic::Ordering::SeqCst);
    stage.clock.advance(Duration::from_secs(60));
    backend.order(crate::stage::Order::Answer(stale.clone()));
    provider.switch_to(Login::developer(backend.clone()));
    credentials(&provider).await;
    assert_eq!((backend.calls(), stage.cognito_calls()), (2, (0, 2)));
    // Refused twice, it is final.
    let other = stage.backend("alice");
    other.order(crate::stage::Order::Answer(stale.clone()));
    other.order(crate::stage::Order::Answer(stale));
    stage.pool.clear_requests();
    provider.switch_to(Login::developer(other.clone()));
    let error = crate::stage::ours(&provider.provide_credentials().await.unwrap_err());
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::NotAuthorized, Some("NotAuthorizedException"))
    );
    assert_eq!((other.calls(), stage.cognito_calls()), (2, (0, 2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_cold_callers_are_as_one() {
    let stage = Stage::start().await;
    let (provider, backend) = (stage.provider(), stage.backend("alice"));
    let release = backend.hold();
    provider.switch_to(Login::developer(backend.clone()));
    let callers: Vec<_> = (0..1_000)
        .map(|_| {
            let provider = provider.clone();
            tokio::spawn(async move { provider.provide_credentials().await.unwrap().access_key_id().to_owned() })
        })
        .collect();
    release.send(()).unwrap();
    let mut keys = std::collections::HashSet::new();
    for caller in callers {
        keys.insert(caller.await.unwrap());
    }
    assert_eq!(keys.len(), 1);
    assert_eq!((backend.calls(), stage.cognito_calls()), (1, (0, 1)));
}

#[tokio::test]
async fn unsigned_operations_carry_no_authorization_header() {
    let stage = Stage::start().await;
    let base = stage.pool.backend_config();
    let provider = CognitoCredentialsProvider::builder(stage.pool.identity_pool_id())
        .configure(&base)
        .build()
        .unwrap();
    provider.switch_to(Login::guest()).ready().await.unwrap();
    let unsigned = stage.pool.requests();
    assert_eq!(unsigned.len(), 2);
    assert!(unsigned.iter().all(|request| !request.authorization), "{unsigned:?}");
}

#[tokio::test]
async fn external_cold_asks_who_it_is_and_exchanges() {
    let stage = Stage::start().await;
    let google = stage.google();
    let (provider, wallet) = (stage.provider(), Wallet::new(crate::stage::google(&google, "alice")));
    provider.switch_to(Login::external(wallet.clone()));
    credentials(&provider).await;
    assert_eq!((wallet.asked(), stage.cognito_calls()), (1, (1, 1)));
    // And each time the credentials are made anew, the logins are asked for once.
    stage.clock.advance(HOUR);
    *wallet.logins.lock().unwrap() = crate::stage::google(&google, "alice");
    credentials(&provider).await;
    assert_eq!((wallet.asked(), stage.cognito_calls()), (2, (1, 2)));
}

#[tokio::test]
async fn external_with_a_stored_id_only_exchanges() {
    let stage = Stage::start().await;
    let (provider, google) = (stage.provider(), stage.google());
    let login = || crate::stage::google_login(&google, "alice").subject("alice");
    let first = provider.switch_to(login()).ready().await.unwrap();
    provider.sign_out();
    stage.pool.clear_requests();
    let again = provider.switch_to(login()).ready().await.unwrap();
    assert_eq!(
        (again.identity_id, again.outcome),
        (first.identity_id, IdentityOutcome::Kept)
    );
    assert_eq!(stage.cognito_calls(), (0, 1));
}

#[tokio::test]
async fn guest_to_external_with_the_guest_id_known_only_exchanges() {
    let stage = Stage::start().await;
    let (provider, google) = (stage.provider(), stage.google());
    let guest = provider.switch_to(Login::guest()).ready().await.unwrap();
    stage.pool.clear_requests();
    let user = provider
        .switch_to(crate::stage::google_login(&google, "alice"))
        .ready()
        .await
        .unwrap();
    assert_eq!(
        (user.identity_id, user.outcome),
        (guest.identity_id, IdentityOutcome::Kept)
    );
    assert_eq!(stage.cognito_calls(), (0, 1));
}

#[tokio::test]
async fn the_identity_id_of_an_external_login_costs_one_get_id_which_the_exchange_shares() {
    let stage = Stage::start().await;
    let google = stage.google();
    let (provider, wallet) = (stage.provider(), Wallet::new(crate::stage::google(&google, "alice")));
    provider.switch_to(Login::external(wallet.clone()));
    let id = provider.identity_id().await.unwrap();
    assert_eq!((wallet.asked(), stage.cognito_calls()), (1, (1, 0)));
    credentials(&provider).await;
    assert_eq!((wallet.asked(), stage.cognito_calls()), (1, (1, 1)));
    assert_eq!(provider.identity_id().await.unwrap(), id);
}

#[tokio::test]
async fn an_external_token_that_is_rejected_as_expired_costs_one_more_of_each_once() {
    let stage = Stage::start().await;
    let google = stage.google();
    let stale = google.token_for("alice").lifetime(Duration::from_secs(1)).issue();
    // Cognito takes external tokens for five minutes more.
    stage.clock.advance(Duration::from_secs(360));
    let wallet = Wallet::new(Logins::new().google(stale.clone()).unwrap());
    *wallet.renewed.lock().unwrap() = Some(crate::stage::google(&google, "alice"));
    let provider = stage.provider();
    provider.switch_to(Login::external(wallet.clone()));
    credentials(&provider).await;
    // It was GetId that refused.
    assert_eq!((wallet.asked(), stage.cognito_calls()), (2, (2, 1)));
    assert_eq!(
        *wallet.reasons.lock().unwrap(),
        [RefreshReason::FirstUse, RefreshReason::TokenRejected]
    );
    // A map that cannot be renewed needs a new sign-in.
    provider.switch_to(Login::external(Logins::new().google(stale).unwrap()));
    let error = crate::stage::failure(&provider).await;
    assert!(error.needs_sign_in() && !error.is_retryable(), "{error:?}");
}

#[tokio::test]
async fn a_developer_identity_that_is_gone_costs_one_more_of_each_without_the_id_once() {
    let stage = Stage::start().await;
    let (provider, backend) = (stage.provider(), stage.backend("alice"));
    backend.token_seconds.store(86_400, std::sync::atomic::Ordering::SeqCst);
    let before = provider
        .switch_to(Login::developer(backend.clone()))
        .ready()
        .await
        .unwrap();
    // The token at hand still serves: only Cognito can tell.
    stage.delete(&before.identity_id).await;
    stage.pool.clear_requests();
    stage.clock.advance(HOUR);
    credentials(&provider).await;
    assert_eq!((backend.calls(), stage.cognito_calls()), (2, (0, 2)));
    let asked = backend.seen.lock().unwrap().last().unwrap().clone();
    assert_eq!((asked.identity_id(), asked.attempt()), (None, 2));
    assert_ne!(provider.identity_id().await.unwrap(), before.identity_id);
}

#[tokio::test]
async fn an_external_identity_that_is_gone_costs_one_get_id_and_one_exchange_more() {
    let stage = Stage::start().await;
    let google = stage.google();
    let (provider, wallet) = (stage.provider(), Wallet::new(crate::stage::google(&google, "alice")));
    let before = provider
        .switch_to(Login::external(wallet.clone()))
        .ready()
        .await
        .unwrap();
    stage.delete(&before.identity_id).await;
    stage.pool.clear_requests();
    stage.clock.advance(HOUR);
    *wallet.logins.lock().unwrap() = crate::stage::google(&google, "alice");
    credentials(&provider).await;
    assert_eq!((wallet.asked(), stage.cognito_calls()), (2, (1, 2)));
    assert_ne!(provider.identity_id().await.unwrap(), before.identity_id);
}

#[tokio::test]
async fn a_stored_id_that_is_another_users_costs_one_get_id_and_one_exchange_more() {
    let stage = Stage::start().await;
    let (provider, google) = (stage.provider(), stage.google());
    let bob = provider
        .switch_to(crate::stage::google_login(&google, "bob").subject("shared"))
        .ready()
        .await
        .unwrap();
    stage.pool.clear_requests();
    // The app's subject does not tell the two apart.
    let alice = provider
        .switch_to(crate::stage::google_login(&google, "alice").subject("shared"))
        .ready()
        .await
        .unwrap();
    assert_eq!(alice.outcome, IdentityOutcome::Replaced { from: bob.identity_id });
    assert_eq!(stage.cognito_calls(), (1, 2));
}

#[tokio::test]
async fn many_callers_of_any_kind_of_login_are_as_one() {
    let stage = Stage::start().await;
    let google = stage.google();
    for (login, expected) in [
        (Login::guest(), (1, 1)),
        (crate::stage::google_login(&google, "alice"), (0, 1)),
    ] {
        let provider = stage.provider();
        if expected.0 == 0 {
            // The guest of this device is known.
            provider.switch_to(Login::guest()).ready().await.unwrap();
        }
        stage.pool.clear_requests();
        provider.switch_to(login);
        let callers = (0..100).map(|_| async { (credentials(&provider).await, provider.identity_id().await.unwrap()) });
        futures_util::future::join_all(callers).await;
        assert_eq!(stage.cognito_calls(), expected);
    }
}

fn classic(stage: &Stage) -> CognitoCredentialsProvider {
    let flow = ClassicFlow::builder()
        .authenticated_role("arn:aws:iam::123456789012:role/member")
        .unauthenticated_role("arn:aws:iam::123456789012:role/visitor");
    stage
        .builder()
        .flow(Flow::classic(flow.build().unwrap()))
        .build()
        .unwrap()
}

/// GetId, GetOpenIdToken, GetCredentialsForIdentity, AssumeRoleWithWebIdentity.
fn classic_calls(stage: &Stage) -> [usize; 4] {
    [
        "GetId",
        "GetOpenIdToken",
        "GetCredentialsForIdentity",
        "AssumeRoleWithWebIdentity",
    ]
    .map(|operation| stage.calls(operation))
}

#[tokio::test]
async fn classic_developer_asks_the_backend_once_and_sts_once() {
    let stage = Stage::start().await;
    let (provider, backend) = (classic(&stage), stage.backend("alice"));
    provider.switch_to(Login::developer(backend.clone()));
    credentials(&provider).await;
    assert_eq!((backend.calls(), classic_calls(&stage)), (1, [0, 0, 0, 1]));
    stage.clock.advance(HOUR);
    credentials(&provider).await;
    assert_eq!((backend.calls(), classic_calls(&stage)), (2, [0, 0, 0, 2]));
}

#[tokio::test]
async fn classic_developer_with_a_token_that_is_still_good_asks_sts_alone() {
    let stage = Stage::start().await;
    let (provider, backend) = (classic(&stage), stage.backend("alice"));
    backend.token_seconds.store(86_400, std::sync::atomic::Ordering::SeqCst);
    provider.switch_to(Login::developer(backend.clone()));
    credentials(&provider).await;
    stage.clock.advance(HOUR);
    credentials(&provider).await;
    assert_eq!((backend.calls(), classic_calls(&stage)), (1, [0, 0, 0, 2]));
}

#[tokio::test]
async fn classic_guest_asks_for_id_and_token_and_role_and_later_for_token_and_role() {
    let stage = Stage::start().await;
    let provider = classic(&stage);
    provider.switch_to(Login::guest());
    credentials(&provider).await;
    assert_eq!(classic_calls(&stage), [1, 1, 0, 1]);
    stage.clock.advance(HOUR);
    credentials(&provider).await;
    assert_eq!(classic_calls(&stage), [1, 2, 0, 2]);
}

#[tokio::test]
async fn classic_external_asks_for_id_and_token_and_role() {
    let stage = Stage::start().await;
    let provider = classic(&stage);
    let issuer = stage.pool.oidc_issuer("accounts.example.com").unwrap();
    let logins = Logins::new()
        .with("accounts.example.com", issuer.token("subject"))
        .unwrap();
    provider.switch_to(Login::external(logins));
    credentials(&provider).await;
    assert_eq!(classic_calls(&stage), [1, 1, 0, 1]);
}
