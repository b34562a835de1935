//! What Redis promises to keep, as far as it tells.

use std::collections::HashMap;

use super::connect::Connection;
use super::options::RedisError;

/// Refuses a server that is too old and says in one line of the log what it keeps. What may not be asked is not known.
pub(super) async fn look(connection: &Connection) -> Result<(), RedisError> {
    let info = info(connection, "server").await;
    if let Some(version) = info.get("redis_version")
        && is_old(version)
    {
        return Err(RedisError::Version { version: version.clone() });
    }
    let info = self::info(connection, "persistence").await;
    let setting = async |name: &str| {
        let mut command = ::redis::cmd("CONFIG");
        command.arg("GET").arg(name);
        connection.look::<HashMap<String, String>>(&command).await?.remove(name)
    };
    let (fsync, policy) = (setting("appendfsync").await, setting("maxmemory-policy").await);
    match (info.get("aof_enabled").map(String::as_str), fsync.as_deref()) {
        (Some("1"), Some("always")) => {
            tracing::info!("Redis keeps what it acknowledged (appendfsync always)");
        }
        (Some("1"), Some("everysec")) => {
            tracing::warn!("Redis may lose the last second when its machine fails (appendfsync everysec)");
        }
        (Some("1"), fsync) => {
            tracing::warn!(
                fsync,
                "Redis keeps an append-only file; when it is synced is up to the system or not known"
            );
        }
        (Some(_), _) => {
            tracing::warn!(
                "Redis keeps no append-only file: a restart loses what came after the last snapshot"
            );
        }
        (None, _) => tracing::warn!("what Redis keeps over a restart is not known: it may not be asked"),
    }
    if let Some(policy) = policy.filter(|policy| policy != "noeviction") {
        tracing::warn!(policy, "Redis may remove events when its memory is full (maxmemory-policy)");
    }
    Ok(())
}

async fn info(connection: &Connection, section: &str) -> HashMap<String, String> {
    let mut command = ::redis::cmd("INFO");
    command.arg(section);
    let text = connection.look::<String>(&command).await.unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

fn is_old(version: &str) -> bool {
    let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (6, 2)
}

#[cfg(test)]
mod tests {
    use super::is_old;

    #[test]
    fn versions_are_numbers() {
        assert!(is_old("6.0.16") && is_old("5.0.7"));
        assert!(!is_old("6.2.0") && !is_old("7.0.15") && !is_old("10.1.0"));
    }
}
