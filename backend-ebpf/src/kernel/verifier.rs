//! Giving programs to the kernel's verifier. Never takes a signal for a refusal, nor tells a whole log.

use super::error::KernelError;
use aya::programs::ProgramError;
use std::io::ErrorKind;

/// So often a program is given to the verifier.
const ATTEMPTS: u32 = 10;

/// So many of a log's last lines are told, each with so many bytes at most.
const MOST_LINES: usize = 8;
const MOST_LINE_BYTES: usize = 200;

/// How lines begin that count what the verifier did (`BPF_LOG_STATS`). They follow what it has against a program.
const COUNTS: [&str; 3] = ["processed ", "verification time ", "stack depth "];

/// Loads a program.
///
/// The verifier gives up where a signal comes in between (`EAGAIN` of `do_check` in kernel/bpf/verifier.c), which says nothing of the
/// program.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn load<P>(
    name: &'static str,
    program: &mut P,
    load: impl Fn(&mut P) -> Result<(), ProgramError>,
) -> Result<(), KernelError> {
    for _ in 1..ATTEMPTS {
        match load(program) {
            Err(ProgramError::LoadError { io_error, .. }) if io_error.kind() == ErrorKind::WouldBlock => {}
            loaded => return loaded.map_err(|source| refusal(name, source)),
        }
    }
    load(program).map_err(|source| refusal(name, source))
}

/// A refusal, with what matters of its log in place of all of it.
fn refusal(program: &'static str, source: ProgramError) -> KernelError {
    match source {
        ProgramError::LoadError { io_error, verifier_log } => {
            KernelError::Refused { program, log: excerpt(&verifier_log.to_string()), source: io_error }
        }
        source => KernelError::Program { program, source },
    }
}

/// The end of a log, in one line of 2 KiB at most: how many lines are left out, what the verifier has against the program and how it
/// came there, and how far it got. Empty: it says nothing.
fn excerpt(log: &str) -> String {
    let lines: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let is_count = |line: &&str| COUNTS.iter().any(|begin| line.starts_with(begin));
    let end = lines.iter().rposition(|line| !is_count(line)).map_or(0, |last| last + 1);
    let first = end.saturating_sub(MOST_LINES);
    let left_out = (first > 0).then(|| format!("({first} lines left out)"));
    let how_far = lines[end..].iter().find(|line| line.starts_with(COUNTS[0]));
    let told = lines[first..end].iter().chain(how_far).map(|line| cut(line));
    left_out.into_iter().chain(told).collect::<Vec<_>>().join(" | ")
}

/// A line without its end, where it is long: it begins with the place or what is wrong, and ends with what registers hold.
fn cut(line: &str) -> String {
    if line.len() <= MOST_LINE_BYTES {
        return line.to_owned();
    }
    format!("{}...", &line[..line.floor_char_boundary(MOST_LINE_BYTES)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Linux 6.18 writes it of a program that reads beyond what it has looked at.
    fn log(steps: usize) -> String {
        let steps = (0..steps).map(|at| format!("{at}: (bf) r6 = r1                        ; R1=ctx() R6_w=ctx()\n"));
        let end = "; let bytes = *packet; @ packet.rs:201\n\
            57: (71) r0 = *(u8 *)(r1 +0)\n\
            invalid access to packet, off=0 size=1, R1(id=0,off=0,r=0)\n\
            R1 offset is outside of the packet\n\
            verification time 123 usec\n\
            stack depth 64+0\n\
            processed 58 insns (limit 1000000) max_states_per_insn 0 total_states 4 peak_states 4 mark_read 1\n\n";
        steps.collect::<String>() + end
    }

    #[test]
    fn of_a_log_the_end_is_told_and_how_much_is_left_out() {
        let told = excerpt(&log(5_000));
        assert!(told.starts_with("(4996 lines left out) | 4996: (bf) r6 = r1"), "{told}");
        assert!(told.contains("| R1 offset is outside of the packet | processed 58 insns"), "{told}");
        assert!(!told.contains("verification time") && !told.contains('\n'), "{told}");
        assert_eq!(told.matches(" | ").count(), 9, "{told}");
    }

    #[test]
    fn a_short_log_is_told_whole() {
        assert_eq!(
            excerpt("R1 !read_ok\nprocessed 1 insns (limit 1000000)\n"),
            "R1 !read_ok | processed 1 insns (limit 1000000)"
        );
        assert_eq!(
            excerpt("BPF program is too large. Processed 1000001 insn\n"),
            "BPF program is too large. Processed 1000001 insn"
        );
        assert_eq!(excerpt("processed 7 insns\nstack depth 8\n"), "processed 7 insns");
        assert_eq!(excerpt(""), "");
    }

    #[test]
    fn what_is_told_has_a_bound_whatever_the_log() {
        let long = format!("; {}\n", "ö€".repeat(10_000)).repeat(40);
        assert!(excerpt(&long).len() < 2048, "{}", excerpt(&long).len());
        let no_end = "x".repeat(1 << 20);
        assert!(excerpt(&no_end).len() < 2048);
    }
}
