//! Public providers: one of them, two for one person, a token that expires, and one that cannot be renewed.
//!
//! Runs offline, on a local identity pool: `cargo run --example social_logins --features local`.
#![allow(clippy::print_stdout, reason = "a story is told")]

use std::time::Duration;

use aws_credential_types::provider::ProvideCredentials;
use cognito_identity_pool::{
    BackendError, CognitoCredentialsProvider, Error, LocalIdentityPool, Login, Logins, async_trait,
    client::IdentityOutcome,
    local::{LocalClock, LocalIssuer},
    logins::LoginsProvider,
    token::RefreshReason,
};

/// The Google SDK of the app: it has a session of its own, and an ID token for whoever asks.
struct GoogleSession(LocalIssuer);

#[async_trait]
impl LoginsProvider for GoogleSession {
    async fn logins(&self, _: RefreshReason) -> Result<Logins, BackendError> {
        Ok(Logins::new().google(self.0.token("alice@gmail.com"))?)
    }
}

pub(crate) async fn story(mut say: impl FnMut(String)) -> anyhow::Result<()> {
    let clock = LocalClock::at_present();
    let pool = LocalIdentityPool::builder().time_source(clock.clone()).start().await?;
    let (google, facebook) = (pool.oidc_issuer(Logins::GOOGLE)?, pool.oidc_issuer(Logins::FACEBOOK)?);
    let provider = CognitoCredentialsProvider::builder(pool.identity_pool_id())
        .configure(&pool.client_config())
        .build()?;

    let session = provider.switch_to(Login::external(GoogleSession(google.clone())));
    let alice = session.ready().await?;
    say(format!(
        "alice signs in with Google, and is new: {}",
        alice.outcome == IdentityOutcome::Created
    ));

    clock.advance(Duration::from_secs(3_600));
    provider.provide_credentials().await?;
    say("an hour later the Google session is asked again, and she goes on".to_owned());

    let both = Logins::new()
        .google(google.token("alice@gmail.com"))?
        .facebook(facebook.token("alice.f"))?;
    let linked = provider.link(Login::external(both)).ready().await?;
    say(format!(
        "she adds Facebook, and is who she was: {}",
        linked.identity_id == alice.identity_id
    ));

    let only = Logins::new().facebook(facebook.token("alice.f"))?;
    let other_device = CognitoCredentialsProvider::builder(pool.identity_pool_id())
        .configure(&pool.client_config())
        .build()?;
    let there = other_device.switch_to(Login::external(only)).ready().await?;
    say(format!(
        "on another device Facebook alone opens the same identity: {}",
        there.identity_id == alice.identity_id
    ));

    // Cognito takes a token for five minutes after its end.
    clock.advance(Duration::from_secs(3_600 + 300));
    let refused = other_device.provide_credentials().await.err();
    let refused = refused.as_ref().and_then(|error| Error::find(error));
    let needs = refused.is_some_and(Error::needs_sign_in);
    say(format!(
        "that token was a static one, and has expired; she has to sign in again: {needs}"
    ));
    let hint = refused
        .and_then(|error| error.causes().first().map(ToString::to_string))
        .unwrap_or_default();
    say(format!("because: {hint}"));
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    story(|line| println!("{line}")).await
}
