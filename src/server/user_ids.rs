//! User ids without personal data.

use secrecy::SecretString;
use serde::de::IgnoredAny;

use super::hmac_key::HmacKey;
use crate::error::{Error, ErrorKind};
use crate::ids::DeveloperUserId;

/// Turns the app's own user ids into pseudonyms (HMAC-SHA256), so that no personal data enters tokens, session contexts and
/// CloudTrail, where Cognito keeps a developer user id in clear.
///
/// ```
/// # use cognito_identity_pool::server::UserIds;
/// # let key = "0123456789abcdef0123456789abcdef";
/// let user_ids = UserIds::hmac_sha256(key)?;
/// let user = user_ids.pseudonym("alice@example.com")?;
/// assert_eq!(user, user_ids.pseudonym("alice@example.com")?);
/// assert!(!user.as_str().contains("alice"));
/// # Ok::<(), cognito_identity_pool::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct UserIds {
    key: HmacKey,
}

impl UserIds {
    /// Pseudonyms by `key`, of at least 32 bytes, from the backend's secret store.
    ///
    /// **Changing the key orphans every identity**: each user gets a new pseudonym, hence a new identity, and loses what is
    /// stored under the old one. Keep it as long as the pool, or have [`IdentityAdmin::rekey`](crate::IdentityAdmin::rekey) move the
    /// users before the new key is deployed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`] for a shorter key.
    pub fn hmac_sha256(key: impl Into<SecretString>) -> Result<Self, Error> {
        Ok(Self {
            key: HmacKey::new(&key.into(), "the key of UserIds")?,
        })
    }

    /// The pseudonym of `id`: 43 characters of base64url, always the same for the same id and key.
    ///
    /// Where an id is unique only together with whoever gave it out (the `sub` of a token and its `iss`, a user and a tenant), use
    /// [`pseudonym_of`](Self::pseudonym_of): else two users are one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`] for an id that is empty or white space: whoever has none is nobody, not one and the same user.
    pub fn pseudonym(&self, id: &str) -> Result<DeveloperUserId, Error> {
        self.of_parts("developer user id v1", &[id])
    }

    /// The pseudonym of an id that has several parts, e.g. issuer and subject. Parts do not run together: `["a", "bc"]` is another id
    /// than `["ab", "c"]`.
    ///
    /// ```
    /// # use cognito_identity_pool::server::UserIds;
    /// # let user_ids = UserIds::hmac_sha256("0123456789abcdef0123456789abcdef")?;
    /// let user = user_ids.pseudonym_of(&["https://login.example.com", "1234"])?;
    /// # Ok::<(), cognito_identity_pool::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`] if there are no parts, or one is empty or white space.
    pub fn pseudonym_of(&self, parts: &[&str]) -> Result<DeveloperUserId, Error> {
        self.of_parts("developer user id of parts v1", parts)
    }

    fn of_parts(&self, purpose: &str, parts: &[&str]) -> Result<DeveloperUserId, Error> {
        if parts.is_empty() || parts.iter().any(|part| part.trim().is_empty()) {
            return Err(Error::new(ErrorKind::Configuration, "the user's id is empty")
                .with_hint("is the user really signed in?"));
        }
        let parts: Vec<_> = parts.iter().map(|part| part.as_bytes()).collect();
        let mac = self.key.sign(purpose, &parts);
        Ok(DeveloperUserId::from_base64url(&mac))
    }
}

/// Refuses a user id that looks like personal data.
pub(super) fn refuse_personal(user: &DeveloperUserId) -> Result<(), Error> {
    let id = user.as_str();
    let what = if looks_like_email(id) {
        "an e-mail address"
    } else if looks_like_json(id) {
        "JSON"
    } else {
        return Ok(());
    };
    Err(Error::new(
        ErrorKind::Configuration,
        format!("the developer user id looks like {what}"),
    )
    .with_hint(
        "it would stand in clear in every token and in CloudTrail; use an opaque, stable id, or `UserIds` to make one; \
         `.allow_personal_user_ids()` on the builder allows it",
    ))
}

fn looks_like_email(id: &str) -> bool {
    let Some((local, domain)) = id.trim().rsplit_once('@') else {
        return false;
    };
    let dotted = domain
        .split_once('.')
        .is_some_and(|(name, rest)| !name.is_empty() && !rest.is_empty());
    !local.is_empty() && dotted && !domain.contains(char::is_whitespace)
}

fn looks_like_json(id: &str) -> bool {
    id.trim_start().starts_with(['{', '[', '"']) && serde_json::from_str::<IgnoredAny>(id).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn user_ids(key: &str) -> UserIds {
        UserIds::hmac_sha256(key).unwrap()
    }

    #[test]
    fn a_pseudonym_is_a_legal_user_id_that_depends_on_id_and_key() {
        let alice = user_ids(KEY).pseudonym("alice@example.com").unwrap();
        assert_eq!(alice.as_str().len(), 43);
        assert!(DeveloperUserId::new(alice.as_str()).is_ok());
        assert!(refuse_personal(&alice).is_ok());
        assert_ne!(alice, user_ids(KEY).pseudonym("bob@example.com").unwrap());
        assert_ne!(
            alice,
            user_ids("another key of at least 32 bytes!")
                .pseudonym("alice@example.com")
                .unwrap()
        );
        // Whoever has no id is nobody.
        for nobody in ["", " ", "\t"] {
            assert!(user_ids(KEY).pseudonym(nobody).is_err() && user_ids(KEY).pseudonym_of(&["iss", nobody]).is_err());
        }
        assert!(user_ids(KEY).pseudonym_of(&[]).is_err());
        let of = |parts: &[&str]| user_ids(KEY).pseudonym_of(parts).unwrap();
        assert_ne!(of(&["a", "bc"]), of(&["ab", "c"]));
        assert_ne!(of(&["a"]), user_ids(KEY).pseudonym("a").unwrap());
    }

    #[test]
    fn pseudonyms_stay_what_they_are_across_releases() {
        // Computed with Python's hmac and hashlib. Changing the scheme would orphan every identity, as changing the key does.
        assert_eq!(
            user_ids(KEY).pseudonym("user-42").unwrap().as_str(),
            "EP1aV9AwfvCJSFbknEpVKp_q-MZvaQl8BTk9HDA_7qU"
        );
    }

    #[test]
    fn what_looks_like_personal_data_is_refused_and_the_switch_is_named() {
        for id in [
            "alice@example.com",
            " a.b+c@mail.example.co ",
            r#"{"id":1}"#,
            r#"["x"]"#,
            r#""x""#,
        ] {
            let error = refuse_personal(&DeveloperUserId::new(id).unwrap()).unwrap_err();
            assert!(error.hint().unwrap().contains(".allow_personal_user_ids()"), "{id}");
            assert!(!format!("{error:?}").contains("alice"));
        }
        for id in [
            "user-42",
            "tenant:user:1",
            "@alice",
            "alice@host",
            "{not json",
            "42",
            "a@b c.d",
            "a@.b",
        ] {
            assert!(refuse_personal(&DeveloperUserId::new(id).unwrap()).is_ok(), "{id}");
        }
    }
}
