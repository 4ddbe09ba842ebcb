//! Temporary credentials. Nothing is stored: the secret key follows from the access key id, and the session token
//! carries what it stands for, authenticated by a key that only this pool has.

use std::collections::BTreeMap;
use std::fmt;

use aws_credential_types::Credentials;
use aws_lc_rs::{digest, hmac, rand};
use aws_smithy_runtime_api::box_error::BoxError;
use base64_simd::{STANDARD, URL_SAFE_NO_PAD};
use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret, SecretBox};
use serde::{Deserialize, Serialize};

use super::clock::seconds;

/// What a session token stands for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Session {
    pub(super) role_arn: String,
    pub(super) session_name: String,
    pub(super) identity_id: String,
    pub(super) pool_id: String,
    pub(super) tags: BTreeMap<String, String>,
    /// Seconds since the epoch.
    pub(super) expires: i64,
}

impl Session {
    /// `arn:aws:sts::123456789012:assumed-role/role/session`.
    pub(super) fn arn(&self) -> String {
        let (account, role) = split_role(&self.role_arn).unwrap_or_default();
        // A role's path is not part of the session's ARN.
        let name = role.rsplit('/').next().unwrap_or(role);
        let partition = self.role_arn.split(':').nth(1).unwrap_or("aws");
        format!(
            "arn:{partition}:sts::{account}:assumed-role/{name}/{}",
            self.session_name
        )
    }

    /// The same session, asked of another server.
    pub(super) fn assume_role(&self, now: f64) -> LocalAssumeRole {
        LocalAssumeRole {
            role_arn: self.role_arn.clone(),
            role_session_name: self.session_name.clone(),
            duration_seconds: (self.expires as f64 - now).ceil() as i32,
            identity_id: self.identity_id.clone(),
            tags: self.tags.clone(),
        }
    }

    /// `AROA…:session`.
    pub(super) fn user_id(&self) -> String {
        format!("{}:{}", role_id(&self.role_arn), self.session_name)
    }
}

/// Account and name (with path) of a role's ARN.
pub(super) fn split_role(arn: &str) -> Option<(&str, &str)> {
    let mut parts = arn.splitn(6, ':');
    let (scheme, _partition, service, region) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let (account, resource) = (parts.next()?, parts.next()?);
    let role = resource.strip_prefix("role/").filter(|role| !role.is_empty())?;
    (scheme == "arn" && service == "iam" && region.is_empty()).then_some((account, role))
}

/// The unique id of a role, always the same for the same ARN.
fn role_id(role_arn: &str) -> String {
    let hash = digest::digest(&digest::SHA256, role_arn.as_bytes());
    format!("AROA{}", base32(&hash.as_ref()[..17]))
}

/// A character of an access key id for each byte.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
        .collect()
}

/// Credentials on their way out.
pub(super) struct Minted {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: String,
    pub(super) session_token: String,
    pub(super) expires: i64,
}

impl fmt::Debug for Minted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Minted")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

impl From<Credentials> for Minted {
    fn from(credentials: Credentials) -> Self {
        Self {
            access_key_id: credentials.access_key_id().to_owned(),
            secret_access_key: credentials.secret_access_key().to_owned(),
            session_token: credentials.session_token().unwrap_or_default().to_owned(),
            expires: credentials.expiry().map_or(0, seconds),
        }
    }
}

/// What the pool asks of the server that makes its credentials; see
/// [`LocalIdentityPoolBuilder::credentials_from`](super::LocalIdentityPoolBuilder::credentials_from).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LocalAssumeRole {
    /// The role that the pool chose, or the caller of STS.
    pub role_arn: String,
    /// `CognitoIdentityCredentials` in the enhanced flow.
    pub role_session_name: String,
    /// How long the credentials shall live, in seconds.
    pub duration_seconds: i32,
    /// The identity that the credentials are for.
    pub identity_id: String,
    /// The session tags.
    pub tags: BTreeMap<String, String>,
}

/// Where credentials come from if the pool does not make them.
pub(super) type Upstream =
    Box<dyn Fn(LocalAssumeRole) -> BoxFuture<'static, Result<Credentials, BoxError>> + Send + Sync>;

/// Makes and reads credentials.
pub(super) struct Mint {
    key: hmac::Key,
    secret: SecretBox<[u8; 32]>,
}

impl Mint {
    /// With a key of its own, or nothing where the system has no randomness.
    pub(super) fn new() -> Option<Self> {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes).ok()?;
        Some(Self::with_key(bytes))
    }

    fn with_key(bytes: [u8; 32]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &bytes),
            secret: SecretBox::new(Box::new(bytes)),
        }
    }

    /// The key in base64, to go on with after a restart.
    pub(super) fn export(&self) -> String {
        STANDARD.encode_to_string(self.secret.expose_secret())
    }

    /// With a key that was exported, or nothing if it is none.
    pub(super) fn import(exported: &str) -> Option<Self> {
        let bytes = STANDARD.decode_to_vec(exported).ok()?;
        bytes.try_into().ok().map(Self::with_key)
    }

    /// An access key id with `prefix` and its secret.
    pub(super) fn access_key(&self, prefix: &str) -> Option<(String, String)> {
        let mut bytes = [0; 16];
        rand::fill(&mut bytes).ok()?;
        let id = format!("{prefix}{}", base32(&bytes));
        let secret = self.secret(&id);
        Some((id, secret))
    }

    /// The secret key that belongs to an access key id.
    pub(super) fn secret(&self, access_key_id: &str) -> String {
        let tag = hmac::sign(&self.key, format!("secret {access_key_id}").as_bytes());
        let mut secret = STANDARD.encode_to_string(tag.as_ref());
        secret.truncate(40);
        secret
    }

    pub(super) fn mint(&self, session: &Session) -> Option<Minted> {
        let (access_key_id, secret_access_key) = self.access_key("ASIA")?;
        let content = serde_json::to_vec(session).ok()?;
        let tag = hmac::sign(&self.key, &bound(&access_key_id, &content));
        let session_token = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode_to_string(&content),
            URL_SAFE_NO_PAD.encode_to_string(tag.as_ref())
        );
        Some(Minted {
            access_key_id,
            secret_access_key,
            session_token,
            expires: session.expires,
        })
    }

    /// The session of a token that this pool gave out together with this access key.
    pub(super) fn open(&self, access_key_id: &str, session_token: &str) -> Option<Session> {
        let (content, tag) = session_token.split_once('.')?;
        let content = URL_SAFE_NO_PAD.decode_to_vec(content).ok()?;
        let tag = URL_SAFE_NO_PAD.decode_to_vec(tag).ok()?;
        hmac::verify(&self.key, &bound(access_key_id, &content), &tag).ok()?;
        serde_json::from_slice(&content).ok()
    }
}

/// What is authenticated: a session token is good with its own access key only.
fn bound(access_key_id: &str, content: &[u8]) -> Vec<u8> {
    [b"session ", access_key_id.as_bytes(), b" ", content].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session {
            role_arn: "arn:aws:iam::123456789012:role/app/Auth".into(),
            session_name: "CognitoIdentityCredentials".into(),
            identity_id: "us-east-1:i".into(),
            pool_id: "us-east-1:p".into(),
            tags: BTreeMap::new(),
            expires: 10,
        }
    }

    #[test]
    fn a_session_token_opens_with_its_own_key_and_pool_alone() {
        let mint = Mint::new().unwrap();
        let minted = mint.mint(&session()).unwrap();
        assert_eq!(
            mint.open(&minted.access_key_id, &minted.session_token)
                .unwrap()
                .identity_id,
            "us-east-1:i"
        );
        assert!(mint.open("ASIAAAAAAAAAAAAAAAAA", &minted.session_token).is_none());
        assert!(
            Mint::new()
                .unwrap()
                .open(&minted.access_key_id, &minted.session_token)
                .is_none()
        );
        assert!(mint.open(&minted.access_key_id, "garbage").is_none());
    }

    #[test]
    fn keys_have_the_shape_of_the_service() {
        let minted = Mint::new().unwrap().mint(&session()).unwrap();
        assert!(minted.access_key_id.starts_with("ASIA") && minted.access_key_id.len() == 20);
        assert_eq!(minted.secret_access_key.len(), 40);
    }

    #[test]
    fn the_arn_is_that_of_the_assumed_role() {
        assert_eq!(
            session().arn(),
            "arn:aws:sts::123456789012:assumed-role/Auth/CognitoIdentityCredentials"
        );
        assert!(session().user_id().starts_with("AROA"));
    }
}
