//! OpenID tokens: RS512 and RS256 on aws-lc-rs with keys parsed once, and the key set that is published.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA512, RsaPublicKeyComponents,
};
use base64_simd::{STANDARD, URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// An RSA-2048 key in PKCS#1, shipped so that a pool starts at once. It is public knowledge, and good for local pools
/// alone: nothing but a test may trust a token that it signed.
static SHARED_KEY: &[u8] = include_bytes!("shared_key.der");

/// The claim from which STS takes session tags.
pub(super) const TAGS_CLAIM: &str = "https://aws.amazon.com/tags";

/// The signature algorithm: Cognito signs with RS512, the common external providers with RS256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Rs512,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs512 => "RS512",
        }
    }
}

struct SigningKey {
    pair: RsaKeyPair,
    rs256: ParsedPublicKey,
    rs512: ParsedPublicKey,
    modulus: String,
    exponent: String,
}

impl SigningKey {
    fn new(pair: RsaKeyPair) -> Option<Self> {
        let public = pair.public_key().as_ref();
        let (modulus, exponent) = public_numbers(public)?;
        Some(Self {
            rs256: ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public).ok()?,
            rs512: ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA512, public).ok()?,
            modulus: URL_SAFE_NO_PAD.encode_to_string(modulus),
            exponent: URL_SAFE_NO_PAD.encode_to_string(exponent),
            pair,
        })
    }

    fn shared() -> Option<Arc<Self>> {
        static KEY: OnceLock<Option<Arc<SigningKey>>> = OnceLock::new();
        KEY.get_or_init(|| RsaKeyPair::from_der(SHARED_KEY).ok().and_then(Self::new).map(Arc::new))
            .clone()
    }

    fn generate() -> Option<Arc<Self>> {
        RsaKeyPair::generate(KeySize::Rsa2048)
            .ok()
            .and_then(Self::new)
            .map(Arc::new)
    }

    fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Option<Vec<u8>> {
        let encoding = match algorithm {
            Algorithm::Rs256 => &RSA_PKCS1_SHA256,
            Algorithm::Rs512 => &RSA_PKCS1_SHA512,
        };
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(encoding, &SystemRandom::new(), message, &mut signature)
            .ok()?;
        Some(signature)
    }
}

/// Modulus and exponent of an `RSAPublicKey` (PKCS#1 DER): a sequence of two integers.
fn public_numbers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (sequence, _) = der_value(der, 0x30)?;
    let (modulus, rest) = der_value(sequence, 0x02)?;
    let (exponent, _) = der_value(rest, 0x02)?;
    // A leading zero keeps a DER integer positive; JWKS has none.
    Some((modulus.strip_prefix(&[0]).unwrap_or(modulus), exponent))
}

/// The content of the value with `tag` at the front of `der`, and what follows it.
fn der_value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
        (
            digits
                .iter()
                .try_fold(0usize, |sum, digit| Some(sum.checked_mul(256)? + usize::from(*digit)))?,
            rest,
        )
    };
    (first == tag).then(|| rest.split_at_checked(length)).flatten()
}

/// The keys of the pool: the one that signs, and those whose signatures are still accepted.
pub(super) struct KeyRing {
    region: String,
    keys: RwLock<Keys>,
}

#[derive(Clone)]
struct Keys {
    generation: u32,
    /// The last one signs.
    published: Vec<(String, Arc<SigningKey>)>,
}

impl KeyRing {
    /// A ring with the shared key, or with one of its own (29 to 71 ms).
    pub(super) fn new(region: &str, own_key: bool) -> Option<Self> {
        let key = if own_key {
            SigningKey::generate()?
        } else {
            SigningKey::shared()?
        };
        let published = vec![(format!("{region}1"), key)];
        Some(Self {
            region: region.to_owned(),
            keys: RwLock::new(Keys {
                generation: 1,
                published,
            }),
        })
    }

    fn keys(&self) -> Keys {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The keys as PKCS#8, in the order of their age, with their ids; the published one has no content.
    pub(super) fn export(&self) -> Vec<(String, Option<String>)> {
        let keys = self.keys();
        keys.published
            .iter()
            .map(|(kid, key)| {
                let shared = SigningKey::shared().is_some_and(|shared| Arc::ptr_eq(&shared, key));
                let content = (!shared).then(|| key.pair.as_der().ok()).flatten();
                (
                    kid.clone(),
                    content.map(|der: Pkcs8V1Der<'_>| STANDARD.encode_to_string(der.as_ref())),
                )
            })
            .collect()
    }

    /// Takes over exported keys. Nothing changes if one of them is none.
    pub(super) fn import(&self, exported: &[(String, Option<String>)]) -> Option<()> {
        let mut published = Vec::new();
        for (kid, content) in exported {
            let key = match content {
                None => SigningKey::shared()?,
                Some(content) => {
                    let der = STANDARD.decode_to_vec(content).ok()?;
                    Arc::new(SigningKey::new(RsaKeyPair::from_pkcs8(&der).ok()?)?)
                }
            };
            published.push((kid.clone(), key));
        }
        let (last, _) = published.last()?;
        let generation = last
            .strip_prefix(&self.region)
            .and_then(|number| number.parse().ok())
            .unwrap_or(1);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Keys { generation, published };
        Some(())
    }

    /// Signs with a new key from now on. Tokens of the older keys stay valid if `keep` is set.
    pub(super) fn rotate(&self, keep: bool) {
        let Some(key) = SigningKey::generate() else { return };
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.generation += 1;
        if !keep {
            keys.published.clear();
        }
        let kid = format!("{}{}", self.region, keys.generation);
        keys.published.push((kid, key));
    }

    /// A signed token with `claims`, or nothing where the key cannot sign.
    pub(super) fn sign(&self, algorithm: Algorithm, claims: &impl Serialize) -> Option<String> {
        let keys = self.keys();
        let (kid, key) = keys.published.last()?;
        // Written by hand to keep the order that the service has.
        let header = format!(r#"{{"kid":"{kid}","typ":"JWS","alg":"{}"}}"#, algorithm.name());
        let mut token = URL_SAFE_NO_PAD.encode_to_string(header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_append(serde_json::to_vec(claims).ok()?, &mut token);
        let signature = key.sign(algorithm, token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_append(signature, &mut token);
        Some(token)
    }

    /// Whether a published key made the signature of `token` with `algorithm`.
    pub(super) fn verify(&self, token: &Jwt<'_>, algorithm: Algorithm) -> bool {
        let keys = self.keys();
        let Some((_, key)) = keys.published.iter().find(|(kid, _)| *kid == token.kid) else {
            return false;
        };
        let public = match algorithm {
            Algorithm::Rs256 => &key.rs256,
            Algorithm::Rs512 => &key.rs512,
        };
        token.alg == algorithm.name() && public.verify_sig(token.signed.as_bytes(), &token.signature).is_ok()
    }

    /// The published key set.
    pub(super) fn jwks(&self, algorithm: Algorithm) -> Value {
        let keys: Vec<Value> = self
            .keys()
            .published
            .iter()
            .map(|(kid, key)| {
                json!({ "kty": "RSA", "alg": algorithm.name(), "use": "sig", "kid": kid, "n": key.modulus, "e": key.exponent })
            })
            .collect();
        json!({ "keys": keys })
    }
}

/// The RSA keys that a provider of somebody else's publishes (a JWKS document).
pub(super) struct PublishedKeys(Vec<(Option<String>, RsaPublicKeyComponents<Vec<u8>>)>);

impl PublishedKeys {
    /// The RSA keys of a JWKS document; nothing if it has none.
    pub(super) fn parse(jwks: &str) -> Option<Self> {
        let document: Value = serde_json::from_str(jwks).ok()?;
        let number = |key: &Value, name: &str| URL_SAFE_NO_PAD.decode_to_vec(key.get(name)?.as_str()?).ok();
        let keys: Vec<_> = document
            .get("keys")?
            .as_array()?
            .iter()
            .filter(|key| key.get("kty").and_then(Value::as_str) == Some("RSA"))
            .filter_map(|key| {
                let kid = key.get("kid").and_then(Value::as_str).map(str::to_owned);
                let (n, e) = (number(key, "n")?, number(key, "e")?);
                Some((kid, RsaPublicKeyComponents { n, e }))
            })
            .collect();
        (!keys.is_empty()).then_some(Self(keys))
    }

    /// Whether one of them made the signature of `token`, with RS256.
    pub(super) fn verify(&self, token: &Jwt<'_>) -> bool {
        token.alg == Algorithm::Rs256.name()
            && self
                .0
                .iter()
                .filter(|(kid, _)| kid.as_deref().is_none_or(|kid| kid == token.kid))
                .any(|(_, key)| {
                    key.verify(&RSA_PKCS1_2048_8192_SHA256, token.signed.as_bytes(), &token.signature)
                        .is_ok()
                })
    }
}

/// A JSON web token, taken apart but not verified.
pub(super) struct Jwt<'a> {
    kid: String,
    alg: String,
    pub(super) claims: Map<String, Value>,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Jwt<'a> {
    /// The parts of `token`, or nothing if it is no signed JWT.
    pub(super) fn parse(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let object = |part: &str| -> Option<Map<String, Value>> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode_to_vec(part).ok()?).ok()
        };
        let header = object(header)?;
        let text = |name: &str| header.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Some(Self {
            kid: text("kid"),
            alg: text("alg"),
            claims: object(payload)?,
            signed,
            signature: URL_SAFE_NO_PAD.decode_to_vec(signature).ok()?,
        })
    }

    pub(super) fn text(&self, claim: &str) -> &str {
        self.claims.get(claim).and_then(Value::as_str).unwrap_or_default()
    }

    /// The audiences, of which real providers may name several.
    pub(super) fn audiences(&self) -> Vec<&str> {
        match self.claims.get("aud") {
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            Some(one) => one.as_str().into_iter().collect(),
            None => Vec::new(),
        }
    }

    pub(super) fn exp(&self) -> i64 {
        self.claims
            .get("exp")
            .and_then(Value::as_f64)
            .map_or(0, |exp| exp as i64)
    }

    /// Whether Cognito identity pools claim to have issued it.
    pub(super) fn is_from_cognito(&self) -> bool {
        self.text("iss").strip_prefix("https://cognito-identity.").is_some()
    }

    /// The session tags that the token carries.
    pub(super) fn principal_tags(&self) -> BTreeMap<String, String> {
        let tags = self
            .claims
            .get(TAGS_CLAIM)
            .and_then(|tags| tags.get("principal_tags"))
            .and_then(Value::as_object);
        let first = |value: &Value| Some(value.get(0)?.as_str()?.to_owned());
        tags.into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), first(value)?)))
            .collect()
    }

    /// What the token says of how its bearer signed in.
    pub(super) fn amr(&self) -> Vec<String> {
        let amr = self.claims.get("amr").and_then(Value::as_array);
        amr.into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    }
}

/// The claims of a token that the pool issues, in the service's order.
#[derive(Debug, Serialize)]
pub(super) struct Claims {
    pub(super) sub: String,
    pub(super) aud: String,
    pub(super) amr: Vec<String>,
    #[serde(rename = "https://aws.amazon.com/tags", skip_serializing_if = "Option::is_none")]
    tags: Option<Tags>,
    pub(super) iss: String,
    #[serde(rename = "https://cognito-identity.amazonaws.com/identity-pool-arn")]
    pub(super) pool_arn: String,
    pub(super) exp: i64,
    pub(super) iat: i64,
}

#[derive(Debug, Serialize)]
struct Tags {
    principal_tags: BTreeMap<String, [String; 1]>,
}

/// What a token is issued for.
pub(super) struct Issue {
    pub(super) identity_id: String,
    pub(super) pool_id: String,
    pub(super) amr: Vec<String>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) lifetime: i64,
}

impl Issue {
    /// The claims of a token issued now.
    pub(super) fn claims(self, issuer: &str, pool_arn: String, now: i64) -> Claims {
        let principal_tags: BTreeMap<_, _> = self.tags.into_iter().map(|(key, value)| (key, [value])).collect();
        Claims {
            sub: self.identity_id,
            aud: self.pool_id,
            amr: self.amr,
            tags: (!principal_tags.is_empty()).then_some(Tags { principal_tags }),
            iss: format!("https://{issuer}"),
            pool_arn,
            exp: now.saturating_add(self.lifetime),
            iat: now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_verifies_until_one_byte_changes() {
        let ring = KeyRing::new("us-east-1", false).unwrap();
        let token = ring.sign(Algorithm::Rs512, &json!({ "sub": "x" })).unwrap();
        assert!(ring.verify(&Jwt::parse(&token).unwrap(), Algorithm::Rs512));
        assert!(
            !ring.verify(&Jwt::parse(&token).unwrap(), Algorithm::Rs256),
            "the algorithm is pinned"
        );
        let other = ring.sign(Algorithm::Rs512, &json!({ "sub": "y" })).unwrap();
        let (signed, _) = other.rsplit_once('.').unwrap();
        let (_, signature) = token.rsplit_once('.').unwrap();
        let forged = format!("{signed}.{signature}");
        assert!(!ring.verify(&Jwt::parse(&forged).unwrap(), Algorithm::Rs512));
    }

    #[test]
    fn rotation_keeps_or_drops_the_older_key() {
        let ring = KeyRing::new("us-east-1", false).unwrap();
        let token = ring.sign(Algorithm::Rs512, &json!({})).unwrap();
        ring.rotate(true);
        assert!(ring.verify(&Jwt::parse(&token).unwrap(), Algorithm::Rs512));
        assert_eq!(ring.jwks(Algorithm::Rs512)["keys"][1]["kid"], "us-east-12");
        ring.rotate(false);
        assert!(!ring.verify(&Jwt::parse(&token).unwrap(), Algorithm::Rs512));
    }

    #[test]
    fn exported_keys_verify_and_sign_on_in_another_ring() {
        let ring = KeyRing::new("us-east-1", false).unwrap();
        let first = ring.sign(Algorithm::Rs512, &json!({})).unwrap();
        ring.rotate(true);
        let second = ring.sign(Algorithm::Rs512, &json!({})).unwrap();
        let other = KeyRing::new("us-east-1", false).unwrap();
        other.import(&ring.export()).unwrap();
        for token in [&first, &second] {
            assert!(other.verify(&Jwt::parse(token).unwrap(), Algorithm::Rs512));
        }
        let third = other.sign(Algorithm::Rs512, &json!({})).unwrap();
        assert!(ring.verify(&Jwt::parse(&third).unwrap(), Algorithm::Rs512));
        other.rotate(true);
        assert_eq!(other.jwks(Algorithm::Rs512)["keys"][2]["kid"], "us-east-13");
        assert!(
            other
                .import(&[("us-east-11".to_owned(), Some("AAAA".to_owned()))])
                .is_none()
        );
        assert_eq!(other.export().len(), 3, "nothing changed");
    }

    #[test]
    fn claims_are_in_the_order_of_the_service() {
        let issue = Issue {
            identity_id: "us-east-1:i".into(),
            pool_id: "us-east-1:p".into(),
            amr: vec!["authenticated".into()],
            tags: [("tenant".to_owned(), "t1".to_owned())].into(),
            lifetime: 900,
        };
        let claims = issue.claims("cognito-identity.amazonaws.com", "arn:pool".into(), 1_000);
        assert_eq!(
            serde_json::to_string(&claims).unwrap(),
            r#"{"sub":"us-east-1:i","aud":"us-east-1:p","amr":["authenticated"],"https://aws.amazon.com/tags":{"principal_tags":{"tenant":["t1"]}},"iss":"https://cognito-identity.amazonaws.com","https://cognito-identity.amazonaws.com/identity-pool-arn":"arn:pool","exp":1900,"iat":1000}"#
        );
    }

    #[test]
    fn a_published_key_set_verifies_what_its_provider_signed_and_nothing_else() {
        let provider = KeyRing::new("accounts.example.com", true).unwrap();
        let token = provider.sign(Algorithm::Rs256, &json!({ "sub": "x" })).unwrap();
        let keys = PublishedKeys::parse(&provider.jwks(Algorithm::Rs256).to_string()).unwrap();
        assert!(keys.verify(&Jwt::parse(&token).unwrap()));
        let other = provider.sign(Algorithm::Rs512, &json!({ "sub": "x" })).unwrap();
        assert!(!keys.verify(&Jwt::parse(&other).unwrap()), "the algorithm is pinned");
        let stranger = KeyRing::new("accounts.example.com", true).unwrap();
        let forged = stranger.sign(Algorithm::Rs256, &json!({ "sub": "x" })).unwrap();
        assert!(!keys.verify(&Jwt::parse(&forged).unwrap()));
        for text in [
            "",
            "[]",
            "{}",
            r#"{"keys":[]}"#,
            r#"{"keys":[{"kty":"EC"}]}"#,
            r#"{"keys":[{"kty":"RSA","n":"!"}]}"#,
        ] {
            assert!(PublishedKeys::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for text in ["", ".", "..", "a.b.c", "e30.e30", "e30.W10.e30", "e30.e30.!"] {
            assert!(Jwt::parse(text).is_none(), "{text}");
        }
    }
}
