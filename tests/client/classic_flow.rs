//! The classic flow against the local pool's STS, over sockets.

use std::sync::Arc;
use std::time::Duration;

use crate::stage::{Backend, Order, PROVIDER};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_async::time::TimeSource;
use cognito_identity_pool::{
    CognitoCredentialsProvider, Error, ErrorKind, LocalIdentityPool, Login, Logins,
    client::{ClassicFlow, ClassicFlowBuilder, Flow, IdentityOutcome},
    error::CauseKind,
    local::{LocalClock, LocalIdentityPoolBuilder, LocalRole},
};

const MEMBER: &str = "arn:aws:iam::123456789012:role/member";
const VISITOR: &str = "arn:aws:iam::123456789012:role/visitor";
const ADMIN: &str = "arn:aws:iam::123456789012:role/admin";
const HOUR: Duration = Duration::from_secs(3_600);

struct Stage {
    pool: LocalIdentityPool,
    clock: LocalClock,
}

impl Stage {
    async fn start() -> Self {
        Self::with(|pool| pool).await
    }

    async fn with(change: impl FnOnce(LocalIdentityPoolBuilder) -> LocalIdentityPoolBuilder) -> Self {
        let clock = LocalClock::at(std::time::UNIX_EPOCH + Duration::from_secs(1_790_000_000));
        let pool = LocalIdentityPool::builder()
            .developer_provider(PROVIDER)
            .allow_guests(true)
            .time_source(clock.clone());
        let pool = change(pool).start().await.unwrap();
        Self { pool, clock }
    }

    /// Of clients that reach the pool over its socket.
    fn base(&self) -> SdkConfig {
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(self.pool.endpoint_url())
            .time_source(self.clock.clone())
            .sleep_impl(aws_smithy_async::rt::sleep::TokioSleep::new())
            .build()
    }

    fn flow(&self) -> ClassicFlowBuilder {
        ClassicFlow::builder()
            .authenticated_role(MEMBER)
            .unauthenticated_role(VISITOR)
            .sts_endpoint_url(self.pool.endpoint_url())
    }

    fn provider_of(&self, flow: ClassicFlowBuilder) -> CognitoCredentialsProvider {
        CognitoCredentialsProvider::builder(self.pool.identity_pool_id())
            .configure(&self.base())
            .endpoint_url(self.pool.endpoint_url())
            .flow(Flow::classic(flow.build().unwrap()))
            .lease(None)
            .build()
            .unwrap()
    }

    fn provider(&self) -> CognitoCredentialsProvider {
        self.provider_of(self.flow())
    }

    fn backend(&self, user: &str) -> Arc<Backend> {
        Backend::new(&self.pool, user)
    }

    fn external(&self) -> Login {
        let issuer = self.pool.oidc_issuer("accounts.example.com").unwrap();
        let token = issuer.token("subject");
        Login::external(Logins::new().with("accounts.example.com", token).unwrap())
    }

    fn calls(&self) -> Vec<String> {
        let calls = self.pool.requests().into_iter().map(|request| request.operation);
        calls
            .filter(|name| name != "GetOpenIdTokenForDeveloperIdentity")
            .collect()
    }

    async fn arn(&self, provider: &CognitoCredentialsProvider) -> String {
        let sts = aws_sdk_sts::Client::new(&provider.sdk_config(&self.base()));
        sts.get_caller_identity().send().await.unwrap().arn.unwrap()
    }
}

async fn refused(provider: &CognitoCredentialsProvider) -> Error {
    crate::stage::ours(&provider.provide_credentials().await.unwrap_err())
}

#[tokio::test]
async fn a_guest_assumes_the_role_for_guests() {
    let stage = Stage::start().await;
    let provider = stage.provider();
    let guest = provider.switch_to(Login::guest()).ready().await.unwrap().identity_id;
    assert_eq!(stage.calls(), ["GetId", "GetOpenIdToken", "AssumeRoleWithWebIdentity"]);
    let name = guest.as_str().replace(':', ".");
    assert_eq!(
        stage.arn(&provider).await,
        format!("arn:aws:sts::123456789012:assumed-role/visitor/{name}")
    );
    assert!(
        stage
            .pool
            .requests()
            .iter()
            .take(3)
            .all(|request| !request.authorization)
    );
}

#[tokio::test]
async fn a_developer_users_token_goes_straight_to_sts() {
    let stage = Stage::start().await;
    let (provider, backend) = (stage.provider(), stage.backend("alice"));
    let alice = provider
        .switch_to(Login::developer(backend.clone()))
        .ready()
        .await
        .unwrap();
    assert_eq!(
        (stage.calls(), backend.calls()),
        (vec!["AssumeRoleWithWebIdentity".to_owned()], 1)
    );
    let name = alice.identity_id.as_str().replace(':', ".");
    assert_eq!(
        stage.arn(&provider).await,
        format!("arn:aws:sts::123456789012:assumed-role/member/{name}")
    );
}

#[tokio::test]
async fn an_external_login_is_exchanged_by_way_of_cognitos_token() {
    let stage = Stage::start().await;
    let provider = stage.provider();
    provider.switch_to(stage.external()).ready().await.unwrap();
    assert_eq!(stage.calls(), ["GetId", "GetOpenIdToken", "AssumeRoleWithWebIdentity"]);
    assert!(stage.arn(&provider).await.contains("assumed-role/member/"));
}

#[tokio::test]
async fn a_guest_becomes_the_user_as_in_the_enhanced_flow() {
    let stage = Stage::start().await;
    let provider = stage.provider();
    let guest = provider.switch_to(Login::guest()).ready().await.unwrap().identity_id;
    let user = provider.switch_to(stage.external()).ready().await.unwrap();
    assert_eq!(
        (user.identity_id.clone(), user.outcome),
        (guest.clone(), IdentityOutcome::Kept)
    );
    // And nobody is that guest any more.
    let next = provider.switch_to(Login::guest()).ready().await.unwrap().identity_id;
    assert_ne!(next, guest);
}

#[tokio::test]
async fn a_guest_that_was_linked_before_sts_refused_the_role_is_not_taken_for_a_guest_again() {
    let trust = r#"{"Statement":[{"Effect":"Allow","Principal":{"Federated":"cognito-identity.amazonaws.com"},
        "Action":"sts:AssumeRoleWithWebIdentity",
        "Condition":{"StringEquals":{"cognito-identity.amazonaws.com:aud":"us-east-1:0"}}}]}"#;
    let stage = Stage::with(|pool| pool.role(LocalRole::new(MEMBER, trust).unwrap())).await;
    let provider = stage.provider();
    let guest = provider.switch_to(Login::guest()).ready().await.unwrap().identity_id;
    let error = provider.switch_to(stage.external()).ready().await.unwrap_err();
    assert_eq!(error.causes()[0].kind, CauseKind::RoleNotAssumable);
    let next = provider.switch_to(Login::guest()).ready().await.unwrap().identity_id;
    assert_ne!(next, guest);
}

#[tokio::test]
async fn role_session_name_duration_and_policy_are_the_apps_choice() {
    let stage = Stage::start().await;
    let flow = stage
        .flow()
        .role_by(|login| {
            assert!(login.is_developer() && !login.is_guest() && login.providers().next().is_none());
            login.subject()?.starts_with("admin-").then(|| ADMIN.to_owned())
        })
        .session_name_by(|login| login.subject().map(|subject| format!("{subject}@app")))
        .duration(4 * HOUR)
        .policy(r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}"#)
        .policy_arn("arn:aws:iam::aws:policy/ReadOnlyAccess");
    let provider = stage.provider_of(flow);
    let before = stage.clock.now();
    provider.switch_to(Login::developer(stage.backend("a")).subject("admin-7"));
    assert_eq!(
        stage.arn(&provider).await,
        "arn:aws:sts::123456789012:assumed-role/admin/admin-7@app"
    );
    let expiry = provider.provide_credentials().await.unwrap().expiry().unwrap();
    assert_eq!(expiry.duration_since(before).unwrap(), 4 * HOUR);
    provider.switch_to(Login::developer(stage.backend("b")).subject("user-8"));
    assert!(stage.arn(&provider).await.ends_with("assumed-role/member/user-8@app"));
    // The login's own role comes first.
    provider.switch_to(
        Login::developer(stage.backend("b"))
            .subject("user-8")
            .custom_role_arn(ADMIN),
    );
    assert!(stage.arn(&provider).await.ends_with("assumed-role/admin/user-8@app"));
}

#[tokio::test]
async fn what_a_closure_chooses_is_checked_before_it_is_sent() {
    let stage = Stage::start().await;
    for flow in [
        stage.flow().role_by(|_| Some("admin".to_owned())),
        stage
            .flow()
            .session_name_by(|login| Some(login.identity_id().as_str().to_owned())),
        ClassicFlow::builder().unauthenticated_role(VISITOR),
    ] {
        let provider = stage.provider_of(flow);
        provider.switch_to(Login::developer(stage.backend("alice")));
        assert_eq!(refused(&provider).await.kind(), ErrorKind::Configuration);
    }
    assert!(stage.calls().is_empty());
}

#[tokio::test]
async fn credentials_that_expire_are_made_anew_by_the_same_calls() {
    let stage = Stage::start().await;
    let (provider, backend) = (stage.provider(), stage.backend("alice"));
    provider
        .switch_to(Login::developer(backend.clone()))
        .ready()
        .await
        .unwrap();
    let first = provider.provide_credentials().await.unwrap();
    stage.clock.advance(HOUR);
    let second = provider.provide_credentials().await.unwrap();
    assert_ne!(first.access_key_id(), second.access_key_id());
    assert_eq!((stage.calls().len(), backend.calls()), (2, 2));
}

#[tokio::test]
async fn a_token_that_sts_calls_expired_is_replaced_once() {
    let stage = Stage::start().await;
    let (provider, backend) = (stage.provider(), stage.backend("alice"));
    backend.token_seconds.store(1, std::sync::atomic::Ordering::SeqCst);
    let stale = backend.vend(None).await.unwrap();
    backend.token_seconds.store(900, std::sync::atomic::Ordering::SeqCst);
    stage.clock.advance(Duration::from_secs(60));
    backend.order(Order::Answer(stale.clone()));
    provider
        .switch_to(Login::developer(backend.clone()))
        .ready()
        .await
        .unwrap();
    assert_eq!((stage.calls().len(), backend.calls()), (2, 2));
    // Twice, it is final.
    let other = stage.backend("alice");
    other.order(Order::Answer(stale.clone()));
    other.order(Order::Answer(stale));
    stage.pool.clear_requests();
    provider.switch_to(Login::developer(other.clone()));
    let error = refused(&provider).await;
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::NotAuthorized, Some("ExpiredTokenException"))
    );
    assert_eq!(error.causes()[0].kind, CauseKind::TokenExpired);
    assert_eq!((stage.calls().len(), other.calls()), (2, 2));
}

#[tokio::test]
async fn a_pool_without_the_classic_flow_refuses_guests_but_sts_takes_developer_tokens() {
    let stage = Stage::with(|pool| pool.allow_classic_flow(false)).await;
    let provider = stage.provider();
    provider.switch_to(Login::guest());
    let error = refused(&provider).await;
    assert_eq!(
        (error.kind(), error.causes()[0].kind),
        (ErrorKind::Configuration, CauseKind::ClassicFlowDisabled)
    );
    provider
        .switch_to(Login::developer(stage.backend("alice")))
        .ready()
        .await
        .unwrap();
    // The other assumption about AWS: STS refuses those, too.
    let strict = Stage::with(|pool| pool.allow_classic_flow(false).refuse_classic_exchange(true)).await;
    let provider = strict.provider();
    provider.switch_to(Login::developer(strict.backend("alice")));
    assert_eq!(refused(&provider).await.kind(), ErrorKind::NotAuthorized);
}

#[tokio::test]
async fn a_role_that_does_not_trust_the_token_is_explained() {
    for condition in [
        r#""StringEquals":{"cognito-identity.amazonaws.com:aud":"us-east-1:00000000-0000-0000-0000-000000000000"}"#,
        r#""ForAnyValue:StringLike":{"cognito-identity.amazonaws.com:amr":"unauthenticated"}"#,
    ] {
        let trust = format!(
            r#"{{"Statement":[{{"Effect":"Allow","Principal":{{"Federated":"cognito-identity.amazonaws.com"}},
            "Action":"sts:AssumeRoleWithWebIdentity","Condition":{{{condition}}}}}]}}"#
        );
        let stage = Stage::with(|pool| pool.role(LocalRole::new(MEMBER, &trust).unwrap())).await;
        let (provider, backend) = (stage.provider(), stage.backend("alice"));
        provider.switch_to(Login::developer(backend.clone()));
        let error = refused(&provider).await;
        assert_eq!(
            (error.kind(), error.causes()[0].kind),
            (ErrorKind::NotAuthorized, CauseKind::RoleNotAssumable)
        );
        assert!(error.hint().unwrap().contains("amr"));
        assert_eq!((stage.calls().len(), backend.calls()), (1, 1));
    }
}

#[tokio::test]
async fn a_duration_beyond_the_roles_own_is_stss_to_refuse() {
    let trust = r#"{"Statement":[{"Effect":"Allow","Principal":{"Federated":"cognito-identity.amazonaws.com"},
        "Action":"sts:AssumeRoleWithWebIdentity",
        "Condition":{"ForAnyValue:StringLike":{"cognito-identity.amazonaws.com:amr":"authenticated"}}}]}"#;
    let stage = Stage::with(|pool| pool.role(LocalRole::new(MEMBER, trust).unwrap())).await;
    let provider = stage.provider_of(stage.flow().duration(2 * HOUR));
    provider.switch_to(Login::developer(stage.backend("alice")));
    let error = refused(&provider).await;
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.hint().unwrap().contains("MaxSessionDuration"));
}

#[tokio::test]
async fn whoever_waits_for_sts_through_a_switch_is_not_served_as_the_old_user() {
    let stage = Stage::start().await;
    let (provider, backend) = (stage.provider(), stage.backend("alice"));
    let release = backend.hold();
    let alice = provider.switch_to(Login::developer(backend.clone()));
    let waiting = tokio::spawn(async move { alice.provide_credentials().await });
    crate::stage::until("the backend is asked", || backend.calls() > 0).await;
    provider.switch_to(Login::developer(stage.backend("bob")));
    // The load may be gone already, with the session that it was for.
    release.send(()).unwrap_or_default();
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(crate::stage::ours(&error).kind(), ErrorKind::SessionEnded);
    assert!(stage.arn(&provider).await.contains("assumed-role/member/"));
}

#[tokio::test]
async fn no_token_shows_in_the_settings_or_in_a_refusal() {
    let stage = Stage::with(|pool| pool.refuse_classic_exchange(true).allow_classic_flow(false)).await;
    let provider = stage.provider();
    let backend = stage.backend("alice");
    let token = backend.vend(None).await.unwrap();
    backend.order(Order::Answer(token.clone()));
    provider.switch_to(Login::developer(backend));
    let error = provider.provide_credentials().await.unwrap_err();
    let text = format!("{error:?} {:?} {:?}", crate::stage::ours(&error), stage.flow());
    let secret = token.token().expose_secret();
    assert!(!text.contains(&secret[secret.len() - 20..]));
}
