//! What a configuration comes to, and what is said about a bad one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::time::Duration;

use newswire_server::config::{
    Backend, Change, Config, Inputs, KEYS, LogFormat, Policy, Reload, Sync, docs, load, load_with_settings,
};

/// Layers under test: the text of the file, environment variables, `--set` values.
fn layers(file: &str, environment: &[(&str, &str)], set: &[&str]) -> (tempfile::TempDir, Inputs) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("newswire.toml");
    std::fs::write(&path, file).unwrap();
    let inputs = Inputs {
        file: Some(path),
        environment: environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        set: set.iter().map(ToString::to_string).collect(),
        flags: Vec::new(),
    };
    (directory, inputs)
}

fn loaded(file: &str, environment: &[(&str, &str)], set: &[&str]) -> Config {
    let (_directory, inputs) = layers(file, environment, set);
    load(&inputs).unwrap_or_else(|error| panic!("{error}"))
}

/// The message, with the directory of the file left out.
fn refused(file: &str, environment: &[(&str, &str)], set: &[&str]) -> String {
    let (directory, inputs) = layers(file, environment, set);
    let error = load(&inputs).expect_err("the configuration was taken");
    error.to_string().replace(&format!("{}/", directory.path().display()), "")
}

#[test]
fn defaults_are_those_of_the_contract() {
    let config = loaded("", &[], &[]);
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.data_dir, PathBuf::from("./newswire-data"));
    assert_eq!(config.channels, ["tasks", "agents", "budget", "messages", "system"]);
    assert!(!config.arbitrary_channels_allowed);
    assert_eq!((config.log.backend, config.log.sync), (Backend::Embedded, Sync::Always));
    assert_eq!((config.log.dedup_window, config.log.dedup_max_ids), (Duration::from_secs(600), 1_000_000));
    let retention = &config.retention.all;
    assert_eq!((retention.max_age, retention.max_bytes, retention.max_events), (None, Some(10 << 30), None));
    assert!(config.retention.channels.is_empty());
    assert_eq!((config.backlog.policy, config.backlog.max_bytes), (Policy::CatchUp, 1 << 20));
    assert_eq!(config.heartbeat.interval, Duration::from_secs(25));
    assert_eq!(config.heartbeat.timeout, Duration::from_secs(10));
    assert_eq!(config.checkpoint.interval, Duration::from_secs(10));
    assert_eq!((config.limits.event_bytes, config.limits.command_bytes), (65_536, 4_096));
    assert_eq!(config.limits.channels, 10_000);
    assert_eq!(config.write.stall_timeout, Duration::from_secs(60));
    assert!(config.cors.origins.is_empty() && config.auth.mode.is_none());
    assert_eq!(config.logging.format, LogFormat::Human);
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let file = "[heartbeat]\ninterval = \"1m\"\ntimeout = \"2m\"\n[log]\nsync = \"os\"\n";
    let environment = [("NEWSWIRE_HEARTBEAT__TIMEOUT", "3m"), ("NEWSWIRE_LOG__SYNC", "interval")];
    let config = loaded(file, &environment, &["log.sync=always"]);
    assert_eq!(config.heartbeat.interval, Duration::from_secs(60), "file over default");
    assert_eq!(config.heartbeat.timeout, Duration::from_secs(180), "environment over file");
    assert_eq!(config.log.sync, Sync::Always, "flag over environment");
}

#[test]
fn a_named_flag_wins_over_set() {
    let (_directory, mut inputs) = layers("", &[], &["listen=127.0.0.1:1"]);
    inputs.flags.push(("--listen", "listen", "127.0.0.1:2".into()));
    assert_eq!(load(&inputs).unwrap().listen.port(), 2);
}

#[test]
fn each_way_of_writing_a_value_is_read() {
    let file = r#"
        channels = ["tasks", "builds", "a.b"]
        cors.origins = ["https://app.example"]
        [limits]
        event_bytes = 131_072
        [retention.channels.tasks]
        max_age = "7d"
        [retention.channels."a.b"]
        max_events = 5
    "#;
    let environment = [
        ("NEWSWIRE_RETENTION__MAX_BYTES", "none"),
        ("NEWSWIRE_RETENTION__CHANNELS__TASKS__MAX_BYTES", "64KiB"),
        ("NEWSWIRE_ARBITRARY_CHANNELS_ALLOWED", "true"),
        ("NEWSWIRE_ALLOWED_HOSTS", "feed.example, newswire"),
    ];
    let config =
        loaded(file, &environment, &["retention.channels.a.b.max_age=1h", "limits.connections=50_000"]);
    assert_eq!(config.channels, ["tasks", "builds", "a.b"]);
    assert_eq!(config.cors.origins, ["https://app.example"]);
    assert_eq!((config.limits.event_bytes, config.limits.connections), (131_072, 50_000));
    assert_eq!(config.retention.all.max_bytes, None);
    let tasks = &config.retention.channels["tasks"];
    assert_eq!((tasks.max_age, tasks.max_bytes), (Some(Duration::from_secs(7 * 86_400)), Some(64 << 10)));
    let dotted = &config.retention.channels["a.b"];
    assert_eq!((dotted.max_age, dotted.max_events), (Some(Duration::from_secs(3_600)), Some(5)));
    assert!(config.arbitrary_channels_allowed);
    assert_eq!(config.allowed_hosts, ["feed.example", "newswire"]);
}

#[test]
fn a_log_in_memory_keeps_less_unless_told_otherwise() {
    let kept =
        |set: &[&str]| loaded("", &[], &[&["log.backend=memory"], set].concat()).retention.all.max_bytes;
    assert_eq!(kept(&[]), Some(256 << 20));
    assert_eq!(kept(&["retention.max_bytes=10GiB"]), Some(10 << 30));
    assert_eq!(kept(&["retention.max_bytes=none"]), None);
}

#[test]
fn variables_that_are_no_keys_are_left_alone() {
    let environment = [
        ("NEWSWIRE_CONFIG", "/etc/newswire.toml"),
        ("NEWSWIRE_URL", "http://localhost:1"),
        ("NEWSWIRE_CA", "ca.pem"),
        ("NEWSWIRE_CERT", "me.pem"),
        ("NEWSWIRE_CERT_KEY", "me.key"),
        ("NEWSWIRE_TEST_ROUNDS", "10"),
        ("NEWSWIRE_SERVICE_HOST", "10.0.0.1"),
        ("NEWSWIRE_SERVICE_PORT_HTTP", "80"),
        ("NEWSWIRE_PORT", "tcp://10.0.0.1:80"),
        ("NEWSWIRE_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("NEWSWIRE_LISTEN", ""),
        ("PATH", "/bin"),
    ];
    assert_eq!(loaded("", &environment, &[]).listen.port(), 8080);
}

#[test]
fn unknown_keys_are_named_with_their_place_and_the_key_that_was_meant() {
    assert_eq!(
        refused("listen = \"127.0.0.1:1\"\n\n[log]\nsnyc = \"os\"\n", &[], &[]),
        "configuration: unknown key `log.snyc` (newswire.toml, line 4); did you mean `log.sync`?"
    );
    assert_eq!(
        refused("", &[("NEWSWIRE_LOG_SYNC", "os")], &[]),
        "configuration: unknown key `log_sync` (environment variable NEWSWIRE_LOG_SYNC); did you mean `log.sync`?"
    );
    assert_eq!(
        refused("", &[], &["policy=catch_up"]),
        "configuration: unknown key `policy` (flag --set); did you mean `backlog.policy`?"
    );
    assert_eq!(
        refused("[database]\nurl = \"x\"\n", &[], &[]),
        "configuration: unknown key `database` (newswire.toml, line 1); `newswire serve --help` lists the keys"
    );
    assert_eq!(
        refused("[retention.channels.tasks]\nmax_agee = \"1d\"\n", &[], &[]),
        "configuration: unknown key `retention.channels.tasks.max_agee` (newswire.toml, line 2); did you mean \
         `retention.channels.tasks.max_age`?"
    );
}

#[test]
fn bad_values_are_named_with_their_place_and_what_is_expected() {
    for (file, environment, set, said) in [
        (
            "[heartbeat]\ninterval = 25\n",
            None,
            None,
            "`heartbeat.interval` = 25 (newswire.toml, line 2): expected a duration from 1s to 1h, such as 250ms, \
             10s, 5m or 7d",
        ),
        (
            "",
            Some(("NEWSWIRE_LIMITS__EVENT_BYTES", "2MiB")),
            None,
            "`limits.event_bytes` = \"2MiB\" (environment variable NEWSWIRE_LIMITS__EVENT_BYTES): expected a size \
             from 1KiB to 1MiB, such as 64KiB or 1GiB",
        ),
        (
            "",
            None,
            Some("log.backend=postgres"),
            "`log.backend` = \"postgres\" (flag --set): expected embedded, memory, jetstream or redis",
        ),
        (
            "",
            None,
            Some("backlog.policy=drop"),
            "`backlog.policy` = \"drop\" (flag --set): expected catch_up, drop_newest, drop_oldest or disconnect",
        ),
        ("", None, Some("auth.mode=jwt"), "`auth.mode` = \"jwt\" (flag --set): expected none or token"),
        (
            "channels = \"tasks\"\n",
            None,
            None,
            "`channels` = \"tasks\" (newswire.toml, line 1): expected a list of channel names of 1 to 128 \
             characters of A-Z a-z 0-9 _ . : # @ -",
        ),
        (
            "[cors]\norigins = [\"*\"]\n",
            None,
            None,
            "`cors.origins` = [\"*\"] (newswire.toml, line 2): expected a list of origins such as \
             https://app.example or http://localhost:5173, without path or wildcard",
        ),
        (
            "listen = 8080\n",
            None,
            None,
            "`listen` = 8080 (newswire.toml, line 1): expected host:port, such as 127.0.0.1:8080, [::1]:8080 or \
             0.0.0.0:8080",
        ),
        (
            "log = 1.5\n",
            None,
            None,
            "`log` = 1.5 (newswire.toml, line 1): expected a table, [log], with keys in it",
        ),
        ("", None, Some("log.sync"), "`--set log.sync`: expected key=value, such as --set log.sync=interval"),
        (
            "",
            None,
            Some("logging.level=loud"),
            "`logging.level` = \"loud\" (flag --set): expected error, warn, info, debug, trace or off, or levels per \
             module such as info,newswire_log=debug",
        ),
        (
            "",
            None,
            Some("retention.max_events=0"),
            "`retention.max_events` = \"0\" (flag --set): expected a number from 1 to 9007199254740992, or none",
        ),
    ] {
        let environment: Vec<_> = environment.into_iter().collect();
        let set: Vec<_> = set.into_iter().collect();
        assert_eq!(refused(file, &environment, &set), format!("configuration: {said}"));
    }
}

#[test]
fn everything_wrong_is_said_at_once() {
    assert_eq!(
        refused("[log]\nsnyc = 1\nsync = \"never\"\n", &[("NEWSWIRE_SHUTDOWN__TIMEOUT", "soon")], &[]),
        "configuration: 3 problems\n  \
         - unknown key `log.snyc` (newswire.toml, line 2); did you mean `log.sync`?\n  \
         - `log.sync` = \"never\" (newswire.toml, line 3): expected always, interval or os\n  \
         - `shutdown.timeout` = \"soon\" (environment variable NEWSWIRE_SHUTDOWN__TIMEOUT): expected a duration from \
         0ms to 1h, such as 250ms, 10s, 5m or 7d"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    assert_eq!(
        refused("listen = \n", &[], &[]).split("): ").next(),
        Some("configuration: not TOML (newswire.toml, line 1")
    );
    let missing = Inputs { file: Some("/nonexistent/newswire.toml".into()), ..Inputs::default() };
    let said = load(&missing).expect_err("there is no such file").to_string();
    assert!(said.starts_with("configuration: cannot read /nonexistent/newswire.toml: "), "{said}");
}

#[test]
fn values_that_do_not_go_together_are_refused() {
    for (set, said) in [
        (
            "listen=0.0.0.0:8080",
            "configuration: `listen` = \"0.0.0.0:8080\" (flag --set): without authentication the server listens on \
             loopback only, because everybody who can reach it may read and publish; listen on 127.0.0.1, or give it \
             credentials (`newswire token secret FILE`, then --set auth.jwt.secret_file=FILE; docs/security.md), or set \
             `auth.mode` to \"none\" (--set auth.mode=none) if the network in front of it decides who may",
        ),
        (
            "retention.channels.builds.max_age=1d",
            "configuration: `retention.channels.builds`: there is no channel `builds`; add it to `channels`, or \
             remove its retention",
        ),
        (
            "limits.channels=4",
            "configuration: `channels` (default) names more channels than `limits.channels` (flag --set) allows",
        ),
        (
            "jetstream.user=newswire",
            "configuration: `jetstream.user` and `jetstream.password_file` go together",
        ),
        (
            "jetstream.tls_key=nats.key",
            "configuration: `jetstream.tls_cert` and `jetstream.tls_key` go together",
        ),
    ] {
        assert_eq!(refused("", &[], &[set]), said);
    }
    let small = refused("", &[], &["backlog.max_bytes=64KiB", "limits.event_bytes=65KiB"]);
    assert!(small.contains("`backlog.max_bytes` (flag --set) is less than `limits.event_bytes`"), "{small}");
}

#[test]
fn an_open_server_beyond_loopback_has_to_be_asked_for() {
    let config = loaded("", &[], &["listen=0.0.0.0:8080", "auth.mode=none"]);
    assert!(!config.listen.is_loopback() && config.auth.mode.is_some());
    for loopback in ["127.0.0.1:1", "[::1]:1", "localhost:1"] {
        assert!(loaded("", &[], &[&format!("listen={loopback}")]).auth.mode.is_none());
    }
}

#[test]
fn the_written_pages_are_those_of_the_table() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (file, written, flag) in [
        ("docs/configuration.md", docs::markdown(), "--print-config-docs"),
        ("newswire.example.toml", docs::example_file(), "--print-config-example"),
    ] {
        let current = std::fs::read_to_string(root.join(file)).unwrap_or_default();
        assert!(
            current == written,
            "{file} does not say what the table of keys says; refresh it:\n  cargo run -q -p newswire-server -- serve \
             {flag} > {file}"
        );
    }
}

#[test]
fn every_key_is_shown_with_its_value_and_its_place() {
    let file = "[heartbeat]\ninterval = \"1m\"\n[retention.channels.\"a.b\"]\nmax_events = 5\n";
    let environment =
        [("NEWSWIRE_ARBITRARY_CHANNELS_ALLOWED", "true"), ("NEWSWIRE_CHANNELS", "tasks, builds")];
    let (directory, inputs) =
        layers(file, &environment, &["retention.max_bytes=none", "limits.connections=50_000"]);
    let (config, settings) = load_with_settings(&inputs).unwrap();
    let page = settings.effective();
    let shown = page.replace(&format!("{}/", directory.path().display()), "");
    for (assignment, place) in [
        ("listen = \"127.0.0.1:8080\"", "default"),
        ("channels = [\"tasks\", \"builds\"]", "environment variable NEWSWIRE_CHANNELS"),
        ("arbitrary_channels_allowed = true", "environment variable NEWSWIRE_ARBITRARY_CHANNELS_ALLOWED"),
        ("heartbeat.interval = \"1m\"", "newswire.toml, line 2"),
        ("heartbeat.timeout = \"10s\"", "default"),
        ("retention.max_bytes = \"none\"", "flag --set"),
        ("retention.channels.\"a.b\".max_events = 5", "newswire.toml, line 4"),
        ("limits.connections = 50000", "flag --set"),
    ] {
        let line =
            shown.lines().find(|line| line.starts_with(&format!("{assignment} "))).unwrap_or_else(|| {
                panic!("no {assignment} in\n{shown}");
            });
        assert_eq!(line.split_once("  # ").map(|(_, place)| place), Some(place), "{line}");
    }
    for key in KEYS {
        assert!(key.path.contains('<') || page.contains(key.path), "{}", key.path);
    }
    // What is shown is what is meant: as a file it comes to the same.
    let (_directory, again) = layers(&page, &[], &[]);
    let (same, settings_again) = load_with_settings(&again).unwrap();
    assert_eq!(format!("{same:?}"), format!("{config:?}"));
    assert_eq!(settings.changes(&settings_again), []);
}

#[test]
fn a_default_that_follows_another_key_is_shown_as_it_is() {
    let (_directory, inputs) = layers("", &[], &["log.backend=memory"]);
    let shown = load_with_settings(&inputs).unwrap().1.effective();
    assert!(shown.contains("retention.max_bytes = \"256MiB\""), "{shown}");
}

#[test]
fn what_a_reload_changes_is_named_with_both_values() {
    let (_directory, before) = layers("logging.level = \"info\"\n", &[], &["heartbeat.interval=1m"]);
    let after =
        "logging.level = \"debug\"\nring.max_bytes = \"32MiB\"\nretention.channels.tasks.max_age = \"1d\"\n";
    let (_directory, after) = layers(after, &[], &["heartbeat.interval=60s", "retention.max_bytes=none"]);
    let settings = |inputs| load_with_settings(inputs).unwrap().1;
    let change = |key: &str, reload, old: &str, new: &str| Change {
        key: key.into(),
        reload,
        old: old.into(),
        new: new.into(),
    };
    assert_eq!(
        settings(&before).changes(&settings(&after)),
        [
            change("retention.max_bytes", Reload::AtOnce, "\"10GiB\"", "\"none\""),
            change("retention.channels.tasks.max_age", Reload::AtOnce, "not set", "\"1d\""),
            change("ring.max_bytes", Reload::Restart, "\"16MiB\"", "\"32MiB\""),
            change("logging.level", Reload::AtOnce, "\"info\"", "\"debug\""),
        ]
    );
}
