//! Query bodies of STS, free and behind a known action.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let form: [(&str, &[u8]); 1] = [("content-type", b"application/x-www-form-urlencoded")];
    cognito_identity_pool_fuzz::ask(&form, data);
    let mut body = b"Action=AssumeRoleWithWebIdentity&RoleArn=arn:aws:iam::123456789012:role/r&".to_vec();
    body.extend_from_slice(data);
    cognito_identity_pool_fuzz::ask(&form, &body);
});
