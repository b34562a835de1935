//! What an identity may do and see: the `newswire` claim of a token, and roles of the configuration.

use std::collections::BTreeMap;

use newswire::{AuthError, Principal, Role};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::BadCredentials;
use crate::config::{AuthConfig, RoleConfig};

/// How many names of channels or fields one list may have.
const MAX_NAMES: usize = 256;

/// What a claim or a role says. What it does not say is as in the role it names, and without any as for observers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Permissions {
    /// `observer`, `publisher`, `operator`, `admin`, or one of the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<String>,
    /// Channels and patterns; absent for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subscribe: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) publish: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) history: Option<Vec<String>>,
    /// A filter as a subscribe writes it: only events that pass it exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rows: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) payload: Option<Payload>,
    /// Fields of the payload that are masked, where it is `redacted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) masked: Option<Vec<String>>,
}

/// How payloads are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Payload {
    Full,
    Redacted,
    None,
}

impl Permissions {
    /// These, and of the other what these do not say.
    fn over(self, base: &Self) -> Self {
        Self {
            role: base.role.clone(),
            subscribe: self.subscribe.or_else(|| base.subscribe.clone()),
            publish: self.publish.or_else(|| base.publish.clone()),
            history: self.history.or_else(|| base.history.clone()),
            rows: self.rows.or_else(|| base.rows.clone()),
            payload: self.payload.or(base.payload),
            masked: self.masked.or_else(|| base.masked.clone()),
        }
    }

    fn check(&self) -> Result<(), String> {
        let lists = [&self.subscribe, &self.publish, &self.history, &self.masked];
        if lists.into_iter().flatten().any(|names| names.len() > MAX_NAMES) {
            return Err(format!("a list has at most {MAX_NAMES} names"));
        }
        Ok(())
    }
}

/// The roles that the configuration names.
#[derive(Debug)]
pub(super) struct Roles(BTreeMap<String, Permissions>);

impl Roles {
    pub(super) fn read(config: &AuthConfig) -> Result<Self, BadCredentials> {
        let mut roles = BTreeMap::new();
        for (name, role) in &config.roles {
            let bad = |what: String| BadCredentials(format!("auth.roles.{name}: {what}"));
            if built_in(name).is_some() {
                return Err(bad("this role is built in; take another name".into()));
            }
            let permissions = read(role).map_err(bad)?;
            if permissions.role.as_deref().is_some_and(|base| built_in(base).is_none()) {
                return Err(bad("role must be observer, publisher, operator or admin".into()));
            }
            principal("nobody", &permissions).map_err(bad)?;
            roles.insert(name.clone(), permissions);
        }
        Ok(Self(roles))
    }

    /// What these come to, with the role they name put in.
    pub(super) fn resolve(&self, permissions: &Permissions) -> Result<Permissions, String> {
        permissions.check()?;
        match permissions.role.as_deref() {
            Some(name) if built_in(name).is_none() => {
                let role =
                    self.0.get(name).ok_or_else(|| format!("there is no role {name:?} (auth.roles)"))?;
                Ok(permissions.clone().over(role))
            }
            _ => Ok(permissions.clone()),
        }
    }

    pub(super) fn principal(&self, id: &str, permissions: &Permissions) -> Result<Principal, AuthError> {
        let resolved = self.resolve(permissions).and_then(|permissions| principal(id, &permissions));
        resolved.map_err(|reason| {
            tracing::warn!(identity = id, reason, "credentials with permissions that cannot be kept");
            AuthError::Invalid { reason: "permissions that cannot be kept" }
        })
    }
}

fn read(role: &RoleConfig) -> Result<Permissions, String> {
    let rows = role.rows.as_deref().map(serde_json::from_str).transpose();
    let payload = role.payload.as_deref().map(|word| serde_json::from_value(Value::from(word))).transpose();
    let permissions = Permissions {
        role: role.role.clone(),
        subscribe: role.subscribe.clone(),
        publish: role.publish.clone(),
        history: role.history.clone(),
        rows: rows.map_err(|error| format!("rows must be a filter, as JSON: {error}"))?,
        payload: payload.map_err(|error| error.to_string())?,
        masked: role.masked.clone(),
    };
    permissions.check()?;
    Ok(permissions)
}

fn built_in(name: &str) -> Option<Role> {
    match name {
        "observer" => Some(Role::Observer),
        "publisher" => Some(Role::Publisher),
        "admin" => Some(Role::Admin),
        _ => None,
    }
}

/// The principal that has these permissions, all that they say put into it.
///
/// # Errors
/// What of them cannot be kept. Nobody is let in with less than was said about them.
fn principal(id: &str, permissions: &Permissions) -> Result<Principal, String> {
    let Permissions { role, subscribe, publish, history, rows, payload, masked } = permissions;
    let name = role.as_deref().unwrap_or("observer");
    let role = built_in(name).ok_or_else(|| format!("there is no role {name:?}"))?;
    let narrows = [subscribe, publish, history].into_iter().any(Option::is_some)
        || rows.is_some()
        || masked.is_some()
        || payload.is_some_and(|payload| payload != Payload::Full);
    if narrows {
        return Err("channels, rows and payloads cannot be restricted yet".into());
    }
    Ok(Principal::anonymous().named(id).with_role(role))
}
