//! A user asks to be forgotten: the backend unlinks the user, deletes the identity, and says what is left.
//!
//! ```text
//! cargo run --example forget_user
//! ```
//!
//! On AWS, `configure` is given the config of a role of its own: the one that vends tokens need not be able to delete.
#![allow(clippy::print_stdout, reason = "an example tells a story")]

use cognito_identity_pool::{
    CognitoCredentialsProvider, DeveloperUserId, Error, ErrorKind, IdentityAdmin, IdentityId, LocalIdentityPool, Login,
    TokenVendor, server::ForgetReport,
};

const PROVIDER: &str = "login.mycompany.myapp";

/// What was seen on the way.
pub(crate) struct Story {
    pub(crate) before: IdentityId,
    pub(crate) report: ForgetReport,
    /// What the token that the user still holds is good for.
    pub(crate) old_token: Option<ErrorKind>,
    /// Who the user is who signs up again.
    pub(crate) after: IdentityId,
}

pub(crate) async fn story() -> anyhow::Result<Story> {
    let pool = LocalIdentityPool::builder()
        .developer_provider(PROVIDER)
        .start()
        .await?;
    let vendor = TokenVendor::builder(pool.identity_pool_id(), PROVIDER)
        .configure(&pool.backend_config())
        .build()?;
    let admin = IdentityAdmin::builder(pool.identity_pool_id(), PROVIDER)
        .configure(&pool.backend_config())
        .build()?;
    let user = DeveloperUserId::new("user-7f3a")?;
    let vended = vendor.vend(&user).await?;

    // The vendors are named, so that none vends to the user while the identity is being taken down.
    let report = admin.forget_user(&user, &[&vendor]).await?;

    // A device that still holds the token, and knows no backend.
    let provider = CognitoCredentialsProvider::builder(pool.identity_pool_id())
        .configure(&pool.client_config())
        .build()?;
    let device = provider.switch_to(Login::developer(vended.identity().clone()));
    let old_token = device.ready().await.err().as_ref().map(Error::kind);

    Ok(Story {
        before: vended.identity_id().clone(),
        report,
        old_token,
        after: vendor.vend(&user).await?.identity_id().clone(),
    })
}

#[allow(dead_code, reason = "the test calls `story`")]
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let story = story().await?;
    println!("1 user     is {}", story.before.as_str());
    println!(
        "2 backend  forgets the user: {} unlinked, {} deleted, complete: {}",
        story.report.unlinked.len(),
        story.report.identities.deleted.len(),
        story.report.is_complete()
    );
    println!("3 device   with the token from before: {:?}", story.old_token);
    println!("4 user     signs up again, as somebody new: {}", story.after.as_str());
    println!("  Credentials that were given out before live on for up to an hour: nothing takes them back.");
    Ok(())
}
