//! `GET /channels`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::Feed;

/// Every channel declared or ever used, sorted by name.
pub(super) async fn channels(State(feed): State<Feed>) -> Json<Value> {
    let mut stored: BTreeMap<String, _> =
        feed.log().channel_stats().into_iter().map(|stats| (stats.name.to_string(), Some(stats))).collect();
    for declared in &feed.settings().channels {
        stored.entry(declared.clone()).or_insert(None);
    }
    let data: Vec<Value> = stored
        .into_iter()
        .map(|(name, stats)| {
            let subscribers = feed.hub().subscribers(&name);
            let stats = stats.filter(|stats| stats.events > 0);
            json!({
                "channel": name,
                "first_offset": stats.as_ref().map(|stats| stats.first),
                "last_offset": stats.as_ref().map(|stats| stats.last),
                "events": stats.as_ref().map_or(0, |stats| stats.events),
                "subscribers": subscribers,
            })
        })
        .collect();
    Json(json!({ "data": data }))
}
