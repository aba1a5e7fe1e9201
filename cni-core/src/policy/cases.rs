//! Cases: objects, and connections that are expected to be allowed or denied. Never read from a file here.
//!
//! ```json
//! {"id": "web", "objects": [], "queries": [{"from": "shop/a", "to": "shop/b", "proto": "TCP", "port": 80, "expect": true}]}
//! ```

use super::evaluate::{Evaluator, InvalidParty, NoSuchPort, Outcome, PortChoice, Question, UnknownParty};
use super::model::{Problem, Protocol, UnknownProtocol};
use super::world::World;
use crate::store::{InvalidObject, Object};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A case. Keys that are not known here (a source, a licence, notes) are left alone.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Case {
    /// Its name.
    #[serde(default)]
    pub id: String,
    /// Objects in Kubernetes format.
    #[serde(default)]
    pub objects: Vec<Value>,
    /// What is asked.
    #[serde(default)]
    pub queries: Vec<Query>,
}

/// A query: may a new connection be made?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// `NAMESPACE/POD`, `node/NAME` or an address.
    pub from: String,
    /// The same.
    pub to: String,
    /// The protocol, TCP where none is written.
    #[serde(default = "tcp", alias = "protocol")]
    pub proto: String,
    /// The destination port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<QueryPort>,
    /// Whether it is expected to be allowed.
    pub expect: bool,
}

fn tcp() -> String {
    "TCP".to_owned()
}

/// A destination port as a case writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum QueryPort {
    /// By number.
    Number(u16),
    /// By name, or a number in quotes.
    Text(String),
}

/// A query that asks for nothing that could be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// An end is no party.
    #[error(transparent)]
    Party(#[from] InvalidParty),
    /// The protocol is none.
    #[error(transparent)]
    Protocol(#[from] UnknownProtocol),
    /// There is no port, or 0.
    #[error("port: {protocol} needs a port from 1 to 65535 or a name of the destination's")]
    Port {
        /// The protocol.
        protocol: Protocol,
    },
    /// The destination names no such port.
    #[error(transparent)]
    NoSuchPort(#[from] NoSuchPort),
    /// There is no such workload.
    #[error(transparent)]
    Unknown(#[from] UnknownParty),
}

impl Query {
    /// The question.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn question(&self) -> Result<Question, QueryError> {
        let protocol: Protocol = self.proto.parse()?;
        let port = match &self.port {
            Some(QueryPort::Number(number)) if *number > 0 => PortChoice::Number(*number),
            Some(QueryPort::Text(text)) if text.parse::<u16>().is_ok_and(|number| number > 0) => {
                PortChoice::Number(text.parse().unwrap_or_default())
            }
            Some(QueryPort::Text(text)) if text.bytes().any(|byte| byte.is_ascii_alphabetic()) => {
                PortChoice::Name(text.as_str().into())
            }
            _ if !protocol.has_ports() => PortChoice::Number(0),
            _ => return Err(QueryError::Port { protocol }),
        };
        Ok(Question { from: self.from.parse()?, to: self.to.parse()?, protocol, port })
    }

    /// What the policies say.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn ask(&self, evaluator: &Evaluator<'_>, world: &World) -> Result<Outcome, QueryError> {
        Ok(evaluator.decide(&self.question()?.connection(world)?)?)
    }
}

/// What a case describes.
#[derive(Debug)]
pub struct Scene {
    /// Everything that is in force.
    pub world: World,
    /// What is wrong with its objects.
    pub problems: Vec<Problem>,
    /// Objects that are none.
    pub broken: Vec<InvalidObject>,
}

impl Case {
    /// Reads the objects.
    #[must_use]
    pub fn scene(&self) -> Scene {
        let (mut objects, mut broken) = (Vec::new(), Vec::new());
        for value in &self.objects {
            match Object::from_value(value.clone()) {
                Ok(object) => objects.push(object),
                Err(error) => broken.push(error),
            }
        }
        let (world, problems) = World::read(&objects);
        Scene { world, problems, broken }
    }
}
