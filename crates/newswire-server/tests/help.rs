//! What the command line says about itself: help, completions, exit codes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use newswire_server::cli;

mod support;

use support::{run, stderr};

/// Every command without subcommands of its own, as one writes it.
fn commands() -> Vec<Vec<String>> {
    fn walk(command: &clap::Command, path: &[String], found: &mut Vec<Vec<String>>) {
        let mut inner = command.get_subcommands().filter(|inner| inner.get_name() != "help").peekable();
        if inner.peek().is_none() {
            found.push(path.to_vec());
        }
        for command in inner {
            walk(command, &[path, &[command.get_name().to_owned()]].concat(), found);
        }
    }
    let mut found = Vec::new();
    walk(&cli::command(), &[], &mut found);
    found
}

fn help(command: &[String]) -> String {
    let arguments: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
    let output = run(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_command_teaches_by_example_and_names_its_exit_codes() {
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations.md")).unwrap();
    let table: BTreeSet<u8> = page
        .lines()
        .skip_while(|line| !line.starts_with("| exit code"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .flat_map(|row| row.split('|').nth(1).unwrap().split(',').map(|code| code.trim().parse().unwrap()))
        .collect();
    assert!(table.contains(&0) && table.contains(&5), "{table:?}");
    assert!(commands().len() > 6);
    for command in commands() {
        let help = help(&command);
        let name = command.join(" ");
        let examples =
            help.lines().filter(|line| line.trim_start().contains(&format!("newswire {name}"))).count();
        assert!(help.contains("Examples:") && examples > 1, "{name}: no examples\n{help}");
        let codes =
            help.split_once("Exit codes: ").unwrap_or_else(|| panic!("{name}: no exit codes\n{help}")).1;
        let codes = codes.split("\n\n").next().unwrap();
        for number in
            codes.split(|sign: char| !sign.is_ascii_alphanumeric()).filter_map(|word| word.parse().ok())
        {
            assert!(
                table.contains(&number),
                "{name} ends with {number}, which docs/operations.md does not explain"
            );
        }
        assert!(codes.contains("0 ") && codes.contains("2 "), "{name}: {codes}");
    }
}

#[test]
fn wrong_arguments_end_with_2() {
    for command in commands() {
        let arguments: Vec<&str> = command.iter().map(String::as_str).chain(["--no-such-flag"]).collect();
        assert_eq!(run(&arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert_eq!(run(&["no-such-command"]).status.code(), Some(2));
}

#[test]
fn every_shell_is_given_a_script_that_knows_every_command() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let output = run(&["completions", shell]);
        assert!(output.status.success(), "{}", stderr(&output));
        let script = String::from_utf8(output.stdout).unwrap();
        for word in commands().concat().iter().map(String::as_str).chain(["data-dir", "print-config"]) {
            assert!(script.contains(word), "{shell}: no {word}");
        }
    }
    assert_eq!(run(&["completions", "tcsh"]).status.code(), Some(2));
}

/// The one shell that every machine has which builds this.
#[test]
fn bash_completes_by_the_script() {
    let mut script = String::from_utf8(run(&["completions", "bash"]).stdout).unwrap();
    script.push_str(
        "\nCOMP_WORDS=(newswire serve --print)\nCOMP_CWORD=2\n_newswire newswire --print serve\n\
         printf '%s\\n' \"${COMPREPLY[@]}\"\n",
    );
    let mut bash = Command::new("bash").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = bash.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().next(), Some("--print-config"));
}
