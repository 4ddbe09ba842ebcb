//! What the local pool never answers: pages without end, identities left over, pools that are not there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_smithy_types::retry::RetryConfig;

use super::*;
use crate::server::vending::tests::{ID, POOL, Told, config, refusal, user};

const OTHER: &str = "us-east-1:99999999-5e6f-7a8b-9c0d-1e2f3a4b5c6d";

fn id(id: &str) -> IdentityId {
    IdentityId::new(id).unwrap()
}

/// An administration whose `n`th request is answered by `answer`, and the count.
fn answered(
    answer: impl Fn(usize, &str) -> (u16, String) + Send + Sync + 'static,
) -> (IdentityAdmin, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let config = config(&Told::new(), move |body| {
        answer(count.fetch_add(1, Ordering::SeqCst), &body)
    });
    let admin = IdentityAdmin::builder(POOL, "login.mycompany.myapp")
        .configure(&config.build())
        .retry_config(RetryConfig::disabled())
        .build()
        .unwrap();
    (admin, asked)
}

#[tokio::test]
async fn the_users_of_an_identity_are_collected_from_all_pages() {
    let (admin, asked) = answered(|n, body| {
        let next = ["", r#","NextToken":"page-1""#, r#","NextToken":"page-2""#];
        assert_eq!(n > 0, body.contains(&format!("\"NextToken\":\"page-{n}\"")), "{body}");
        let following = next.get(n + 1).unwrap_or(&"");
        (
            200,
            format!(r#"{{"IdentityId":"{ID}","DeveloperUserIdentifierList":["u{n}"]{following}}}"#),
        )
    });
    assert_eq!(
        admin.users_of_identity(&id(ID)).await.unwrap(),
        [user("u0"), user("u1"), user("u2")]
    );
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn pages_that_lead_to_themselves_are_an_error_and_not_a_loop() {
    let (admin, asked) = answered(|_, _| {
        (
            200,
            format!(r#"{{"IdentityId":"{ID}","DeveloperUserIdentifierList":["u"],"NextToken":"again"}}"#),
        )
    });
    let error = admin.users_of_identity(&id(ID)).await.unwrap_err();
    assert_eq!(
        (error.kind(), asked.load(Ordering::SeqCst)),
        (ErrorKind::InvalidResponse, 2)
    );

    let (admin, _) = answered(|_, _| {
        (
            200,
            format!(r#"{{"IdentityPoolId":"{POOL}","Identities":[],"NextToken":"again"}}"#),
        )
    });
    let mut pages = admin.identities();
    assert_eq!(
        pages.next_page().await.unwrap(),
        Some(Vec::new()),
        "an empty page is not the last"
    );
    assert_eq!(pages.next_page().await.unwrap_err().kind(), ErrorKind::InvalidResponse);
}

#[tokio::test]
async fn identities_that_were_not_processed_are_reported_with_their_code() {
    let (admin, _) = answered(|_, _| {
        (
            200,
            format!(r#"{{"UnprocessedIdentityIds":[{{"IdentityId":"{OTHER}","ErrorCode":"InternalServerError"}}]}}"#),
        )
    });
    let report = admin.delete_identities(&[id(ID), id(OTHER)]).await.unwrap();
    assert_eq!(report.deleted, [id(ID)]);
    assert_eq!(report.unprocessed, [(id(OTHER), "InternalServerError".to_owned())]);
}

#[tokio::test]
async fn a_page_that_fails_does_not_stop_the_others() {
    let (admin, asked) = answered(|n, _| match n {
        1 => refusal("TooManyRequestsException", "Rate exceeded"),
        _ => (200, "{}".to_owned()),
    });
    let many: Vec<_> = (0..121)
        .map(|n| id(&format!("us-east-1:{n:08x}-5e6f-7a8b-9c0d-1e2f3a4b5c6d")))
        .collect();
    let report = admin.delete_identities(&many).await.unwrap();
    assert_eq!(
        (
            report.deleted.len(),
            report.unprocessed.len(),
            asked.load(Ordering::SeqCst)
        ),
        (61, 60, 3)
    );
    assert!(
        report
            .unprocessed
            .iter()
            .all(|(_, why)| why == "TooManyRequestsException")
    );
    assert_eq!(report.unprocessed[0].0, many[60]);
}

#[tokio::test]
async fn a_pool_that_is_not_there_is_not_a_user_who_is_not_there() {
    let (admin, _) = answered(|_, _| {
        refusal(
            "ResourceNotFoundException",
            &format!("IdentityPool '{POOL}' not found."),
        )
    });
    for error in [
        admin.identity_of_user(&user("u")).await.unwrap_err(),
        admin.users_of_identity(&id(ID)).await.unwrap_err(),
        admin.is_linked(&user("u"), &id(ID)).await.unwrap_err(),
        admin.forget_user(&user("u"), &[]).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Configuration);
    }
    let (admin, _) = answered(|_, _| refusal("ResourceNotFoundException", "Developer user not found."));
    assert_eq!(admin.identity_of_user(&user("u")).await.unwrap(), None);
}

#[tokio::test]
async fn answers_that_lack_what_they_must_have_are_refused() {
    for body in [
        "{}",
        r#"{"IdentityId":""}"#,
        r#"{"IdentityId":"my-pool"}"#,
        r#"{"IdentityId":null}"#,
    ] {
        let (admin, _) = answered(move |_, _| (200, body.to_owned()));
        assert_eq!(
            admin.identity_of_user(&user("u")).await.unwrap_err().kind(),
            ErrorKind::InvalidResponse,
            "{body}"
        );
        assert_eq!(
            admin.describe(&id(ID)).await.unwrap_err().kind(),
            ErrorKind::InvalidResponse,
            "{body}"
        );
        assert_eq!(
            admin.merge(&user("a"), &user("b")).await.unwrap_err().kind(),
            ErrorKind::InvalidResponse,
            "{body}"
        );
    }
}
