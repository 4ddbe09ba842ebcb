//! Values that are no text: dates, numbers, truth, addresses, binary data.

use std::cmp::Ordering;
use std::net::IpAddr;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use base64_simd::STANDARD;

/// How two numbers or dates are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    pub(super) fn holds<T: PartialOrd>(self, actual: T, bound: T) -> bool {
        let Some(order) = actual.partial_cmp(&bound) else {
            return false;
        };
        match self {
            Self::Equal => order == Ordering::Equal,
            Self::Less => order == Ordering::Less,
            Self::LessOrEqual => order != Ordering::Greater,
            Self::Greater => order == Ordering::Greater,
            Self::GreaterOrEqual => order != Ordering::Less,
        }
    }
}

/// An integer or a decimal.
pub(super) fn number(text: &str) -> Option<f64> {
    // Rust also reads `inf` and `nan`.
    text.parse::<f64>().ok().filter(|number| number.is_finite())
}

/// A date as seconds since the epoch with their fraction: ISO 8601 in one of the forms that the W3C note on date and time
/// formats has, or seconds since the epoch.
pub(super) fn date(text: &str) -> Option<f64> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return number(text);
    }
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let full = match text.split_once('T') {
        None => {
            let parts: Vec<&str> = text.split('-').collect();
            if !parts.iter().all(|part| digits(part)) {
                return None;
            }
            match parts[..] {
                [year, month] => format!("{year}-{month}-01T00:00:00Z"),
                [year, month, day] => format!("{year}-{month}-{day}T00:00:00Z"),
                _ => return None,
            }
        }
        Some((day, time)) => {
            let at = time.find(['Z', '+', '-'])?;
            let (clock, zone) = time.split_at(at);
            // Hours and minutes alone are a form of the note, but none of RFC 3339.
            let seconds = if clock.matches(':').count() == 1 { ":00" } else { "" };
            format!("{day}T{clock}{seconds}{zone}")
        }
    };
    let date = DateTime::from_str(&full, Format::DateTimeWithOffset).ok()?;
    Some(date.as_secs_f64())
}

/// `true` or `false`, in any case.
pub(super) fn truth(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// Base64 with its padding.
pub(super) fn binary(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode_to_vec(text).ok()
}

/// An address or, with a prefix length, a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            None => (text.parse::<IpAddr>().ok()?, None),
            Some((address, prefix)) => (address.parse::<IpAddr>().ok()?, Some(prefix.parse::<u8>().ok()?)),
        };
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(longest);
        (prefix <= longest).then_some(Self { address, prefix })
    }

    pub(super) fn contains(&self, other: IpAddr) -> bool {
        let same_bits = |ours: u128, theirs: u128, width: u8| {
            // A shift by the whole width would overflow; a prefix of 0 contains every address.
            self.prefix == 0 || (ours ^ theirs) >> (width - self.prefix) == 0
        };
        match (self.address, other) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => same_bits(ours.to_bits().into(), theirs.to_bits().into(), 32),
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => same_bits(ours.to_bits(), theirs.to_bits(), 128),
            _ => false,
        }
    }
}
