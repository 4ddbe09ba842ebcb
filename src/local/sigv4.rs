//! Checking AWS Signature Version 4, written by hand: the check must not share a mistake with the signer that the
//! clients use.

use std::borrow::Cow;
use std::fmt::Write as _;

use aws_lc_rs::{digest, hmac};
use bytes::Bytes;
use http::Request;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What may differ between the signing time and the service's clock.
const SKEW_SECONDS: i64 = 300;

/// RFC 3986 unreserved characters stay.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The parts of a signature, in the `Authorization` header or, presigned, in the query.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Authorization<'a> {
    pub(super) access_key_id: Cow<'a, str>,
    date: Cow<'a, str>,
    region: Cow<'a, str>,
    service: Cow<'a, str>,
    signed_headers: Cow<'a, str>,
    signature: Cow<'a, str>,
    presigned: Option<Presigned>,
}

/// What a presigned request has in its query and another in its headers.
#[derive(Debug, PartialEq, Eq)]
struct Presigned {
    /// `20260102T030405Z`
    signed_at: String,
    /// For how many seconds the signature holds.
    expires: i64,
    session_token: Option<String>,
}

/// The longest life of a presigned request: a week.
const LONGEST_LIFE: i64 = 604_800;

impl<'a> Authorization<'a> {
    /// Reads the header; the error names what is wrong with it.
    pub(super) fn parse(header: &'a str) -> Result<Self, &'static str> {
        let fields = header
            .strip_prefix("AWS4-HMAC-SHA256")
            .ok_or("the algorithm is not AWS4-HMAC-SHA256")?;
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for field in fields.split(',') {
            let (name, value) = field.trim().split_once('=').ok_or("a field has no value")?;
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return Err("an unknown field"),
            };
            if slot.replace(value).is_some() {
                return Err("a field is given twice");
            }
        }
        let [access_key_id, date, region, service] = split_credential(credential.ok_or("Credential is missing")?)?;
        Ok(Self {
            access_key_id: access_key_id.into(),
            date: date.into(),
            region: region.into(),
            service: service.into(),
            signed_headers: signed_headers.ok_or("SignedHeaders is missing")?.into(),
            signature: signature.ok_or("Signature is missing")?.into(),
            presigned: None,
        })
    }

    /// Reads a presigned query; nothing if it has no signature.
    pub(super) fn presigned(query: &str) -> Option<Result<Self, &'static str>> {
        let get = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let (_, value) = pairs.find(|(key, _)| *key == name)?;
            Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
        };
        let signature = get("X-Amz-Signature")?;
        let read = || {
            if get("X-Amz-Algorithm").as_deref() != Some("AWS4-HMAC-SHA256") {
                return Err("X-Amz-Algorithm is not AWS4-HMAC-SHA256");
            }
            let credential = get("X-Amz-Credential").ok_or("X-Amz-Credential is missing")?;
            let [access_key_id, date, region, service] = split_credential(&credential)?.map(str::to_owned);
            let expires = get("X-Amz-Expires").and_then(|expires| expires.parse().ok());
            let expires = expires.filter(|expires| (1..=LONGEST_LIFE).contains(expires));
            Ok(Self {
                access_key_id: access_key_id.into(),
                date: date.into(),
                region: region.into(),
                service: service.into(),
                signed_headers: get("X-Amz-SignedHeaders")
                    .ok_or("X-Amz-SignedHeaders is missing")?
                    .into(),
                signature: signature.into(),
                presigned: Some(Presigned {
                    signed_at: get("X-Amz-Date").ok_or("X-Amz-Date is missing")?,
                    expires: expires.ok_or("X-Amz-Expires is not a number from 1 to 604800")?,
                    session_token: get("X-Amz-Security-Token"),
                }),
            })
        };
        Some(read())
    }

    /// The session token, which a presigned request has in its query.
    pub(super) fn session_token<'t>(&'t self, request: &'t Request<Bytes>) -> Option<&'t str> {
        match &self.presigned {
            Some(presigned) => presigned.session_token.as_deref(),
            None => {
                let token = request.headers().get("x-amz-security-token");
                token.map(|token| token.to_str().unwrap_or_default())
            }
        }
    }
}

/// Access key id, date, region and service of a credential.
fn split_credential(credential: &str) -> Result<[&str; 4], &'static str> {
    // An access key id has no slash, so the scope is what follows the first.
    let parts: Vec<&str> = credential.split('/').collect();
    let [access_key_id, date, region, service, end] = parts[..] else {
        return Err("Credential is incomplete");
    };
    if end != "aws4_request" {
        return Err("Credential does not end in aws4_request");
    }
    let parts = [access_key_id, date, region, service];
    match parts.iter().any(|part| part.is_empty()) {
        true => Err("Credential is incomplete"),
        false => Ok(parts),
    }
}

/// Why a signature does not hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mismatch {
    /// The header or its companions are incomplete.
    Incomplete(&'static str),
    /// Another request, scope or secret.
    Signature,
    /// Too far from the service's clock.
    Time(String),
}

/// The scope that a service accepts. STS is one service in all regions.
pub(super) struct Scope<'a> {
    pub(super) service: &'a str,
    pub(super) region: Option<&'a str>,
}

/// When a request says that it was signed, in seconds since the epoch.
pub(super) fn signed_at(request: &Request<Bytes>) -> Option<i64> {
    parse_date(&header(request, "x-amz-date")?)
}

/// Whether `request` was signed with `secret`, now (seconds since the epoch), for `scope`.
pub(super) fn verify(
    request: &Request<Bytes>,
    authorization: &Authorization<'_>,
    secret: &str,
    scope: &Scope<'_>,
    now: i64,
) -> Result<(), Mismatch> {
    let presigned = authorization.presigned.as_ref();
    let date = match presigned {
        Some(presigned) => presigned.signed_at.clone(),
        None => header(request, "x-amz-date").ok_or(Mismatch::Incomplete("X-Amz-Date is missing"))?,
    };
    let signed_at = parse_date(&date).ok_or(Mismatch::Incomplete("X-Amz-Date is not a date"))?;
    let signed = |name| authorization.signed_headers.split(';').any(|header| header == name);
    if !signed("host") || presigned.is_none() && !signed("x-amz-date") {
        return Err(Mismatch::Incomplete("host and x-amz-date must be signed"));
    }
    let in_scope = authorization.service == scope.service
        && scope.region.is_none_or(|region| authorization.region == region)
        && date.starts_with(&*authorization.date)
        && authorization.date.len() == 8;
    if !in_scope {
        return Err(Mismatch::Signature);
    }
    let canonical = canonical_request(request, &authorization.signed_headers)?;
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{date}\n{}/{}/{}/aws4_request\n{}",
        authorization.date,
        authorization.region,
        authorization.service,
        hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref()),
    );
    let mut key = hmac::sign(
        &hmac_key(format!("AWS4{secret}").as_bytes()),
        authorization.date.as_bytes(),
    );
    for part in [&*authorization.region, &*authorization.service, "aws4_request"] {
        key = hmac::sign(&hmac_key(key.as_ref()), part.as_bytes());
    }
    let signature = unhex(&authorization.signature).ok_or(Mismatch::Signature)?;
    hmac::verify(&hmac_key(key.as_ref()), to_sign.as_bytes(), &signature).map_err(|_| Mismatch::Signature)?;

    // After the signature, so that nobody without the secret learns the service's clock from the message.
    let life = presigned.map_or(SKEW_SECONDS, |presigned| presigned.expires);
    if signed_at.saturating_add(life) < now {
        return Err(Mismatch::Time(format!(
            "expired: {signed_at} is more than {life} seconds before {now}"
        )));
    }
    if signed_at.saturating_sub(SKEW_SECONDS) > now {
        return Err(Mismatch::Time(format!(
            "not yet current: {signed_at} is more than 5 minutes after {now}"
        )));
    }
    Ok(())
}

fn canonical_request(request: &Request<Bytes>, signed_headers: &str) -> Result<String, Mismatch> {
    let uri = request.uri();
    let mut canonical = format!("{}\n", request.method());
    // Every service but S3 escapes each segment of the path as it was sent, once more.
    let path: Vec<String> = uri
        .path()
        .split('/')
        .map(|part| utf8_percent_encode(part, ESCAPED).to_string())
        .collect();
    canonical.push_str(&path.join("/"));
    canonical.push('\n');
    let mut query: Vec<String> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.starts_with("X-Amz-Signature="))
        .map(|pair| {
            if pair.contains('=') {
                pair.to_owned()
            } else {
                format!("{pair}=")
            }
        })
        .collect();
    query.sort();
    canonical.push_str(&query.join("&"));
    canonical.push('\n');
    for name in signed_headers.split(';') {
        let value = header(request, name).ok_or(Mismatch::Incomplete("a signed header is missing"))?;
        // Writing to a String cannot fail.
        let _ = writeln!(canonical, "{name}:{value}");
    }
    let payload = hex(digest::digest(&digest::SHA256, request.body()).as_ref());
    let _ = write!(canonical, "\n{signed_headers}\n{payload}");
    Ok(canonical)
}

/// A header's values, trimmed, inner blanks made one, joined by commas. An in-process request has its host in the URI
/// alone.
fn header(request: &Request<Bytes>, name: &str) -> Option<String> {
    let values: Vec<String> = request
        .headers()
        .get_all(name)
        .iter()
        .map(|value| {
            let value = String::from_utf8_lossy(value.as_bytes());
            value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
        })
        .collect();
    if !values.is_empty() {
        return Some(values.join(","));
    }
    (name == "host")
        .then(|| request.uri().authority().map(|host| host.as_str().to_owned()))
        .flatten()
}

fn hmac_key(bytes: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, bytes)
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| (byte as char).to_digit(16);
    digits
        .chunks_exact(2)
        .map(|pair| Some((digit(pair[0])? * 16 + digit(pair[1])?) as u8))
        .collect()
}

/// `20260102T030405Z` as seconds since the epoch.
fn parse_date(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let number = |from: usize, to: usize| {
        bytes[from..to].iter().try_fold(0i64, |sum, byte| {
            byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0'))
        })
    };
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days from 1970-01-01 in the proleptic Gregorian calendar, years beginning in March.
    let year = if month <= 2 { year - 1 } else { year };
    let era_day = 365 * year + year / 4 - year / 100 + year / 400;
    let year_day = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some((era_day + year_day - 719_468) * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of AWS's Signature Version 4 documentation (GET of IAM ListUsers, 30 August 2015).
    fn documented() -> Request<Bytes> {
        Request::get("https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08")
            .header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
            .header("host", "iam.amazonaws.com")
            .header("x-amz-date", "20150830T123600Z")
            .body(Bytes::new())
            .unwrap()
    }

    const HEADER: &str = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
        SignedHeaders=content-type;host;x-amz-date, \
        Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const SCOPE: Scope<'_> = Scope {
        service: "iam",
        region: Some("us-east-1"),
    };
    const AT: i64 = 1_440_938_160;

    fn check(request: &Request<Bytes>, secret: &str, now: i64) -> Result<(), Mismatch> {
        verify(request, &Authorization::parse(HEADER).unwrap(), secret, &SCOPE, now)
    }

    #[test]
    fn the_documented_example_holds() {
        assert_eq!(check(&documented(), SECRET, AT), Ok(()));
        assert_eq!(check(&documented(), SECRET, AT + 300), Ok(()));
    }

    #[test]
    fn another_secret_body_header_or_scope_does_not_hold() {
        assert_eq!(check(&documented(), "another", AT), Err(Mismatch::Signature));
        let mut request = documented();
        *request.body_mut() = Bytes::from_static(b"x");
        assert_eq!(check(&request, SECRET, AT), Err(Mismatch::Signature));
        let mut request = documented();
        request.headers_mut().append("content-type", "twice".parse().unwrap());
        assert_eq!(check(&request, SECRET, AT), Err(Mismatch::Signature));
        let scope = Scope {
            service: "sts",
            region: None,
        };
        let authorization = Authorization::parse(HEADER).unwrap();
        assert_eq!(
            verify(&documented(), &authorization, SECRET, &scope, AT),
            Err(Mismatch::Signature)
        );
    }

    #[test]
    fn a_signature_of_another_time_does_not_hold() {
        assert!(matches!(check(&documented(), SECRET, AT + 301), Err(Mismatch::Time(_))));
        assert!(matches!(check(&documented(), SECRET, AT - 301), Err(Mismatch::Time(_))));
    }

    #[test]
    fn incomplete_headers_are_named() {
        for header in [
            "",
            "Basic x",
            "AWS4-HMAC-SHA256",
            "AWS4-HMAC-SHA256 Credential=A/B, SignedHeaders=host",
        ] {
            assert!(Authorization::parse(header).is_err(), "{header}");
        }
        let twice = format!("{HEADER}, Signature=00");
        assert_eq!(Authorization::parse(&twice), Err("a field is given twice"));
    }

    #[test]
    fn dates_are_read_by_the_calendar() {
        assert_eq!(parse_date("19700101T000000Z"), Some(0));
        assert_eq!(parse_date("20240229T235959Z"), Some(1_709_251_199));
        assert_eq!(parse_date("20150830T123600Z"), Some(AT));
        for wrong in [
            "",
            "20150830T123600",
            "20151330T123600Z",
            "2015083０T12360Z",
            "20150830T243600Z",
        ] {
            assert_eq!(parse_date(wrong), None, "{wrong}");
        }
    }
}
