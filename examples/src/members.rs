//! An application with members of its own: it checks their tokens for the feed, gives tickets to their browsers, and whoever
//! logs out is cut off at once.
//!
//! `cargo run -p newswire-examples --bin members -- 127.0.0.1:8080`, then `curl -X POST localhost:8080/login/ada`, and with the token
//! of its answer `curl localhost:8080/api/v1/events -H 'authorization: Bearer …'`.

#![allow(clippy::print_stdout, reason = "it shows what it sees")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Path, State};
use axum::routing::post;
use axum::{Json, Router};
use futures_util::future::BoxFuture;
use newswire::{
    AuthError, Authenticate, Credential, Feed, Identity, IssuedTicket, Principal, Revocation, Role,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let members = Arc::new(Members::default());
    let feed = Feed::builder().channels(["tasks"]).authenticate(members.clone()).build()?;
    let app = Router::new()
        .route("/login/{name}", post(login))
        .route("/logout/{name}", post(logout))
        .with_state((members, feed.clone()))
        .nest("/api/v1", feed.router());
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

/// Who is logged in. Yours is a table of a database, and its tokens are random.
#[derive(Default)]
struct Members {
    by_token: Mutex<HashMap<String, Identity>>,
    tickets: Mutex<HashMap<String, Identity>>,
    made: AtomicU64,
}

impl Members {
    fn new_word(&self) -> String {
        format!("word-{}", self.made.fetch_add(1, Ordering::Relaxed))
    }
}

impl Authenticate for Members {
    fn authenticate<'a>(&'a self, credential: Credential<'a>) -> BoxFuture<'a, Result<Identity, AuthError>> {
        Box::pin(async move {
            let known = match credential {
                Credential::Bearer(token) => self.by_token.lock().get(token).cloned(),
                // Taken out: it lets one connection in.
                Credential::Ticket(ticket) => self.tickets.lock().remove(ticket),
                _ => None,
            };
            let identity = known.ok_or(AuthError::Invalid { reason: "nobody is logged in with it" })?;
            self.recheck(&identity).map(|_| identity)
        })
    }

    /// For browsers, whose WebSockets have no headers. Yours expires.
    fn issue_ticket<'a>(&'a self, identity: &'a Identity) -> BoxFuture<'a, Result<IssuedTicket, AuthError>> {
        Box::pin(async move {
            let ticket = self.new_word();
            self.tickets.lock().insert(ticket.clone(), identity.clone());
            Ok(IssuedTicket { ticket, expires_in: 30 })
        })
    }

    /// Asked right after a connection stands, too: so nobody slips in between the check and a logout.
    fn recheck(&self, identity: &Identity) -> Result<Option<Identity>, AuthError> {
        let is_in = self.by_token.lock().values().any(|known| known.principal.id == identity.principal.id);
        if is_in { Ok(None) } else { Err(AuthError::Revoked) }
    }
}

type Application = State<(Arc<Members>, Feed)>;

/// Everybody may; only `boss` may administer.
async fn login(State((members, _)): Application, Path(name): Path<String>) -> Json<Value> {
    let role = if name == "boss" { Role::Admin } else { Role::Publisher };
    let identity = Identity::of(Principal::anonymous().named(&name).with_role(role));
    let token = members.new_word();
    members.by_token.lock().insert(token.clone(), identity);
    Json(json!({ "token": token }))
}

/// First nobody comes in with these tokens any more, then those who are in leave.
async fn logout(State((members, feed)): Application, Path(name): Path<String>) -> Json<Value> {
    members.by_token.lock().retain(|_, identity| *identity.principal.id != *name);
    let closed = feed.revoke(&Revocation::Identity(name.into()));
    Json(json!({ "closed": closed }))
}
