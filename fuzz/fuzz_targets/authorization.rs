//! Authorization headers of both protocols. No input can be a valid signature.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut lines = data.splitn(3, |byte| *byte == b'\n');
    let authorization = lines.next().unwrap_or_default();
    let (date, token) = (lines.next(), lines.next());
    let mut headers = vec![("authorization", authorization)];
    headers.extend(date.map(|date| ("x-amz-date", date)));
    headers.extend(token.map(|token| ("x-amz-security-token", token)));

    let mut json = headers.clone();
    json.push(("x-amz-target", b"AWSCognitoIdentityService.ListIdentityPools"));
    assert_ne!(cognito_identity_pool_fuzz::ask(&json, br#"{"MaxResults":1}"#), 200);
    headers.push(("content-type", b"application/x-www-form-urlencoded"));
    assert_ne!(
        cognito_identity_pool_fuzz::ask(&headers, b"Action=GetCallerIdentity&Version=2011-06-15"),
        200
    );
});
