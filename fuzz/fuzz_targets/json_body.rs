//! AWS JSON 1.1 bodies of the unsigned operations. The first byte chooses one.
#![no_main]

use libfuzzer_sys::fuzz_target;

const OPERATIONS: [&str; 4] = ["GetId", "GetCredentialsForIdentity", "GetOpenIdToken", "UnlinkIdentity"];

fuzz_target!(|data: &[u8]| {
    let Some((choice, body)) = data.split_first() else {
        return;
    };
    let operation = OPERATIONS[usize::from(*choice) % OPERATIONS.len()];
    let target = format!("AWSCognitoIdentityService.{operation}");
    cognito_identity_pool_fuzz::ask(&[("x-amz-target", target.as_bytes())], body);
});
