//! The eBPF objects: built from their sources, compared with those that are committed. Never part of a normal build, which
//! embeds the committed ones.
//!
//! Byte for byte the same comes out wherever the same compiler and linker are: paths of the machine are replaced, versions are
//! recorded beside the objects, and so are the sources that they were made of.

use crate::error::{Error, Result};
use crate::packages::{self, Need, need};
use crate::run::{cargo, output, root, run, target};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian's compiler for the target, which Rust's own installer has no `core` for, and the LLVM of that compiler.
const TOOLCHAIN: &[Need] = &[
    need("/usr/bin/cc", "gcc libc6-dev", "links Rust programs"),
    need("/usr/bin/c++", "g++", "links LLVM"),
    need("/var/lib/dpkg/info/rustc-web.list", "rustc-web", "compiles for eBPF"),
    need("/var/lib/dpkg/info/cargo-web.list", "cargo-web", "builds with that compiler"),
    need("/var/lib/dpkg/info/rust-web-src.list", "rust-web-src", "Rust's core library, built for eBPF"),
    need("/usr/lib/llvm-22/include/llvm-c/Core.h", "llvm-22-dev", "links eBPF programs"),
];
const LLVM: &str = "/usr/lib/llvm-22";
const RUSTC: &str = "/usr/bin/rustc";
const CARGO: &str = "/usr/bin/cargo";
const LINKER_VERSION: &str = "0.13.0";

const TARGET: &str = "bpfel-unknown-none";
/// Relative to the workspace.
const PROGRAMS: &str = "backend-ebpf/programs";
/// One for each part of the backend that can be used by itself, named as its folder in `programs/src/bin`.
const OBJECTS: &[&str] = &["forward", "masquerade", "policy", "services"];
/// What the objects were made of and by.
const RECORD: &str = "backend-ebpf/objects/programs.record";
/// Files that decide what is in the objects.
const SOURCES: &[&str] = &[
    "backend-ebpf/abi/Cargo.toml",
    "backend-ebpf/abi/src",
    "backend-ebpf/programs/Cargo.lock",
    "backend-ebpf/programs/Cargo.toml",
    "backend-ebpf/programs/src",
];

/// `cargo xtask bpf build`.
pub(crate) fn build() -> Result<()> {
    let record = record()?;
    for (name, object) in compile()? {
        write(&root().join(object_path(name)), &object)?;
        eprintln!("{}: {} bytes", object_path(name), object.len());
    }
    write(&root().join(RECORD), format!("{record}{}\n", object_lines()?).as_bytes())
}

/// `cargo xtask bpf check`.
pub(crate) fn check() -> Result<()> {
    sources()?;
    let (told, found) = (text(RECORD)?, record()?);
    if !told.starts_with(&found) {
        return Err(Error::OtherToolchain { told, found });
    }
    for (name, built) in compile()? {
        let object = object_path(name);
        let committed = read(&root().join(&object))?;
        if committed != built {
            let at = committed.iter().zip(&built).take_while(|(committed, built)| committed == built).count();
            return Err(Error::OtherObject { object, at });
        }
        eprintln!("{object} is what its sources make.");
    }
    Ok(())
}

/// Relative to the workspace.
fn object_path(name: &str) -> String {
    format!("backend-ebpf/objects/{name}.o")
}

fn object_lines() -> Result<String> {
    hashed(&OBJECTS.iter().map(|name| object_path(name)).collect::<Vec<_>>())
}

/// Whether the committed objects are those of the record, and were made of the sources that are here; needs no toolchain.
pub(crate) fn sources() -> Result<()> {
    let told = text(RECORD)?;
    let told = told.lines().filter(|line| line.starts_with(FILE)).collect::<Vec<_>>().join("\n");
    let found = format!("{}\n{}", source_lines()?, object_lines()?);
    if told == found { Ok(()) } else { Err(Error::OtherSources { told, found }) }
}

/// `cargo xtask bpf stats`: needs root.
pub(crate) fn stats() -> Result<()> {
    run(&mut cargo(&["test", "--quiet", "-p", "backend-ebpf", "--test", "kernel", "cost::", "--", "--nocapture"]))
}

/// What lines about files begin with in the record.
const FILE: &str = "file ";

/// A line for each file.
fn hashed(files: &[String]) -> Result<String> {
    let hashes = output(Command::new("git").args(["hash-object", "--"]).args(files).current_dir(root()))?;
    let lines = hashes.lines().zip(files).map(|(hash, file)| format!("{FILE}{hash} {file}"));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

fn source_lines() -> Result<String> {
    // Also files that are not committed yet.
    let list = ["ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", "--"];
    let list = output(Command::new("git").args(list).args(SOURCES).current_dir(root()))?;
    let mut files: Vec<String> = list.lines().filter(|file| root().join(file).is_file()).map(str::to_owned).collect();
    files.sort();
    hashed(&files)
}

/// Versions and sources, as the record has them. Installs what is missing.
fn record() -> Result<String> {
    packages::install(TOOLCHAIN)?;
    let linker = linker()?;
    let version = |program: &Path| output(Command::new(program).arg("--version")).map(|text| text.trim().to_owned());
    let llvm = output(Command::new(format!("{LLVM}/bin/llvm-config")).arg("--version"))?;
    let (rustc, linker) = (version(Path::new(RUSTC))?, version(&linker)?);
    Ok(format!("{rustc}\n{linker}\nLLVM {}\n{}\n", llvm.trim(), source_lines()?))
}

/// The linker, built if it is not there.
fn linker() -> Result<PathBuf> {
    let folder = target().join("bpf-toolchain");
    let program = folder.join("bin/bpf-linker");
    let wanted = format!("bpf-linker {LINKER_VERSION}");
    let is_there = program.exists() && output(Command::new(&program).arg("--version"))?.trim() == wanted;
    if !is_there {
        eprintln!("Building bpf-linker (about three minutes of one CPU) ...");
        let mut command = Command::new(CARGO);
        command.args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--no-default-features"]);
        command.args(["--features", "llvm-22", "--force", "--root"]).arg(&folder);
        command.env("LLVM_PREFIX", LLVM).env("CARGO_TARGET_DIR", target().join("bpf-linker"));
        run(debians(&mut command))?;
    }
    Ok(program)
}

/// With Debian's compiler, and without what the cargo that runs us has set.
fn debians(command: &mut Command) -> &mut Command {
    for name in ["RUSTUP_TOOLCHAIN", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO", "RUSTDOC"] {
        command.env_remove(name);
    }
    command.env("RUSTC", RUSTC)
}

/// The objects by name, stripped of everything but code, maps and BTF.
fn compile() -> Result<Vec<(&'static str, Vec<u8>)>> {
    let linker = linker()?;
    let folder = target().join("bpf");
    let cargo_home =
        std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let mut flags = vec!["-Cdebuginfo=2".to_owned(), "-Clink-arg=--btf".to_owned()];
    flags.push(format!("-Clinker={}", linker.display()));
    flags.push(format!("--remap-path-prefix={}=/cnidarian", root().display()));
    flags.extend(cargo_home.map(|home| format!("--remap-path-prefix={}=/cargo", home.display())));
    let mut command = Command::new(CARGO);
    command.args(["build", "--quiet", "--locked", "--release", "-Zbuild-std=core", "--target", TARGET]);
    command.current_dir(root().join(PROGRAMS));
    debians(&mut command).env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    // Building `core` for a target that has none is still called unstable.
    command.env("RUSTC_BOOTSTRAP", "1").env("CARGO_TARGET_DIR", &folder);
    run(&mut command)?;
    let strip = |name: &&'static str| {
        let built = folder.join(TARGET).join("release").join(name);
        let stripped = folder.join(format!("{name}.o"));
        run(Command::new(format!("{LLVM}/bin/llvm-objcopy")).arg("--strip-debug").arg(&built).arg(&stripped))?;
        Ok((*name, read(&stripped)?))
    };
    OBJECTS.iter().map(strip).collect()
}

fn text(file: &str) -> Result<String> {
    Ok(String::from_utf8_lossy(&read(&root().join(file))?).into_owned())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::File { path: path.to_path_buf(), source })
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).map_err(|source| Error::File { path: path.to_path_buf(), source })
}
