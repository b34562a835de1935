//! `check-history [--plant FAULT [--seed N]] FILE…`: judges recorded histories of Newswire.
//!
//! Says what was checked and, where a promise was broken, by which lines. Exit code 0 when all are sound, 1 when one is
//! not, 2 when one cannot be read. `--plant` spoils each history in memory first, to see the check fail.

#![allow(clippy::print_stdout, reason = "its report is its output")]

use std::path::Path;
use std::process::ExitCode;

use newswire_street_tests::check::check;
use newswire_street_tests::history::{self, plant};

struct Arguments {
    files: Vec<String>,
    fault: Option<plant::Fault>,
    seed: u64,
}

fn arguments(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut parsed = Arguments { files: Vec::new(), fault: None, seed: 0 };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--plant" => {
                let name = words.next().unwrap_or_default();
                let known = plant::Fault::ALL.iter().find(|(known, _)| *known == name);
                let names: Vec<&str> = plant::Fault::ALL.iter().map(|(name, _)| *name).collect();
                parsed.fault =
                    Some(known.ok_or_else(|| format!("--plant is one of {}", names.join(", ")))?.1);
            }
            "--seed" => {
                let number = words.next().and_then(|number| number.parse().ok());
                parsed.seed = number.ok_or("--seed is a number")?;
            }
            option if option.starts_with('-') => return Err(format!("{option} is no option")),
            _ => parsed.files.push(word),
        }
    }
    if parsed.files.is_empty() {
        return Err("check-history [--plant FAULT [--seed N]] FILE…".to_owned());
    }
    Ok(parsed)
}

fn judge(file: &str, arguments: &Arguments) -> Result<bool, String> {
    let mut records = history::read(Path::new(file))?;
    println!("{file}: {} lines", records.len());
    if let Some(fault) = arguments.fault {
        let mut random = fastrand::Rng::with_seed(arguments.seed);
        let line = plant::plant(&mut records, fault, &mut random).ok_or("there is no place to plant that")?;
        println!("planted: {fault:?} at line {}", line + 1);
    }
    let report = check(&records);
    print!("{}", report.text(&records));
    Ok(report.is_sound())
}

fn main() -> ExitCode {
    let judged = arguments(std::env::args().skip(1)).and_then(|arguments| {
        arguments.files.iter().try_fold(true, |sound, file| Ok(judge(file, &arguments)? && sound))
    });
    match judged {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::from(2)
        }
    }
}
