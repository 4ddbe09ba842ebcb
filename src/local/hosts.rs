//! Which names a request may call the server by. A web page whose own name was pointed at this machine (DNS rebinding)
//! says that name in `Host`, and must reach nothing.

use std::net::IpAddr;

use http::HeaderMap;
use http::header;

/// Names that nobody can point at this machine from outside, or that its owner allowed.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts {
    /// Further names, in lower case; `*.example.test` allows what ends so.
    allowed: Vec<String>,
    /// Whether every IP address is a name of the server: it listens on other interfaces than loopback. An address
    /// cannot be rebound.
    any_address: bool,
}

impl Hosts {
    pub(super) fn new(allowed: Vec<String>, listens_on: IpAddr) -> Self {
        Self {
            allowed: allowed
                .into_iter()
                .map(|name| name.trim_end_matches('.').to_ascii_lowercase())
                .collect(),
            any_address: !listens_on.is_loopback(),
        }
    }

    /// The one host that the request names, or what it names that is not answered.
    pub(super) fn check<'a>(&self, headers: &'a HeaderMap) -> Result<(), &'a str> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err("");
        };
        let host = host.to_str().unwrap_or_default();
        let name = name(host);
        if self.answers(name) { Ok(()) } else { Err(name) }
    }

    fn answers(&self, name: &str) -> bool {
        let lower = name.trim_end_matches('.').to_ascii_lowercase();
        if let Ok(address) = lower.parse::<IpAddr>() {
            return address.is_loopback() || self.any_address || self.allowed.contains(&lower);
        }
        lower == "localhost"
            || [".localhost", ".amazonaws.com", ".amazonaws.com.cn"]
                .iter()
                .any(|suffix| ends_with_label(&lower, suffix))
            || self.allowed.iter().any(|allowed| match allowed.strip_prefix('*') {
                Some(suffix) => ends_with_label(&lower, suffix),
                None => *allowed == lower,
            })
    }
}

/// Whether `name` is something before `suffix`, which begins with a dot.
fn ends_with_label(name: &str, suffix: &str) -> bool {
    suffix.starts_with('.') && name.len() > suffix.len() && name.ends_with(suffix)
}

/// The name of a `Host`, without its port.
fn name(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(name, _)| name),
        None => host.split(':').next().unwrap_or_default(),
    }
}

/// What a request by another name is told.
pub(super) fn refusal(name: &str) -> String {
    // What was sent is repeated only where it can be a name.
    let plain = !name.is_empty()
        && name.len() <= 253
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte));
    let (name, what) = if plain { (name, name) } else { ("NAME", "this Host") };
    format!(
        "The local identity pool does not answer to {what}: a web page could have pointed that name at this machine.\n\
         If it is a name of your own (10.0.2.2 in an Android emulator, a container's name), allow it:\n\
         cognito-identity-pool local --allow-host {name}\n\
         or LocalIdentityPool::builder().allow_host(\"{name}\").\n"
    )
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use http::HeaderValue;

    use super::*;

    fn answers(hosts: &Hosts, host: &str) -> bool {
        let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_str(host).unwrap())]);
        hosts.check(&headers).is_ok()
    }

    #[test]
    fn names_that_no_page_can_take_are_answered() {
        let hosts = Hosts::new(Vec::new(), Ipv4Addr::LOCALHOST.into());
        for host in [
            "localhost",
            "LOCALHOST:4599",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:4599",
            "pool.localhost",
            "cognito-identity.us-east-1.amazonaws.com",
            "sts.cn-north-1.amazonaws.com.cn:443",
        ] {
            assert!(answers(&hosts, host), "{host}");
        }
        for host in [
            "",
            "example.com",
            "localhost.example.com",
            "amazonaws.com",
            ".amazonaws.com",
            "evilamazonaws.com",
            "cognito-identity.us-east-1.amazonaws.com.example.com",
            "notlocalhost",
            "10.0.2.2:4599",
            "[::1",
            "127.0.0.1.example.com",
        ] {
            assert!(!answers(&hosts, host), "{host}");
        }
        let mut twice = HeaderMap::new();
        twice.append(header::HOST, HeaderValue::from_static("localhost"));
        twice.append(header::HOST, HeaderValue::from_static("localhost"));
        assert!(hosts.check(&twice).is_err());
        assert!(hosts.check(&HeaderMap::new()).is_err());
    }

    #[test]
    fn what_is_allowed_is_answered_and_nothing_beside_it() {
        let hosts = Hosts::new(
            vec!["10.0.2.2".into(), "Pool.".into(), "*.test".into()],
            Ipv4Addr::LOCALHOST.into(),
        );
        for host in ["10.0.2.2:4599", "pool:4599", "a.test"] {
            assert!(answers(&hosts, host), "{host}");
        }
        for host in ["10.0.2.3", "pool.example.com", "test", "atest"] {
            assert!(!answers(&hosts, host), "{host}");
        }
    }

    #[test]
    fn on_other_interfaces_addresses_are_answered_and_names_are_not() {
        let hosts = Hosts::new(Vec::new(), Ipv4Addr::UNSPECIFIED.into());
        assert!(answers(&hosts, "192.168.1.7:4599"));
        assert!(!answers(&hosts, "example.com"));
    }

    #[test]
    fn the_refusal_says_what_to_do_and_repeats_names_alone() {
        assert!(refusal("pool").contains("--allow-host pool\n"));
        let said = refusal("<script>");
        assert!(said.contains("--allow-host NAME\n") && !said.contains('<'), "{said}");
    }
}
