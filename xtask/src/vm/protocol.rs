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

/// How a case ended, and how long it took where it did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    /// In the VM's own time.
    pub(super) took: Option<Duration>,
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
        let _ = match case.limit.map(|limit| limit.as_secs()) {
            Some(limit) => writeln!(text, "run {number} {limit} {folder} {words}"),
            None => writeln!(text, "talk {number} {folder} {words}"),
        };
    }
    text
}

/// Reads the lines that the VM said, in any state of completion, one outcome for each of `count` cases.
pub(super) fn outcomes(said: &str, count: usize) -> Vec<Ended> {
    let mut all = vec![Ended { outcome: Outcome::NotReached, took: None }; count];
    let mut begun = None;
    for line in said.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (number, status, uptime) = match words.as_slice() {
            ["begin", number, uptime] => (number, None, uptime),
            ["end", number, status, uptime] => (number, Some(status), uptime),
            _ => continue,
        };
        let Some(place) = number.parse().ok().and_then(|number: usize| all.get_mut(number)) else { continue };
        let uptime = uptime.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        match status.map(|status| status.parse()) {
            None => (place.outcome, begun) = (Outcome::Lost, uptime),
            Some(Ok(status)) => {
                place.outcome = ended(status);
                place.took = uptime.zip(begun).and_then(|(end, begin)| end.checked_sub(begin));
            }
            Some(Err(_)) => {}
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
        let words = "<program><it's><$HOME \\ \"`id`\"><><two\nlines>";
        assert_eq!(said, format!("<0><7></a b>{words}<1><7></a b>{words}"));
    }

    #[test]
    fn every_case_has_an_outcome_wherever_the_vm_ended() {
        use Outcome::{Failed, Lost, NotReached, Passed, TooLong};
        let only = |said: &str, count| -> Vec<Outcome> {
            outcomes(said, count).into_iter().map(|ended| ended.outcome).collect()
        };
        let whole = "up 2.1\nbegin 0 2.2\nend 0 0 2.5\nbegin 1 2.5\nend 1 101 3\nbegin 2 3.1\nend 2 143 9.9\n\
                     begin 3 10.00\nend 3 0 12.25\ndone\n";
        assert_eq!(only(whole, 4), [Passed, Failed(101), TooLong, Passed]);
        assert_eq!(outcomes(whole, 4)[3].took, Some(Duration::from_millis(2250)));
        let states = [
            ("", [NotReached; 2]),
            ("up 1", [NotReached; 2]),
            ("up 1\nbegin 0 1\n", [Lost, NotReached]),
            ("up 1\nbegin 0 1\nend 0\n", [Lost, NotReached]),
            ("up 1\nbegin 0 1\nend 0 0 1\nbegin 1 1\nen", [Passed, Lost]),
            ("begin 7 1\nend x y 1\nend 0 999 1\n\u{0}\n", [NotReached; 2]),
        ];
        for (said, expected) in states {
            assert_eq!(only(said, 2), expected, "{said:?}");
        }
        assert_eq!(outcomes("begin 0 x\nend 0 0 1\n", 1)[0].took, None);
        assert!(is_up("up 2.1\n") && !is_up("begin 0\n"));
    }
}
