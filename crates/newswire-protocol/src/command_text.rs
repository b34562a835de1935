//! Commands as clients write them. What is written here, `parse_command` reads back as the same command.

use std::io::Write;

use crate::command::{Command, CommandFrame, Credential, FilterChange, Start};
use crate::event::Draft;
use crate::filter::FilterSpec;
use crate::json::write_string;
use crate::time::SinceSpec;

impl CommandFrame {
    /// Appends the command as one JSON object, the text of one frame.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"action\":");
        let mut fields = Members(out);
        match &self.command {
            Command::Ping => fields.action("ping"),
            Command::Auth(Credential::Ticket(ticket)) => {
                fields.action("auth");
                fields.string("ticket", Some(ticket));
            }
            Command::Auth(Credential::Token(token)) => {
                fields.action("auth");
                fields.string("token", Some(token));
            }
            Command::Publish(draft) => {
                fields.action("publish");
                draft.write_members(&mut fields);
            }
            Command::Unsubscribe(unsubscribe) => {
                fields.action("unsubscribe");
                fields.list("channels", &unsubscribe.channels);
                fields.string("sub", unsubscribe.sub.as_deref());
            }
            Command::Subscribe(subscribe) => {
                fields.action("subscribe");
                fields.list("channels", &subscribe.channels);
                if let FilterChange::Replace(spec) = &subscribe.filters {
                    fields.name("filters");
                    spec.write(fields.0);
                }
                fields.start(&subscribe.start);
                fields.string("sub", subscribe.sub.as_deref());
            }
        }
        if let Some(id) = &self.id {
            fields.raw("id", id.as_json());
        }
        out.push(b'}');
    }
}

impl FilterSpec {
    /// Appends the filter as a JSON object. Numbers come out in their canonical form, equal but not as written.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (i, (key, values)) in self.clauses.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            write_string(out, key);
            out.extend_from_slice(b":[");
            for (j, value) in values.iter().enumerate() {
                if j > 0 {
                    out.push(b',');
                }
                value.write(out);
            }
            out.push(b']');
        }
        out.push(b'}');
    }
}

impl Draft {
    /// Appends the draft as one JSON object, as HTTP takes it.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"channel\":");
        write_string(out, &self.channel);
        let mut fields = Members(out);
        self.write_rest(&mut fields);
        out.push(b'}');
    }

    fn write_members(&self, fields: &mut Members<'_>) {
        fields.string("channel", Some(&self.channel));
        self.write_rest(fields);
    }

    fn write_rest(&self, fields: &mut Members<'_>) {
        fields.string("event_type", Some(&self.event_type));
        fields.string("timestamp", self.timestamp.as_deref());
        fields.string("event_id", self.event_id.as_deref());
        fields.string("source", self.source.as_deref());
        fields.string("traceparent", self.traceparent.as_deref());
        fields.string("correlation_id", self.correlation_id.as_deref());
        fields.string("causation_id", self.causation_id.as_deref());
        fields.raw("payload", &self.payload);
    }
}

/// The members of an object behind its first.
struct Members<'o>(&'o mut Vec<u8>);

impl Members<'_> {
    fn action(&mut self, action: &str) {
        write_string(self.0, action);
    }

    fn name(&mut self, name: &str) {
        self.0.push(b',');
        write_string(self.0, name);
        self.0.push(b':');
    }

    fn raw(&mut self, name: &str, json: &str) {
        self.name(name);
        self.0.extend_from_slice(json.as_bytes());
    }

    fn string(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.name(name);
            write_string(self.0, text);
        }
    }

    fn list(&mut self, name: &str, texts: &[String]) {
        self.name(name);
        self.0.push(b'[');
        for (i, text) in texts.iter().enumerate() {
            if i > 0 {
                self.0.push(b',');
            }
            write_string(self.0, text);
        }
        self.0.push(b']');
    }

    fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        write!(self.0, "{value}").expect("writing into memory cannot fail");
    }

    fn start(&mut self, start: &Start) {
        match start {
            Start::Live => {}
            Start::After { offset, epoch } => {
                self.number("after", *offset);
                self.string("epoch", epoch.as_deref());
            }
            Start::Since(SinceSpec::At(time)) => self.string("since", Some(&time.to_string())),
            Start::Since(SinceSpec::Ago(ago)) => {
                self.string("since", Some(&format!("{}ms", ago.as_millis())));
            }
            Start::History(count) => self.number("history", *count),
        }
    }
}
