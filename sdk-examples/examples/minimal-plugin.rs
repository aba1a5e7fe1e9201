//! A whole CNI plugin: it notes which container has which addresses, one file each, for a name server or a human.
//!
//! It stands after another plugin in a list and makes no interface of its own:
//! ```json
//! {"cniVersion": "1.1.0", "name": "net", "plugins": [
//!   {"type": "ptp", "ipam": {"type": "host-local", "subnet": "10.1.0.0/24"}},
//!   {"type": "minimal-plugin", "directory": "/run/addresses"}]}
//! ```
//! Build it with `cargo build --example minimal-plugin` and copy it to a directory of the runtime's `CNI_PATH`.

use cni_core::cni::{AddResult, CniError, ErrorCode, NetConf, SpecVersion};
use cni_core::model::EndpointId;
use cni_core::plugin::{self, About, AddRequest, CheckRequest, DelRequest, GcRequest, Netns, Plugin, StatusRequest};
use std::path::{Path, PathBuf};
use std::{fs, io};

struct Notes;

/// Our own part of the configuration. A misspelt field is an error that names it.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    directory: PathBuf,
}

impl Config {
    fn of(conf: &NetConf) -> Result<Self, CniError> {
        Ok(conf.own()?)
    }

    /// A container id has no `@`, so the file's name can be read back.
    fn file(&self, id: &EndpointId) -> PathBuf {
        self.directory.join(format!("{}@{}", id.container(), id.interface()))
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CniError {
    move |error| CniError::new(ErrorCode::Io, format!("{}: {error}", path.display()))
}

fn addresses(result: &AddResult) -> String {
    result.ips.iter().map(|ip| format!("{}\n", ip.address.addr())).collect()
}

impl Plugin for Notes {
    fn about(&self) -> About {
        let (name, version) = ("minimal-plugin", env!("CARGO_PKG_VERSION"));
        About { name, version, spec: SpecVersion::ALL, netns: Netns::NotUsed }
    }

    fn add(&self, request: &AddRequest) -> Result<AddResult, CniError> {
        let file = Config::of(&request.conf)?.file(&request.id());
        let result = request.conf.prev_result.clone().unwrap_or_default();
        fs::write(&file, addresses(&result)).map_err(failed(&file))?;
        Ok(result)
    }

    fn del(&self, request: &DelRequest) -> Result<(), CniError> {
        let file = Config::of(&request.conf)?.file(&request.id());
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&file)(error)),
            _ => Ok(()), // Gone, or never there: both are what DEL is for.
        }
    }

    fn check(&self, request: &CheckRequest) -> Result<(), CniError> {
        let file = Config::of(&request.conf)?.file(&request.id());
        let (found, wanted) = (fs::read_to_string(&file).map_err(failed(&file))?, addresses(request.added()?));
        if found == wanted {
            return Ok(());
        }
        let msg = format!("{}: has {found:?}, ADD wrote {wanted:?}", file.display());
        Err(CniError::new(ErrorCode::INTERNAL, msg).details("somebody changed it: recreate the container"))
    }

    fn status(&self, request: &StatusRequest) -> Result<(), CniError> {
        let directory = Config::of(&request.conf)?.directory;
        if directory.is_dir() {
            return Ok(());
        }
        let msg = format!("directory: {} is no directory", directory.display());
        Err(CniError::new(ErrorCode::NotAvailable, msg).details("create it"))
    }

    fn gc(&self, request: &GcRequest) -> Result<(), CniError> {
        let Some(valid) = request.valid_attachments() else { return Ok(()) };
        let directory = Config::of(&request.conf)?.directory;
        let mut errors = Vec::new();
        for entry in fs::read_dir(&directory).map_err(failed(&directory))?.flatten() {
            let name = entry.file_name().to_string_lossy().replacen('@', "/", 1);
            let stale = EndpointId::new(&name).is_ok_and(|id| !valid.contains(&id));
            if stale && let Err(error) = fs::remove_file(entry.path()) {
                errors.push(format!("{name}: {error}")); // Go on: free as much as possible.
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(CniError::new(ErrorCode::Io, errors.join("; "))) }
    }
}

fn main() -> std::process::ExitCode {
    plugin::main(&Notes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    /// One call, as a runtime makes it, without a process: exit code and what was printed.
    fn call(verb: &str, directory: &Path, more: Value) -> (u8, Value) {
        let mut conf = json!({"cniVersion": "1.1.0", "name": "net", "type": "minimal-plugin", "directory": directory});
        conf.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (stdin, mut stdout) = (conf.to_string(), Vec::new());
        let variables = [("CNI_COMMAND", verb), ("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0")];
        let more = [("CNI_NETNS", "/run/netns/blue"), ("CNI_PATH", "/opt/cni/bin")];
        let io = plugin::Io {
            environment: variables.into_iter().chain(more).collect(),
            stdin: &mut stdin.as_bytes(),
            stdout: &mut stdout,
            exec: Arc::new(cni_core::runtime::ProcessExec::default()),
        };
        (plugin::run(&Notes, io), serde_json::from_slice(&stdout).unwrap_or_default())
    }

    #[test]
    fn what_add_wrote_check_confirms_and_del_or_gc_removes() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let added = json!({"prevResult": {"cniVersion": "1.1.0", "ips": [{"address": "10.1.0.5/24"}]}});
        assert_eq!(call("STATUS", directory, json!({})), (0, Value::Null));
        assert_eq!(call("ADD", directory, added.clone()), (0, added["prevResult"].clone()));
        assert_eq!(fs::read_to_string(directory.join("c1@eth0")).unwrap(), "10.1.0.5\n");
        assert_eq!(call("CHECK", directory, added.clone()), (0, Value::Null));
        fs::write(directory.join("c1@eth0"), "10.1.0.6\n").unwrap();
        assert_eq!(call("CHECK", directory, added.clone()).0, 1);
        assert_eq!(call("DEL", directory, json!({})), (0, Value::Null));
        assert_eq!(call("DEL", directory, json!({})), (0, Value::Null));
        assert_eq!(call("ADD", directory, added).0, 0);
        assert_eq!(call("GC", directory, json!({})), (0, Value::Null));
        assert!(directory.join("c1@eth0").exists(), "GC without a list frees nothing");
        assert_eq!(call("GC", directory, json!({"cni.dev/valid-attachments": []})), (0, Value::Null));
        assert!(!directory.join("c1@eth0").exists());
        assert_eq!(call("ADD", directory, json!({"directry": "/x"})).1["code"], 2);
    }
}
