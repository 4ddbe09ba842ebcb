//! What `IdentityAdmin` says and does, for comparison with what other clients see.

use cognito_identity_pool::{
    DeveloperUserId, Error, IdentityAdmin, IdentityId, LocalIdentityPool, server::IdentityDetails,
};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    IdentityOfUser {
        user: DeveloperUserId,
    },
    UsersOfIdentity {
        identity: IdentityId,
    },
    Describe {
        identity: IdentityId,
    },
    Identities {
        page: u8,
        hide_disabled: bool,
    },
    Merge {
        from: DeveloperUserId,
        into: DeveloperUserId,
    },
    UnlinkUser {
        user: DeveloperUserId,
        identity: IdentityId,
    },
    ForgetUser {
        user: DeveloperUserId,
    },
    DeleteIdentities {
        identities: Vec<IdentityId>,
    },
}

/// The answer, or the kind of the error.
pub async fn act(pool: &LocalIdentityPool, action: Action) -> Value {
    match done(pool, action).await {
        Ok(answer) => json!({ "answer": answer }),
        Err(error) => json!({ "error": format!("{:?}", error.kind()), "code": error.code() }),
    }
}

async fn done(pool: &LocalIdentityPool, action: Action) -> Result<Value, Error> {
    let admin = IdentityAdmin::builder(pool.identity_pool_id(), super::pools::DEVELOPER_PROVIDER)
        .configure(&pool.backend_config())
        .build()?;
    Ok(match action {
        Action::IdentityOfUser { user } => json!(admin.identity_of_user(&user).await?),
        Action::UsersOfIdentity { identity } => json!(admin.users_of_identity(&identity).await?),
        Action::Describe { identity } => details(&admin.describe(&identity).await?),
        Action::Identities { page, hide_disabled } => {
            let mut pages = admin.identities().page_size(page)?.hide_disabled(hide_disabled);
            let mut all = Vec::new();
            while let Some(page) = pages.next_page().await? {
                all.extend(page.iter().map(details));
            }
            json!(all)
        }
        Action::Merge { from, into } => json!(admin.merge(&from, &into).await?),
        Action::UnlinkUser { user, identity } => json!(admin.unlink_user(&user, &identity).await?),
        Action::ForgetUser { user } => {
            let report = admin.forget_user(&user, &[]).await?;
            json!({ "identity": report.identity_id, "unlinked": report.unlinked, "complete": report.is_complete() })
        }
        Action::DeleteIdentities { identities } => json!(admin.delete_identities(&identities).await?.deleted),
    })
}

fn details(identity: &IdentityDetails) -> Value {
    json!({ "identity": identity.identity_id, "providers": identity.providers })
}
