//! Tokens under the keys of the logins map: as they are, and as the three parts of a JWT. None can be valid.
#![no_main]

use base64_simd::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

const PROVIDERS: [&str; 4] = [
    "cognito-identity.amazonaws.com",
    "accounts.google.com",
    "graph.facebook.com",
    "login.example.org",
];

fuzz_target!(|data: &[u8]| {
    let parts: Vec<String> = data
        .splitn(3, |byte| *byte == 0)
        .map(|part| URL_SAFE_NO_PAD.encode_to_string(part))
        .collect();
    let pool = cognito_identity_pool_fuzz::POOL.identity_pool_id();
    for token in [String::from_utf8_lossy(data).into_owned(), parts.join(".")] {
        for provider in PROVIDERS {
            let body = json!({ "IdentityPoolId": pool, "Logins": { provider: token } }).to_string();
            let target: (&str, &[u8]) = ("x-amz-target", b"AWSCognitoIdentityService.GetId");
            assert_ne!(cognito_identity_pool_fuzz::ask(&[target], body.as_bytes()), 200);
        }
    }
});
