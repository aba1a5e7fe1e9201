//! A program tried on a frame that goes nowhere (`BPF_PROG_TEST_RUN`). Never attached to anything for that.

use super::error::KernelError;
use aya::Ebpf;
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use std::time::Duration;

/// Room for a frame that a program made longer.
const MOST_LONGER: usize = 256;

/// Gives a program a frame so many times, each time as the one before left it. Answers what it returned at last, the frame as it is
/// then, and how long a round took on average. The frame seems to come in at the loopback interface.
pub(super) fn run(
    bpf: &Ebpf,
    name: &'static str,
    frame: &[u8],
    rounds: u32,
) -> Result<(i32, Vec<u8>, Duration), KernelError> {
    let failed = |source| KernelError::Program { program: name, source };
    let loaded: &SchedClassifier =
        bpf.program(name).ok_or(KernelError::Missing { name })?.try_into().map_err(failed)?;
    let mut after = vec![0; frame.len() + MOST_LONGER];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut after),
        repeat: rounds,
        ..TestRunOptions::default()
    };
    let result = loaded.test_run(options).map_err(failed)?;
    after.truncate(result.data_size_out as usize);
    Ok((result.return_value.cast_signed(), after, result.duration))
}
