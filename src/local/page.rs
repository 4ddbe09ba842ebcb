//! The page at `/`: one file, which shows by the admin path what is asked of the pool and why it is refused.

use std::sync::OnceLock;

use aws_lc_rs::digest;
use base64_simd::STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, header};

use super::wire;

static PAGE: &str = include_str!("page.html");

/// Answers a request for the page, and only such.
pub(super) fn answer(request: &Request<Bytes>) -> Option<Response<Bytes>> {
    if request.method() != Method::GET || request.uri().path() != "/" || request.uri().query().is_some() {
        return None;
    }
    let mut response = wire::response(200, "text/html; charset=utf-8", PAGE);
    let headers: [(HeaderName, &'static str); 5] = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    let policy = HeaderValue::from_static(policy());
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    Some(response)
}

/// Its own style and script alone, no other page, no frame.
fn policy() -> &'static str {
    static POLICY: OnceLock<String> = OnceLock::new();
    POLICY.get_or_init(|| {
        format!(
            "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            hash("style"),
            hash("script"),
        )
    })
}

/// The hash of what the page's one element of this name holds.
fn hash(element: &str) -> String {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let content = PAGE.split_once(&open).and_then(|(_, rest)| rest.split_once(&close));
    let content = content.map_or("", |(content, _)| content);
    let hash = digest::digest(&digest::SHA256, content.as_bytes());
    format!("'sha256-{}'", STANDARD.encode_to_string(hash.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_asks_nobody_else() {
        assert_eq!(PAGE.matches("<script>").count(), 1);
        assert_eq!(PAGE.matches("<style>").count(), 1);
        for outside in ["http://", "https://", "//cdn", "innerHTML", " onclick", " style="] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
        assert!(!policy().contains(&hash("nothing")), "both elements were found");
    }
}
