//! What each key is set to, and where: what [`Config`] is built from, what `--print-config` shows, and what a reload
//! compares.

use std::collections::BTreeMap;
use std::fmt::Write;

use toml::{Table, Value};

use super::key::{self, Raw, Reload};
use super::keys::KEYS;
use super::layer::{self, Entry, Source};
use super::problem::Problem;
use super::{AuthMode, Config, ConfigError, open_beyond_loopback};

/// `retention.max_bytes` of a log in memory, unless somebody says otherwise: disks are larger.
const MEMORY_MAX_BYTES: &str = "256MiB";

/// The layers laid over each other: for each key that somebody or the table of keys sets, its value and its place.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    by_path: BTreeMap<Vec<String>, Setting>,
    /// The server asks callers for credentials since it started, and goes on to, whatever is left of them.
    asks: bool,
}

#[derive(Clone, Debug)]
struct Setting {
    entry: Entry,
    /// `None` where the key was unset by the word `none`.
    value: Option<Value>,
}

/// A key that one set of [`Settings`] has otherwise than another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its dotted path.
    pub key: String,
    /// From when on the new value counts.
    pub reload: Reload,
    /// The old value as TOML, `not set`, or a mark in place of a secret.
    pub old: String,
    /// The new one.
    pub new: String,
}

const NOT_SET: &str = "not set";

impl Settings {
    pub(super) fn put(&mut self, entry: Entry, problems: &mut Vec<Problem>) {
        match entry.key.kind.read(&entry.raw) {
            Ok(value) => {
                self.by_path.insert(entry.path.clone(), Setting { entry, value });
            }
            Err(key::NotOfThisKind) => problems.push(Problem::BadValue {
                key: layer::dotted(&entry.path),
                value: entry.key.kind.told(&entry.raw),
                source: entry.source,
                expected: entry.key.kind.expected(),
            }),
        }
    }

    /// Every key with its value, a line each, as a TOML file that says the same, and where each value comes from.
    pub fn effective(&self) -> String {
        let mut lines = Vec::new();
        for key in KEYS {
            let mut set =
                self.by_path.iter().filter(|(_, setting)| setting.entry.key.path == key.path).peekable();
            if set.peek().is_none() {
                lines.push((format!("# {} is not set", key.path), String::new()));
            }
            for (path, setting) in set {
                let assignment = format!("{} = {}", quoted(path), setting.shown());
                lines.push((assignment, format!("# {}", setting.entry.source)));
            }
        }
        let widest =
            lines.iter().filter(|(_, source)| !source.is_empty()).map(|(text, _)| text.chars().count());
        let width = widest.filter(|width| *width <= MAX_COLUMN).max().unwrap_or(0);
        lines.iter().fold(String::new(), |mut page, (text, source)| {
            let _ = writeln!(page, "{}", format!("{text:<width$}  {source}").trim_end());
            page
        })
    }

    /// What differs in `new`, in the order of the table of keys.
    pub fn changes(&self, new: &Settings) -> Vec<Change> {
        let mut changes = Vec::new();
        for key in KEYS {
            let of_key = |settings: &Settings| {
                let set = settings.by_path.iter().filter(|(_, setting)| setting.entry.key.path == key.path);
                set.map(|(path, setting)| (path.clone(), setting.clone())).collect::<BTreeMap<_, _>>()
            };
            let (before, after) = (of_key(self), of_key(new));
            let paths: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
            for path in paths {
                let (old, new) = (before.get(path), after.get(path));
                if old.and_then(|setting| setting.value.as_ref())
                    != new.and_then(|setting| setting.value.as_ref())
                {
                    let shown =
                        |side: Option<&Setting>| side.map_or_else(|| NOT_SET.to_owned(), Setting::shown);
                    let (old, new) = (shown(old), shown(new));
                    changes.push(Change { key: layer::dotted(path), reload: key.reload, old, new });
                }
            }
        }
        changes
    }

    /// The configuration, with what a default makes of another key's value put in; `None` where a problem prevents it.
    pub(super) fn build(&mut self, problems: &mut Vec<Problem>) -> Option<Config> {
        if !problems.is_empty() {
            return None;
        }
        self.derive_defaults(problems);
        let mut root = Table::new();
        for (path, setting) in &self.by_path {
            if let Some(value) = &setting.value {
                insert(&mut root, path, value.clone());
            }
        }
        match serde_path_to_error::deserialize::<_, Config>(Value::Table(root)) {
            Ok(mut config) => {
                if self.asks {
                    config.auth.mode = Some(AuthMode::Token);
                }
                self.check(&config, problems);
                Some(config)
            }
            // Values are checked one by one before, so this is a key that the table and `Config` see differently.
            Err(error) => {
                problems.push(Problem::Conflict(format!("`{}`: {}", error.path(), error.inner().message())));
                None
            }
        }
    }

    /// What a server that runs with these settings comes to when it is given others: theirs for the keys that can be
    /// reloaded, its own for the rest.
    ///
    /// # Errors
    /// Where the two do not go together.
    pub fn reloaded(&self, new: &Settings) -> Result<(Config, Settings), ConfigError> {
        let kept = |setting: &Setting| setting.entry.key.reload == Reload::Restart;
        let own = self.by_path.iter().filter(|(_, setting)| kept(setting));
        let theirs = new.by_path.iter().filter(|(_, setting)| !kept(setting));
        let by_path = own.chain(theirs).map(|(path, setting)| (path.clone(), setting.clone())).collect();
        let running = self.clone().build(&mut Vec::new());
        let asks = self.asks || running.is_some_and(|running| crate::auth::asks(&running.auth));
        let (mut mixed, mut problems) = (Self { by_path, asks }, Vec::new());
        match mixed.build(&mut problems) {
            Some(config) if problems.is_empty() => Ok((config, mixed)),
            _ => Err(ConfigError { problems }),
        }
    }

    fn derive_defaults(&mut self, problems: &mut Vec<Problem>) {
        let backend = self.by_path.get(&vec_path("log.backend")).and_then(|setting| setting.value.as_ref());
        let in_memory = backend.and_then(Value::as_str) == Some("memory");
        let bytes = self.by_path.get(&vec_path("retention.max_bytes"));
        if in_memory
            && let Some(Setting { entry, .. }) = bytes
            && entry.source == Source::Default
        {
            let entry = Entry { raw: Raw::Written(MEMORY_MAX_BYTES.into()), ..entry.clone() };
            self.put(entry, problems);
        }
    }

    /// Secrets stand in files.
    fn check_engines(&self, config: &Config, problems: &mut Vec<Problem>) {
        let (nats, redis) = (&config.jetstream, &config.redis);
        let addresses = [
            ("jetstream.servers", nats.servers.iter().any(|server| server.contains('@'))),
            ("redis.url", redis.url.contains('@')),
        ];
        for (key, _) in addresses.iter().filter(|(_, has_secret)| *has_secret) {
            let engine = key.split('.').next().unwrap_or_default();
            problems.push(Problem::Conflict(format!(
                "`{key}` has credentials in an address ({}), which ends up in logs; set `{engine}.user` and \
                 `{engine}.password_file`",
                self.source(key)
            )));
        }
        for (one, other, name, partner) in [
            (nats.user.is_some(), nats.password_file.is_some(), "jetstream.user", "jetstream.password_file"),
            (nats.tls_cert.is_some(), nats.tls_key.is_some(), "jetstream.tls_cert", "jetstream.tls_key"),
        ] {
            if one != other {
                problems.push(Problem::Conflict(format!("`{name}` and `{partner}` go together")));
            }
        }
        if redis.user.is_some() && redis.password_file.is_none() {
            problems.push(Problem::Conflict("`redis.user` needs `redis.password_file`".to_owned()));
        }
    }

    /// Rules over several keys.
    fn check(&self, config: &Config, problems: &mut Vec<Problem>) {
        self.check_credentials(config, problems);
        if crate::auth::is_open_beyond_loopback(&config.auth, &config.listen) {
            problems.push(Problem::Conflict(open_beyond_loopback(&config.listen, &self.source("listen"))));
        }
        let tls = &config.tls;
        if tls.cert.is_some() != tls.key.is_some() || (tls.client_ca.is_some() && tls.cert.is_none()) {
            let needed = "`tls.cert` and `tls.key` go together, and `tls.client_ca` needs both".to_owned();
            problems.push(Problem::Conflict(needed));
        }
        self.check_engines(config, problems);
        if config.audit.channel.is_some() && !crate::auth::asks(&config.auth) {
            let needed = "`audit.channel` needs credentials (docs/security.md): on a server that asks nobody who they \
                          are, everybody would read it";
            problems.push(Problem::Conflict(needed.to_owned()));
        }
        if config.backlog.max_bytes < config.limits.event_bytes {
            problems.push(Problem::Conflict(format!(
                "`backlog.max_bytes` ({}) is less than `limits.event_bytes` ({}): a subscriber must be able to wait \
                 for one event; raise the first or lower the second",
                self.source("backlog.max_bytes"),
                self.source("limits.event_bytes"),
            )));
        }
        if config.channels.len() > config.limits.channels {
            problems.push(Problem::Conflict(format!(
                "`channels` ({}) names more channels than `limits.channels` ({}) allows",
                self.source("channels"),
                self.source("limits.channels"),
            )));
        }
        for channel in config.retention.channels.keys() {
            let is_audit = config.audit.channel.as_ref() == Some(channel);
            if !is_audit && !config.arbitrary_channels_allowed && !config.channels.contains(channel) {
                problems.push(Problem::Conflict(format!(
                    "`retention.channels.{channel}`: there is no channel `{channel}`; add it to `channels`, or \
                     remove its retention"
                )));
            }
        }
    }

    fn check_credentials(&self, config: &Config, problems: &mut Vec<Problem>) {
        let (auth, jwt) = (&config.auth, &config.auth.jwt);
        let given = crate::auth::has_credentials(auth);
        match auth.mode {
            Some(AuthMode::None) if given => problems.push(Problem::Conflict(format!(
                "`auth.mode` = \"none\" ({}), but there are credentials (auth.jwt, auth.keys), which nobody would ask for; \
                 remove one or the other",
                self.source("auth.mode")
            ))),
            Some(AuthMode::Token) if !given && !self.asks => problems.push(Problem::Conflict(format!(
                "`auth.mode` = \"token\" ({}), but there are no credentials, so nobody could come in; set one of \
                 auth.jwt.secret_file, auth.jwt.keys_file, auth.jwt.jwks_url and auth.keys",
                self.source("auth.mode")
            ))),
            _ => {}
        }
        if jwt.jwks_url.is_some() && (jwt.issuer.is_none() || jwt.audience.is_empty()) {
            problems.push(Problem::Conflict(format!(
                "`auth.jwt.jwks_url` ({}) needs `auth.jwt.issuer` and `auth.jwt.audience`: without them a token for any \
                 other service of that provider would count here",
                self.source("auth.jwt.jwks_url")
            )));
        }
    }

    fn source(&self, key: &str) -> Source {
        self.by_path.get(&vec_path(key)).map_or(Source::Default, |setting| setting.entry.source.clone())
    }
}

impl Setting {
    fn shown(&self) -> String {
        self.entry.key.kind.shown(&self.entry.raw)
    }
}

/// Beyond this column the place of a value does not line up with the others'.
const MAX_COLUMN: usize = 72;

/// The path as a dotted key of TOML.
fn quoted(path: &[String]) -> String {
    let is_bare =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let parts = path.iter().map(|part| if is_bare(part) { part.clone() } else { format!("{part:?}") });
    parts.collect::<Vec<_>>().join(".")
}

fn vec_path(key: &str) -> Vec<String> {
    key.split('.').map(Into::into).collect()
}

fn insert(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [name] => {
            table.insert(name.clone(), value);
        }
        [name, rest @ ..] => {
            let inner = table.entry(name.clone()).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}
