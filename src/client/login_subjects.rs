//! Whom tokens are about, as far as they can be read: so that a session is not handed over to somebody else.

use std::collections::BTreeMap;

use crate::ids::IdentityPoolId;
use crate::logins::Logins;
use crate::service::Proof;
use crate::token::OpenIdToken;

/// Provider -> the person's name with it. Unverified, and compared with itself only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LoginSubjects(BTreeMap<String, String>);

impl LoginSubjects {
    pub(super) fn of(proof: &Proof, pool: &IdentityPoolId) -> Self {
        Self(match proof {
            Proof::Guest => BTreeMap::new(),
            // `amr` holds `<developer provider>:<pool>:<user>`, and more for what is linked.
            Proof::Developer { issuer_host, token } => {
                let amr = token
                    .unverified_claims()
                    .map(|claims| &claims.amr[..])
                    .unwrap_or_default();
                let user = amr.iter().find(|entry| entry.contains(pool.as_str()));
                user.map(|user| (issuer_host.clone(), user.clone()))
                    .into_iter()
                    .collect()
            }
            Proof::External(logins) => return Self::of_logins(logins),
        })
    }

    pub(super) fn of_logins(logins: &Logins) -> Self {
        let subject = |(provider, token): (&str, &OpenIdToken)| {
            Some((provider.to_owned(), token.unverified_claims()?.sub.clone()?))
        };
        Self(logins.iter().filter_map(subject).collect())
    }

    /// They have another name with the same provider.
    pub(super) fn differs_from(&self, other: &Self) -> bool {
        self.shared_with(other).any(|same| !same)
    }

    /// They have the same name wherever both have one, and there is such a place.
    pub(super) fn is_surely(&self, other: &Self) -> bool {
        let mut shared = self.shared_with(other).peekable();
        shared.peek().is_some() && shared.all(|same| same)
    }

    fn shared_with<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = bool> + 'a {
        self.0
            .iter()
            .filter_map(|(provider, name)| other.0.get(provider).map(|theirs| theirs == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(names: &[(&str, &str)]) -> LoginSubjects {
        LoginSubjects(names.iter().map(|(p, n)| ((*p).to_owned(), (*n).to_owned())).collect())
    }

    #[test]
    fn persons_are_told_apart_by_a_provider_that_both_have() {
        let alice = person(&[("google", "a")]);
        let both = person(&[("google", "a"), ("apple", "x")]);
        assert!(alice.is_surely(&both) && !alice.differs_from(&both));
        let bob = person(&[("google", "b"), ("apple", "x")]);
        assert!(alice.differs_from(&bob) && both.differs_from(&bob) && !both.is_surely(&bob));
        // Opaque tokens tell nothing either way.
        let opaque = person(&[]);
        assert!(!opaque.differs_from(&alice) && !opaque.is_surely(&alice));
    }
}
