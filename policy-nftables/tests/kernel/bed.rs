//! What the tests share: programs in the calling thread's namespace, and futures on this thread. Never a policy.

use std::process::Command;

/// Runs a program in the namespace of the calling thread; `Err` has what it said.
pub(crate) fn try_run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

/// Runs one line of a program's words.
pub(crate) fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap();
    try_run(program, &words.collect::<Vec<_>>()).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a script of the nft program.
pub(crate) fn nft(script: &str) -> Result<String, String> {
    try_run("nft", &[script])
}

/// Drives a future on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
