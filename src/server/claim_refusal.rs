//! Why a guest claim is refused.

use crate::error::{Error, ErrorKind};
use crate::metrics;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClaimRefusal {
    Malformed,
    Forged,
    UnknownKey,
    Expired,
    Used,
    ForeignClient,
    OtherRegion,
    NamedLate,
    NoGuest,
}

impl ClaimRefusal {
    const fn text(self) -> &'static str {
        match self {
            Self::Malformed => "is not one of this backend's",
            Self::Forged => "is forged, or for another guest, client or pool",
            Self::UnknownKey => "is signed with a key that this instance does not have",
            Self::Expired => "has expired",
            Self::Used => "was used before",
            Self::ForeignClient => "is for a guest that belongs to another client",
            Self::OtherRegion => "is for an identity of another region",
            Self::NamedLate => "is for a guest that was named too long after it was made",
            Self::NoGuest => "is for an identity that is no guest",
        }
    }

    /// For those who count.
    const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Forged => "forged",
            Self::UnknownKey => "unknown_key",
            Self::Expired => "expired",
            Self::Used => "used",
            Self::ForeignClient => "foreign_client",
            Self::OtherRegion => "other_region",
            Self::NamedLate => "named_late",
            Self::NoGuest => "no_guest",
        }
    }
}

/// The refusal as an error. It is counted here.
pub(super) fn refused(why: ClaimRefusal) -> Error {
    metrics::claim_refused(why.name());
    Error::new(ErrorKind::ClaimRefused, format!("the guest claim {}", why.text()))
}
