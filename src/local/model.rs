//! The API model: the members of every operation and their constraints.

use super::shapes::{Member, Pattern, Shape, Text, optional, required};

const fn text(min: usize, max: usize, pattern: Option<Pattern>) -> Text {
    Text { min, max, pattern }
}

fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// One or more bytes, each a word byte or one of `also`.
fn words(value: &str, also: &[u8]) -> bool {
    !value.is_empty() && value.bytes().all(|byte| word(byte) || also.contains(&byte))
}

fn region_and_guid(value: &str) -> bool {
    value.split_once(':').is_some_and(|(region, guid)| {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte) || byte == b'-';
        words(region, b"-") && !guid.is_empty() && guid.bytes().all(hex)
    })
}

/// Java's `\s`, which is ASCII.
const SPACES: &[u8] = b" \t\n\x0b\x0c\r";

fn pool_name(value: &str) -> bool {
    !value.is_empty()
        && value
            .bytes()
            .all(|byte| word(byte) || SPACES.contains(&byte) || b"+=,.@-".contains(&byte))
}

const ID: Text = text(
    1,
    55,
    Some(Pattern {
        text: r"[\w-]+:[0-9a-f-]+",
        matches: region_and_guid,
    }),
);
static REGION_AND_GUID: Shape = Shape::Text(ID);
static POOL_NAME: Shape = Shape::Text(text(
    1,
    128,
    Some(Pattern {
        text: r"[\w\s+=,.@-]+",
        matches: pool_name,
    }),
));
static DEVELOPER_PROVIDER: Shape = Shape::Text(text(
    1,
    128,
    Some(Pattern {
        text: r"[\w._-]+",
        matches: |value| words(value, b".-"),
    }),
));
/// A developer user's identifier, which is also checked as a value of the logins map.
pub(super) const USER: Text = text(1, 1024, None);
static DEVELOPER_USER: Shape = Shape::Text(USER);
const PROVIDER: Text = text(1, 128, None);
static PROVIDER_NAME: Shape = Shape::Text(PROVIDER);
static PROVIDER_TOKEN: Shape = Shape::Text(text(1, 50_000, None));
static LOGINS: Shape = Shape::Map {
    max: 10,
    key: PROVIDER,
    value: &PROVIDER_TOKEN,
};
static LOGINS_LIST: Shape = Shape::List {
    min: 0,
    max: usize::MAX,
    of: &PROVIDER_NAME,
};
const TAG_KEY: Text = text(1, 128, None);
static PRINCIPAL_TAG: Shape = Shape::Text(text(1, 256, None));
static PRINCIPAL_TAGS: Shape = Shape::Map {
    max: 50,
    key: TAG_KEY,
    value: &PRINCIPAL_TAG,
};
static TOKEN_DURATION: Shape = Shape::Long { min: 1, max: 86_400 };
static ACCOUNT_ID: Shape = Shape::Text(text(
    1,
    15,
    Some(Pattern {
        text: r"\d+",
        matches: |value| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()),
    }),
));
const ARN_TEXT: Text = text(20, 2048, None);
static ARN: Shape = Shape::Text(ARN_TEXT);
static ARNS: Shape = Shape::List {
    min: 0,
    max: usize::MAX,
    of: &ARN,
};
static MAX_RESULTS: Shape = Shape::Long { min: 1, max: 60 };
static NEXT_TOKEN: Shape = Shape::Text(text(
    1,
    65_535,
    Some(Pattern {
        text: r"[\S]+",
        matches: |value| !value.is_empty() && !value.bytes().any(|byte| SPACES.contains(&byte)),
    }),
));
static IDENTITY_IDS: Shape = Shape::List {
    min: 1,
    max: 60,
    of: &REGION_AND_GUID,
};
static BOOL: Shape = Shape::Bool;
static ROLES: Shape = Shape::Map {
    max: 2,
    key: text(
        1,
        128,
        Some(Pattern {
            text: "(un)?authenticated",
            matches: |value| value == "authenticated" || value == "unauthenticated",
        }),
    ),
    value: &ARN,
};
static CLAIM: Shape = Shape::Text(text(
    1,
    64,
    Some(Pattern {
        text: r"[\p{L}\p{M}\p{S}\p{N}\p{P}]+",
        matches: |value| !value.is_empty() && !value.chars().any(|char| char.is_whitespace() || char.is_control()),
    }),
));
static MATCH_TYPE: Shape = Shape::Choice(&["Equals", "Contains", "StartsWith", "NotEqual"]);
static CLAIM_VALUE: Shape = Shape::Text(text(1, 128, None));
static RULE: Shape = Shape::Structure(&[
    required("Claim", &CLAIM),
    required("MatchType", &MATCH_TYPE),
    required("Value", &CLAIM_VALUE),
    required("RoleARN", &ARN),
]);
static RULE_LIST: Shape = Shape::List {
    min: 1,
    max: 400,
    of: &RULE,
};
static RULES: Shape = Shape::Structure(&[required("Rules", &RULE_LIST)]);
static MAPPING_TYPE: Shape = Shape::Choice(&["Token", "Rules"]);
static AMBIGUOUS: Shape = Shape::Choice(&["AuthenticatedRole", "Deny"]);
static MAPPING: Shape = Shape::Structure(&[
    required("Type", &MAPPING_TYPE),
    optional("AmbiguousRoleResolution", &AMBIGUOUS),
    optional("RulesConfiguration", &RULES),
]);
static ROLE_MAPPINGS: Shape = Shape::Map {
    max: 10,
    key: PROVIDER,
    value: &MAPPING,
};
static APP_ID: Shape = Shape::Text(text(
    1,
    128,
    Some(Pattern {
        text: r"[\w.;_/-]+",
        matches: |value| words(value, b".;/-"),
    }),
));
static LOGIN_PROVIDERS: Shape = Shape::Map {
    max: 10,
    key: PROVIDER,
    value: &APP_ID,
};
static USER_POOL: Shape = Shape::Structure(&[
    optional("ProviderName", &USER_POOL_NAME),
    optional("ClientId", &CLIENT_ID),
    optional("ServerSideTokenCheck", &BOOL),
]);
static USER_POOL_NAME: Shape = Shape::Text(text(
    1,
    128,
    Some(Pattern {
        text: r"[\w._:/-]+",
        matches: |value| words(value, b".:/-"),
    }),
));
static CLIENT_ID: Shape = Shape::Text(text(
    1,
    128,
    Some(Pattern {
        text: r"[\w_]+",
        matches: |value| words(value, b""),
    }),
));
static USER_POOLS: Shape = Shape::List {
    min: 0,
    max: usize::MAX,
    of: &USER_POOL,
};
static TAG_VALUE: Shape = Shape::Text(text(0, 256, None));
static POOL_TAGS: Shape = Shape::Map {
    max: 50,
    key: TAG_KEY,
    value: &TAG_VALUE,
};
static TAG_KEYS: Shape = Shape::List {
    min: 0,
    max: usize::MAX,
    of: &TAG_KEY_SHAPE,
};
static TAG_KEY_SHAPE: Shape = Shape::Text(TAG_KEY);

/// The settings that CreateIdentityPool and UpdateIdentityPool share.
macro_rules! pool_settings {
    ($($first:expr),*) => {
        &[
            $($first,)*
            required("IdentityPoolName", &POOL_NAME),
            required("AllowUnauthenticatedIdentities", &BOOL),
            optional("AllowClassicFlow", &BOOL),
            optional("SupportedLoginProviders", &LOGIN_PROVIDERS),
            optional("DeveloperProviderName", &DEVELOPER_PROVIDER),
            optional("OpenIdConnectProviderARNs", &ARNS),
            optional("CognitoIdentityProviders", &USER_POOLS),
            optional("SamlProviderARNs", &ARNS),
            optional("IdentityPoolTags", &POOL_TAGS),
        ]
    };
}

const POOL_ID: Member = required("IdentityPoolId", &REGION_AND_GUID);
const IDENTITY_ID: Member = required("IdentityId", &REGION_AND_GUID);

pub(super) static GET_ID: &[Member] = &[optional("AccountId", &ACCOUNT_ID), POOL_ID, optional("Logins", &LOGINS)];
pub(super) static GET_CREDENTIALS: &[Member] = &[
    IDENTITY_ID,
    optional("Logins", &LOGINS),
    optional("CustomRoleArn", &ARN),
];
pub(super) static GET_OPEN_ID_TOKEN: &[Member] = &[IDENTITY_ID, optional("Logins", &LOGINS)];
pub(super) static GET_DEVELOPER_TOKEN: &[Member] = &[
    POOL_ID,
    optional("IdentityId", &REGION_AND_GUID),
    required("Logins", &LOGINS),
    optional("PrincipalTags", &PRINCIPAL_TAGS),
    optional("TokenDuration", &TOKEN_DURATION),
];
pub(super) static LOOKUP: &[Member] = &[
    POOL_ID,
    optional("IdentityId", &REGION_AND_GUID),
    optional("DeveloperUserIdentifier", &DEVELOPER_USER),
    optional("MaxResults", &MAX_RESULTS),
    optional("NextToken", &NEXT_TOKEN),
];
pub(super) static MERGE: &[Member] = &[
    required("SourceUserIdentifier", &DEVELOPER_USER),
    required("DestinationUserIdentifier", &DEVELOPER_USER),
    required("DeveloperProviderName", &DEVELOPER_PROVIDER),
    POOL_ID,
];
pub(super) static UNLINK_DEVELOPER: &[Member] = &[
    IDENTITY_ID,
    POOL_ID,
    required("DeveloperProviderName", &DEVELOPER_PROVIDER),
    required("DeveloperUserIdentifier", &DEVELOPER_USER),
];
pub(super) static UNLINK: &[Member] = &[
    IDENTITY_ID,
    required("Logins", &LOGINS),
    required("LoginsToRemove", &LOGINS_LIST),
];
pub(super) static DESCRIBE_IDENTITY: &[Member] = &[IDENTITY_ID];
pub(super) static DELETE_IDENTITIES: &[Member] = &[required("IdentityIdsToDelete", &IDENTITY_IDS)];
pub(super) static LIST_IDENTITIES: &[Member] = &[
    POOL_ID,
    required("MaxResults", &MAX_RESULTS),
    optional("NextToken", &NEXT_TOKEN),
    optional("HideDisabled", &BOOL),
];
pub(super) static LIST_POOLS: &[Member] = &[required("MaxResults", &MAX_RESULTS), optional("NextToken", &NEXT_TOKEN)];
pub(super) static CREATE_POOL: &[Member] = pool_settings!();
pub(super) static UPDATE_POOL: &[Member] = pool_settings!(POOL_ID);
pub(super) static POOL: &[Member] = &[POOL_ID];
pub(super) static SET_ROLES: &[Member] = &[
    POOL_ID,
    required("Roles", &ROLES),
    optional("RoleMappings", &ROLE_MAPPINGS),
];
pub(super) static TAG_MAP: &[Member] = &[POOL_ID, required("IdentityProviderName", &PROVIDER_NAME)];
pub(super) static SET_TAG_MAP: &[Member] = &[
    POOL_ID,
    required("IdentityProviderName", &PROVIDER_NAME),
    optional("UseDefaults", &BOOL),
    optional("PrincipalTags", &PRINCIPAL_TAGS),
];
pub(super) static RESOURCE: &[Member] = &[required("ResourceArn", &ARN)];
pub(super) static TAG_RESOURCE: &[Member] = &[required("ResourceArn", &ARN), required("Tags", &POOL_TAGS)];
pub(super) static UNTAG_RESOURCE: &[Member] = &[required("ResourceArn", &ARN), required("TagKeys", &TAG_KEYS)];

/// The parameters of STS, which have the same kind of constraints.
pub(super) mod sts {
    use super::{Pattern, Text, text, words};

    pub(in super::super) const ROLE_ARN: Text = super::ARN_TEXT;
    pub(in super::super) const SESSION_NAME: Text = text(
        2,
        64,
        Some(Pattern {
            text: r"[\w+=,.@-]*",
            matches: |value| value.is_empty() || words(value, b"+=,.@-"),
        }),
    );
    pub(in super::super) const TOKEN: Text = text(4, 20_000, None);
    pub(in super::super) const POLICY: Text = text(1, 2048, None);
    pub(in super::super) const DURATION: (i64, i64) = (900, 43_200);
}
