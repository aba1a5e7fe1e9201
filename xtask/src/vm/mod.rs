//! Our tests, or any program, as root on stock Debian kernels in small VMs ([docs/vm.md](../../../docs/vm.md)). Never installs
//! a kernel, and never keeps what was fetched outside of cargo's target folder.

mod binaries;
mod cpio;
mod debian;
mod guest;
mod image;
mod kernel;
mod modules;
mod plan;
mod programs;
mod protocol;
mod qemu;
mod suites;

pub(crate) use kernel::Kernel;

use crate::error::{Error, Result};
use crate::packages;
use crate::run::target;
use guest::Guest;
use kernel::KERNELS;
use plan::Plan;
use protocol::{Case, Ended, Outcome};
use qemu::Screen;
use std::io::IsTerminal;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};
use suites::Suite;

/// Kernels of the sample: the oldest that we hold to, and what the next Debian has. The newest one moves by itself,
/// and a check of every change shall not.
const OF_THE_SAMPLE: &[&str] = &["6.1", "6.12"];

/// A VM that is not up by then, will not be.
const BOOT: Duration = Duration::from_secs(180);

/// Enough for all test binaries at once, which are in memory.
const MEMORY_MIB: u32 = 1536;

/// Arguments that both chores take.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which kernel: 6.1, 6.12 or newest; may be repeated.
    #[arg(long = "kernel", value_name = "KERNEL")]
    kernels: Vec<Kernel>,
    /// Fetch the kernels anew, for a later build of theirs.
    #[arg(long)]
    refresh: bool,
    /// Memory of the VM, in MiB.
    #[arg(long, default_value_t = MEMORY_MIB, value_name = "MIB")]
    memory: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { kernels: Vec::new(), refresh: false, memory: MEMORY_MIB }
    }
}

impl Options {
    fn kernels(&self, otherwise: &[Kernel]) -> Vec<Kernel> {
        if self.kernels.is_empty() { otherwise.to_vec() } else { self.kernels.clone() }
    }
}

/// Where kernels are kept between runs.
fn cache() -> PathBuf {
    target().join("vm")
}

fn install() -> Result<()> {
    packages::install(packages::VM)?;
    qemu::install(&cache().join("apt"))
}

/// `cargo xtask vm run`: one program, with the terminal as its own where there is one.
pub(crate) fn run(options: &Options, files: &[PathBuf], words: &[String]) -> Result<()> {
    install()?;
    let words = if words.is_empty() { vec!["bash".to_owned()] } else { words.to_vec() };
    let person = std::io::stdin().is_terminal();
    let folder = std::env::current_dir().map_err(|source| Error::File { path: ".".into(), source })?;
    let limit = (!person).then_some(Duration::from_secs(3600));
    let case = Case { name: words.join(" "), folder, words, limit };
    let screen = if person { Screen::Person } else { Screen::Output };
    for kernel in options.kernels(&KERNELS[..1]) {
        let mut guest = Guest::new(&cache(), kernel)?;
        guest.program(&case.words[0])?;
        let named = case.words[1..].iter().map(Path::new).filter(|path| path.is_file());
        for file in files.iter().map(PathBuf::as_path).chain(named) {
            guest.file(file)?;
        }
        let said = guest.boot(options, std::slice::from_ref(&case), screen)?;
        let outcome = said.first().map_or(Outcome::NotReached, |ended| ended.outcome);
        let status = match outcome {
            Outcome::Passed => continue,
            Outcome::Failed(status) => status,
            Outcome::TooLong | Outcome::Lost | Outcome::NotReached => 1,
        };
        return Err(Error::VmProgram { outcome: outcome.to_string(), status });
    }
    Ok(())
}

/// `cargo xtask vm test`: everything that is for stock kernels, or what a word names.
pub(crate) fn test(options: &Options, word: Option<&str>) -> Result<()> {
    suites_on(&options.kernels(KERNELS), options, &Plan::of(word)?)
}

/// `cargo xtask vm test --sample`: a part of the suites, on two kernels.
pub(crate) fn sample(options: &Options) -> Result<()> {
    let usual: Vec<Kernel> = KERNELS.iter().copied().filter(|kernel| OF_THE_SAMPLE.contains(&kernel.name)).collect();
    suites_on(&options.kernels(&usual), options, &Plan::sample()?)
}

/// On as many kernels at once as there are processors, for a VM has one. All kernels are tried, whatever becomes of one.
fn suites_on(kernels: &[Kernel], options: &Options, plan: &Plan) -> Result<()> {
    install()?;
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let mut all = Vec::new();
    for some in kernels.chunks(at_once) {
        all.extend(std::thread::scope(|scope| {
            let start = |kernel: &Kernel| {
                let kernel = *kernel;
                let screen = if some.len() == 1 { Screen::Output } else { Screen::Among(kernel.name) };
                scope.spawn(move || suites_of(kernel, options, plan, screen))
            };
            let running: Vec<_> = some.iter().map(start).collect();
            let join = |one: ScopedJoinHandle<'_, _>| one.join().unwrap_or_else(|panic| resume_unwind(panic));
            running.into_iter().map(join).collect::<Vec<_>>()
        }));
    }
    let (mut failed, mut count) = (0, 0);
    for (kernel, ended) in kernels.iter().zip(&all) {
        let Ok(Run { ended, took }) = ended else { continue };
        eprintln!("\nOn the kernel {} ({} s):", kernel.name, took.as_secs());
        for (name, Ended { outcome, took }) in ended {
            let took = took.map(|took| format!("{} s", took.as_secs())).unwrap_or_default();
            eprintln!("  {name:32} {took:>6}  {outcome}");
        }
        failed += ended.iter().filter(|(_, ended)| ended.outcome != Outcome::Passed).count();
        count += ended.len();
    }
    all.into_iter().find_map(Result::err).map_or(Ok(()), Err)?;
    if failed == 0 { Ok(()) } else { Err(Error::VmFailed { failed, all: count }) }
}

/// What came of the suites of one kernel, in how much time.
struct Run {
    ended: Vec<(String, Ended)>,
    took: Duration,
}

fn suites_of(kernel: Kernel, options: &Options, plan: &Plan, screen: Screen) -> Result<Run> {
    let mut guest = Guest::new(&cache(), kernel)?;
    let case = |(suite, filters): &(&Suite, Vec<String>)| guest.suite(suite, filters, &plan.built);
    let cases: Vec<Case> = plan.suites.iter().map(case).collect::<Result<_>>()?;
    let begun = Instant::now();
    let ended = guest.boot(options, &cases, screen)?;
    Ok(Run { ended: cases.into_iter().map(|case| case.name).zip(ended).collect(), took: begun.elapsed() })
}
