//! The files in `deploy/` are taken by the programs that they are for, and lead to a deployment that works.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use newswire_street_tests::daemon::{Daemon, free_port};
use newswire_street_tests::deployment::{Deployment, LETTERS, file, replaced};
use newswire_street_tests::haproxy::{self, Front, HaProxy};
use newswire_street_tests::nats::NatsServer;
use newswire_street_tests::{binary, clients, documents, eventually, tools};
use serde_json::{Value, json};

/// Both streams of a program, and whether it was content.
fn said(output: &Output) -> (bool, String) {
    let text = [&output.stdout, &output.stderr].map(|stream| String::from_utf8_lossy(stream).into_owned());
    (output.status.success(), text.concat())
}

/// What a node says of its configuration, with this in its environment.
fn config_check(environment: &[(&str, String)]) -> (bool, String) {
    let mut check = clients::command(&["config", "check"]);
    said(&check.envs(environment.iter().map(|(name, value)| (name, value))).output().unwrap())
}

#[test]
fn a_node_takes_its_configuration() {
    let deployment = Deployment::new();
    let (good, text) = config_check(&deployment.environment());
    assert!(good, "{text}");
    // Which secret is missing is said; without that of the tokens it does not serve everybody instead.
    let [file, password, tokens] = deployment.environment();
    for (environment, missing) in
        [([file.clone(), tokens], "jetstream.password_file"), ([file, password], "auth.jwt.secret_file")]
    {
        let (good, text) = config_check(&environment);
        assert!(!good && text.contains(missing), "{text}");
    }
}

#[test]
fn nats_takes_its_configuration() {
    let deployment = Deployment::new();
    for (number, letter) in LETTERS.iter().enumerate() {
        let (daemon, monitor) = (Daemon::new(&format!("nats-{letter}")), free_port());
        let text = deployment.nats_conf(number, monitor, daemon.home());
        let server = NatsServer::configured(monitor, monitor, daemon, &text);
        let (good, text) = said(&server.command().arg("-t").output().unwrap());
        assert!(good, "{text}");
    }
}

#[test]
fn haproxy_takes_its_configuration() {
    let deployment = Deployment::new();
    let nodes = [(); 3].map(|()| free_port());
    let path = deployment.secret("haproxy.cfg");
    let check = |text: &str| {
        std::fs::write(&path, text).unwrap();
        said(&haproxy::command().arg("-c").arg("-f").arg(&path).output().unwrap())
    };
    let text = haproxy::here(&nodes, free_port(), Front::Tls(&deployment.secret("feed.pem")));
    let (good, words) = check(&text);
    assert!(good && !words.contains("WARNING"), "{words}");
    assert!(!check(&replaced(&text, "leastconn", "leastcon")).0, "a mistake is found");
}

/// What `systemd-analyze verify` says of a unit, whose program is here.
fn verify(name: &str, from: &str, to: &Path, home: &Path) -> Option<(bool, String)> {
    let unit = home.join(name);
    let text = replaced(&file(&format!("systemd/{name}")), from, &to.display().to_string());
    std::fs::write(&unit, text).unwrap();
    let ran = Command::new("systemd-analyze").arg("verify").arg(&unit).output();
    ran.ok().map(|output| said(&output))
}

#[test]
fn systemd_takes_the_units() {
    let home = tempfile::tempdir().unwrap();
    let (newswire, nats) = (binary::newswire(), home.path().join("nats-server"));
    std::os::unix::fs::symlink("/bin/true", &nats).unwrap();
    let units = [
        ("newswire.service", "/usr/local/bin/newswire", newswire),
        ("nats-server.service", "/usr/local/bin/nats-server", nats.as_path()),
    ];
    for (name, from, to) in units {
        let Some((good, text)) = verify(name, from, to, home.path()) else {
            eprintln!("skipped: there is no systemd-analyze on this machine");
            return;
        };
        // It speaks of all units of the machine; ours are to have nothing.
        let ours: Vec<&str> = text.lines().filter(|line| line.contains(name)).collect();
        assert!(good && ours.is_empty(), "{name}: {text}");
    }
    let (good, text) =
        verify("newswire.service", "LimitNOFILE", Path::new("LimitNOFILES"), home.path()).unwrap();
    assert!(!good || text.contains("LimitNOFILES"), "a mistake is found: {text}");
}

#[test]
fn the_page_installs_what_is_looked_for() {
    let page = documents::read("docs/operations.md");
    let blocks = documents::blocks(&page).into_iter().filter(|(info, _)| *info == "sh install");
    // On this machine nobody is to be made, and nothing to be started.
    let lines = blocks
        .flat_map(|(_, text)| text.lines())
        .filter(|line| !["useradd", "systemctl"].iter().any(|word| line.starts_with(word)));
    let script: String = lines.map(|line| format!("{line}\n")).collect();
    let (deployment, home) = (Deployment::new(), tempfile::tempdir().unwrap());
    let etc = home.path().join("etc");
    for dir in ["haproxy", "systemd/system"] {
        std::fs::create_dir_all(etc.join(dir)).unwrap();
    }
    let secrets = deployment.secret("").display().to_string();
    let script =
        [(" -g nats", ""), (" secrets/", &format!(" {secrets}")), ("/etc/", &format!("{}/", etc.display()))]
            .into_iter()
            .fold(script, |script, (from, to)| replaced(&script, from, to));
    tools::succeeds(
        Command::new("bash").args(["-eu", "-c", &script]).current_dir(binary::workspace_root()),
        "",
    );

    let mut looked_for =
        BTreeSet::from(["/etc/nats/auth.conf".to_owned(), "/etc/haproxy/haproxy.cfg".to_owned()]);
    for name in ["nats.conf", "newswire.toml", "haproxy.cfg"] {
        looked_for.extend(paths(&file(name)));
    }
    for name in ["newswire.service", "nats-server.service"] {
        assert!(etc.join("systemd/system").join(name).exists(), "{name}");
        looked_for.extend(paths(&file(&format!("systemd/{name}"))));
    }
    assert!(looked_for.len() > 9, "{looked_for:?}");
    for path in looked_for {
        assert!(etc.join(path.trim_start_matches("/etc/")).exists(), "{path} is not installed:\n{script}");
    }
}

/// What a configuration names below `/etc`.
fn paths(text: &str) -> impl Iterator<Item = String> {
    let settings = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let words = settings.flat_map(|line| line.split([' ', '"', '=', ':']));
    words.filter(|word| word.starts_with("/etc/")).map(str::to_owned)
}

/// YAML with its merges done.
fn compose() -> Value {
    let script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin)))";
    let said = tools::succeeds(tools::python_tool("python").args(["-c", script]), file("compose.yaml"));
    serde_json::from_str(&said).unwrap()
}

/// The keys of an object.
fn names(value: &Value) -> BTreeSet<&str> {
    value.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

/// What a service mounts of one kind, by the name of what is mounted: where.
fn mounted(service: &Value, kind: &str) -> Vec<(String, String)> {
    let mounts = service[kind].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    mounts
        .map(|mount| match mount.as_str() {
            Some(name) => (name.to_owned(), format!("/run/secrets/{name}")),
            None => (text(&mount["source"]), text(&mount["target"])),
        })
        .collect()
}

#[test]
fn compose_brings_every_file_to_where_it_is_looked_for() {
    let (compose, deployment) = (compose(), Deployment::new());
    let services = &compose["services"];
    let all: BTreeSet<String> =
        LETTERS.iter().flat_map(|letter| [format!("node-{letter}"), format!("nats-{letter}")]).collect();
    let mut expected: BTreeSet<&str> = all.iter().map(String::as_str).collect();
    expected.insert("balancer");
    assert_eq!(names(services), expected, "the names that the configurations have");
    for kind in ["configs", "secrets"] {
        for (name, source) in compose[kind].as_object().unwrap() {
            let path = source["file"].as_str().unwrap();
            let there = match path.strip_prefix("secrets/") {
                Some(secret) => deployment.secret(secret).exists(),
                None => binary::workspace_root().join("deploy").join(path).exists(),
            };
            assert!(there, "{kind}: {name} is {path}");
        }
        let used: BTreeSet<String> = services
            .as_object()
            .unwrap()
            .values()
            .flat_map(|service| mounted(service, kind).into_iter().map(|(name, _)| name))
            .collect();
        assert_eq!(used, names(&compose[kind]).into_iter().map(str::to_owned).collect(), "{kind}");
    }
    for letter in LETTERS {
        let node = &services[format!("node-{letter}")];
        let mut looked_for = vec!["/etc/newswire/newswire.toml", "/etc/newswire/ca.pem"];
        for (_, file) in node["environment"].as_object().unwrap() {
            looked_for.push(file.as_str().unwrap());
        }
        expect_mounts(node, &looked_for);
        assert!(node["volumes"][0].as_str().unwrap().ends_with(":/var/lib/newswire"), "{node}");
        let nats = &services[format!("nats-{letter}")];
        assert_eq!(nats["environment"]["NATS_NAME"], format!("nats-{letter}"));
        assert!(nats["volumes"][0].as_str().unwrap().ends_with(":/var/lib/nats"), "{nats}");
        expect_mounts(
            nats,
            &["nats.conf", "auth.conf", "tls.pem", "tls.key", "ca.pem"]
                .map(|name| format!("/etc/nats/{name}")),
        );
        assert!(
            mounted(nats, "secrets")
                .contains(&(format!("nats-{letter}-key"), "/etc/nats/tls.key".to_owned()))
        );
    }
    expect_mounts(&services["balancer"], &["/usr/local/etc/haproxy/haproxy.cfg", "/etc/haproxy/feed.pem"]);
    let address = services["balancer"]["networks"]["default"]["ipv4_address"].as_str().unwrap();
    assert!(file("newswire.toml").contains(&format!("trusted_proxies = [\"{address}\"]")));
}

/// A service finds exactly these files.
fn expect_mounts(service: &Value, files: &[impl AsRef<str>]) {
    let mounts = ["configs", "secrets"].map(|kind| mounted(service, kind)).concat();
    let there: BTreeSet<&str> = mounts.iter().map(|(_, target)| target.as_str()).collect();
    assert_eq!(there, files.iter().map(AsRef::as_ref).collect(), "{service}");
}

#[test]
fn the_image_is_built_from_what_the_workspace_needs() {
    let manifest = std::fs::read_to_string(binary::workspace_root().join("Cargo.toml")).unwrap();
    let members = manifest.split("members = [").nth(1).unwrap().split(']').next().unwrap();
    let members: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    assert!(members.contains(&"examples"), "{members:?}");
    let let_in = file("Dockerfile.dockerignore");
    for member in members {
        let top = member.split('/').next().unwrap();
        assert!(let_in.lines().any(|line| line == format!("!{top}")), "{member} is left out");
    }
    for copied in ["Cargo.toml", "Cargo.lock"] {
        assert!(let_in.contains(&format!("!{copied}\n")), "{copied}");
    }
}

/// Asks a node as its container is asked.
fn is_healthy(node: SocketAddr) -> bool {
    let check = compose()["services"]["node-a"]["healthcheck"]["test"].clone();
    let words: Vec<&str> = check.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    let [_, program, option, script] = words[..] else { panic!("{words:?}") };
    let script = replaced(script, "127.0.0.1/8080", &format!("127.0.0.1/{}", node.port()));
    Command::new(program).args([option, &script]).output().unwrap().status.success()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_over_three_servers_behind_the_load_balancer_serve_through_restarts() {
    let deployment = Deployment::new();
    let (mut nats, mut nodes) = tokio::task::block_in_place(|| {
        let nats = deployment.start_nats();
        (nats, [(); 3].map(|()| deployment.node().start()))
    });
    let addrs = [0, 1, 2].map(|number: usize| nodes[number].addr);
    let feed = deployment.secret("feed.pem");
    let balancer = tokio::task::block_in_place(|| HaProxy::start(&addrs, Front::Tls(&feed)));

    // As an operator would: a token by the secret, and the commands through the front.
    let secret = deployment.secret("auth-secret").display().to_string();
    let token =
        clients::run(&["token", "jwt", "--secret-file", &secret, "--subject", "ops", "--role", "publisher"]);
    let token_file = deployment.secret("token");
    std::fs::write(&token_file, &token.stdout).unwrap();
    let url = format!("https://localhost:{}", balancer.addr().port());
    let (token_file, ca) =
        (token_file.display().to_string(), deployment.secret("ca.pem").display().to_string());
    let reach = ["--url", &url, "--ca", &ca, "--token-file", &token_file];

    let tail = clients::start(&[&["tail", "tasks", "--after", "0", "--json"][..], &reach].concat());
    let mut expected = Vec::new();
    for restarted in 0..3 {
        for (node, when) in [(None, "before"), (Some(restarted), "while it is away")] {
            if let Some(node) = node {
                let status = tokio::task::block_in_place(|| nodes[node].stop());
                assert!(status.success(), "{}", nodes[node].stderr());
                assert!(!is_healthy(addrs[node]));
            }
            let id = format!("node {restarted}, {when}");
            let event =
                json!({"channel": "tasks", "event_type": "task.created", "event_id": id, "payload": {}});
            let path = deployment.secret("events.jsonl");
            std::fs::write(&path, event.to_string()).unwrap();
            let path = path.display().to_string();
            let publish = [&["publish", "--again", &path][..], &reach].concat();
            let output = tokio::task::block_in_place(|| clients::run(&publish));
            assert!(output.status.success(), "{}", said(&output).1);
            expected.push(id);
        }
        tokio::task::block_in_place(|| nodes[restarted].restart());
        eventually("the node is ready", async || {
            (nodes[restarted].http().get("/health/ready").await.status == 200).then_some(())
        })
        .await;
        assert!(is_healthy(addrs[restarted]));
    }
    let shown = || -> Vec<String> {
        let events = tail.lines().into_iter().map(|line| serde_json::from_str::<Value>(&line).unwrap());
        events.map(|event| event["event_id"].as_str().unwrap().to_owned()).collect()
    };
    eventually("everything is shown", async || (shown().len() >= expected.len()).then_some(())).await;
    assert_eq!(shown(), expected, "each once, in order; {:?}", tail.errors());

    // Without the servers no node is ready, and what there is can be read all the same.
    tokio::task::block_in_place(|| nats.servers.iter_mut().for_each(|server| server.kill()));
    for node in &nodes {
        eventually("the node says so", async || {
            (node.http().get("/health/ready").await.status == 503).then_some(())
        })
        .await;
    }
    // Until the balancer knows.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let output = tokio::task::block_in_place(|| clients::run(&[&["export"][..], &reach].concat()));
    let (good, text) = said(&output);
    assert!(good && expected.iter().all(|id| text.contains(id.as_str())), "{text}");

    // Nor is anybody let in without a token.
    assert_eq!(nodes[0].http().get("/events").await.status, 401);
}
