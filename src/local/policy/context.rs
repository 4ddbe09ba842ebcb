//! What is known of a request: condition keys and their values. The names of keys do not distinguish upper and lower
//! case, nor do the tag keys within them.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;

/// The value of a key. IAM distinguishes keys that can have several values, also where a request has only one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Values {
    One(String),
    Several(Vec<String>),
}

/// The keys of a request.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Context(HashMap<String, Values>);

/// Who called, as far as STS knows.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Peer<'a> {
    pub(in super::super) source_ip: &'a str,
    pub(in super::super) user_agent: &'a str,
}

impl Context {
    pub(in super::super) fn set(&mut self, key: &str, value: impl Into<String>) {
        self.0.insert(key.to_lowercase(), Values::One(value.into()));
    }

    /// A key that can have several values. Without any the request does not have the key.
    pub(in super::super) fn set_all(&mut self, key: &str, values: impl IntoIterator<Item = String>) {
        let values: Vec<String> = values.into_iter().collect();
        if !values.is_empty() {
            self.0.insert(key.to_lowercase(), Values::Several(values));
        }
    }

    /// `aws:RequestTag/…` and `aws:TagKeys`.
    pub(in super::super) fn set_tags(&mut self, tags: &BTreeMap<String, String>) {
        for (key, value) in tags {
            self.set(&format!("aws:RequestTag/{key}"), value.as_str());
        }
        self.set_all("aws:TagKeys", tags.keys().cloned());
    }

    /// The global keys that a request to STS has.
    pub(in super::super) fn set_global(&mut self, now: SystemTime, region: &str, account: &str, peer: Peer<'_>) {
        let now = DateTime::from(now);
        self.set("aws:CurrentTime", now.fmt(Format::DateTime).unwrap_or_default());
        self.set("aws:EpochTime", now.secs().to_string());
        // AWS has no other transport; that this pool is reached without TLS is no property of the app.
        self.set("aws:SecureTransport", "true");
        self.set("aws:ViaAWSService", "false");
        self.set("aws:RequestedRegion", region);
        self.set("aws:ResourceAccount", account);
        self.set("aws:SourceIp", peer.source_ip);
        self.set("aws:UserAgent", peer.user_agent);
    }

    /// The value of a key in lower case.
    pub(super) fn get(&self, key: &str) -> Option<&Values> {
        self.0.get(key)
    }
}
