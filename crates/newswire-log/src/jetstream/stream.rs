//! Streams: made where they are missing, verified where they are there, never altered.

use async_nats::jetstream::Context;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream};
use tokio::time::Instant;

use super::connect::Connection;
use super::errors::chain;
use super::options::{JetStreamError, JetStreamOptions, StreamStorage};

/// The subject of a channel. A channel's name is one token of it: its dots, which would split it, become slashes, which no
/// channel has.
pub(super) fn subject(stream: &str, channel: &str) -> String {
    format!("{stream}.{}", channel.replace('.', "/"))
}

/// How the stream of events has to be.
pub(super) fn of_events(options: &JetStreamOptions) -> Config {
    let retention = options.retention;
    let bound = |bound: Option<u64>| bound.and_then(|bound| i64::try_from(bound).ok()).unwrap_or(-1);
    let max_age = retention.max_age.unwrap_or_default();
    // The server takes no window beyond the age.
    let longest = if max_age.is_zero() { options.duplicate_window } else { max_age };
    Config {
        name: options.stream.clone(),
        description: Some("The log of Newswire".to_owned()),
        subjects: vec![format!("{}.*", options.stream)],
        storage: storage(options),
        retention: RetentionPolicy::Limits,
        discard: if options.refuses_when_full { DiscardPolicy::New } else { DiscardPolicy::Old },
        num_replicas: options.replicas,
        max_age,
        max_bytes: bound(retention.max_bytes),
        max_messages: bound(retention.max_events),
        max_messages_per_subject: -1,
        duplicate_window: options.duplicate_window.min(longest),
        allow_atomic_publish: true,
        ..Config::default()
    }
}

pub(super) fn storage(options: &JetStreamOptions) -> StorageType {
    match options.storage {
        StreamStorage::File => StorageType::File,
        StreamStorage::Memory => StorageType::Memory,
    }
}

/// Opens a stream that has to be like this.
pub(super) async fn open(
    context: &Context,
    connection: &Connection,
    wanted: &Config,
) -> Result<Stream, JetStreamError> {
    let asked = Instant::now();
    let name = wanted.name.clone();
    let setup = |doing, reason: String| {
        // Where something is forbidden there is no answer, and this says why.
        let reason = connection.refusal(&name, asked).unwrap_or(reason);
        JetStreamError::Setup { doing, name: name.clone(), reason }
    };
    let found = match context.get_stream(&name).await {
        Err(error) if is_missing(error.kind()) => match context.create_stream(wanted.clone()).await {
            Ok(stream) => Ok(stream),
            // Another node may have come first, with the same or with another configuration.
            Err(refused) => match context.get_stream(&name).await {
                Err(error) if is_missing(error.kind()) => return Err(setup("make stream", chain(&refused))),
                found => found,
            },
        },
        found => found,
    };
    let stream = found.map_err(|error| setup("look at stream", chain(&error)))?;
    let differences = differences(&stream.cached_info().config, wanted);
    if differences.is_empty() {
        Ok(stream)
    } else {
        Err(JetStreamError::Mismatch { name, differences: differences.join("; ") })
    }
}

fn is_missing(error: GetStreamErrorKind) -> bool {
    use async_nats::jetstream::ErrorCode;
    match error {
        GetStreamErrorKind::JetStream(error) => error.error_code() == ErrorCode::STREAM_NOT_FOUND,
        _ => false,
    }
}

/// What matters and is not as wanted: a text for each.
fn differences(found: &Config, wanted: &Config) -> Vec<String> {
    let mut differences = Vec::new();
    for (name, of) in SETTINGS {
        let (found, wanted) = (of(found), of(wanted));
        if found != wanted {
            differences.push(format!("{name} is {found} instead of {wanted}"));
        }
    }
    differences
}

type Setting = (&'static str, fn(&Config) -> String);

/// What matters, by the names that the server gives it. Placement, compression, descriptions and such are the operator's.
const SETTINGS: [Setting; 19] = [
    ("subjects", |config| format!("{:?}", config.subjects)),
    ("storage", |config| format!("{:?}", config.storage)),
    ("retention", |config| format!("{:?}", config.retention)),
    ("discard", |config| format!("{:?}", config.discard)),
    ("num_replicas", |config| config.num_replicas.to_string()),
    ("max_age", |config| format!("{:?}", config.max_age)),
    ("max_bytes", |config| config.max_bytes.to_string()),
    ("max_msgs", |config| config.max_messages.to_string()),
    ("max_msgs_per_subject", |config| config.max_messages_per_subject.to_string()),
    ("duplicate_window", |config| format!("{:?}", config.duplicate_window)),
    ("allow_atomic", |config| config.allow_atomic_publish.to_string()),
    ("allow_msg_ttl", |config| config.allow_message_ttl.to_string()),
    ("subject_delete_marker_ttl", |config| {
        format!("{:?}", config.subject_delete_marker_ttl.unwrap_or_default())
    }),
    ("no_ack", |config| config.no_ack.to_string()),
    ("sealed", |config| config.sealed.to_string()),
    ("mirror", |config| config.mirror.is_some().to_string()),
    ("sources", |config| config.sources.as_ref().map_or(0, Vec::len).to_string()),
    ("subject_transform", |config| config.subject_transform.is_some().to_string()),
    ("allow_msg_counter", |config| config.allow_message_counter.to_string()),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_one_token() {
        assert_eq!(subject("newswire", "user:a.b-c_d#1@x"), "newswire.user:a/b-c_d#1@x");
    }

    #[test]
    fn what_differs_is_named_with_both_values() {
        let wanted = Config { num_replicas: 3, max_bytes: -1, ..Config::default() };
        let found = Config { num_replicas: 1, max_bytes: -1, ..Config::default() };
        assert_eq!(differences(&found, &wanted), ["num_replicas is 1 instead of 3"]);
        assert!(differences(&wanted, &wanted).is_empty());
    }
}
