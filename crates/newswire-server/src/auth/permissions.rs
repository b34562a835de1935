//! What an identity may do and see: the `newswire` claim of a token, and roles of the configuration.

use std::collections::BTreeMap;

use newswire::{Action, AuthError, Filter, Grants, Principal, Role, RowRule, Variant};
use newswire_protocol::FilterSpec;
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
        "operator" => Some(Role::Operator),
        "admin" => Some(Role::Admin),
        _ => None,
    }
}

/// The principal that has these permissions, all that they say put into it.
///
/// # Errors
/// What of them cannot be kept. Nobody is let in with less than was said about them.
fn principal(id: &str, permissions: &Permissions) -> Result<Principal, String> {
    let name = permissions.role.as_deref().unwrap_or("observer");
    let role = built_in(name).ok_or_else(|| format!("there is no role {name:?}"))?;
    let principal = Principal::new(id).with_role(role).with_grants(grants(permissions)?);
    Ok(principal.with_row_rule(row_rule(permissions)?).with_variant(variant(permissions)?))
}

fn grants(permissions: &Permissions) -> Result<Grants, String> {
    let lists = [
        (Action::Subscribe, &permissions.subscribe),
        (Action::Publish, &permissions.publish),
        (Action::History, &permissions.history),
    ];
    let mut grants = Grants::all();
    for (action, channels) in lists {
        if let Some(channels) = channels {
            grants = grants.with(action, channels).map_err(|error| error.to_string())?;
        }
    }
    Ok(grants)
}

fn row_rule(permissions: &Permissions) -> Result<RowRule, String> {
    let Some(rows) = &permissions.rows else { return Ok(RowRule::AlwaysTrue) };
    let spec = FilterSpec::parse(&Value::Object(rows.clone()).to_string());
    let spec = spec.map_err(|refusal| format!("rows: {refusal}"))?;
    Ok(RowRule::only(Filter::compile(&spec)))
}

fn variant(permissions: &Permissions) -> Result<Variant, String> {
    let masked = permissions.masked.as_deref().unwrap_or_default();
    match permissions.payload {
        Some(Payload::None) => Ok(Variant::None),
        Some(Payload::Full) if !masked.is_empty() => Err("payload full, and fields that are masked".into()),
        Some(Payload::Redacted) if masked.is_empty() => {
            Err("payload redacted, but no fields are masked".into())
        }
        // Who names fields means them to be masked.
        _ => Ok(Variant::masking(masked.iter().map(String::as_str))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(claim: Value) -> Result<Principal, String> {
        let permissions: Permissions = serde_json::from_value(claim).map_err(|error| error.to_string())?;
        permissions.check()?;
        principal("sarah", &permissions)
    }

    #[test]
    fn a_claim_comes_to_a_principal() {
        let plain = read(json!({})).unwrap();
        assert_eq!(plain, Principal::new("sarah"));
        assert!(plain.may(Action::History, "tasks") && !plain.may(Action::Subscribe, "user:tom"));
        let narrow = read(
            json!({"role": "publisher", "subscribe": ["tasks", "room:*"], "publish": [], "history": ["tasks"]}),
        );
        let narrow = narrow.unwrap();
        assert!(narrow.may(Action::Subscribe, "room:1") && narrow.may(Action::Publish, "user:sarah"));
        for (action, channel) in
            [(Action::Subscribe, "budget"), (Action::Publish, "tasks"), (Action::History, "room:1")]
        {
            assert!(!narrow.may(action, channel), "{action} {channel}");
        }
        let rows = read(json!({"rows": {"project": ["proj-456"]}})).unwrap();
        assert!(!rows.sees_all_rows() && read(json!({"rows": {}})).unwrap().sees_all_rows());
        for (claim, variant) in [
            (json!({"payload": "full"}), Variant::Full),
            (json!({"payload": "none"}), Variant::None),
            (json!({"payload": "none", "masked": ["cost"]}), Variant::None),
            (json!({"payload": "redacted", "masked": ["cost"]}), Variant::masking(["cost"])),
            (json!({"masked": ["cost"]}), Variant::masking(["cost"])),
        ] {
            assert_eq!(read(claim.clone()).unwrap().variant, variant, "{claim}");
        }
    }

    #[test]
    fn what_cannot_be_kept_lets_nobody_in() {
        for claim in [
            json!({"role": "emperor"}),
            json!({"subscribe": ["a b"]}),
            json!({"subscribe": "tasks"}),
            json!({"rows": ["project"]}),
            json!({"rows": {"project": {"x": 1}}}),
            json!({"rows": {"project": null}}),
            json!({"payload": "some"}),
            json!({"payload": "redacted"}),
            json!({"payload": "full", "masked": ["cost"]}),
            json!({"publish": vec!["x"; MAX_NAMES + 1]}),
            json!({"everything": true}),
        ] {
            assert!(read(claim.clone()).is_err(), "{claim}");
        }
    }

    #[test]
    fn a_role_of_the_configuration_is_a_base_and_the_claim_stands_over_it() {
        let mut config = AuthConfig::default();
        let viewer = RoleConfig {
            subscribe: Some(vec!["tasks".into()]),
            rows: Some(r#"{"project":"a"}"#.into()),
            payload: Some("redacted".into()),
            masked: Some(vec!["cost".into()]),
            ..RoleConfig::default()
        };
        config.roles.insert("viewer".into(), viewer);
        let roles = Roles::read(&config).unwrap();
        let of = |claim: Value| roles.principal("sarah", &serde_json::from_value(claim).unwrap());
        let viewer = of(json!({"role": "viewer"})).unwrap();
        assert!(viewer.role == Role::Observer && !viewer.may(Action::Subscribe, "budget"));
        assert!(viewer.variant.hides("cost") && viewer.row_rule != RowRule::AlwaysTrue);
        let more = of(json!({"role": "viewer", "subscribe": ["budget"]})).unwrap();
        assert!(more.may(Action::Subscribe, "budget") && more.row_rule == viewer.row_rule);
        assert!(of(json!({"role": "nobody"})).is_err());
        for (name, role) in [
            ("admin", RoleConfig::default()),
            ("x", RoleConfig { role: Some("viewer".into()), ..RoleConfig::default() }),
            ("x", RoleConfig { rows: Some("project=a".into()), ..RoleConfig::default() }),
            ("x", RoleConfig { publish: Some(vec!["a b".into()]), ..RoleConfig::default() }),
        ] {
            let mut config = AuthConfig::default();
            config.roles.insert(name.into(), role);
            assert!(Roles::read(&config).is_err(), "{name}");
        }
    }
}
