//! The administration of identities against the local pool, over sockets.

use std::time::{Duration, SystemTime};

use crate::stage::{PROVIDER, Stage, actions, user};
use cognito_identity_pool::{ErrorKind, IdentityAdmin, IdentityId, Logins, server::Severity};

#[tokio::test]
async fn users_and_identities_are_looked_up_both_ways_and_never_made() {
    let stage = Stage::start().await;
    let admin = stage.admin();
    assert_eq!(admin.identity_of_user(&user("alice")).await.unwrap(), None);
    assert_eq!(admin.describe_user(&user("alice")).await.unwrap(), None);
    assert!(admin.identities().next_page().await.unwrap().unwrap().is_empty());

    let alice = stage.vendor().vend(&user("alice")).await.unwrap().identity_id().clone();
    let bob = stage.vendor().vend(&user("bob")).await.unwrap().identity_id().clone();
    assert_eq!(
        admin.identity_of_user(&user("alice")).await.unwrap().as_ref(),
        Some(&alice)
    );
    assert_eq!(admin.users_of_identity(&alice).await.unwrap(), [user("alice")]);
    assert!(admin.is_linked(&user("alice"), &alice).await.unwrap());
    assert!(!admin.is_linked(&user("alice"), &bob).await.unwrap());
    assert!(!admin.is_linked(&user("nobody"), &bob).await.unwrap());
    let unknown = IdentityId::new("us-east-1:99999999-5e6f-7a8b-9c0d-1e2f3a4b5c6d").unwrap();
    assert!(admin.users_of_identity(&unknown).await.unwrap().is_empty());
    assert!(admin.users_of_identity(&stage.guest().await).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_identity_is_described_with_its_providers_and_dates() {
    let stage = Stage::start().await;
    let (admin, vendor) = (stage.admin(), stage.vendor());
    let google = stage.pool.oidc_issuer(Logins::GOOGLE).unwrap();
    let guest = admin.describe(&stage.guest().await).await.unwrap();
    assert!(guest.providers.is_empty());
    let id = vendor.vend(&user("alice")).await.unwrap().identity_id().clone();
    stage.clock.advance(Duration::from_secs(10));
    vendor
        .link_external(&user("alice"), &Logins::new().google(google.token("g")).unwrap())
        .await
        .unwrap();
    let alice = admin.describe_user(&user("alice")).await.unwrap().unwrap();
    assert_eq!((&alice.identity.identity_id, alice.users), (&id, vec![user("alice")]));
    assert_eq!(alice.identity.providers, [Logins::GOOGLE, PROVIDER]);
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    assert_eq!(alice.identity.created, Some(start));
    assert_eq!(alice.identity.modified, Some(start + Duration::from_secs(10)));
    let unknown = IdentityId::new("us-east-1:99999999-5e6f-7a8b-9c0d-1e2f3a4b5c6d").unwrap();
    assert_eq!(
        admin.describe(&unknown).await.unwrap_err().kind(),
        ErrorKind::IdentityNotFound
    );
}

#[tokio::test]
async fn a_merge_moves_the_first_user_to_the_second_ones_identity() {
    let stage = Stage::start().await;
    let (admin, vendor) = (stage.admin(), stage.vendor());
    let from = vendor.vend(&user("old")).await.unwrap();
    let into = vendor.vend(&user("new")).await.unwrap();
    assert_eq!(
        &admin.merge(&user("old"), &user("new")).await.unwrap(),
        into.identity_id()
    );
    let mut users = admin.users_of_identity(into.identity_id()).await.unwrap();
    users.sort();
    assert_eq!(users, [user("new"), user("old")]);
    vendor.evict(&user("old"));
    assert_eq!(
        vendor.vend(&user("old")).await.unwrap().identity_id(),
        into.identity_id()
    );
    assert_eq!(
        stage.exchange(&from).await.unwrap_err(),
        "NotAuthorizedException",
        "the source is disabled"
    );
    // Again, it is as it should be.
    assert_eq!(
        &admin.merge(&user("old"), &user("new")).await.unwrap(),
        into.identity_id()
    );
    let error = admin.merge(&user("new"), &user("new")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    admin.merge(&user("nobody"), &user("new")).await.unwrap_err();
}

#[tokio::test]
async fn merging_two_accounts_of_one_provider_is_a_conflict_and_changes_nothing() {
    let stage = Stage::start().await;
    let (admin, vendor) = (stage.admin(), stage.vendor());
    let google = stage.pool.oidc_issuer(Logins::GOOGLE).unwrap();
    for name in ["a", "b"] {
        vendor
            .link_external(&user(name), &Logins::new().google(google.token(name)).unwrap())
            .await
            .unwrap();
    }
    let before = admin.identity_of_user(&user("a")).await.unwrap();
    assert_eq!(
        admin.merge(&user("a"), &user("b")).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    assert_eq!(admin.identity_of_user(&user("a")).await.unwrap(), before);
}

#[tokio::test]
async fn an_unlinked_user_gets_a_new_identity() {
    let stage = Stage::start().await;
    let (admin, vendor) = (stage.admin(), stage.vendor());
    let first = vendor.vend(&user("alice")).await.unwrap().identity_id().clone();
    admin.unlink_user(&user("alice"), &first).await.unwrap();
    vendor.evict(&user("alice"));
    assert_ne!(vendor.vend(&user("alice")).await.unwrap().identity_id(), &first);
    let error = admin.unlink_user(&user("alice"), &first).await.unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Conflict | ErrorKind::IdentityNotFound),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_external_login_is_unlinked_with_a_token_of_its_own_and_not_without() {
    let stage = Stage::start().await;
    let (admin, vendor) = (stage.admin(), stage.vendor());
    let google = stage.pool.oidc_issuer(Logins::GOOGLE).unwrap();
    let proof = |subject: &str| Logins::new().google(google.token(subject)).unwrap();
    let linked = vendor.link_external(&user("alice"), &proof("g")).await.unwrap();
    let id = linked.identity_id();
    for (proof, providers) in [(proof("g"), &[][..]), (Logins::new(), &[Logins::GOOGLE])] {
        let error = admin.unlink_external(id, &proof, providers).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
    }
    admin
        .unlink_external(id, &proof("another"), &[Logins::GOOGLE])
        .await
        .unwrap_err();
    assert_eq!(admin.describe(id).await.unwrap().providers.len(), 2);
    admin.unlink_external(id, &proof("g"), &[Logins::GOOGLE]).await.unwrap();
    assert_eq!(admin.describe(id).await.unwrap().providers, [PROVIDER]);
}

#[tokio::test]
async fn a_user_is_forgotten_with_the_identity_and_all_that_was_merged_into_it() {
    let stage = Stage::start().await;
    let (admin, vendor) = (stage.admin(), stage.vendor());
    vendor.vend(&user("old")).await.unwrap();
    let identity = vendor.vend(&user("new")).await.unwrap();
    admin.merge(&user("old"), &user("new")).await.unwrap();
    let report = admin.forget_user(&user("new"), &[&vendor]).await.unwrap();
    assert!(report.is_complete());
    assert_eq!(report.identity_id.as_ref(), Some(identity.identity_id()));
    assert_eq!(report.unlinked, [user("old"), user("new")]);
    assert_eq!(report.identities.deleted, [identity.identity_id().clone()]);
    assert_eq!(
        admin.describe(identity.identity_id()).await.unwrap_err().kind(),
        ErrorKind::IdentityNotFound
    );
    let again = admin.forget_user(&user("new"), &[&vendor]).await.unwrap();
    assert!(again.is_complete() && again.identity_id.is_none() && again.unlinked.is_empty());
}

#[tokio::test]
async fn what_could_not_be_deleted_is_in_the_report() {
    let stage = Stage::with(|builder| builder.deny("DeleteIdentities")).await;
    let identity = stage.vendor().vend(&user("alice")).await.unwrap().identity_id().clone();
    let report = stage.admin().forget_user(&user("alice"), &[]).await.unwrap();
    assert!(!report.is_complete());
    assert_eq!(
        report.identities.unprocessed,
        [(identity, "AccessDeniedException".to_owned())]
    );
    assert_eq!(report.unlinked, [user("alice")]);
}

#[tokio::test]
async fn a_forgetting_that_failed_before_the_end_can_be_repeated() {
    let stage = Stage::with(|builder| builder.deny("UnlinkDeveloperIdentity")).await;
    let identity = stage.vendor().vend(&user("alice")).await.unwrap().identity_id().clone();
    let report = stage.admin().forget_user(&user("alice"), &[]).await.unwrap();
    assert!(!report.is_complete());
    assert_eq!(report.failure.unwrap().kind(), ErrorKind::NotAuthorized);
    assert_eq!(
        (report.identity_id.as_ref(), report.unlinked.len()),
        (Some(&identity), 0),
        "it says which identity is left"
    );
    assert_eq!(
        stage.admin().identity_of_user(&user("alice")).await.unwrap(),
        Some(identity)
    );
}

#[tokio::test]
async fn identities_are_deleted_sixty_at_a_time() {
    let stage = Stage::start().await;
    for (count, calls) in [(0, 0), (1, 1), (60, 1), (61, 2), (121, 3)] {
        let mut guests = Vec::new();
        for _ in 0..count {
            guests.push(stage.guest().await);
        }
        stage.pool.clear_requests();
        let report = stage.admin().delete_identities(&guests).await.unwrap();
        assert_eq!((report.deleted.len(), report.unprocessed.len()), (count, 0));
        assert_eq!(stage.calls("DeleteIdentities"), calls, "{count}");
    }
    assert!(
        stage
            .admin()
            .identities()
            .next_page()
            .await
            .unwrap()
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn identities_are_listed_page_by_page_each_once() {
    let stage = Stage::start().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(stage.guest().await);
    }
    for (size, pages) in [(1, vec![1; 5]), (2, vec![2, 2, 1]), (60, vec![5])] {
        let mut identities = stage.admin().identities().page_size(size).unwrap();
        let (mut seen, mut sizes) = (Vec::new(), Vec::new());
        while let Some(page) = identities.next_page().await.unwrap() {
            sizes.push(page.len());
            seen.extend(page.into_iter().map(|identity| identity.identity_id));
        }
        sizes.retain(|size| *size > 0);
        assert_eq!(sizes, pages);
        assert_eq!(seen.len(), 5);
        assert!(made.iter().all(|id| seen.contains(id)));
    }
    for size in [0, 61] {
        let error = stage.admin().identities().page_size(size).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{size}");
    }
}

#[tokio::test]
async fn merged_identities_are_listed_unless_they_are_hidden() {
    let stage = Stage::start().await;
    let (admin, vendor) = (stage.admin(), stage.vendor());
    vendor.vend(&user("a")).await.unwrap();
    let kept = vendor.vend(&user("b")).await.unwrap();
    admin.merge(&user("a"), &user("b")).await.unwrap();
    assert_eq!(admin.identities().next_page().await.unwrap().unwrap().len(), 2);
    let shown = admin
        .identities()
        .hide_disabled(true)
        .next_page()
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        shown.iter().map(|identity| &identity.identity_id).collect::<Vec<_>>(),
        [kept.identity_id()]
    );
}

#[tokio::test]
async fn the_doctor_finds_nothing_wrong_with_a_good_pool() {
    let stage = Stage::with(|builder| builder.allow_classic_flow(false).allow_guests(false)).await;
    let diagnosis = stage.admin().doctor().await;
    assert!(diagnosis.is_healthy(), "{diagnosis}");
    assert!(
        diagnosis
            .findings()
            .iter()
            .all(|finding| finding.severity == Severity::Note),
        "{diagnosis}"
    );
}

#[tokio::test]
async fn the_doctor_says_in_words_what_is_wrong() {
    for (stage, severity, says) in [
        (
            Stage::with(|b| b.developer_provider("login.other")).await,
            Severity::Problem,
            "login.other",
        ),
        (
            Stage::with(cognito_identity_pool::local::LocalIdentityPoolBuilder::without_roles).await,
            Severity::Problem,
            "no role for authenticated",
        ),
        (
            Stage::with(cognito_identity_pool::local::LocalIdentityPoolBuilder::without_roles).await,
            Severity::Problem,
            "no role for them",
        ),
        (
            Stage::with(|b| b.allow_classic_flow(true)).await,
            Severity::Warning,
            "classic flow is allowed",
        ),
        (Stage::start().await, Severity::Warning, "nobody has said otherwise"),
        (Stage::start().await, Severity::Note, "guests are allowed"),
        (
            Stage::with(|b| b.deny("GetIdentityPoolRoles")).await,
            Severity::Warning,
            "could not be examined",
        ),
        (
            Stage::with(|b| b.deny("DescribeIdentityPool")).await,
            Severity::Warning,
            "could not be examined",
        ),
    ] {
        let diagnosis = stage.admin().doctor().await;
        let found = diagnosis
            .findings()
            .iter()
            .any(|f| f.severity == severity && f.text.contains(says));
        assert!(found, "{says} not in\n{diagnosis}");
        assert_eq!(diagnosis.is_healthy(), severity < Severity::Problem);
        assert!(diagnosis.findings().is_sorted_by_key(|f| std::cmp::Reverse(f.severity)));
    }
    let stage = Stage::start().await;
    let admin = IdentityAdmin::builder("us-east-1:99999999-87c9-4bbd-a314-93b47d91fadd", PROVIDER)
        .configure(&stage.config())
        .endpoint_url(stage.pool.endpoint_url())
        .build()
        .unwrap();
    let diagnosis = admin.doctor().await;
    assert!(
        !diagnosis.is_healthy() && diagnosis.to_string().contains("does not exist"),
        "{diagnosis}"
    );
}

#[tokio::test]
async fn the_policy_names_exactly_the_operations_that_are_called() {
    let stage = Stage::start().await;
    let vendor = stage.vendor();
    for name in ["a", "b", "c"] {
        vendor.vend(&user(name)).await.unwrap();
    }
    stage.pool.clear_requests();
    let admin = stage.admin();
    let a = admin
        .describe_user(&user("a"))
        .await
        .unwrap()
        .unwrap()
        .identity
        .identity_id;
    admin.is_linked(&user("a"), &a).await.unwrap();
    admin.merge(&user("a"), &user("b")).await.unwrap();
    admin.forget_user(&user("b"), &[]).await.unwrap();
    let c = admin.identity_of_user(&user("c")).await.unwrap().unwrap();
    admin.unlink_user(&user("c"), &c).await.unwrap();
    admin.delete_identities(&[c]).await.unwrap();
    admin.identities().next_page().await.unwrap();
    admin.doctor().await;
    let google = stage.pool.oidc_issuer(Logins::GOOGLE).unwrap();
    let proof = Logins::new().google(google.token("g")).unwrap();
    admin.unlink_external(&a, &proof, &[Logins::GOOGLE]).await.unwrap_err();
    assert_eq!(actions(&admin.required_iam_policy()), stage.signed_operations());
}
