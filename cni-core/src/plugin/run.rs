//! One call of a plugin from environment to exit code. Never calls a verb before everything about the request was
//! checked.

use super::netns::{Found, look_at, refuse};
use super::request::Request;
use super::{Netns, Origin, Plugin};
use crate::cni::{CniError, ConfError, Environment, ErrorCode, NetConf, Parameters, SpecVersion, Verb};
use crate::runtime::{Exec, ProcessExec};
use serde_json::{Value, json};
use std::any::Any;
use std::io::{IsTerminal, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;

/// The longest configuration that is read, in bytes: room for 100,000 valid attachments, none for an endless input.
const MOST_BYTES: u64 = 16 << 20;

/// Everything a plugin sees of the world, so that tests and embedders can pass their own.
pub struct Io<'a> {
    /// The environment.
    pub environment: Environment,
    /// The configuration is read from here.
    pub stdin: &'a mut dyn Read,
    /// Result or error goes here.
    pub stdout: &'a mut dyn Write,
    /// How plugins are run that work is delegated to.
    pub exec: Arc<dyn Exec>,
}

/// The `main` of a plugin's program: [`run`] with the process's own environment, stdin and stdout.
///
/// A panic becomes an error object, also in a program that was built to abort on panics.
pub fn main(plugin: &dyn Plugin) -> ExitCode {
    if cfg!(panic = "abort") {
        std::panic::set_hook(Box::new(|info| {
            let text = info.payload_as_str().unwrap_or("no message");
            // There is nobody left to tell if this fails.
            let _ = print(&mut std::io::stdout(), &panicked(text).to_json(SpecVersion::CURRENT));
            std::process::exit(1);
        }));
    }
    let mut stdin = std::io::stdin();
    // A person trying VERSION in a shell should not have to end an input that is not needed.
    let mut nothing = std::io::empty();
    let stdin: &mut dyn Read = if stdin.is_terminal() { &mut nothing } else { &mut stdin };
    ExitCode::from(run(
        plugin,
        Io {
            environment: Environment::of_process(),
            stdin,
            stdout: &mut std::io::stdout(),
            exec: Arc::new(ProcessExec { forward_stderr: true, ..ProcessExec::default() }),
        },
    ))
}

/// One call. Prints the result or the error, and returns the exit code.
pub fn run(plugin: &dyn Plugin, io: Io<'_>) -> u8 {
    let Io { environment, stdin, stdout, exec } = io;
    let mut version = SpecVersion::CURRENT;
    let answer = catch_unwind(AssertUnwindSafe(|| answer(plugin, environment, stdin, exec, &mut version)))
        .unwrap_or_else(|payload| Err(panicked(panic_text(&*payload))));
    let (code, json) = match answer {
        Ok(json) => (0, json),
        Err(error) => (1, Some(error.to_json(version))),
    };
    match json.map_or(Ok(()), |json| print(stdout, &json)) {
        Ok(()) => code,
        // The runtime does not listen any more. It has to DEL whatever was added, as after any failed ADD.
        Err(_) => 1,
    }
}

/// What the plugin has to say: `None` for a verb that answers with nothing.
fn answer(
    plugin: &dyn Plugin,
    environment: Environment,
    stdin: &mut dyn Read,
    exec: Arc<dyn Exec>,
    version: &mut SpecVersion,
) -> Result<Option<Value>, CniError> {
    let about = plugin.about();
    let mut parameters = Parameters::parse(&environment).map_err(|error| match environment.get("CNI_COMMAND") {
        Some(_) => error,
        // Most likely a person, who wants to know what this program is.
        None => error.details(format!(
            "{} {} is a CNI plugin: a container runtime calls it with this variable. It speaks CNI {}",
            about.name,
            about.version,
            crate::cni::list_of_versions(about.spec)
        )),
    })?;
    let bytes = read_configuration(stdin)?;
    if parameters.verb == Verb::Version {
        return Ok(Some(json!({ "cniVersion": asked_version(&bytes), "supportedVersions": about.spec })));
    }
    let conf = configuration(parameters.verb, &bytes)?;
    *version = conf.cni_version;
    check_version(parameters.verb, conf.cni_version, about.spec)?;
    if about.netns == Netns::Entered {
        check_netns(&mut parameters)?;
    }
    let origin = Origin { verb: parameters.verb, path: parameters.path.clone(), environment, stdin: bytes, exec };
    match Request::new(parameters, conf, origin)? {
        Request::Add(request) => {
            let result = plugin.add(&request)?;
            result.check()?;
            Ok(Some(result.to_json(*version)?))
        }
        Request::Del(request) => plugin.del(&request).map(|()| None),
        Request::Check(request) => plugin.check(&request).map(|()| None),
        Request::Status(request) => plugin.status(&request).map(|()| None),
        Request::Gc(request) => plugin.gc(&request).map(|()| None),
    }
}

/// The whole input, as far as one can be a configuration.
fn read_configuration(stdin: &mut dyn Read) -> Result<Vec<u8>, CniError> {
    let mut bytes = Vec::new();
    stdin.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|error| {
        CniError::new(ErrorCode::Io, format!("stdin: {error}")).details("the runtime has to pass the configuration")
    })?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(CniError::new(ErrorCode::Decode, format!("stdin: longer than {MOST_BYTES} bytes"))
            .details("the runtime has to pass one network configuration and nothing else"));
    }
    Ok(bytes)
}

/// The version in the input of VERSION, which is given back as it came (CNI 1.1.0, section 5, "VERSION Success").
fn asked_version(stdin: &[u8]) -> Value {
    let asked = serde_json::from_slice::<Value>(stdin).ok().and_then(|input| input.get("cniVersion").cloned());
    asked.filter(|version| version.as_str().is_some_and(|text| !text.is_empty())).unwrap_or(json!(SpecVersion::CURRENT))
}

fn configuration(verb: Verb, stdin: &[u8]) -> Result<NetConf, CniError> {
    match NetConf::parse(stdin) {
        // DEL goes on with what there is: a result that nobody can read is no reason to leave a container attached.
        Err(ConfError::PrevResult(_)) if verb == Verb::Del => {
            let mut conf: Value = serde_json::from_slice(stdin).map_err(ConfError::from)?;
            conf.as_object_mut().map(|object| object.remove("prevResult"));
            Ok(NetConf::from_json(conf)?)
        }
        conf => Ok(conf?),
    }
}

fn check_version(verb: Verb, version: SpecVersion, spoken: &[SpecVersion]) -> Result<(), CniError> {
    let since = verb.since();
    if !version.has(verb) {
        let msg = format!("cniVersion: {version} has no {verb}");
        let details = format!("{verb} came with {since}: set cniVersion of the network to {since} or newer");
        return Err(CniError::new(ErrorCode::IncompatibleVersion, msg).details(details));
    }
    if !spoken.contains(&version) {
        let msg = format!("cniVersion: {version} is not spoken by this plugin");
        let details = format!("set cniVersion of the network to one of {}", crate::cni::list_of_versions(spoken));
        return Err(CniError::new(ErrorCode::IncompatibleVersion, msg).details(details));
    }
    Ok(())
}

/// Before the verb, not after it as in the Go `skel`: what is refused has had no effect.
fn check_netns(parameters: &mut Parameters) -> Result<(), CniError> {
    let Some(path) = &parameters.netns else { return Ok(()) };
    match look_at(path) {
        Found::Other => Ok(()),
        Found::Own if parameters.netns_override => Ok(()),
        Found::NoNamespace if parameters.verb == Verb::Del => {
            parameters.netns = None;
            Ok(())
        }
        found => Err(refuse(path, found)),
    }
}

fn panicked(text: &str) -> CniError {
    CniError::new(ErrorCode::INTERNAL, format!("the plugin has a defect and stopped: {text}"))
        .details("this is not the configuration's fault: report it; the runtime has to DEL this container")
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// In one write, so that a reader never sees a half object from a plugin that was killed in between.
fn print(stdout: &mut dyn Write, json: &Value) -> std::io::Result<()> {
    let mut text = json.to_string();
    text.push('\n');
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
