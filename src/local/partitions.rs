//! AWS's partitions, as far as an identity pool shows them: ARNs, the issuer of its tokens, and the principal that the
//! roles of its users trust.

/// What a region's partition decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Partition {
    /// The second part of an ARN.
    pub(super) name: &'static str,
    /// Host of the `iss` claim, and key of the logins map.
    pub(super) issuer_host: String,
    /// The federated principal that stands in a trust policy.
    pub(super) trust_principal: String,
    /// What stands before `:aud`, `:sub` and `:amr` in a condition key.
    pub(super) key_prefixes: Vec<String>,
}

impl Partition {
    /// The partition of a region.
    pub(super) fn of(region: &str) -> Self {
        let new = |name, issuer_host: String, trust_principal: &str| Self {
            name,
            issuer_host,
            trust_principal: trust_principal.to_owned(),
            key_prefixes: vec![trust_principal.to_owned()],
        };
        if region.starts_with("cn-") {
            let host = format!("cognito-identity.{region}.amazonaws.com.cn");
            let mut china = new("aws-cn", host.clone(), &host);
            // The documents of China have the regional principal and this prefix side by side.
            china.key_prefixes.push("cognito-identity.amazonaws.com.cn".to_owned());
            return china;
        }
        if region.starts_with("eusc-") {
            let host = format!("cognito-identity.{region}.amazonaws.eu");
            return new("aws-eusc", host.clone(), &host);
        }
        let regional = format!("cognito-identity.{region}.amazonaws.com");
        match region {
            "us-gov-east-1" => new("aws-us-gov", regional.clone(), &regional),
            _ if region.starts_with("us-gov-") => new("aws-us-gov", regional, "cognito-identity-us-gov.amazonaws.com"),
            _ => {
                let global = "cognito-identity.amazonaws.com";
                new("aws", global.to_owned(), global)
            }
        }
    }

    /// The condition key of a claim, in each of its spellings.
    pub(super) fn claim_keys<'a>(&'a self, claim: &'a str) -> impl Iterator<Item = String> + 'a {
        self.key_prefixes.iter().map(move |prefix| format!("{prefix}:{claim}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_decides_arn_issuer_and_principal() {
        let shared = "cognito-identity.amazonaws.com";
        let china = "cognito-identity.cn-north-1.amazonaws.com.cn";
        let (west, east) = (
            "cognito-identity.us-gov-west-1.amazonaws.com",
            "cognito-identity.us-gov-east-1.amazonaws.com",
        );
        let europe = "cognito-identity.eusc-de-east-1.amazonaws.eu";
        for (region, name, issuer, principal) in [
            ("us-east-1", "aws", shared, shared),
            ("af-south-1", "aws", shared, shared),
            ("cn-north-1", "aws-cn", china, china),
            (
                "us-gov-west-1",
                "aws-us-gov",
                west,
                "cognito-identity-us-gov.amazonaws.com",
            ),
            ("us-gov-east-1", "aws-us-gov", east, east),
            ("eusc-de-east-1", "aws-eusc", europe, europe),
        ] {
            let partition = Partition::of(region);
            assert_eq!(
                (partition.name, &*partition.issuer_host, &*partition.trust_principal),
                (name, issuer, principal)
            );
            assert!(partition.key_prefixes.iter().any(|prefix| prefix == principal));
        }
        let keys: Vec<String> = Partition::of("cn-north-1").claim_keys("aud").collect();
        assert_eq!(
            keys,
            [
                format!("{china}:aud"),
                "cognito-identity.amazonaws.com.cn:aud".to_owned()
            ]
        );
    }
}
