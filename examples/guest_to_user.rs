//! A guest who signs in keeps the identity, and with it all data that is filed under it; after the sign-out the device has a new
//! guest, never the user's identity.
//!
//! Runs offline, on a local identity pool: `cargo run --example guest_to_user --features local`.
#![allow(clippy::print_stdout, reason = "a story is told")]

use std::sync::Arc;

use cognito_identity_pool::{
    CognitoCredentialsProvider, LocalIdentityPool, Login, Logins, client::IdentityOutcome, store::FileStore,
};

pub(crate) async fn story(mut say: impl FnMut(String)) -> anyhow::Result<()> {
    let pool = LocalIdentityPool::builder().allow_guests(true).start().await?;
    let google = pool.oidc_issuer(Logins::GOOGLE)?;
    let directory = tempfile::tempdir()?;
    // Identity ids, and nothing else, are kept across restarts of the app.
    let store = Arc::new(FileStore::new(directory.path().join("identities.json")));
    let start = || {
        CognitoCredentialsProvider::builder(pool.identity_pool_id())
            .configure(&pool.client_config())
            .identity_store(Arc::clone(&store))
            .build()
    };
    let alice = || Logins::new().google(google.token("alice"));

    let app = start()?;
    let guest = app.switch_to(Login::guest()).ready().await?.identity_id;
    say("the app starts, and its user is a guest".to_owned());

    drop(app);
    let app = start()?;
    let again = app.switch_to(Login::guest()).ready().await?.identity_id;
    say(format!("after a restart it is the same guest: {}", again == guest));

    let user = app.switch_to(Login::external(alice()?)).ready().await?;
    say(format!(
        "alice signs in with Google, and the guest is hers: {}",
        user.outcome == IdentityOutcome::Kept
    ));
    say(format!("the identity is what it was: {}", user.identity_id == guest));

    app.sign_out();
    let other = app.switch_to(Login::guest()).ready().await?.identity_id;
    say(format!(
        "signed out, the device's next guest is another one: {}",
        other != guest
    ));

    let user = app.switch_to(Login::external(alice()?)).ready().await?;
    say(format!("alice is back as who she was: {}", user.identity_id == guest));
    let merged = user.outcome == IdentityOutcome::Replaced { from: other.clone() };
    say(format!("and the second guest was merged into her: {merged}"));

    let last = app.switch_to(Login::guest()).ready().await?.identity_id;
    say(format!(
        "so the next guest is new once more: {}",
        last != guest && last != other
    ));
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    story(|line| println!("{line}")).await
}
