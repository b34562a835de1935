//! The documents of the API for people: pages that load nothing from any other host.
//!
//! The HTTP part is shown by Swagger UI, whose files are in the binary; the WebSocket part is a page of our own. A
//! strict Content-Security-Policy holds for both: scripts and styles from here only, none in the page itself.

mod live;

use std::sync::LazyLock;

use axum::Router;
use axum::body::Body;
use axum::extract::{OriginalUri, Request, State};
use axum::middleware;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt;
use swagger_ui_dist::{ApiDefinition, OpenApiSource};
use tokio::sync::OnceCell;
use tower::ServiceExt;

use super::Fixed;
use crate::http::problem::Problem;

const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

const INDEX: &str = include_str!("assets/index.html");
const STYLE: &str = include_str!("assets/page.css");
const SCRIPT: &str = include_str!("assets/page.js");

/// Pages that document the API, to be nested under any path, such as `/docs`.
///
/// `api` is where [`crate::Feed::router`] stands, as seen from the directory of that path: `api/v1` where the pages are at
/// `/docs` and the feed at `/api/v1`. All addresses in the pages are relative, so a proxy may put both below a prefix.
///
/// ```
/// # fn routes(feed: newswire::Feed) -> axum::Router {
/// axum::Router::new().nest("/api/v1", feed.router()).nest("/docs", newswire::docs("api/v1"))
/// # }
/// ```
pub fn docs(api: &str) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/live", get(live))
        .route("/page.css", get(|headers: HeaderMap| async move { style().response(&headers) }))
        .route("/page.js", get(|headers: HeaderMap| async move { script().response(&headers) }))
        .route("/swagger-ui.css", get(swagger_style))
        .route("/swagger-ui-bundle.js", get(swagger_script))
        .layer(middleware::map_response(guarded))
        .with_state(api.trim_matches('/').into())
}

fn style() -> &'static Fixed {
    static FILE: LazyLock<Fixed> =
        LazyLock::new(|| Fixed::new(Bytes::from_static(STYLE.as_bytes()), "text/css; charset=utf-8"));
    &FILE
}

fn script() -> &'static Fixed {
    static FILE: LazyLock<Fixed> =
        LazyLock::new(|| Fixed::new(Bytes::from_static(SCRIPT.as_bytes()), "text/javascript; charset=utf-8"));
    &FILE
}

async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// The HTTP part. Its own address has no slash at its end, so what is below it begins with its last segment.
async fn index(State(api): State<Box<str>>, OriginalUri(uri): OriginalUri) -> Response {
    let here = uri.path().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let below = if uri.path().ends_with('/') { "" } else { here };
    let below = if below.is_empty() { String::new() } else { format!("{}/", live::escaped(below)) };
    let api = if uri.path().ends_with('/') { format!("../{api}") } else { api.to_string() };
    let page = INDEX.replace("{below}", &below).replace("{api}", &live::escaped(&api));
    page_response(page)
}

/// The WebSocket part.
async fn live(State(api): State<Box<str>>, OriginalUri(uri): OriginalUri) -> Response {
    static PAGE: LazyLock<String> = LazyLock::new(|| live::page(&super::asyncapi::document()));
    let index = uri.path().rsplit('/').nth(1).unwrap_or_default();
    let page = PAGE.replace("{api}", &live::escaped(&format!("../{api}")));
    page_response(page.replace("{here}", &live::escaped(index)))
}

fn page_response(page: String) -> Response {
    ([(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))], Html(page)).into_response()
}

async fn swagger_style(headers: HeaderMap) -> Result<Response, Problem> {
    static FILE: OnceCell<Fixed> = OnceCell::const_new();
    let file = FILE.get_or_try_init(|| vendored("swagger-ui.css", "text/css; charset=utf-8")).await?;
    Ok(file.response(&headers))
}

async fn swagger_script(headers: HeaderMap) -> Result<Response, Problem> {
    static FILE: OnceCell<Fixed> = OnceCell::const_new();
    let file =
        FILE.get_or_try_init(|| vendored("swagger-ui-bundle.js", "text/javascript; charset=utf-8")).await?;
    Ok(file.response(&headers))
}

/// A file of Swagger UI. The crate gives its files as routes only, so one of them is asked.
async fn vendored(name: &str, content_type: &'static str) -> Result<Fixed, Problem> {
    let routes = swagger_ui_dist::generate_routes(ApiDefinition {
        uri_prefix: "/ui",
        api_definition: OpenApiSource::Uri("unused"),
        title: None,
    });
    let request = Request::get(format!("/ui/{name}")).body(Body::empty());
    let missing = |_| Problem::unavailable(format!("{name} is not in this binary"));
    let response = routes.oneshot(request.map_err(|_| missing(()))?).await.map_err(|_| missing(()))?;
    let bytes = response.into_body().collect().await.map_err(|_| missing(()))?.to_bytes();
    Ok(Fixed::new(bytes, content_type))
}
