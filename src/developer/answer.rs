//! How a backend's answer is read: the forms of backends that were written before this crate.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, de};
use zeroize::Zeroizing;

use super::DeveloperIdentity;
use crate::ids::{IdentityId, is_issuer_host};
use crate::token::OpenIdToken;

/// The names, without `_` and `-` and in lower case, of the members that can hold an identity id.
const IDENTITY_ID: &[&str] = &["identityid", "cognitoid", "cognitoidentityid", "cognitoidentity"];
/// Of members that can hold nothing but the token.
const COGNITO_TOKEN: &[&str] = &[
    "cognitotoken",
    "cognitoopenidtoken",
    "cognitoidentitytoken",
    "openidtoken",
];
/// Of the member that holds the token, unless there is one of the above: it may be the app's own session beside those.
const TOKEN: &[&str] = &["token"];
/// The JavaScript SDK's own form.
const LOGINS: &str = "logins";
/// Of members that are `false` or 0 where nobody is signed in.
const FLAGS: &[&str] = &[
    "login",
    "loggedin",
    "isloggedin",
    "signedin",
    "issignedin",
    "authenticated",
    "isauthenticated",
    "success",
    "ok",
    "status",
    "valid",
];
/// Of members that repeat an HTTP status.
const STATUSES: &[&str] = &["code", "status", "statuscode", "error", "errorcode"];

/// JSON, as far as it matters here. Texts are wiped when they are dropped.
enum Json {
    Text(Zeroizing<String>),
    Flag(bool),
    Number(f64),
    Object(Vec<(String, Self)>),
    List,
    Null,
}

/// Why an answer has no identity. Its texts are names of members alone, never values.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoIdentity {
    #[error("it is {0} and not an object")]
    NotAnObject(&'static str),
    #[error("its member `{0}` says that nobody is signed in")]
    SignedOut(String),
    #[error("it has {0} and no token")]
    NoToken(String),
    #[error("its token does not name an identity, and there is no identity id")]
    Unnamed,
    #[error("it holds two different values for the {0}")]
    Ambiguous(&'static str),
    #[error("{0}")]
    Invalid(String),
}

/// Reads the JSON form of an identity, as tolerant as [`DeveloperIdentity`] says.
pub(crate) fn read<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Result<DeveloperIdentity, NoIdentity>, D::Error> {
    Ok(match Json::deserialize(deserializer)? {
        Json::Object(members) => identity(&members),
        Json::List => Err(NoIdentity::NotAnObject("a list")),
        Json::Text(_) => Err(NoIdentity::NotAnObject("a string")),
        Json::Null => Err(NoIdentity::NotAnObject("null")),
        Json::Flag(_) | Json::Number(_) => Err(NoIdentity::NotAnObject("a number or a boolean")),
    })
}

impl<'de> Deserialize<'de> for DeveloperIdentity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer)?.map_err(|why| de::Error::custom(format!("the backend's answer has no identity: {why}")))
    }
}

/// What one object holds of an identity.
#[derive(Clone, Copy)]
struct Found<'a> {
    identity_id: Option<&'a str>,
    token: Option<&'a str>,
    /// The token's name leaves no doubt that it is Cognito's.
    certain: bool,
}

impl Found<'_> {
    fn is_complete(&self) -> bool {
        self.token.is_some() && (self.certain || self.identity_id.is_some())
    }
}

type Members = [(String, Json)];

fn identity(members: &Members) -> Result<DeveloperIdentity, NoIdentity> {
    let top = found(members)?;
    let chosen = if top.is_complete() {
        top
    } else {
        match nested(members)? {
            Some(nested) if nested.is_complete() || top.token.is_none() => nested,
            _ => top,
        }
    };
    let Some(token) = chosen.token else {
        return Err(signed_out(members).map_or_else(|| NoIdentity::NoToken(names(members)), NoIdentity::SignedOut));
    };
    let token = OpenIdToken::new(token).map_err(|error| NoIdentity::Invalid(error.to_string()))?;
    let identity_id = match chosen.identity_id.or(top.identity_id) {
        Some(id) => IdentityId::new(id).map_err(|error| NoIdentity::Invalid(error.to_string()))?,
        None => {
            let subject = token.unverified_claims().and_then(|claims| claims.sub.as_deref());
            subject
                .and_then(|subject| IdentityId::new(subject).ok())
                .ok_or(NoIdentity::Unnamed)?
        }
    };
    Ok(DeveloperIdentity::new(identity_id, token))
}

fn found(members: &Members) -> Result<Found<'_>, NoIdentity> {
    let in_logins = objects(members)
        .filter(|(name, _)| plain(name) == LOGINS)
        .flat_map(|(_, logins)| logins)
        .filter(|(provider, _)| is_issuer_host(provider))
        .filter_map(|(_, token)| text(token));
    let certain = only("token", texts(members, COGNITO_TOKEN).chain(in_logins))?;
    Ok(Found {
        identity_id: only("identity id", texts(members, IDENTITY_ID))?,
        token: match certain {
            Some(token) => Some(token),
            None => only("token", texts(members, TOKEN))?,
        },
        certain: certain.is_some(),
    })
}

/// The one object among the members that holds a token. One that holds the identity id, too, comes first.
fn nested(members: &Members) -> Result<Option<Found<'_>>, NoIdentity> {
    let mut with_token = Vec::new();
    for (_, members) in objects(members).filter(|(name, _)| plain(name) != LOGINS) {
        let found = found(members)?;
        if found.token.is_some() {
            with_token.push(found);
        }
    }
    if with_token.iter().any(Found::is_complete) {
        with_token.retain(Found::is_complete);
    }
    match with_token[..] {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => Err(NoIdentity::Ambiguous("token")),
    }
}

/// The member by which the answer says, once nested at most, that nobody is signed in.
fn signed_out(members: &Members) -> Option<String> {
    let says_no = |(name, value): &&(String, Json)| {
        let plain = plain(name);
        let is_false = match value {
            Json::Flag(flag) => !flag,
            Json::Number(number) => *number == 0.0,
            Json::Text(text) => matches!(text.trim(), "0" | "false"),
            _ => false,
        };
        let is_401 = match value {
            Json::Number(number) => *number == 401.0,
            Json::Text(text) => text.trim() == "401",
            _ => false,
        };
        (FLAGS.contains(&&*plain) && is_false) || (STATUSES.contains(&&*plain) && is_401)
    };
    let top = members.iter().find(says_no);
    let member = top.or_else(|| objects(members).find_map(|(_, members)| members.iter().find(says_no)))?;
    Some(member.0.clone())
}

fn objects(members: &Members) -> impl Iterator<Item = (&str, &Members)> {
    members.iter().filter_map(|(name, value)| match value {
        Json::Object(members) => Some((name.as_str(), &members[..])),
        _ => None,
    })
}

/// The texts under these names. What is empty counts as absent, as PHP writes it.
fn texts<'a>(members: &'a Members, names: &'static [&'static str]) -> impl Iterator<Item = &'a str> {
    members
        .iter()
        .filter(|(name, _)| names.contains(&&*plain(name)))
        .filter_map(|(_, value)| text(value))
}

fn text(value: &Json) -> Option<&str> {
    match value {
        Json::Text(text) if !text.trim().is_empty() => Some(text),
        _ => None,
    }
}

/// The only value of `values`, which may be there several times.
fn only<'a>(what: &'static str, mut values: impl Iterator<Item = &'a str>) -> Result<Option<&'a str>, NoIdentity> {
    let Some(first) = values.next() else {
        return Ok(None);
    };
    if values.all(|value| value == first) {
        Ok(Some(first))
    } else {
        Err(NoIdentity::Ambiguous(what))
    }
}

fn plain(name: &str) -> String {
    name.chars()
        .filter(|c| !matches!(c, '_' | '-'))
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// The names of the members, where they are names and not values that stand in their place.
fn names(members: &Members) -> String {
    let is_name = |name: &&str| {
        (1..=24).contains(&name.len())
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
    };
    let names = members.iter().map(|(name, _)| name.as_str()).filter(is_name);
    let names: Vec<_> = names.take(8).map(|name| format!("`{name}`")).collect();
    if names.is_empty() {
        "no members that could be named".to_owned()
    } else {
        format!("the members {}", names.join(", "))
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_bool<E>(self, flag: bool) -> Result<Json, E> {
                Ok(Json::Flag(flag))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
                Ok(Json::Number(number as f64))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
                Ok(Json::Number(number as f64))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
                Ok(Json::Number(number))
            }

            fn visit_str<E>(self, text: &str) -> Result<Json, E> {
                Ok(Json::Text(Zeroizing::new(text.to_owned())))
            }

            fn visit_string<E>(self, text: String) -> Result<Json, E> {
                Ok(Json::Text(Zeroizing::new(text)))
            }

            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }

            fn visit_none<E>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
                Json::deserialize(deserializer)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Json::List)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Json::Object(members))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d";
    const OTHER: &str = "us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4bb0b0";

    fn token_for(sub: &str) -> String {
        let payload = base64_simd::URL_SAFE_NO_PAD.encode_to_string(format!(r#"{{"sub":"{sub}"}}"#));
        format!("e30.{payload}.c2ln")
    }

    /// `ID` and `SUB` stand for an identity id and for a token about it.
    fn answer(form: &str) -> Result<DeveloperIdentity, NoIdentity> {
        let json = form
            .replace("SUB", &token_for(ID))
            .replace("OTHER", OTHER)
            .replace("ID!", ID);
        read(&mut serde_json::Deserializer::from_str(&json)).unwrap()
    }

    #[test]
    fn the_forms_of_existing_backends_are_read() {
        for form in [
            r#"{"identityId":"ID!","token":"t.t.t","expires_in":900}"#,
            r#"{"IdentityId":"ID!","Token":"t.t.t"}"#,
            r#"{"identity_id":"ID!","token":"t.t.t"}"#,
            r#"{"identityId":"ID!","cognitoToken":"t.t.t"}"#,
            r#"{"cognitoId":"ID!","cognitoToken":"t.t.t"}"#,
            r#"{"cognito_id":"ID!","cognito_token":"t.t.t"}"#,
            r#"{"identityId":"ID!","openIdToken":"t.t.t"}"#,
            r#"{"identity-id":"ID!","open_id_token":"t.t.t"}"#,
            r#"{"CognitoIdentity":"ID!","CognitoToken":"t.t.t"}"#,
            r#"{"profile":{"name":"x"},"cognitoIdentity":{"Token":"t.t.t","IdentityId":"ID!"}}"#,
            r#"{"code":0,"message":"ok","data":{"cognitoId":"ID!","cognitoToken":"t.t.t"}}"#,
            r#"{"status":"success","result":{"identityId":"ID!","token":"t.t.t"}}"#,
            r#"{"identityId":"ID!","logins":{"cognito-identity.amazonaws.com":"t.t.t"}}"#,
            r#"{"IdentityId":"ID!","Logins":{"cognito-identity.cn-north-1.amazonaws.com.cn":"t.t.t","graph.facebook.com":"x"}}"#,
            r#"{"data":{"identityId":"ID!","logins":{"cognito-identity.amazonaws.com":"t.t.t"}}}"#,
            // Two spellings of the same, as a backend writes for two generations of apps.
            r#"{"identityId":"ID!","IdentityId":"ID!","token":"t.t.t","Token":"t.t.t"}"#,
            r#"{"identityId":"ID!","token":"t.t.t","openIdToken":"t.t.t","cognitoToken":"t.t.t"}"#,
            // The app's own session beside the token.
            r#"{"token":"the-apps-session","cognitoToken":"t.t.t","identityId":"ID!"}"#,
            r#"{"token":"the-apps-session","cognitoIdentity":{"Token":"t.t.t","IdentityId":"ID!"}}"#,
            r#"{"token":"the-apps-session","aws":{"identityId":"ID!","openIdToken":"t.t.t"}}"#,
            // Empty and absent are the same.
            r#"{"identityId":"ID!","token":"","Token":null,"cognitoToken":"t.t.t"}"#,
            r#"{"identityId":"ID!","data":{"token":"t.t.t"}}"#,
            r#"{"user":{"id":7},"token":"t.t.t","identityId":"ID!","roles":["a"]}"#,
        ] {
            let identity = answer(form).unwrap_or_else(|why| panic!("{form}: {why}"));
            let read = (identity.identity_id().as_str(), identity.token().expose_secret());
            assert_eq!(read, (ID, "t.t.t"), "{form}");
        }
        for form in [
            r#"{"token":"SUB"}"#,
            r#"{"openIdToken":"SUB"}"#,
            r#"{"data":{"token":"SUB"}}"#,
        ] {
            assert_eq!(answer(form).unwrap().identity_id().as_str(), ID, "{form}");
        }
    }

    #[test]
    fn what_is_not_an_identity_is_described_by_its_names_and_never_by_its_values() {
        let no_token = |names: &str| NoIdentity::NoToken(names.to_owned());
        let signed_out = |name: &str| NoIdentity::SignedOut(name.to_owned());
        for (form, why) in [
            (r#"{"login":false}"#, signed_out("login")),
            (r#"{"status":0,"message":"canary"}"#, signed_out("status")),
            (r#"{"status":"0","info":"canary"}"#, signed_out("status")),
            (r#"{"data":{"is_logged_in":false}}"#, signed_out("is_logged_in")),
            (r#"{"code":401,"message":"canary"}"#, signed_out("code")),
            (
                r#"{"success":true,"code":0}"#,
                no_token("the members `success`, `code`"),
            ),
            (
                r#"{"accessKeyId":"canary","secretKey":"canary"}"#,
                no_token("the members `accessKeyId`, `secretKey`"),
            ),
            (
                r#"{"access_token":"canary","id_token":"SUB"}"#,
                no_token("the members `access_token`, `id_token`"),
            ),
            (
                r#"{"identityId":"ID!","token":{"canary-is-much-too-long-here":1}}"#,
                no_token("the members `identityId`, `token`"),
            ),
            (
                r#"{"identityId":"ID!","token":["canary"]}"#,
                no_token("the members `identityId`, `token`"),
            ),
            (
                r#"{"identityId":"ID!","logins":{"login.mycompany.myapp":"canary"}}"#,
                no_token("the members `identityId`, `logins`"),
            ),
            (
                r#"{"a":{"b":{"identityId":"ID!","token":"canary"}}}"#,
                no_token("the members `a`"),
            ),
            (
                r#"{"canary.canary@canary":1}"#,
                no_token("no members that could be named"),
            ),
            ("{}", no_token("no members that could be named")),
            (
                r#"[{"identityId":"ID!","token":"canary"}]"#,
                NoIdentity::NotAnObject("a list"),
            ),
            (r#""canary""#, NoIdentity::NotAnObject("a string")),
            ("null", NoIdentity::NotAnObject("null")),
            ("7", NoIdentity::NotAnObject("a number or a boolean")),
            (r#"{"token":"opaque"}"#, NoIdentity::Unnamed),
            (
                r#"{"identityId":"ID!","token":"a","Token":"b"}"#,
                NoIdentity::Ambiguous("token"),
            ),
            (
                r#"{"identityId":"ID!","token":"a","token":"b"}"#,
                NoIdentity::Ambiguous("token"),
            ),
            (
                r#"{"identityId":"ID!","IdentityId":"OTHER","token":"a"}"#,
                NoIdentity::Ambiguous("identity id"),
            ),
            (
                r#"{"identityId":"ID!","identity_id":"ID!","cognitoId":"OTHER","token":"a"}"#,
                NoIdentity::Ambiguous("identity id"),
            ),
            (
                r#"{"a":{"identityId":"ID!","token":"a"},"b":{"identityId":"ID!","token":"b"}}"#,
                NoIdentity::Ambiguous("token"),
            ),
        ] {
            let found = answer(form).unwrap_err();
            assert_eq!(found, why, "{form}");
            assert!(!found.to_string().contains("canary"), "{found}");
        }
        for (form, says) in [
            (r#"{"identityId":"canary","token":"t"}"#, "identity id: must look like"),
            (r#"{"identityId":"ID!","token":"canary canary"}"#, "white space"),
        ] {
            let why = answer(form).unwrap_err().to_string();
            assert!(why.contains(says) && !why.contains("canary"), "{why}");
        }
    }

    #[test]
    fn serde_says_the_same() {
        let error = serde_json::from_str::<DeveloperIdentity>(r#"{"canary":"x","token":""}"#).unwrap_err();
        let says = "the backend's answer has no identity: it has the members `canary`, `token` and no token";
        assert!(error.to_string().starts_with(says), "{error}");
    }
}
