//! [`IdentityRequest`]: what a ready-made client sends to a backend, and what the backend reads.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::RefreshRequest;
use crate::ids::IdentityId;
use crate::logins::Logins;
use crate::token::RefreshReason;

/// What [`HttpBackend`](crate::http_backend) sends to a backend: for the handler there, which reads it from JSON.
///
/// It says nothing of who the user is: the backend knows that from its own authentication. Members that are unknown are ignored,
/// and those that are missing have defaults, so that `{}` is a request, too.
///
/// ```json
/// {
///   "reason": "firstUse",
///   "attempt": 1,
///   "guest": { "identityId": "us-east-1:0b1c2d3e-…", "claim": "…" },
///   "logins": { "graph.facebook.com": "EAAB…" }
/// }
/// ```
///
/// ```
/// # use cognito_identity_pool::{developer::IdentityRequest, token::RefreshReason};
/// let request: IdentityRequest = serde_json::from_str(r#"{"reason":"tokenRejected","attempt":2}"#)?;
/// assert_eq!((request.reason(), request.attempt()), (RefreshReason::TokenRejected, 2));
/// assert!(request.guest_claim("the client").is_none() && request.logins().is_empty());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Deserialize)]
#[serde(remote = "Self")]
pub struct IdentityRequest {
    #[serde(default)]
    reason: Reason,
    #[serde(default = "first")]
    attempt: u32,
    #[serde(default)]
    guest: Option<Guest>,
    #[serde(default, deserialize_with = "logins")]
    logins: Logins,
}

impl<'de> Deserialize<'de> for IdentityRequest {
    /// An object alone: all members have a default, so that an empty list would be a request as well.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = IdentityRequest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<IdentityRequest, A::Error> {
                // The derived function, which takes lists as well; this is none.
                IdentityRequest::deserialize(MapAccessDeserializer::new(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Guest {
    identity_id: IdentityId,
    claim: SecretString,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Reason {
    FirstUse,
    Expiring,
    TokenRejected,
    Invalidated,
    Forced,
    /// Of a newer client.
    #[default]
    #[serde(other, skip_serializing)]
    Unknown,
}

fn first() -> u32 {
    1
}

impl IdentityRequest {
    /// What a client sends for `request`. The guest goes along only with the claim that the backend has issued for it: its id alone
    /// is as secret as a session cookie.
    #[cfg_attr(
        not(feature = "http-backend"),
        allow(dead_code, reason = "sent by that feature alone")
    )]
    pub(crate) fn new(request: &RefreshRequest, guest_claim: Option<&SecretString>) -> Self {
        let guest = request.guest_to_link().zip(guest_claim);
        Self {
            reason: match request.reason() {
                RefreshReason::FirstUse => Reason::FirstUse,
                RefreshReason::Expiring => Reason::Expiring,
                RefreshReason::TokenRejected => Reason::TokenRejected,
                RefreshReason::Invalidated => Reason::Invalidated,
                RefreshReason::Forced => Reason::Forced,
            },
            attempt: request.attempt(),
            guest: guest.map(|(identity_id, claim)| Guest {
                identity_id: identity_id.clone(),
                claim: claim.clone(),
            }),
            logins: request.external_logins().clone(),
        }
    }

    /// The JSON form, with the tokens and the claim in clear.
    #[cfg_attr(
        not(feature = "http-backend"),
        allow(dead_code, reason = "sent by that feature alone")
    )]
    pub(crate) fn expose(&self) -> impl Serialize + '_ {
        struct Exposed<'a>(&'a IdentityRequest);
        struct Tokens<'a>(&'a Logins);
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct ExposedGuest<'a> {
            identity_id: &'a IdentityId,
            claim: &'a str,
        }

        impl Serialize for Tokens<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_map(self.0.iter().map(|(provider, token)| (provider, token.expose_secret())))
            }
        }

        impl Serialize for Exposed<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let IdentityRequest {
                    reason,
                    attempt,
                    guest,
                    logins,
                } = self.0;
                let mut map = serializer.serialize_map(None)?;
                map.serialize_entry("reason", reason)?;
                map.serialize_entry("attempt", attempt)?;
                if let Some(guest) = guest {
                    let guest = ExposedGuest {
                        identity_id: &guest.identity_id,
                        claim: guest.claim.expose_secret(),
                    };
                    map.serialize_entry("guest", &guest)?;
                }
                if !logins.is_empty() {
                    map.serialize_entry("logins", &Tokens(logins))?;
                }
                map.end()
            }
        }

        Exposed(self)
    }

    /// Why the client asks. After [`RefreshReason::TokenRejected`] a token from a cache would be refused again
    /// ([`VendRequest::fresh`](crate::server::VendRequest::fresh)). A word that is unknown counts as
    /// [`FirstUse`](RefreshReason::FirstUse).
    pub fn reason(&self) -> RefreshReason {
        match self.reason {
            Reason::FirstUse | Reason::Unknown => RefreshReason::FirstUse,
            Reason::Expiring => RefreshReason::Expiring,
            Reason::TokenRejected => RefreshReason::TokenRejected,
            Reason::Invalidated => RefreshReason::Invalidated,
            Reason::Forced => RefreshReason::Forced,
        }
    }

    /// Which attempt within one exchange this is, from 1; 2 follows a refusal.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The guest that the client wants to be linked to the user, and the claim that this backend has issued for it.
    pub(crate) fn guest(&self) -> Option<(&IdentityId, &SecretString)> {
        self.guest.as_ref().map(|guest| (&guest.identity_id, &guest.claim))
    }

    /// The external logins that the client wants to be linked to the user
    /// ([`TokenVendor::link_external`](crate::TokenVendor::link_external)).
    pub fn logins(&self) -> &Logins {
        &self.logins
    }
}

/// serde's text reaches whoever sent the request, and a provider name can be a token in the wrong place: it names nothing.
fn logins<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Logins, D::Error> {
    let entries: Option<std::collections::BTreeMap<String, SecretString>> = Deserialize::deserialize(deserializer)?;
    entries
        .into_iter()
        .flatten()
        .try_fold(Logins::new(), |logins, (provider, token)| {
            logins.with(provider, token.expose_secret())
        })
        .map_err(|_| de::Error::custom("`logins` has an entry that cannot be a login"))
}

impl fmt::Debug for IdentityRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityRequest")
            .field("reason", &self.reason())
            .field("attempt", &self.attempt)
            .field("guest", &self.guest().map(|(id, _)| id))
            .field("logins", &self.logins)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d";

    fn read(json: &str) -> IdentityRequest {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_a_client_sends_is_what_the_backend_reads() {
        let logins = Logins::new().facebook("canary-token").unwrap();
        let request = RefreshRequest::new(RefreshReason::Forced)
            .with_attempt(2)
            .with_guest_to_link(IdentityId::new(ID).unwrap())
            .with_external_logins(logins);
        let claim = SecretString::from("canary-claim");
        let sent = serde_json::to_string(&IdentityRequest::new(&request, Some(&claim)).expose()).unwrap();
        let read = read(&sent);
        assert_eq!((read.reason(), read.attempt()), (RefreshReason::Forced, 2));
        let (guest, claim) = read.guest().unwrap();
        assert_eq!((guest.as_str(), claim.expose_secret()), (ID, "canary-claim"));
        assert_eq!(read.logins().expose_secret(Logins::FACEBOOK), Some("canary-token"));
        assert!(!format!("{read:?}").contains("canary"));
        // Without a claim the guest stays unnamed.
        let sent = serde_json::to_string(&IdentityRequest::new(&request, None).expose()).unwrap();
        assert!(!sent.contains(ID));
    }

    #[test]
    fn what_is_missing_has_a_default_and_what_is_new_is_ignored() {
        for json in [
            "{}",
            r#"{"reason":"somethingNew","guest":null,"logins":null,"more":[1]}"#,
        ] {
            let request = read(json);
            assert_eq!((request.reason(), request.attempt()), (RefreshReason::FirstUse, 1));
            assert!(request.guest().is_none() && request.logins().is_empty());
        }
    }

    #[test]
    fn a_login_that_cannot_be_one_is_refused_and_not_quoted() {
        for json in [
            r#"{"logins":{"cognito-identity.amazonaws.com":"canary"}}"#,
            r#"{"logins":{"canary canary":"t"}}"#,
            r#"{"logins":{"graph.facebook.com":""}}"#,
        ] {
            let error = serde_json::from_str::<IdentityRequest>(json).unwrap_err().to_string();
            assert!(
                error.contains("cannot be a login") && !error.contains("canary"),
                "{error}"
            );
        }
    }
}
