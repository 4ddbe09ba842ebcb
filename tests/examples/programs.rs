//! The stories that the examples tell are true.

#[path = "../../examples/guest_to_user.rs"]
mod guest_to_user;
#[path = "../../examples/social_logins.rs"]
mod social_logins;
#[path = "../../examples/switch_users.rs"]
mod switch_users;

/// What is said to be true is.
fn check(told: &[String], lines: usize) {
    assert_eq!(told.len(), lines, "{told:#?}");
    assert!(told.iter().all(|line| !line.ends_with("false")), "{told:#?}");
}

#[tokio::test]
async fn switch_users_tells_the_truth() {
    let mut told = Vec::new();
    switch_users::story(|line| told.push(line)).await.unwrap();
    check(&told, 9);
    assert!(told[0].ends_with("served") && told[2].ends_with("served"), "{told:#?}");
    assert!(
        told[4].ends_with("SessionEnded") && told[6].ends_with("SessionEnded"),
        "{told:#?}"
    );
    assert!(told[7].ends_with("SignedOut"), "{told:#?}");
    assert_eq!(
        told[8],
        "whoever listened was told: signed in, signed in, signed in, signed out"
    );
}

#[tokio::test]
async fn guest_to_user_tells_the_truth() {
    let mut told = Vec::new();
    guest_to_user::story(|line| told.push(line)).await.unwrap();
    check(&told, 8);
    assert_eq!(told.iter().filter(|line| line.ends_with("true")).count(), 7);
}

#[tokio::test]
async fn social_logins_tells_the_truth() {
    let mut told = Vec::new();
    social_logins::story(|line| told.push(line)).await.unwrap();
    check(&told, 6);
    assert_eq!(told.iter().filter(|line| line.ends_with("true")).count(), 4);
    assert!(told[5].contains("expired"), "{told:#?}");
}
