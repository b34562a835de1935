//! What a client may say on a WebSocket, and the exact order in which it is checked.

use crate::codes::{ErrorCode, Refusal};
use crate::event::{Draft, Fields};
use crate::filter::FilterSpec;
use crate::json::{self, Kind};
use crate::limits::{Limits, MAX_NAME_BYTES, MAX_OFFSET};
use crate::time::SinceSpec;

/// A command's own `id`, a JSON string or integer, kept as its text so that answers repeat it exactly.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CommandId(Box<str>);

impl CommandId {
    /// The id that this JSON value is; `None` if it is no string (of whole characters) and no integer.
    pub fn from_raw_json(raw: &str) -> Option<Self> {
        let fits = match json::kind(raw) {
            Kind::String => json::string(raw).is_some(),
            Kind::Number => !raw.contains(['.', 'e', 'E']) && json::document(raw) == Ok(raw),
            _ => false,
        };
        fits.then(|| Self(raw.into()))
    }

    /// Its JSON text.
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

/// A command and its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandFrame {
    /// Repeated in whatever answers the command.
    pub id: Option<CommandId>,
    /// What is asked.
    pub command: Command,
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Who the client is.
    Auth(Credential),
    /// Begin, change or replay subscriptions.
    Subscribe(Subscribe),
    /// End subscriptions and forget their filters.
    Unsubscribe(Unsubscribe),
    /// Store an event.
    Publish(Box<Draft>),
    /// A sign of life.
    Ping,
}

/// What an `auth` carries.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A single-use ticket.
    Ticket(String),
    /// A token.
    Token(String),
}

impl std::fmt::Debug for Credential {
    /// Without the secret: debug output ends in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ticket(_) => "Ticket(…)",
            Self::Token(_) => "Token(…)",
        })
    }
}

/// A `subscribe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Names or patterns as given: not checked to be channel names, possibly repeated, possibly none.
    pub channels: Vec<String>,
    /// What becomes of these channels' filters.
    pub filters: FilterChange,
    /// Where events begin.
    pub start: Start,
    /// The set it belongs to; `None` is the unnamed one.
    pub sub: Option<String>,
}

/// An `unsubscribe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Names or patterns as they were subscribed.
    pub channels: Vec<String>,
    /// The set it belongs to.
    pub sub: Option<String>,
}

/// What a `subscribe` does to the filters of its channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterChange {
    /// Leaves them.
    Keep,
    /// Puts these in their place; no clauses clear them.
    Replace(FilterSpec),
}

/// Where the events of a `subscribe` begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the log's end.
    Live,
    /// Behind this offset.
    After {
        /// Exclusive.
        offset: u64,
        /// The epoch the offset is of, as given: one that is no UUID is simply another.
        epoch: Option<String>,
    },
    /// At the first event stored at or after this time.
    Since(SinceSpec),
    /// At the last so many matching events of each channel.
    History(u64),
}

/// Parses one text frame. The order of the checks is part of the contract: size (of what is no `publish`), JSON,
/// object, action, size of a `publish`, fields.
///
/// # Errors
/// The refusal, and the command's id where it could be read.
pub fn parse_command(frame: &str, limits: &Limits) -> Result<CommandFrame, (Option<CommandId>, Refusal)> {
    let over_command = frame.len() > limits.command_bytes;
    if over_command && frame.len() > limits.event_bytes {
        return Err((None, too_large(limits)));
    }
    let scanned = Scanned::read(frame);
    let is_publish = matches!(&scanned, Ok(Some(scanned)) if scanned.action() == Some(Action::Publish));
    if over_command && !is_publish {
        return Err((scanned.ok().flatten().and_then(|scanned| scanned.id()), too_large(limits)));
    }
    match scanned {
        Err(syntax) => Err((None, Refusal::because(ErrorCode::InvalidJson, syntax.to_string()))),
        Ok(None) => Err((None, ErrorCode::ExpectedJsonObject.into())),
        Ok(Some(scanned)) => {
            let id = scanned.id();
            let too_large = is_publish && frame.len() > limits.event_bytes;
            let command = if too_large {
                Err(Refusal::because(
                    ErrorCode::EventTooLarge,
                    format!("an event has at most {} bytes", limits.event_bytes),
                ))
            } else {
                scanned.command()
            };
            match command {
                Ok(command) => Ok(CommandFrame { id, command }),
                Err(refusal) => Err((id, refusal)),
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Auth,
    Subscribe,
    Unsubscribe,
    Publish,
    Ping,
}

impl Action {
    fn named(name: &str) -> Option<Self> {
        match name {
            "auth" => Some(Self::Auth),
            "subscribe" => Some(Self::Subscribe),
            "unsubscribe" => Some(Self::Unsubscribe),
            "publish" => Some(Self::Publish),
            "ping" => Some(Self::Ping),
            _ => None,
        }
    }
}

/// The raw fields of a command, before any of them is judged.
#[derive(Default)]
struct Scanned<'a> {
    action: Option<&'a str>,
    id: Option<&'a str>,
    ticket: Option<&'a str>,
    token: Option<&'a str>,
    channels: Option<&'a str>,
    filters: Option<&'a str>,
    sub: Option<&'a str>,
    after: Option<&'a str>,
    epoch: Option<&'a str>,
    since: Option<&'a str>,
    history: Option<&'a str>,
    /// A field that stands there twice. Readers differ in which one they take, so nobody may.
    twice: Option<String>,
    event: Fields<'a>,
}

impl<'a> Scanned<'a> {
    /// `None` if the frame is JSON but no object.
    fn read(frame: &'a str) -> Result<Option<Self>, json::SyntaxError> {
        let mut scanned = Self::default();
        let is_object = json::members_with(frame, |key, scanner| {
            let value = scanned.event.member(key, scanner)?;
            if let Some(name) = key.unescape()
                && let Some(slot) = scanned.slot(&name)
                && slot.replace(value).is_some()
            {
                scanned.twice.get_or_insert(name.into_owned());
            }
            Ok(())
        })?;
        Ok(is_object.then_some(scanned))
    }

    fn slot(&mut self, name: &str) -> Option<&mut Option<&'a str>> {
        Some(match name {
            "action" => &mut self.action,
            "id" => &mut self.id,
            "ticket" => &mut self.ticket,
            "token" => &mut self.token,
            "channels" => &mut self.channels,
            "filters" => &mut self.filters,
            "sub" => &mut self.sub,
            "after" => &mut self.after,
            "epoch" => &mut self.epoch,
            "since" => &mut self.since,
            "history" => &mut self.history,
            _ => return None,
        })
    }

    fn action(&self) -> Option<Action> {
        json::string(self.action?).and_then(|name| Action::named(&name))
    }

    /// The id, if there is one that can be repeated.
    fn id(&self) -> Option<CommandId> {
        self.id.and_then(CommandId::from_raw_json)
    }

    fn command(self) -> Result<Command, Refusal> {
        let action = self.action().ok_or(ErrorCode::UnknownAction)?;
        if present(self.id).is_some() && self.id().is_none() {
            return Err(wrong("id must be a string or an integer"));
        }
        if let Some(name) = &self.twice {
            let code = match action {
                Action::Publish => ErrorCode::InvalidEvent,
                _ => ErrorCode::InvalidControlMessage,
            };
            return Err(Refusal::because(code, format!("{name} is given twice")));
        }
        match action {
            Action::Ping => Ok(Command::Ping),
            Action::Auth => self.credential().map(Command::Auth),
            Action::Publish => self.event.check().map(Box::new).map(Command::Publish),
            Action::Unsubscribe => Ok(Command::Unsubscribe(Unsubscribe {
                channels: channels(self.channels)?,
                sub: set(self.sub)?,
            })),
            Action::Subscribe => Ok(Command::Subscribe(Subscribe {
                channels: channels(self.channels)?,
                filters: match present(self.filters) {
                    None => FilterChange::Keep,
                    Some(raw) => FilterChange::Replace(FilterSpec::parse(raw)?),
                },
                start: self.start()?,
                sub: set(self.sub)?,
            })),
        }
    }

    fn credential(&self) -> Result<Credential, Refusal> {
        match (string("ticket", self.ticket)?, string("token", self.token)?) {
            (Some(ticket), None) => Ok(Credential::Ticket(ticket)),
            (None, Some(token)) => Ok(Credential::Token(token)),
            _ => Err(wrong("auth needs either a ticket or a token")),
        }
    }

    /// `after` wins over `since` over `history`, but each must be well-typed.
    fn start(&self) -> Result<Start, Refusal> {
        let after = unsigned("after", self.after)?;
        let epoch = string("epoch", self.epoch)?;
        let since = string("since", self.since)?
            .map(|text| {
                SinceSpec::parse(&text)
                    .ok_or_else(|| wrong("since must be RFC 3339 with an offset, or a duration like 10m"))
            })
            .transpose()?;
        let history = unsigned("history", self.history)?;
        Ok(match (after, since, history) {
            (Some(offset), _, _) => Start::After { offset, epoch },
            (None, Some(since), _) => Start::Since(since),
            (None, None, Some(count)) => Start::History(count),
            (None, None, None) => Start::Live,
        })
    }
}

/// `null` is absent.
fn present(raw: Option<&str>) -> Option<&str> {
    raw.filter(|raw| *raw != "null")
}

fn channels(raw: Option<&str>) -> Result<Vec<String>, Refusal> {
    let list =
        raw.filter(|raw| json::kind(raw) == Kind::Array).and_then(|raw| json::elements(raw).ok().flatten());
    let list = list.ok_or(ErrorCode::ChannelsNotStrings)?;
    if list.iter().any(|item| json::kind(item) != Kind::String) {
        return Err(ErrorCode::ChannelsNotStrings.into());
    }
    let names = list.into_iter().map(|item| json::string(item).map(Into::into));
    names.collect::<Option<_>>().ok_or_else(|| wrong("channels: a name holds half a surrogate pair"))
}

/// The name of a set.
fn set(raw: Option<&str>) -> Result<Option<String>, Refusal> {
    let name = string("sub", raw)?;
    match &name {
        Some(name) if name.is_empty() || name.chars().count() > MAX_NAME_BYTES => {
            Err(wrong(format!("sub must have 1 to {MAX_NAME_BYTES} characters")))
        }
        _ => Ok(name),
    }
}

fn string(field: &str, raw: Option<&str>) -> Result<Option<String>, Refusal> {
    let Some(raw) = present(raw) else {
        return Ok(None);
    };
    match json::string(raw) {
        Some(text) => Ok(Some(text.into_owned())),
        None => Err(wrong(format!("{field} must be a string"))),
    }
}

fn unsigned(field: &str, raw: Option<&str>) -> Result<Option<u64>, Refusal> {
    let Some(raw) = present(raw) else {
        return Ok(None);
    };
    let value =
        Some(raw).filter(|raw| raw.bytes().all(|b| b.is_ascii_digit())).and_then(|raw| raw.parse().ok());
    match value {
        Some(value) if value <= MAX_OFFSET => Ok(Some(value)),
        _ => Err(wrong(format!("{field} must be an integer from 0 to {MAX_OFFSET}"))),
    }
}

fn wrong(detail: impl Into<String>) -> Refusal {
    Refusal::because(ErrorCode::InvalidControlMessage, detail)
}

/// The refusal of a frame that is too large to be read.
pub fn too_large(limits: &Limits) -> Refusal {
    Refusal::because(
        ErrorCode::MessageTooLarge,
        format!("a command has at most {} bytes", limits.command_bytes),
    )
}
