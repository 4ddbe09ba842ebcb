//! The ids of the service, each a type of its own, so that one cannot be passed for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// Why a value cannot be the id that it was offered as.
///
/// The text names the rule of the service and, where there is a likely one, the mistake that was made.
///
/// ```
/// # use cognito_identity_pool::IdentityPoolId;
/// let error = IdentityPoolId::new("my_app_pool").unwrap_err();
/// assert!(error.to_string().contains("the pool's name"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {rule}{hint}")]
pub struct InvalidId {
    what: &'static str,
    rule: String,
    hint: &'static str,
}

impl InvalidId {
    pub(crate) fn new(what: &'static str, rule: impl Into<String>, hint: &'static str) -> Self {
        Self {
            what,
            rule: rule.into(),
            hint,
        }
    }
}

impl From<InvalidId> for Error {
    fn from(invalid: InvalidId) -> Self {
        Self::new(ErrorKind::Configuration, invalid.to_string())
    }
}

/// What builders take where they need an id: the id, a reference to it, or text, which is checked when the builder builds.
///
/// ```
/// # use cognito_identity_pool::{CognitoCredentialsProvider, IdentityPoolId};
/// let id = IdentityPoolId::new("us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd")?;
/// let text = id.to_string();
/// let by_reference_to_text = CognitoCredentialsProvider::builder(&text);
/// let by_text = CognitoCredentialsProvider::builder(text);
/// let by_reference = CognitoCredentialsProvider::builder(&id);
/// let by_value = CognitoCredentialsProvider::builder(id);
/// # Ok::<(), cognito_identity_pool::ids::InvalidId>(())
/// ```
pub trait IntoId<Id> {
    /// The id.
    ///
    /// # Errors
    ///
    /// [`InvalidId`] for text that cannot be one.
    fn into_id(self) -> Result<Id, InvalidId>;
}

/// What `REGION:GUID` ids have in common (`IdentityPoolId` and `IdentityId` in the API reference):
/// 1..=55 characters, `[\w-]+:[0-9a-f-]+`.
fn check_region_guid(what: &'static str, value: &str) -> Result<(), InvalidId> {
    const RULE: &str = "must look like us-east-1:1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d (region, colon, lower-case GUID)";
    let fail = |hint| Err(InvalidId::new(what, RULE, hint));
    if value.is_empty() {
        return fail("; the value is empty: is a setting or an environment variable missing?");
    }
    if value.trim() != value {
        return fail("; the value has white space around it");
    }
    if value.starts_with("arn:") {
        return fail("; this is an ARN: pass the part after `identitypool/`");
    }
    let Some((region, guid)) = value.split_once(':') else {
        if value.len() > 10
            && value
                .split_once('_')
                .is_some_and(|(region, _)| region.matches('-').count() >= 2)
        {
            return fail("; this is the id of a user pool, not of an identity pool");
        }
        return fail("; it has no colon: is it the pool's name?");
    };
    if value.len() > 55 {
        return fail("; it has more than 55 characters");
    }
    let region_ok = !region.is_empty()
        && region
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let guid_ok = !guid.is_empty() && guid.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'));
    match (region_ok, guid_ok) {
        (true, true) => Ok(()),
        (true, false) if guid.bytes().any(|b| b.is_ascii_uppercase()) => {
            fail("; write the upper-case letters of the GUID in lower case")
        }
        (true, false) => fail("; the part after the colon is not a GUID"),
        (false, _) => fail("; the part before the colon is not a region"),
    }
}

macro_rules! string_id {
    ($name:ident, $check:expr, debug: |$self:ident| $debug:expr) => {
        impl $name {
            /// Checks `value` against the service's rule and wraps it.
            ///
            /// # Errors
            ///
            /// [`InvalidId`], which names the rule and the mistake most likely made.
            pub fn new(value: impl Into<String>) -> Result<Self, InvalidId> {
                let value = value.into();
                let check: fn(&str) -> Result<(), InvalidId> = $check;
                check(&value)?;
                Ok(Self(value.into()))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let $self = self;
                f.debug_tuple(stringify!($name)).field(&$debug).finish()
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(value: &str) -> Result<Self, InvalidId> {
                Self::new(value)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidId;
            fn try_from(value: &str) -> Result<Self, InvalidId> {
                Self::new(value)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(value: String) -> Result<Self, InvalidId> {
                Self::new(value)
            }
        }

        impl TryFrom<&$name> for $name {
            type Error = InvalidId;
            fn try_from(value: &$name) -> Result<Self, InvalidId> {
                Ok(value.clone())
            }
        }

        impl IntoId<Self> for $name {
            fn into_id(self) -> Result<Self, InvalidId> {
                Ok(self)
            }
        }

        impl IntoId<$name> for &$name {
            fn into_id(self) -> Result<$name, InvalidId> {
                Ok(self.clone())
            }
        }

        impl IntoId<$name> for &str {
            fn into_id(self) -> Result<$name, InvalidId> {
                $name::new(self)
            }
        }

        impl IntoId<$name> for String {
            fn into_id(self) -> Result<$name, InvalidId> {
                $name::new(self)
            }
        }

        impl IntoId<$name> for &String {
            fn into_id(self) -> Result<$name, InvalidId> {
                $name::new(self.as_str())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.into()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

macro_rules! displayed {
    ($($name:ident),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

/// The id of an identity pool, `region:uuid` (`IdentityPoolId` in the API reference, 1..=55 characters).
///
/// Not a secret. The region of every call is taken from it unless it is overridden.
///
/// ```
/// # use cognito_identity_pool::IdentityPoolId;
/// let pool: IdentityPoolId = "eu-west-1:1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d".parse()?;
/// assert_eq!(pool.region(), "eu-west-1");
/// # Ok::<(), cognito_identity_pool::ids::InvalidId>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdentityPoolId(Box<str>);

string_id!(IdentityPoolId, |v| check_region_guid("identity pool id", v), debug: |id| id.0);
displayed!(IdentityPoolId, DeveloperProviderName);

impl IdentityPoolId {
    /// The region that the pool lives in.
    pub fn region(&self) -> &str {
        region_of(&self.0)
    }

    /// The host under which Cognito issues tokens for this pool's region: the key of a Cognito token in a logins map.
    ///
    /// `cognito-identity.amazonaws.com` in the commercial regions; GovCloud, China and the sovereign clouds have
    /// hosts of their own. A token's own `iss` comes first where it can be read.
    ///
    /// ```
    /// # use cognito_identity_pool::IdentityPoolId;
    /// let pool = IdentityPoolId::new("cn-north-1:1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d")?;
    /// assert_eq!(pool.issuer_host(), "cognito-identity.cn-north-1.amazonaws.com.cn");
    /// # Ok::<(), cognito_identity_pool::ids::InvalidId>(())
    /// ```
    pub fn issuer_host(&self) -> String {
        Partition::of(self.region()).issuer_host(self.region())
    }

    /// The federated principal that the trust policy of this pool's roles names, which is also the prefix of its condition
    /// keys (`…:aud`, `…:amr`, `…:sub`): `cognito-identity.amazonaws.com`, except in GovCloud, China and the sovereign clouds.
    ///
    /// ```
    /// # use cognito_identity_pool::IdentityPoolId;
    /// let pool = IdentityPoolId::new("us-gov-west-1:1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d")?;
    /// assert_eq!(pool.trust_principal(), "cognito-identity-us-gov.amazonaws.com");
    /// # Ok::<(), cognito_identity_pool::ids::InvalidId>(())
    /// ```
    pub fn trust_principal(&self) -> String {
        Partition::of(self.region()).trust_principal(self.region())
    }
}

/// The id of an identity in a pool, `region:uuid` (`IdentityId` in the API reference, 1..=55 characters).
///
/// One per end user, or per guest. Holding a guest's id is all it takes to be that guest, so `Debug` shows its last four
/// characters only; [`Display`](fmt::Display) and serde write it whole, for those who mean it.
///
/// ```
/// # use cognito_identity_pool::IdentityId;
/// let id = IdentityId::new("us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d")?;
/// assert_eq!(format!("{id:?}"), r#"IdentityId("…5c6d")"#);
/// # Ok::<(), cognito_identity_pool::ids::InvalidId>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdentityId(Box<str>);

string_id!(IdentityId, |v| check_region_guid("identity id", v), debug: |id| id.redacted());
displayed!(IdentityId);

impl IdentityId {
    /// The region that the identity lives in: its pool's.
    pub fn region(&self) -> &str {
        region_of(&self.0)
    }

    /// The last four characters, for logs.
    pub(crate) fn redacted(&self) -> String {
        // The check at construction admits ASCII alone.
        format!("…{}", &self.0[self.0.len().saturating_sub(4)..])
    }
}

/// The name under which a backend is known to an identity pool, e.g. `login.mycompany.myapp`
/// (`DeveloperProviderName` in the API reference: 1..=128 characters, `[\w._-]+`). It cannot be changed once a pool has it.
///
/// ```
/// # use cognito_identity_pool::DeveloperProviderName;
/// assert!(DeveloperProviderName::new("login.mycompany.myapp").is_ok());
/// assert!(DeveloperProviderName::new("my company").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeveloperProviderName(Box<str>);

string_id!(DeveloperProviderName, check_developer_provider_name, debug: |name| name.0);

fn check_developer_provider_name(value: &str) -> Result<(), InvalidId> {
    const WHAT: &str = "developer provider name";
    const RULE: &str = "must have 1 to 128 characters out of A-Z a-z 0-9 . _ -";
    if is_issuer_host(value) {
        return Err(InvalidId::new(
            WHAT,
            "must be the name under which the identity pool knows your backend",
            "; this is the name of Cognito's own token issuer",
        ));
    }
    let legal = value
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    match value.len() {
        0 => Err(InvalidId::new(WHAT, RULE, "; the value is empty")),
        1..=128 if legal => Ok(()),
        1..=128 if value.contains(char::is_whitespace) => Err(InvalidId::new(WHAT, RULE, "; it contains a space")),
        1..=128 if value.contains("://") => Err(InvalidId::new(WHAT, RULE, "; it is a name, not a URL")),
        1..=128 => Err(InvalidId::new(WHAT, RULE, "")),
        _ => Err(InvalidId::new(WHAT, RULE, "; it is longer than that")),
    }
}

/// A backend's own id for one of its users (`DeveloperUserIdentifier` in the API reference).
///
/// 1..=1024 bytes, no control characters. The service keeps it in clear in every token and in CloudTrail: use an opaque,
/// stable id that is never given to another user, not an e-mail address. [`TokenVendor`](crate::TokenVendor) refuses what
/// looks like one. `Debug` shows its length only.
///
/// ```
/// # use cognito_identity_pool::DeveloperUserId;
/// let user = DeveloperUserId::new("user-42")?;
/// assert_eq!(user.as_str(), "user-42");
/// assert!(DeveloperUserId::new("x".repeat(1025)).is_err());
/// # Ok::<(), cognito_identity_pool::ids::InvalidId>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeveloperUserId(Box<str>);

string_id!(DeveloperUserId, check_developer_user_id, debug: |id| format!("{} bytes", id.0.len()));

impl DeveloperUserId {
    /// 32 bytes as 43 characters of base64url: always legal.
    pub(crate) fn from_base64url(bytes: &[u8; 32]) -> Self {
        Self(base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes).into())
    }
}

fn check_developer_user_id(value: &str) -> Result<(), InvalidId> {
    const WHAT: &str = "developer user identifier";
    const RULE: &str = "must have 1 to 1024 bytes and no control characters";
    match value.len() {
        0 => Err(InvalidId::new(
            WHAT,
            RULE,
            "; it is empty: is the user really signed in?",
        )),
        1..=1024 if value.trim().is_empty() => Err(InvalidId::new(WHAT, RULE, "; it is only white space")),
        1..=1024 if !value.contains(char::is_control) => Ok(()),
        1..=1024 => Err(InvalidId::new(WHAT, RULE, "; it contains a control character")),
        longer => Err(InvalidId::new(WHAT, format!("{RULE}, this one has {longer}"), "")),
    }
}

fn region_of(id: &str) -> &str {
    id.split_once(':').map_or("", |(region, _)| region)
}

/// A partition of AWS: regions that share account ids, ARNs and host names.
#[derive(Debug)]
pub(crate) struct Partition {
    /// As it stands in ARNs.
    pub(crate) name: &'static str,
    /// How its regions begin.
    prefix: &'static str,
    pub(crate) dns_suffix: &'static str,
    /// The issuer of Cognito's tokens, where it is one for all regions. Otherwise each region has a host of its own.
    shared_issuer: Option<&'static str>,
    /// The region whose trust principal is not the issuer's host, and that principal.
    principal: Option<(&'static str, &'static str)>,
}

/// All partitions, matched from the top by how a region begins, as the SDK's endpoint rules do.
static PARTITIONS: [Partition; 8] = [
    Partition::new("aws-cn", "cn-", "amazonaws.com.cn"),
    Partition {
        // GovCloud User Guide, "Amazon Cognito".
        principal: Some(("us-gov-west-1", "cognito-identity-us-gov.amazonaws.com")),
        ..Partition::new("aws-us-gov", "us-gov-", "amazonaws.com")
    },
    Partition::new("aws-iso-b", "us-isob-", "sc2s.sgov.gov"),
    Partition::new("aws-iso-f", "us-isof-", "csp.hci.ic.gov"),
    Partition::new("aws-iso", "us-iso-", "c2s.ic.gov"),
    Partition::new("aws-iso-e", "eu-isoe-", "cloud.adc-e.uk"),
    Partition::new("aws-eusc", "eusc-", "amazonaws.eu"),
    Partition {
        // Some regions that are off by default have an issuer of their own, and there is no list of them. The shared host is
        // right for the others, and a token's own `iss` corrects it.
        shared_issuer: Some("cognito-identity.amazonaws.com"),
        ..Partition::new("aws", "", "amazonaws.com")
    },
];

impl Partition {
    const fn new(name: &'static str, prefix: &'static str, dns_suffix: &'static str) -> Self {
        Self {
            name,
            prefix,
            dns_suffix,
            shared_issuer: None,
            principal: None,
        }
    }

    /// The partition that `region` belongs to.
    pub(crate) fn of(region: &str) -> &'static Self {
        // The last prefix is empty: there is always one that fits.
        let fits = PARTITIONS.iter().find(|partition| region.starts_with(partition.prefix));
        fits.unwrap_or(&PARTITIONS[PARTITIONS.len() - 1])
    }

    fn issuer_host(&self, region: &str) -> String {
        match self.shared_issuer {
            Some(host) => host.to_owned(),
            None => format!("cognito-identity.{region}.{}", self.dns_suffix),
        }
    }

    fn trust_principal(&self, region: &str) -> String {
        match self.principal {
            Some((of, principal)) if of == region => principal.to_owned(),
            _ => self.issuer_host(region),
        }
    }
}

/// Whether `host` has the form of a Cognito token issuer: the hosts whose tokens are keyed by their own `iss`.
///
/// Never an arbitrary host: what is keyed under it is taken for a Cognito token.
pub(crate) fn is_issuer_host(host: &str) -> bool {
    let is_principal = |partition: &Partition| partition.principal.is_some_and(|(_, principal)| principal == host);
    if PARTITIONS.iter().any(is_principal) {
        return true;
    }
    let Some(rest) = host.strip_prefix("cognito-identity.") else {
        return false;
    };
    PARTITIONS.iter().any(|partition| {
        rest == partition.dns_suffix
            || rest
                .strip_suffix(partition.dns_suffix)
                .and_then(|region| region.strip_suffix('.'))
                .is_some_and(|region| {
                    !region.is_empty()
                        && region
                            .bytes()
                            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: &str = "us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd";

    #[test]
    fn ids_of_every_partition_are_accepted_and_give_their_region() {
        for region in [
            "us-east-1",
            "eu-central-2",
            "us-gov-west-1",
            "cn-north-1",
            "us-iso-east-1",
            "us-isob-east-1",
            "eusc-de-east-1",
        ] {
            let id = format!("{region}:335c1f44-87c9-4bbd-a314-93b47d91fadd");
            assert_eq!(IdentityPoolId::new(&*id).unwrap().region(), region);
            assert_eq!(IdentityId::new(id).unwrap().region(), region);
        }
    }

    #[test]
    fn what_is_not_a_pool_id_is_refused_with_the_likely_mistake() {
        for (value, hint) in [
            ("", "empty"),
            ("my app pool", "the pool's name"),
            ("MyPool", "the pool's name"),
            ("us-east-1_AbCdEfGhI", "user pool"),
            (
                "arn:aws:cognito-identity:us-east-1:123456789012:identitypool/us-east-1:335c1f44",
                "ARN",
            ),
            (" us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd", "white space"),
            ("us-east-1:335C1F44-87C9-4BBD-A314-93B47D91FADD", "upper-case"),
            ("us-east-1:mock", "not a GUID"),
            ("us east 1:335c1f44-87c9-4bbd-a314-93b47d91fadd", "not a region"),
            (&format!("us-east-1:{}", "a".repeat(46)), "55"),
        ] {
            let error = IdentityPoolId::new(value).unwrap_err().to_string();
            assert!(
                error.contains(hint) && error.contains("region, colon"),
                "{value}: {error}"
            );
        }
        assert!(IdentityPoolId::new(format!("us-east-1:{}", "a".repeat(45))).is_ok());
    }

    #[test]
    fn every_region_has_the_names_of_its_partition() {
        for (region, partition, issuer) in [
            ("us-east-1", "aws", "cognito-identity.amazonaws.com"),
            ("ap-southeast-2", "aws", "cognito-identity.amazonaws.com"),
            ("cn-north-1", "aws-cn", "cognito-identity.cn-north-1.amazonaws.com.cn"),
            (
                "us-gov-west-1",
                "aws-us-gov",
                "cognito-identity.us-gov-west-1.amazonaws.com",
            ),
            (
                "us-gov-east-1",
                "aws-us-gov",
                "cognito-identity.us-gov-east-1.amazonaws.com",
            ),
            (
                "eusc-de-east-1",
                "aws-eusc",
                "cognito-identity.eusc-de-east-1.amazonaws.eu",
            ),
            ("us-iso-east-1", "aws-iso", "cognito-identity.us-iso-east-1.c2s.ic.gov"),
            (
                "us-isob-east-1",
                "aws-iso-b",
                "cognito-identity.us-isob-east-1.sc2s.sgov.gov",
            ),
            (
                "us-isof-east-1",
                "aws-iso-f",
                "cognito-identity.us-isof-east-1.csp.hci.ic.gov",
            ),
            (
                "eu-isoe-west-1",
                "aws-iso-e",
                "cognito-identity.eu-isoe-west-1.cloud.adc-e.uk",
            ),
        ] {
            let pool = IdentityPoolId::new(format!("{region}:335c1f44-87c9-4bbd-a314-93b47d91fadd")).unwrap();
            assert_eq!(
                (Partition::of(region).name, pool.issuer_host()),
                (partition, issuer.to_owned())
            );
            let principal = if region == "us-gov-west-1" {
                "cognito-identity-us-gov.amazonaws.com"
            } else {
                issuer
            };
            assert_eq!(pool.trust_principal(), principal);
            assert!(is_issuer_host(issuer) && is_issuer_host(principal));
        }
    }

    #[test]
    fn only_cognitos_own_hosts_are_issuer_hosts() {
        for host in [
            "cognito-identity.amazonaws.com",
            "cognito-identity.cn-north-1.amazonaws.com.cn",
            "cognito-identity.us-gov-west-1.amazonaws.com",
        ] {
            assert!(is_issuer_host(host), "{host}");
        }
        for host in [
            "",
            "amazonaws.com",
            "cognito-identity-us-gov.amazonaws.com.evil.example",
            "cognito-identity-evil.amazonaws.com",
            "cognito-identity.amazonaws.com.evil.example",
            "cognito-identity.evil.example",
            "cognito-identity.a.b.amazonaws.com",
            "cognito-idp.us-east-1.amazonaws.com",
            "accounts.google.com",
            "cognito-identity..amazonaws.com",
        ] {
            assert!(!is_issuer_host(host), "{host}");
        }
    }

    #[test]
    fn a_developer_provider_name_keeps_to_the_services_rule() {
        for name in ["a", "login.mycompany.myapp", "a_b-c.D9", &"x".repeat(128)] {
            assert!(DeveloperProviderName::new(name).is_ok(), "{name}");
        }
        for (name, hint) in [
            ("", "empty"),
            ("my company", "space"),
            ("https://login.example.com", "URL"),
            ("käse", "1 to 128"),
            (&*"x".repeat(129), "longer"),
            ("cognito-identity.amazonaws.com", "token issuer"),
        ] {
            let error = DeveloperProviderName::new(name).unwrap_err().to_string();
            assert!(error.contains(hint), "{name}: {error}");
        }
    }

    #[test]
    fn a_developer_user_id_is_counted_in_bytes() {
        assert!(DeveloperUserId::new("x".repeat(1024)).is_ok());
        assert!(
            DeveloperUserId::new("x".repeat(1025))
                .unwrap_err()
                .to_string()
                .contains("1025")
        );
        assert!(DeveloperUserId::new("ü".repeat(513)).is_err());
        assert!(DeveloperUserId::new("").unwrap_err().to_string().contains("signed in"));
        assert!(DeveloperUserId::new("a\nb").is_err());
        assert!(DeveloperUserId::new("  ").is_err());
        assert!(DeveloperUserId::new("tenant:user:1").is_ok());
    }

    #[test]
    fn serde_checks_what_it_reads() {
        let id: IdentityPoolId = serde_json::from_str(&format!("\"{POOL}\"")).unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{POOL}\""));
        assert!(serde_json::from_str::<IdentityPoolId>("\"pool\"").is_err());
    }

    #[test]
    fn debug_of_an_identity_or_user_id_does_not_show_it() {
        assert!(!format!("{:?}", IdentityId::new(POOL).unwrap()).contains("335c1f44"));
        assert!(!format!("{:?}", DeveloperUserId::new("alice").unwrap()).contains("alice"));
    }
}
