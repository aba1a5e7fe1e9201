//! What host and VM say to each other: a plan to run, and lines that tell how it went. Never a byte of a program's output,
//! which has a channel of its own.

use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

/// A program to be run in the VM.
#[derive(Debug, Clone)]
pub(super) struct Case {
    /// For people.
    pub(super) name: String,
    /// Where it runs.
    pub(super) folder: PathBuf,
    /// The program and its arguments.
    pub(super) words: Vec<String>,
    /// After this it is killed; a person's program may take as long as the VM.
    pub(super) limit: Option<Duration>,
}

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    /// With this status.
    Failed(u8),
    /// It was killed.
    TooLong,
    /// The VM ended in it.
    Lost,
    /// The VM ended before.
    NotReached,
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => write!(out, "passed"),
            Self::Failed(status) => write!(out, "FAILED with status {status}"),
            Self::TooLong => write!(out, "KILLED, for it took too long"),
            Self::Lost => write!(out, "LOST: the VM ended in it"),
            Self::NotReached => write!(out, "NOT REACHED"),
        }
    }
}

/// What busybox's `timeout` ends with when it had to send a signal: that of a shell for SIGTERM, or for SIGKILL.
const KILLED: [u8; 2] = [143, 137];

/// A word that a shell takes as it is.
pub(super) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The plan, as the first process of the VM reads it.
pub(super) fn plan(cases: &[Case]) -> String {
    let mut text = String::new();
    for (number, case) in cases.iter().enumerate() {
        let words: Vec<String> = case.words.iter().map(|word| quoted(word)).collect();
        let (folder, words) = (quoted(&case.folder.to_string_lossy()), words.join(" "));
        if cases.len() > 1 {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "echo; echo {}", quoted(&format!("--- {}", case.name)));
        }
        let _ = match case.limit {
            Some(limit) => writeln!(text, "run {number} {} {folder} {words}", limit.as_secs()),
            None => writeln!(text, "talk {number} {folder} {words}"),
        };
    }
    text
}

/// Reads the lines that the VM said, in any state of completion, one outcome for each of `count` cases.
pub(super) fn outcomes(said: &str, count: usize) -> Vec<Outcome> {
    let mut all = vec![Outcome::NotReached; count];
    for line in said.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (number, outcome) = match words.as_slice() {
            ["begin", number] => (number, Some(Outcome::Lost)),
            ["end", number, status] => (number, status.parse().ok().map(ended)),
            _ => continue,
        };
        let place = number.parse().ok().and_then(|number: usize| all.get_mut(number));
        if let (Some(place), Some(outcome)) = (place, outcome) {
            *place = outcome;
        }
    }
    all
}

fn ended(status: u8) -> Outcome {
    match status {
        0 => Outcome::Passed,
        status if KILLED.contains(&status) => Outcome::TooLong,
        status => Outcome::Failed(status),
    }
}

/// Whether the VM came as far as to say something.
pub(super) fn is_up(said: &str) -> bool {
    said.lines().any(|line| line.starts_with("up "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

    use super::*;
    use std::process::Command;

    fn case(words: &[&str]) -> Case {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Case { name: "it's".to_owned(), folder: "/a b".into(), words, limit: Some(Duration::from_secs(7)) }
    }

    #[test]
    fn a_shell_takes_the_words_of_a_case_as_they_are() {
        let one = case(&["program", "it's", "$HOME \\ \"`id`\"", "", "two\nlines"]);
        let cases = [one.clone(), one];
        let print = "run() { for word; do printf '<%s>' \"$word\"; done; }; echo() { :; }\n";
        let output = Command::new("/bin/sh").arg("-c").arg(print.to_owned() + &plan(&cases)).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let words = "<7></a b><program><it's><$HOME \\ \"`id`\"><><two\nlines>";
        assert_eq!(said, format!("<0>{words}<1>{words}"));
    }

    #[test]
    fn every_case_has_an_outcome_wherever_the_vm_ended() {
        use Outcome::{Failed, Lost, NotReached, Passed, TooLong};
        let whole = "up 2.1\nbegin 0\nend 0 0\nbegin 1\nend 1 101\nbegin 2\nend 2 143\nbegin 3\nend 3 0\ndone\n";
        assert_eq!(outcomes(whole, 4), [Passed, Failed(101), TooLong, Passed]);
        let states = [
            ("", [NotReached; 2]),
            ("up 1", [NotReached; 2]),
            ("up 1\nbegin 0\n", [Lost, NotReached]),
            ("up 1\nbegin 0\nend 0\n", [Lost, NotReached]),
            ("up 1\nbegin 0\nend 0 0\nbegin 1\nen", [Passed, Lost]),
            ("begin 7\nend x y\nend 0 999\n\u{0}\n", [NotReached; 2]),
        ];
        for (said, expected) in states {
            assert_eq!(outcomes(said, 2), expected, "{said:?}");
        }
        assert!(is_up("up 2.1\n") && !is_up("begin 0\n"));
    }
}
