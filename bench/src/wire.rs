//! The event that is measured in this process.

/// An event of `bytes` bytes as it is published; `field` (with its comma) stands first in the payload.
pub fn event(field: &str, bytes: usize) -> String {
    let text = |pad: &str| {
        format!(
            r#"{{"channel":"tasks","event_type":"task.status_changed","payload":{{{field}"agent_id":"agent-7","project":"proj-456","pad":"{pad}"}}}}"#
        )
    };
    let pad = bytes.saturating_sub(text("").len());
    text(&"x".repeat(pad))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_the_size_asked_for() {
        assert_eq!(event(r#""t":1,"#, 400).len(), 400);
    }
}
