//! Two users and one device: every request is signed by whoever was signed in when it began, and by nobody else.
//!
//! Runs offline, on a local identity pool: `cargo run --example switch_users --features local`.
#![allow(clippy::print_stdout, reason = "a story is told")]

use std::sync::Arc;

use cognito_identity_pool::{
    BackendError, CognitoCredentialsProvider, DeveloperIdentity, DeveloperIdentityProvider, Error, LocalIdentityPool,
    Login, RefreshRequest, TokenVendor, async_trait, client::EventKind,
};

/// The app's own backend, which has authenticated the user; here it is a vendor in the same process.
struct Backend {
    vendor: Arc<TokenVendor>,
    user: &'static str,
}

#[async_trait]
impl DeveloperIdentityProvider for Backend {
    async fn refresh(&self, _: &RefreshRequest) -> Result<DeveloperIdentity, BackendError> {
        let vended = self.vendor.vend(&self.user.parse()?).await?;
        Ok(serde_json::from_value(serde_json::to_value(vended.expose())?)?)
    }
}

/// Whose credentials signed the last call, by the pool's record.
fn signer(pool: &LocalIdentityPool) -> Option<String> {
    pool.requests_of("GetCallerIdentity").pop()?.identity_id
}

async fn call(sts: &aws_sdk_sts::Client) -> String {
    match sts.get_caller_identity().send().await {
        Ok(_) => "served".to_owned(),
        Err(error) => Error::find(&error).map_or("refused".to_owned(), |ours| format!("{:?}", ours.kind())),
    }
}

pub(crate) async fn story(mut say: impl FnMut(String)) -> anyhow::Result<()> {
    let pool = LocalIdentityPool::builder()
        .developer_provider("login.mycompany.myapp")
        .start()
        .await?;
    let vendor =
        TokenVendor::builder(pool.identity_pool_id(), "login.mycompany.myapp").configure(&pool.backend_config());
    let vendor = Arc::new(vendor.build()?);
    let base = pool.client_config();
    let provider = CognitoCredentialsProvider::builder(pool.identity_pool_id())
        .configure(&base)
        .build()?;
    let login = |user| {
        let vendor = Arc::clone(&vendor);
        Login::developer(Backend { vendor, user }).subject(user)
    };
    let mut events = provider.events();
    let follows = aws_sdk_sts::Client::new(&provider.sdk_config(&base));

    let alice = provider.switch_to(login("alice"));
    let hers = aws_sdk_sts::Client::new(&alice.sdk_config(&base));
    let alice_id = alice.ready().await?.identity_id;
    say(format!("alice signs in; her own client is {}", call(&hers).await));
    say(format!(
        "the signer is alice: {}",
        signer(&pool).as_deref() == Some(alice_id.as_str())
    ));

    let bob = provider.switch_to(login("bob"));
    let bob_id = bob.ready().await?.identity_id;
    say(format!(
        "bob takes over; a client that follows the login is {}",
        call(&follows).await
    ));
    say(format!(
        "the signer is bob: {}",
        signer(&pool).as_deref() == Some(bob_id.as_str())
    ));
    say(format!("alice's client is refused: {}", call(&hers).await));

    let again = provider.switch_to(login("alice"));
    say(format!(
        "alice is back, with the identity she had: {}",
        again.ready().await?.identity_id == alice_id
    ));
    say(format!(
        "her first client belongs to the session that has ended: {}",
        call(&hers).await
    ));

    provider.sign_out();
    say(format!(
        "signed out, the client that follows the login is refused: {}",
        call(&follows).await
    ));

    drop((provider, alice, bob, again, follows, hers));
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        told.push(match event.kind {
            EventKind::SignedIn { .. } => "signed in",
            EventKind::SignedOut => "signed out",
            _ => "something else",
        });
    }
    say(format!("whoever listened was told: {}", told.join(", ")));
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    story(|line| println!("{line}")).await
}
