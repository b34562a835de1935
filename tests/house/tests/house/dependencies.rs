//! Absences in the dependency graph, over `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};

use crate::{assert_found, assert_none, tree};

/// What a room must not reach, not even through another crate, in its library or binary.
const NOT_REACHED: &[(&str, &[&str])] = &[
    ("newswire-protocol", &["tokio", "hyper", "axum", "clap", "toml", "newswire-core"]),
    (
        "newswire-core",
        &["tokio", "mio", "socket2", "hyper", "axum", "rand", "fastrand", "tracing", "newswire-log"],
    ),
    ("newswire-log", &["axum", "hyper", "tower", "reqwest", "tokio-tungstenite", "clap", "toml", "newswire"]),
    ("newswire", &["clap", "toml", "newswire-server", "newswire-client", "reqwest", "tracing-subscriber"]),
    ("newswire-client", &["newswire-core", "newswire-log", "newswire", "axum", "clap", "toml"]),
    (
        "newswire-load",
        &["newswire-core", "newswire-log", "newswire", "newswire-client", "tokio", "axum", "hyper", "clap"],
    ),
];

/// All that `newswire-core` may name in its own manifest: pure computation and data.
const CORE_MAY_USE: &[&str] =
    &["newswire-protocol", "bytes", "uuid", "thiserror", "rustc-hash", "parking_lot"];

/// Engines live behind optional dependencies of the log, nowhere else.
const ENGINES: &[&str] = &["async-nats", "nats", "redis", "fred"];
const ENGINES_LIVE_IN: &str = "newswire-log";
/// The features that they are behind, and who may ask for them: applications of the library do not build what they do not use.
const ENGINE_FEATURES: &[&str] = &["jetstream", "redis"];
const ENGINES_SHIPPED_BY: &str = "newswire-server";

/// Features of our own crates that are for tests, and must not reach a library or binary.
const TEST_FEATURES: &[&str] = &["seeded-bugs", "testing"];

/// Normal dependencies between packages, by name: what ends up in a library or binary.
struct Graph {
    edges: BTreeMap<String, BTreeSet<String>>,
    /// (package, dependency, optional, normal) as written in the manifests of the workspace.
    declared: Vec<(String, String, bool, bool)>,
    /// (package, dependency, feature) of normal dependencies, and (package, package, feature) of default features.
    asked_features: Vec<(String, String, String)>,
}

impl Graph {
    fn of(metadata: &Metadata) -> Self {
        let names: BTreeMap<&PackageId, &str> =
            metadata.packages.iter().map(|package| (&package.id, package.name.as_str())).collect();
        let resolve = metadata.resolve.as_ref().expect("cargo metadata resolves the graph");
        let edges = resolve
            .nodes
            .iter()
            .map(|node| {
                let normal = node
                    .deps
                    .iter()
                    .filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal));
                (names[&node.id].to_owned(), normal.map(|dep| names[&dep.pkg].to_owned()).collect())
            })
            .collect();
        let packages = metadata.workspace_packages();
        let asked_features = packages.iter().flat_map(|package| asked_features(package)).collect();
        let declared = packages.into_iter().flat_map(declared).collect();
        Self { edges, declared, asked_features }
    }

    /// The shortest way from `from` to `to`, as `a → b → c`.
    fn way(&self, from: &str, to: &str) -> Option<String> {
        let mut seen = BTreeSet::from([from.to_owned()]);
        let mut open = VecDeque::from([vec![from.to_owned()]]);
        while let Some(way) = open.pop_front() {
            let last = way.last().expect("a way is never empty");
            for next in self.edges.get(last).into_iter().flatten() {
                let longer: Vec<String> = way.iter().chain([next]).cloned().collect();
                if next == to {
                    return Some(longer.join(" → "));
                }
                if seen.insert(next.clone()) {
                    open.push_back(longer);
                }
            }
        }
        None
    }
}

fn declared(package: &Package) -> Vec<(String, String, bool, bool)> {
    let name = package.name.to_string();
    let row = |dep: &cargo_metadata::Dependency| {
        (name.clone(), dep.name.clone(), dep.optional, dep.kind == DependencyKind::Normal)
    };
    package.dependencies.iter().map(row).collect()
}

fn asked_features(package: &Package) -> Vec<(String, String, String)> {
    let name = package.name.to_string();
    let normal = package.dependencies.iter().filter(|dep| dep.kind == DependencyKind::Normal);
    let mut found: Vec<_> = normal
        .flat_map(|dep| dep.features.iter().map(|feature| (name.clone(), dep.name.clone(), feature.clone())))
        .collect();
    let defaults = package.features.get("default").into_iter().flatten();
    found.extend(defaults.map(|feature| (name.clone(), name.clone(), feature.clone())));
    found
}

fn graph() -> Graph {
    let command = MetadataCommand::new().manifest_path(tree::root().join("Cargo.toml")).clone();
    Graph::of(&command.exec().expect("cargo metadata runs"))
}

fn reached(graph: &Graph) -> Vec<String> {
    let mut findings = Vec::new();
    for (room, absent) in NOT_REACHED {
        if !graph.edges.contains_key(*room) {
            findings.push(format!("there is no crate {room}"));
        }
        findings.extend(absent.iter().filter_map(|name| graph.way(room, name)));
    }
    findings
}

fn beyond_core(graph: &Graph) -> Vec<String> {
    let rows = graph.declared.iter().filter(|(package, _, _, normal)| package == "newswire-core" && *normal);
    rows.filter(|(_, name, ..)| !CORE_MAY_USE.contains(&name.as_str()))
        .map(|(_, name, ..)| format!("newswire-core uses {name}, which is not on its list"))
        .collect()
}

fn loose_engines(graph: &Graph) -> Vec<String> {
    let engines = graph.declared.iter().filter(|(_, name, ..)| ENGINES.contains(&name.as_str()));
    engines
        .filter(|(package, _, optional, _)| package != ENGINES_LIVE_IN || !optional)
        .map(|(package, name, ..)| {
            format!("{package} uses {name}; only an optional dependency of {ENGINES_LIVE_IN} may")
        })
        .collect()
}

fn imposed_engines(graph: &Graph) -> Vec<String> {
    let asked = graph.asked_features.iter().filter(|(_, of, feature)| {
        of == ENGINES_LIVE_IN && ENGINE_FEATURES.iter().any(|engine| feature == engine)
    });
    asked
        .filter(|(package, ..)| package != ENGINES_SHIPPED_BY)
        .map(|(package, of, feature)| {
            format!("{package} builds {of} with {feature}; only {ENGINES_SHIPPED_BY} may")
        })
        .collect()
}

fn shipped_test_features(graph: &Graph) -> Vec<String> {
    let asked = graph.asked_features.iter().filter(|(_, of, feature)| {
        of.starts_with("newswire") && TEST_FEATURES.iter().any(|test| feature == test)
    });
    asked.map(|(package, of, feature)| format!("{package} ships {of} with {feature}")).collect()
}

/// Entries of `[workspace.dependencies]` without a reason on the line above (our own crates need none).
fn unexplained(manifest: &str) -> Vec<String> {
    let table = manifest.split("[workspace.dependencies]").nth(1).unwrap_or_default();
    let table = table.split("\n[").next().unwrap_or_default();
    let mut findings = Vec::new();
    let mut above = "";
    for line in table.lines() {
        if let Some((name, value)) = line.split_once(" = ")
            && !line.starts_with('#')
            && !value.contains("path = ")
            && (!above.starts_with("# ") || above.starts_with("# ---"))
        {
            findings.push(format!("{name} has no reason on the line above it"));
        }
        above = line;
    }
    findings
}

/// Entries of `[workspace.dependencies]` that no crate asks for (our own rooms may stand there in advance).
fn unused(manifest: &str, graph: &Graph) -> Vec<String> {
    let table = manifest.split("[workspace.dependencies]").nth(1).unwrap_or_default();
    let table = table.split("\n[").next().unwrap_or_default();
    let entries = table.lines().filter(|line| !line.starts_with('#') && !line.contains("path = "));
    let names = entries.filter_map(|line| line.split_once(" = "));
    names
        .filter(|(name, _)| !graph.declared.iter().any(|(_, used, ..)| used == name))
        .map(|(name, _)| format!("no crate uses {name}"))
        .collect()
}

#[test]
fn rooms_do_not_reach_what_they_must_not_know() {
    let mut graph = graph();
    assert_none(&reached(&graph));
    graph.edges.get_mut("newswire-protocol").expect("a room").insert("tokio".to_owned());
    assert_found(&reached(&graph), "newswire-core → newswire-protocol → tokio");
}

#[test]
fn the_core_uses_only_pure_crates() {
    let mut graph = graph();
    assert_none(&beyond_core(&graph));
    graph.declared.push(("newswire-core".to_owned(), "tokio".to_owned(), false, true));
    assert_found(&beyond_core(&graph), "tokio");
}

#[test]
fn engines_are_features_of_the_log() {
    let mut graph = graph();
    assert_none(&loose_engines(&graph));
    for (package, optional) in [("newswire", true), ("newswire-log", false)] {
        graph.declared.push((package.to_owned(), "redis".to_owned(), optional, true));
        assert_found(&loose_engines(&graph), &format!("{package} uses redis"));
        graph.declared.pop();
    }
    assert_none(&imposed_engines(&graph));
    // By a room in front of it, and by default.
    for package in ["newswire", "newswire-log"] {
        graph.asked_features.push([package, "newswire-log", "jetstream"].map(str::to_owned).into());
        assert_found(&imposed_engines(&graph), &format!("{package} builds newswire-log with jetstream"));
        graph.asked_features.pop();
    }
}

#[test]
fn what_is_for_tests_is_not_shipped() {
    let mut graph = graph();
    assert_none(&shipped_test_features(&graph));
    let planted = ["newswire", "newswire-core", "seeded-bugs"].map(str::to_owned);
    graph.asked_features.push(planted.into());
    assert_found(&shipped_test_features(&graph), "newswire ships newswire-core with seeded-bugs");
}

#[test]
fn every_dependency_has_a_reason_and_a_user() {
    let graph = graph();
    let manifest = tree::read("Cargo.toml");
    assert_none(&unexplained(&manifest));
    assert_none(&unused(&manifest, &graph));
    let planted = "[workspace.dependencies]\n# --- a heading ---\nleft-pad = \"1\"\n# why\nserde = \"1\"\n";
    assert_eq!(unexplained(planted), ["left-pad has no reason on the line above it"]);
    assert_eq!(unused(planted, &graph), ["no crate uses left-pad"]);
}
