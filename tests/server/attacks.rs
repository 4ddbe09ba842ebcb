//! Attacks on a backend, each by its name. Every one fails closed, against the local pool over sockets.

use std::time::Duration;

use crate::stage::{CLAIMS_KEY, PROVIDER, Stage, user};
use cognito_identity_pool::{
    DeveloperUserId, Error, ErrorKind, IdentityId, Logins, TokenVendor,
    server::{GuestClaim, GuestClaims, HttpRefusal, RequestLimit, VendRequest},
    token::TokenDuration,
};

/// What every refusal has in common: the client is told a word, and nothing of pool, user, identity or roles.
fn nothing_leaks(error: &Error, stage: &Stage) {
    let refusal = HttpRefusal::from(error);
    let sent = serde_json::to_string(&refusal).unwrap();
    assert!(refusal.status() >= 400);
    for internal in [
        "arn:",
        "us-east-1",
        PROVIDER,
        stage.pool.identity_pool_id(),
        "alice",
        "eyJ",
        "Exception",
    ] {
        assert!(!sent.contains(internal), "{internal} in {sent}");
    }
    let logged = format!("{error:?}");
    assert!(!logged.contains("eyJ"), "a token in {logged}");
}

async fn claim_refused(stage: &Stage, vendor: &TokenVendor, as_user: &str, claim: GuestClaim) -> Error {
    let error = vendor.link_guest(&user(as_user), claim).await.unwrap_err();
    assert_eq!(
        (error.kind(), HttpRefusal::from(&error).status()),
        (ErrorKind::ClaimRefused, 403),
        "{error:?}"
    );
    nothing_leaks(&error, stage);
    error
}

#[tokio::test]
async fn guest_hijack_by_a_known_id() {
    let stage = Stage::start().await;
    let vendor = stage.vendor();
    let (victim, own) = (stage.guest().await, stage.guest().await);
    let own_ticket = vendor.issue_guest_claim(&own, "thief").await.unwrap();
    let victims_ticket = vendor.issue_guest_claim(&victim, "victim").await.unwrap();
    // Without a ticket, with one for his own guest, and with the victim's from his own session.
    for (ticket, client) in [
        ("", "thief"),
        (own_ticket.expose(), "thief"),
        (victims_ticket.expose(), "thief"),
    ] {
        claim_refused(
            &stage,
            &vendor,
            "thief",
            GuestClaim::new(ticket, victim.clone(), client),
        )
        .await;
    }
    assert_eq!(
        stage.calls("GetOpenIdTokenForDeveloperIdentity"),
        0,
        "refused before the network"
    );
    assert!(stage.is_guest(&victim).await);
    // The victim's own ticket has not been used up by that.
    let claim = GuestClaim::new(victims_ticket, victim.clone(), "victim");
    assert_eq!(
        vendor.link_guest(&user("victim"), claim).await.unwrap().identity_id(),
        &victim
    );
}

#[tokio::test]
async fn identity_hijack_by_a_ticket_for_an_identity_that_is_no_guest() {
    let stage = Stage::start().await;
    let google = stage.pool.oidc_issuer(Logins::GOOGLE).unwrap();
    let vendor = stage.vendor();
    let alice = vendor.vend(&user("alice")).await.unwrap();
    let request = stage.client().get_id().identity_pool_id(stage.pool.identity_pool_id());
    let social = request
        .logins(Logins::GOOGLE, google.token("g"))
        .send()
        .await
        .unwrap()
        .identity_id
        .unwrap();
    for victim in [alice.identity_id().clone(), IdentityId::new(social).unwrap()] {
        let ticket = vendor.issue_guest_claim(&victim, "thief").await.unwrap();
        let error = claim_refused(
            &stage,
            &vendor,
            "thief",
            GuestClaim::new(ticket, victim.clone(), "thief"),
        )
        .await;
        assert!(error.to_string().contains("no guest"));
        let thief = stage.admin().identity_of_user(&user("thief")).await.unwrap();
        assert_ne!(thief.as_ref(), Some(&victim));
    }
    assert_eq!(
        stage.admin().users_of_identity(alice.identity_id()).await.unwrap(),
        [user("alice")]
    );
}

#[tokio::test]
async fn hijack_of_a_guest_in_another_pool_or_region() {
    let stage = Stage::start().await;
    let other = Stage::start().await;
    let foreign = other.guest().await;
    let vendor = stage.vendor();
    let ticket = vendor.issue_guest_claim(&foreign, "s").await.unwrap();
    let error = vendor
        .link_guest(&user("alice"), GuestClaim::new(ticket, foreign, "s"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IdentityNotFound);
    nothing_leaks(&error, &stage);
    // A ticket of the other pool's backend, which has the same key.
    let guest = stage.guest().await;
    let ticket = other.vendor().issue_guest_claim(&guest, "s").await.unwrap();
    claim_refused(&stage, &vendor, "alice", GuestClaim::new(ticket, guest, "s")).await;
}

#[tokio::test]
async fn replayed_claim() {
    let stage = Stage::start().await;
    let vendor = stage.vendor();
    let guest = stage.guest().await;
    let ticket = vendor.issue_guest_claim(&guest, "s").await.unwrap();
    let claim = || GuestClaim::new(ticket.expose(), guest.clone(), "s");
    vendor.link_guest(&user("alice"), claim()).await.unwrap();
    assert!(
        claim_refused(&stage, &vendor, "thief", claim())
            .await
            .to_string()
            .contains("used before")
    );
    // For the same user it is no replay: the first answer may have been lost.
    assert_eq!(
        vendor.link_guest(&user("alice"), claim()).await.unwrap().identity_id(),
        &guest
    );
}

#[tokio::test]
async fn expired_and_forged_claims() {
    let stage = Stage::start().await;
    let vendor = stage.vendor();
    let guest = stage.guest().await;
    let ticket = vendor.issue_guest_claim(&guest, "s").await.unwrap();
    let claim = || GuestClaim::new(ticket.expose(), guest.clone(), "s");
    stage.clock.advance(Duration::from_secs(30 * 24 * 3_600));
    assert!(
        claim_refused(&stage, &vendor, "thief", claim())
            .await
            .to_string()
            .contains("expired")
    );
    let another_key = GuestClaims::hmac_sha256("another key of at least 32 bytes!").unwrap();
    let forger = stage.vendor_builder().guest_claims(another_key).build().unwrap();
    let forged = forger.issue_guest_claim(&guest, "s").await.unwrap();
    claim_refused(&stage, &vendor, "thief", GuestClaim::new(forged, guest.clone(), "s")).await;
    assert!(stage.is_guest(&guest).await);
}

#[tokio::test]
async fn racing_links_of_two_users_for_one_guest() {
    for _ in 0..20 {
        let stage = Stage::start().await;
        // Two instances of the backend, so that not even the memory of used tickets is shared.
        let vendors = [stage.vendor(), stage.vendor()];
        let guest = stage.guest().await;
        let mut links = Vec::new();
        for (vendor, name) in vendors.iter().zip(["one", "two"]) {
            let ticket = vendor.issue_guest_claim(&guest, name).await.unwrap();
            let (vendor, claim) = (vendor.clone(), GuestClaim::new(ticket, guest.clone(), name));
            links.push(tokio::spawn(async move { vendor.link_guest(&user(name), claim).await }));
        }
        let mut results = Vec::new();
        for link in links {
            results.push(link.await.unwrap());
        }
        let winners = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(winners, 1, "{results:?}");
        for result in &results {
            match result {
                Ok(linked) => assert_eq!(linked.identity_id(), &guest),
                Err(error) => {
                    assert!(
                        matches!(error.kind(), ErrorKind::ClaimRefused | ErrorKind::NotAuthorized),
                        "{error:?}"
                    );
                    nothing_leaks(error, &stage);
                }
            }
        }
        assert_eq!(stage.admin().users_of_identity(&guest).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn racing_replays_of_one_claim() {
    let stage = Stage::start().await;
    let vendor = stage.vendor();
    let guest = stage.guest().await;
    let ticket = vendor.issue_guest_claim(&guest, "s").await.unwrap();
    let links = (0..20).map(|n| {
        let claim = GuestClaim::new(ticket.expose(), guest.clone(), "s");
        let vendor = vendor.clone();
        tokio::spawn(async move { vendor.link_guest(&user(&format!("user-{n}")), claim).await })
    });
    let linked = futures_util::future::join_all(links)
        .await
        .into_iter()
        .filter(|link| link.as_ref().unwrap().is_ok());
    assert_eq!(linked.count(), 1);
}

#[tokio::test]
async fn client_chosen_identity() {
    let stage = Stage::start().await;
    let vendor = stage.vendor();
    let victim = vendor.vend(&user("victim")).await.unwrap();
    // The one way to name an identity in a vend: it is compared, never sent.
    let request = VendRequest::new(user("thief")).expect_identity(victim.identity_id().clone());
    let vended = vendor.vend_with(request).await.unwrap();
    assert_ne!(vended.identity_id(), victim.identity_id());
    assert_eq!(vended.replaces(), Some(victim.identity_id()));
}

#[tokio::test]
async fn client_chosen_user() {
    let stage = Stage::start().await;
    let vendor = stage.vendor();
    let victim = vendor.vend(&user("victim")).await.unwrap();
    // Ids that read like another user's: each is a user of its own.
    let pool = stage.pool.identity_pool_id();
    for id in [
        "Victim",
        "victim ",
        " victim",
        &format!("{PROVIDER}:{pool}:victim"),
        "victim:",
        "victim\u{200b}",
    ] {
        assert_ne!(
            vendor.vend(&user(id)).await.unwrap().identity_id(),
            victim.identity_id(),
            "{id:?}"
        );
    }
    for refused in ["victim\0", "victim\n", "", " "] {
        DeveloperUserId::new(refused).unwrap_err();
    }
    // The developer provider's name among the external logins would replace the user.
    let logins = Logins::new().with(PROVIDER, "victim").unwrap();
    let error = vendor.link_external(&user("thief"), &logins).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    nothing_leaks(&error, &stage);
}

#[tokio::test]
async fn forged_external_link() {
    let stage = Stage::start().await;
    let google = stage.pool.oidc_issuer(Logins::GOOGLE).unwrap();
    let vendor = stage.vendor();
    vendor.vend(&user("alice")).await.unwrap();
    let expired = google.token_for("g").lifetime(Duration::from_secs(1)).issue();
    stage.clock.advance(Duration::from_secs(600));
    for token in [
        google.token_for("g").forged().issue(),
        google.token_for("g").audience("another-app").issue(),
        google.token_for("g").without_audience().issue(),
        google.token_for("g").issuer("https://accounts.evil.example").issue(),
        expired,
    ] {
        let logins = Logins::new().google(token).unwrap();
        let error = vendor.link_external(&user("alice"), &logins).await.unwrap_err();
        let kind = error.kind();
        assert!(
            matches!(kind, ErrorKind::NotAuthorized | ErrorKind::Configuration),
            "{error:?}"
        );
        nothing_leaks(&error, &stage);
    }
    let alice = stage.admin().describe_user(&user("alice")).await.unwrap().unwrap();
    assert_eq!(alice.identity.providers, [PROVIDER]);
}

#[tokio::test]
async fn a_cognito_token_as_an_external_login() {
    let stage = Stage::start().await;
    let vendor = stage.vendor();
    let victim = vendor.vend(&user("victim")).await.unwrap();
    let token = victim.identity().token().expose_secret();
    for name in [stage.pool.issuer_host(), PROVIDER, Logins::GOOGLE] {
        assert!(Logins::new().with(name, token).is_err(), "{name}");
    }
}

#[tokio::test]
async fn token_of_a_forgotten_user() {
    let stage = Stage::start().await;
    let vendor = stage.vendor();
    let before = vendor.vend(&user("alice")).await.unwrap();
    assert!(
        stage
            .admin()
            .forget_user(&user("alice"), &[&vendor])
            .await
            .unwrap()
            .is_complete()
    );
    assert!(
        stage.exchange(&before).await.is_err(),
        "the token opens nothing any more"
    );
    let after = vendor.vend(&user("alice")).await.unwrap();
    assert_ne!(after.identity_id(), before.identity_id(), "nor is it vended again");
    assert!(stage.exchange(&after).await.is_ok());
}

#[tokio::test]
async fn vends_that_race_with_being_forgotten() {
    let stage = Stage::start().await;
    let (vendor, admin) = (stage.vendor(), stage.admin());
    let before = vendor.vend(&user("alice")).await.unwrap();
    let vends = (0..50).map(|n| {
        let vendor = vendor.clone();
        tokio::spawn(async move {
            vendor
                .vend_with(VendRequest::new(user("alice")).fresh(n % 2 == 0))
                .await
        })
    });
    let vends: Vec<_> = vends.collect();
    let report = admin.forget_user(&user("alice"), &[&vendor]).await.unwrap();
    for vend in vends {
        if let Err(error) = vend.await.unwrap() {
            assert_eq!(
                (error.kind(), error.is_retryable()),
                (ErrorKind::Denied, true),
                "{error:?}"
            );
        }
    }
    // Whatever came when: afterwards the vendor hands out nothing of what was deleted.
    let after = vendor.vend(&user("alice")).await.unwrap();
    assert_ne!(after.identity_id(), before.identity_id());
    assert_eq!(report.identity_id.as_ref(), Some(before.identity_id()));
    assert!(stage.exchange(&after).await.is_ok());
}

#[tokio::test]
async fn a_denied_user_who_comes_by_every_door() {
    let stage = Stage::start().await;
    let google = stage.pool.oidc_issuer(Logins::GOOGLE).unwrap();
    let vendor = stage.vendor();
    vendor.vend(&user("mallory")).await.unwrap();
    vendor.deny(&user("mallory")).await.unwrap();
    stage.pool.clear_requests();
    let guest = stage.guest().await;
    let claim = GuestClaim::new(vendor.issue_guest_claim(&guest, "s").await.unwrap(), guest.clone(), "s");
    let logins = Logins::new().google(google.token("g")).unwrap();
    let errors = [
        vendor.vend(&user("mallory")).await.unwrap_err(),
        vendor
            .vend_with(VendRequest::new(user("mallory")).fresh(true))
            .await
            .unwrap_err(),
        vendor.vend_credentials(&user("mallory")).await.unwrap_err(),
        vendor.link_guest(&user("mallory"), claim).await.unwrap_err(),
        vendor.link_external(&user("mallory"), &logins).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(
            (error.kind(), HttpRefusal::from(&error).status()),
            (ErrorKind::Denied, 403)
        );
        nothing_leaks(&error, &stage);
    }
    assert_eq!(stage.pool.requests().len(), 1, "the guest alone");
}

#[tokio::test]
async fn one_client_that_floods_the_accounts_quota() {
    let stage = Stage::with(|builder| builder.throttling(true)).await;
    let limit = RequestLimit::per_second(50.try_into().unwrap()).burst(25.try_into().unwrap());
    let vendor = stage
        .vendor_builder()
        .max_wait(Duration::ZERO)
        .request_limit(limit)
        .build()
        .unwrap();
    vendor.vend(&user("mallory")).await.unwrap();
    // From the cache it may take what it wants.
    for _ in 0..1_000 {
        vendor.vend(&user("mallory")).await.unwrap();
    }
    assert_eq!(stage.calls("GetOpenIdTokenForDeveloperIdentity"), 1);
    // Past it, what one user can cause is limited, and the account's quota is never reached.
    for _ in 0..100 {
        drop(vendor.vend_with(VendRequest::new(user("mallory")).fresh(true)).await);
    }
    let refused = stage
        .pool
        .requests()
        .into_iter()
        .filter(|request| request.error.is_some())
        .count();
    assert_eq!((stage.calls("GetOpenIdTokenForDeveloperIdentity"), refused), (25, 0));
    stage.clock.advance(Duration::from_secs(1));
    vendor.vend(&user("alice")).await.expect("the others have their share");
}

#[tokio::test]
async fn a_token_for_longer_than_the_service_allows() {
    for seconds in [0, 86_401, u64::MAX] {
        assert_eq!(
            TokenDuration::from_secs(seconds).unwrap_err().kind(),
            ErrorKind::Configuration
        );
    }
}

#[tokio::test]
async fn personal_data_as_a_user_id() {
    let stage = Stage::start().await;
    for id in ["alice@example.com", r#"{"sub":"alice","email":"a@b.c"}"#] {
        let error = stage.vendor().vend(&user(id)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        nothing_leaks(&error, &stage);
    }
    assert_eq!(stage.calls("GetOpenIdTokenForDeveloperIdentity"), 0);
    // The key of the claims is no secret of theirs either.
    assert!(!format!("{:?}", stage.vendor()).contains(CLAIMS_KEY));
}
