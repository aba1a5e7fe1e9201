//! The agent's socket: accepts, asks the node, answers. Never works on a request of somebody who may not ask.

use super::connection::{answer, authorise, read_request};
use super::reload::{ReloadError, Reloader};
use cni_core::backend::Plan;
use cni_core::cni::ErrorCode;
use cni_core::model::PodRef;
use cni_core::rpc::{AddCall, Call, CheckCall, Failure, FlowsCall, GcCall, Response};
use cnidarian::{AttachRequest, CheckRequest, NetNs, Node, NodeError};
use serde::Serialize;
use serde_json::Value;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How many requests are worked on at once; further ones wait in the socket's backlog.
const AT_ONCE: usize = 256;
/// How long the end waits for requests that were begun.
const DRAIN: Duration = Duration::from_secs(10);
/// How long a client may wait for a flow in one request: less than the end waits.
const FLOWS_WAIT: Duration = Duration::from_secs(2);

/// The agent's socket.
pub(super) struct Server {
    listener: UnixListener,
    path: PathBuf,
    node: Arc<Node>,
    reloader: Arc<Reloader>,
    slots: Arc<Semaphore>,
}

impl Server {
    /// Listens. A socket that a dead predecessor left is replaced: the caller holds the lock of the state directory, so
    /// no other agent of this node lives.
    pub(super) fn listen(path: &Path, node: Arc<Node>, reloader: Arc<Reloader>) -> io::Result<Self> {
        if let Some(directory) = path.parent()
            && !directory.is_dir()
        {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        clear(path)?;
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path: path.to_owned(), node, reloader, slots: Arc::new(Semaphore::new(AT_ONCE)) })
    }

    /// Serves until `stop` is ready, then ends what was begun.
    pub(super) async fn serve(self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            // The end comes also when every slot is taken.
            let slot = tokio::select! {
                () = &mut stop => break,
                slot = self.slots.clone().acquire_owned() => slot,
            };
            let Ok(slot) = slot else { break };
            let stream = tokio::select! {
                () = &mut stop => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of descriptors or memory: connections that end make room.
                        tracing::error!(%error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            let (node, reloader) = (self.node.clone(), self.reloader.clone());
            tokio::spawn(async move {
                serve_one(stream, &node, &reloader).await;
                drop(slot);
            });
        }
        // New clients see that nobody is here, and DEL writes its tombstone.
        let _ = fs::remove_file(&self.path);
        drop(self.listener);
        let all = u32::try_from(AT_ONCE).unwrap_or(u32::MAX);
        if timeout(DRAIN, self.slots.acquire_many(all)).await.is_err() {
            tracing::warn!("some requests did not end in time; the next start tidies up after them");
        }
    }
}

/// Removes the socket that a killed agent left behind. What is no socket, or has somebody behind it, is not ours.
fn clear(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let taken = |problem| Err(io::Error::new(io::ErrorKind::AlreadyExists, problem));
    if !found.is_socket() {
        return taken("this is no socket; move it away, or give `socket` another path");
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return taken("another process listens here; stop it, or give `socket` another path");
    }
    fs::remove_file(path)
}

async fn serve_one(mut stream: UnixStream, node: &Node, reloader: &Reloader) {
    let asked = match authorise(&stream) {
        Ok(()) => read_request(&stream).await,
        Err(refused) => Err(refused),
    };
    let response = match asked {
        Ok(None) => return,
        Ok(Some((request, netns))) => {
            let outcome = call(node, reloader, request.call, netns).await;
            outcome.map_or_else(Response::Failed, Response::Done)
        }
        Err(refused) => {
            tracing::warn!(error = %refused, "a request was refused");
            Response::Failed(refused)
        }
    };
    answer(&mut stream, &response).await;
}

fn said<T: Serialize>(outcome: Result<T, NodeError>) -> Result<Value, Failure> {
    let value = outcome.map_err(|error| Failure::from(&error))?;
    serde_json::to_value(value).map_err(|error| Failure::new(ErrorCode::INTERNAL, "answer cannot be written", error))
}

async fn call(node: &Node, reloader: &Reloader, call: Call, netns: Option<OwnedFd>) -> Result<Value, Failure> {
    match call {
        Call::Add(call) => {
            let request = attach_request(call, netns)?;
            let endpoint = request.endpoint.clone();
            let outcome = node.attach(request).await;
            match &outcome {
                Ok(made) => tracing::info!(%endpoint, addresses = ?made.addresses, "ADD"),
                Err(error) => tracing::warn!(%endpoint, %error, "ADD failed"),
            }
            said(outcome)
        }
        Call::Del(call) => {
            let outcome = node.detach(&call.endpoint).await;
            match &outcome {
                Ok(()) => tracing::info!(endpoint = %call.endpoint, "DEL"),
                Err(error) => tracing::warn!(endpoint = %call.endpoint, %error, "DEL failed"),
            }
            said(outcome)
        }
        Call::Check(CheckCall { endpoint, netns: path, addresses, routes }) => {
            let netns = namespace(netns, &path)?;
            said(node.check(CheckRequest { endpoint, netns, addresses, routes }).await)
        }
        Call::Status => node.ready().map(|()| Value::Null).map_err(|error| not_ready(&error)),
        Call::Gc(GcCall { network, valid }) => {
            let outcome = node.gc(&network, valid.into_iter().collect()).await;
            tracing::info!(%network, ?outcome, "GC");
            said(outcome)
        }
        Call::Show => said(Ok(node.status())),
        Call::IpamShow => said(node.leases().map(|leases| {
            let pools = node.status().pools;
            serde_json::json!({ "pools": pools, "leases": leases })
        })),
        Call::IpamCheck => said(node.ipam_check().await),
        Call::IpamRelease { address } => said(node.ipam_release(address).await),
        Call::Inspect { question, arguments } => said(node.inspect(&question, &arguments).await),
        Call::Plan => said(node.plan().await.map(plan_as_json)),
        Call::PlanFor { document } => {
            reloader.plan(node, document).await.map(plan_as_json).map_err(|error| refused(&error))
        }
        Call::Reload => reloader.reload(node).await.map(|()| Value::Null).map_err(|error| refused(&error)),
        Call::Resync => said(node.resync().await.map(|drift| {
            serde_json::json!({
                "missing": drift.missing, "changed": drift.changed, "unexpected": drift.unexpected,
                "written": drift.repair.written, "complete": drift.repair.is_complete(),
            })
        })),
        Call::PolicyCounters => said(node.policy_counters().await),
        Call::Services => said(Ok(node.services().await)),
        Call::Flows(FlowsCall { query, wait_ms }) => {
            let patience = Duration::from_millis(wait_ms.into()).min(FLOWS_WAIT);
            said(node.flows(&query, patience).await)
        }
        _ => Err(Failure::new(ErrorCode::Decode, "unknown call", "this agent is older than its client")),
    }
}

fn plan_as_json(plan: Plan) -> Value {
    let blocked: Vec<_> = plan.blocked.iter().map(|one| (one.item.clone(), one.error.to_string())).collect();
    serde_json::json!({ "steps": plan.steps, "waitingForSync": plan.waiting_for_sync, "blocked": blocked })
}

fn refused(error: &ReloadError) -> Failure {
    match error {
        ReloadError::Node(error) => error.into(),
        ReloadError::Config(error) => Failure::new(ErrorCode::InvalidConfig, error.to_string(), ""),
    }
}

/// STATUS has two codes of its own (CNI 1.1.0, section 5): 51 when pods may be cut off, 50 otherwise.
fn not_ready(error: &NodeError) -> Failure {
    let code = match error.code() {
        ErrorCode::LimitedConnectivity => ErrorCode::LimitedConnectivity,
        _ => ErrorCode::NotAvailable,
    };
    Failure { code, ..Failure::from(error) }
}

fn namespace(netns: Option<OwnedFd>, path: &str) -> Result<NetNs, Failure> {
    let refused = |problem: String| {
        Failure::new(
            ErrorCode::InvalidEnvironment,
            format!("CNI_NETNS: {path}: {problem}"),
            "pass the path of the container's network namespace, as in /run/netns/blue",
        )
    };
    let fd = netns.ok_or_else(|| refused("no file descriptor came with the request".to_owned()))?;
    NetNs::from_fd(fd).map_err(|error| refused(error.to_string()))
}

fn attach_request(call: AddCall, netns: Option<OwnedFd>) -> Result<AttachRequest, Failure> {
    let AddCall { endpoint, network, netns: path, pod, requested, assigned, mac, mtu_bytes } = call;
    let netns = namespace(netns, &path)?;
    if let Some(Err(error)) = pod.as_ref().map(PodRef::check) {
        return Err(Failure::new(ErrorCode::InvalidEnvironment, format!("pod: {error}"), error.rule));
    }
    Ok(AttachRequest { network, pod, requested, assigned, mac, mtu_bytes, ..AttachRequest::new(endpoint, netns) })
}
