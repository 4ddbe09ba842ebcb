//! The operations: what each is called, whether it is signed, what it takes, what it does.

mod call;
mod developer;
mod identities;
mod pools;
pub(super) mod sign_in;

pub(super) use call::{Call, new_id};

use super::answer::Answer;
use super::model;
use super::rules::Refusal;
use super::shapes::Member;

/// One operation of the API.
pub(super) struct Operation {
    pub(super) name: &'static str,
    /// Whether it takes a SigV4 signature; the others take none.
    pub(super) signed: bool,
    pub(super) members: &'static [Member],
    pub(super) run: fn(&mut Call<'_>) -> Result<Answer, Refusal>,
}

const fn signed(
    name: &'static str,
    members: &'static [Member],
    run: fn(&mut Call<'_>) -> Result<Answer, Refusal>,
) -> Operation {
    Operation {
        name,
        signed: true,
        members,
        run,
    }
}

const fn unsigned(
    name: &'static str,
    members: &'static [Member],
    run: fn(&mut Call<'_>) -> Result<Answer, Refusal>,
) -> Operation {
    Operation {
        name,
        signed: false,
        members,
        run,
    }
}

static OPERATIONS: &[Operation] = &[
    unsigned("GetId", model::GET_ID, sign_in::get_id),
    unsigned(
        "GetCredentialsForIdentity",
        model::GET_CREDENTIALS,
        sign_in::get_credentials,
    ),
    unsigned("GetOpenIdToken", model::GET_OPEN_ID_TOKEN, sign_in::get_open_id_token),
    unsigned("UnlinkIdentity", model::UNLINK, sign_in::unlink),
    signed(
        "GetOpenIdTokenForDeveloperIdentity",
        model::GET_DEVELOPER_TOKEN,
        developer::get_token,
    ),
    signed("LookupDeveloperIdentity", model::LOOKUP, developer::lookup),
    signed("MergeDeveloperIdentities", model::MERGE, developer::merge),
    signed("UnlinkDeveloperIdentity", model::UNLINK_DEVELOPER, developer::unlink),
    signed("DescribeIdentity", model::DESCRIBE_IDENTITY, identities::describe),
    signed("DeleteIdentities", model::DELETE_IDENTITIES, identities::delete),
    signed("ListIdentities", model::LIST_IDENTITIES, identities::list),
    signed("CreateIdentityPool", model::CREATE_POOL, pools::create),
    signed("DescribeIdentityPool", model::POOL, pools::describe),
    signed("UpdateIdentityPool", model::UPDATE_POOL, pools::update),
    signed("DeleteIdentityPool", model::POOL, pools::delete),
    signed("ListIdentityPools", model::LIST_POOLS, pools::list),
    signed("SetIdentityPoolRoles", model::SET_ROLES, pools::set_roles),
    signed("GetIdentityPoolRoles", model::POOL, pools::get_roles),
    signed("SetPrincipalTagAttributeMap", model::SET_TAG_MAP, pools::set_tag_map),
    signed("GetPrincipalTagAttributeMap", model::TAG_MAP, pools::get_tag_map),
    signed("TagResource", model::TAG_RESOURCE, pools::tag),
    signed("UntagResource", model::UNTAG_RESOURCE, pools::untag),
    signed("ListTagsForResource", model::RESOURCE, pools::list_tags),
];

pub(super) fn find(name: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|operation| operation.name == name)
}

/// Whether an operation can leave something behind that a restart has to know.
pub(super) fn may_change(name: &str) -> bool {
    let reads = ["Describe", "List", "Lookup", "GetIdentityPoolRoles", "GetPrincipalTag"];
    find(name).is_some() && !reads.iter().any(|prefix| name.starts_with(prefix))
}
