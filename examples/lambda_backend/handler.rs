//! What runs in Lambda: the function behind an HTTP API whose JWT authorizer has checked who is calling.

use cognito_identity_pool::{
    DeveloperUserId, Error, TokenVendor,
    server::{HttpRefusal, UserIds},
};
use lambda_http::aws_lambda_events::apigw::ApiGatewayRequestAuthorizer;
use lambda_http::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use lambda_http::http::{Method, StatusCode};
use lambda_http::request::RequestContext;
use lambda_http::{Body, Request, RequestExt, Response};
use serde::Serialize;
use serde_json::json;

/// Made once for each sandbox, so that tokens are vended from the cache while it is warm.
pub(crate) struct Function {
    pub(crate) vendor: TokenVendor,
    /// The authorizer's `sub` is personal data: it may be an e-mail address.
    pub(crate) user_ids: UserIds,
}

impl Function {
    /// `POST /aws/identity`: identity id and token, for clients that speak to Cognito themselves. `POST /aws/credentials`:
    /// credentials for an hour, for those that cannot.
    pub(crate) async fn handle(&self, request: Request) -> Result<Response<Body>, lambda_http::Error> {
        let Some(user) = self.user(&request) else {
            return respond(StatusCode::UNAUTHORIZED, &json!({ "error": "signed_out" }), None);
        };
        if request.method() != Method::POST {
            return respond(StatusCode::METHOD_NOT_ALLOWED, &json!({ "error": "method" }), None);
        }
        match route(&request) {
            "/aws/identity" => {
                let vended = self.vendor.vend(&user).await;
                answer(vended.as_ref().map(|vended| vended.expose()))
            }
            "/aws/credentials" => {
                let vended = self.vendor.vend_credentials(&user).await;
                answer(vended.as_ref().map(|vended| vended.expose()))
            }
            _ => respond(StatusCode::NOT_FOUND, &json!({ "error": "path" }), None),
        }
    }

    /// From what API Gateway has verified. Nothing that the client itself sends says who it is: neither a header nor the body.
    fn user(&self, request: &Request) -> Option<DeveloperUserId> {
        let Some(RequestContext::ApiGatewayV2(context)) = request.request_context_ref() else {
            return None;
        };
        let ApiGatewayRequestAuthorizer { jwt, .. } = context.authorizer.as_ref()?;
        let claims = &jwt.as_ref()?.claims;
        // A subject is unique with its issuer alone: an authorizer that trusts two of them has two users of the same `sub`.
        let (issuer, subject) = (claims.get("iss")?, claims.get("sub")?);
        self.user_ids.pseudonym_of(&[issuer, subject]).ok()
    }
}

/// The path, without the name of the stage that API Gateway puts before it.
fn route(request: &Request) -> &str {
    let path = request.raw_http_path();
    let stage = match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => context.stage.as_deref().filter(|stage| *stage != "$default"),
        _ => None,
    };
    let below = stage.and_then(|stage| path.strip_prefix('/')?.strip_prefix(stage));
    below.filter(|path| path.starts_with('/')).unwrap_or(path)
}

fn answer<T: Serialize>(result: Result<T, &Error>) -> Result<Response<Body>, lambda_http::Error> {
    match result {
        Ok(body) => respond(StatusCode::OK, &body, None),
        Err(error) => {
            tracing::warn!(?error, "nothing vended");
            let refusal = HttpRefusal::from(error);
            let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            respond(status, &refusal, refusal.retry_after_secs())
        }
    }
}

fn respond(
    status: StatusCode,
    body: &impl Serialize,
    retry_after: Option<u64>,
) -> Result<Response<Body>, lambda_http::Error> {
    let mut response = Response::builder()
        .status(status)
        .header(CACHE_CONTROL, "no-store")
        .header(CONTENT_TYPE, "application/json");
    if let Some(seconds) = retry_after {
        response = response.header(RETRY_AFTER, seconds);
    }
    Ok(response.body(serde_json::to_string(body)?.into())?)
}
