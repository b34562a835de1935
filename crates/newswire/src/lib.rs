//! Newswire as a library: a durable event feed with live WebSocket subscribers for axum applications.
