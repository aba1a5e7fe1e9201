//! Our tests, or any program, as root on stock Debian kernels in small VMs ([docs/vm.md](../../../docs/vm.md)). Never installs
//! a kernel, and never keeps what was fetched outside of cargo's target folder.

mod binaries;
mod cpio;
mod debian;
mod guest;
mod image;
mod kernel;
mod modules;
mod programs;
mod protocol;
mod qemu;
mod suites;

pub(crate) use kernel::Kernel;

use crate::error::{Error, Result};
use crate::run::target;
use crate::{chores, packages};
use guest::Guest;
use kernel::KERNELS;
use protocol::{Case, Outcome};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use suites::{SUITES, Suite, What};

/// Kernels of the test command: the oldest that we hold to, and what the next Debian has. The newest one moves by itself,
/// and a check of every change shall not.
const OF_THE_TEST_COMMAND: &[&str] = &["6.1", "6.12"];

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
    let case = Case { name: words.join(" "), folder, words, limit: (!person).then_some(Duration::from_secs(3600)) };
    for kernel in options.kernels(&KERNELS[..1]) {
        let mut guest = Guest::new(&cache())?;
        guest.program(&case.words[0])?;
        let named = case.words[1..].iter().map(Path::new).filter(|path| path.is_file());
        for file in files.iter().map(PathBuf::as_path).chain(named) {
            guest.file(file)?;
        }
        let said = guest.boot(kernel, options, std::slice::from_ref(&case), person)?;
        match said.as_slice() {
            [Outcome::Passed] => {}
            [Outcome::Failed(status)] => {
                return Err(Error::VmProgram { outcome: Outcome::Failed(*status).to_string(), status: *status });
            }
            other => {
                let outcome = other.first().map(ToString::to_string).unwrap_or_default();
                return Err(Error::VmProgram { outcome, status: 1 });
            }
        }
    }
    Ok(())
}

/// `cargo xtask vm test`: everything that is for stock kernels, or what the filter names.
pub(crate) fn test(options: &Options, filter: Option<&str>) -> Result<()> {
    let (suites, filter) = chosen(filter);
    let filters: Vec<String> = filter.into_iter().map(str::to_owned).collect();
    let plan = suites.into_iter().map(|suite| (suite, filters.clone())).collect::<Vec<_>>();
    install()?;
    suites_on(&options.kernels(KERNELS), options, &plan)
}

/// `cargo xtask vm test --sample`: a part of each suite, on two kernels.
pub(crate) fn sample(options: &Options) -> Result<()> {
    let filters =
        |words: &[&str]| words.iter().filter(|word| !word.is_empty()).map(|word| (*word).to_owned()).collect();
    let plan: Vec<(&Suite, Vec<String>)> =
        SUITES.iter().filter_map(|suite| Some((suite, suite.sample.map(filters)?))).collect();
    let usual: Vec<Kernel> =
        KERNELS.iter().copied().filter(|kernel| OF_THE_TEST_COMMAND.contains(&kernel.name)).collect();
    install()?;
    suites_on(&options.kernels(&usual), options, &plan)
}

/// Suites that a filter names; or all that have tests, with a filter for their tests' names.
fn chosen(filter: Option<&str>) -> (Vec<&'static Suite>, Option<&str>) {
    let Some(filter) = filter else { return (SUITES.iter().collect(), None) };
    let named: Vec<&Suite> = SUITES.iter().filter(|suite| suite.name().contains(filter)).collect();
    if !named.is_empty() {
        return (named, None);
    }
    let tests: Vec<&Suite> = SUITES.iter().filter(|suite| matches!(suite.what, What::Tests { .. })).collect();
    (tests, Some(filter))
}

fn suites_on(kernels: &[Kernel], options: &Options, plan: &[(&Suite, Vec<String>)]) -> Result<()> {
    let targets = plan.iter().filter_map(|(suite, _)| match suite.what {
        What::Tests { target, .. } => Some(target),
        What::Lab(_) => None,
    });
    let built = binaries::build(&targets.collect::<Vec<_>>())?;
    if plan.iter().any(|(suite, _)| suite.needs_programs()) {
        chores::build_programs()?;
    }
    let (mut failed, mut all) = (0, 0);
    for kernel in kernels {
        let mut guest = Guest::new(&cache())?;
        let mut cases = Vec::new();
        for (suite, filters) in plan {
            cases.push(guest.suite(suite, filters, &built)?);
        }
        let begun = Instant::now();
        let outcomes = guest.boot(*kernel, options, &cases, false)?;
        eprintln!("\nOn the kernel {} ({} s):", kernel.name, begun.elapsed().as_secs());
        for (case, outcome) in cases.iter().zip(&outcomes) {
            eprintln!("  {:32} {outcome}", case.name);
        }
        failed += outcomes.iter().filter(|outcome| **outcome != Outcome::Passed).count();
        all += outcomes.len();
    }
    if failed == 0 { Ok(()) } else { Err(Error::VmFailed { failed, all }) }
}

fn scenario(name: &str) -> PathBuf {
    crate::run::root().join("testlab/scenarios").join(Path::new(name).with_extension("yaml"))
}
