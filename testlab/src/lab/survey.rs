//! Asks every pod for every other one, and compares with what the scenario says. Never changes the network.

use super::paths::path_kind;
use super::{Lab, LabError, Node, fabric};
use crate::patience::stretched;
use crate::probe::{PROTOCOLS, Patience, ProbeError, Protocol, Responder, probe_all, seen_as};
use crate::report::{Finding, OutsideFinding, PodLine, Report};
use crate::scenario::PathKind;
use net_linux::netns::NetNs;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Peers that do not know each other by then will not.
const CONVERGE: Duration = Duration::from_secs(20);
/// Namespaces that are asked from at the same time when only the answer counts.
const AT_ONCE: usize = 8;
/// Up to so many questions are asked one after the other, so that they do not wait for each other's processor.
const MOST_IN_TURN: usize = 5_000;
/// For a first look, and for what shall not answer.
const QUICK: Patience = Patience { timeout: Duration::from_millis(400), samples: 1 };

/// One question; pods by index.
#[derive(Debug, Clone, Copy)]
struct Question {
    from: usize,
    to: usize,
    address: IpAddr,
    protocol: Protocol,
    path: PathKind,
    expected: Option<PathKind>,
}

impl Question {
    fn shall_answer(&self) -> bool {
        self.expected != Some(PathKind::None)
    }
}

type Answer = Result<Duration, ProbeError>;

impl Lab {
    /// Probes every pair of pods over every protocol and family, and the outside from every pod.
    ///
    /// # Errors
    /// [`LabError::Probe`] when a namespace can't be entered, [`LabError::Interrupted`].
    pub fn probe(&self, cancel: &AtomicBool) -> Result<Report, LabError> {
        let namespaces = self.pods.iter().map(|pod| &pod.namespace).chain([self.outside()]);
        let answering = |source| LabError::Io { what: "answer probes", source };
        let _responders = namespaces.map(Responder::start).collect::<Result<Vec<_>, _>>().map_err(answering)?;
        self.converge(cancel)?;
        let questions = self.questions()?;
        eprintln!("asking {} questions ...", questions.len());
        let (reachable, closed): (Vec<_>, Vec<_>) = questions.into_iter().partition(Question::shall_answer);
        let at_once = if reachable.len() <= MOST_IN_TURN { 1 } else { AT_ONCE };
        let mut answers = self.ask(&reachable, Patience::default(), at_once)?;
        answers.extend(self.ask(&closed, QUICK, AT_ONCE)?);
        if cancel.load(Ordering::SeqCst) {
            return Err(LabError::Interrupted);
        }
        let mut findings: Vec<(Question, Finding)> = reachable
            .into_iter()
            .chain(closed)
            .zip(answers)
            .map(|(question, answer)| (question, self.judge(&question, answer)))
            .collect();
        findings.sort_by_key(|(question, _)| (question.from, question.to, question.address, question.protocol));
        Ok(Report {
            scenario: self.scenario.name.clone(),
            backend: self.scenario.backend.clone(),
            pods: self.pod_lines(),
            findings: findings.into_iter().map(|(_, finding)| finding).collect(),
            outside: self.ask_outside(),
        })
    }

    /// Waits until all that shall answer does, or the time is over: the report then says what does not.
    fn converge(&self, cancel: &AtomicBool) -> Result<(), LabError> {
        let deadline = Instant::now() + stretched(CONVERGE);
        let start = Instant::now();
        let mut open: Vec<Question> = self.questions()?.into_iter().filter(Question::shall_answer).collect();
        let all = open.len();
        while !open.is_empty() && Instant::now() < deadline {
            if cancel.load(Ordering::SeqCst) {
                return Err(LabError::Interrupted);
            }
            let answers = self.ask(&open, QUICK, AT_ONCE)?;
            open = open
                .into_iter()
                .zip(answers)
                .filter(|(_, answer)| answer.is_err())
                .map(|(question, _)| question)
                .collect();
        }
        eprintln!("{} of {all} questions answered after {} ms", all - open.len(), start.elapsed().as_millis());
        Ok(())
    }

    fn questions(&self) -> Result<Vec<Question>, LabError> {
        let mut questions = Vec::new();
        for from in 0..self.pods.len() {
            let node = &self.nodes[self.pods[from].node];
            for to in (0..self.pods.len()).filter(|to| *to != from) {
                for address in &self.pods[to].addresses {
                    let path = path_kind(&node.namespace, *address)?;
                    let expected = self.scenario.expected_path(from, to);
                    let ask = |protocol| Question { from, to, address: *address, protocol, path, expected };
                    questions.extend(PROTOCOLS.map(ask));
                }
            }
        }
        Ok(questions)
    }

    /// Answers in the order of questions.
    fn ask(&self, questions: &[Question], patience: Patience, at_once: usize) -> Result<Vec<Answer>, LabError> {
        let mut answers: Vec<Option<Answer>> = questions.iter().map(|_| None).collect();
        let groups: Vec<usize> = (0..self.pods.len()).collect();
        for batch in groups.chunks(at_once) {
            let results = std::thread::scope(|scope| {
                let asking: Vec<_> = batch
                    .iter()
                    .map(|from| {
                        let namespace: &NetNs = &self.pods[*from].namespace;
                        let mine: Vec<usize> =
                            (0..questions.len()).filter(|index| questions[*index].from == *from).collect();
                        scope.spawn(move || {
                            let targets: Vec<_> = mine
                                .iter()
                                .map(|index| (questions[*index].protocol, questions[*index].address))
                                .collect();
                            probe_all(namespace, &targets, patience).map(|answers| (mine, answers))
                        })
                    })
                    .collect();
                let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                };
                asking.into_iter().map(join).collect::<Result<Vec<_>, ProbeError>>()
            })?;
            for (mine, given) in results {
                for (index, answer) in mine.into_iter().zip(given) {
                    answers[index] = Some(answer);
                }
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    fn judge(&self, question: &Question, answer: Answer) -> Finding {
        let unexpected = match (&answer, question.expected) {
            (Ok(_), Some(PathKind::None)) => Some("answers, and should not".to_owned()),
            (Err(_), Some(PathKind::None)) => None,
            (Err(error), _) => Some(format!("no answer ({error})")),
            (Ok(_), Some(expected)) if expected != question.path => {
                Some(format!("took the path {}, and should take {expected}", question.path))
            }
            (Ok(_), _) => None,
        };
        let micros = |time: &Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Finding {
            from: self.pods[question.from].name.clone(),
            to: self.pods[question.to].name.clone(),
            address: question.address,
            protocol: question.protocol,
            path: question.path,
            round_trip_us: answer.as_ref().ok().map(micros),
            error: answer.err().map(|error| error.to_string()),
            unexpected,
        }
    }

    fn pod_lines(&self) -> Vec<PodLine> {
        let line = |pod: &super::Pod| PodLine {
            name: pod.name.clone(),
            node: self.nodes[pod.node].name.clone(),
            addresses: pod.addresses.clone(),
            add_us: u64::try_from(pod.add_time.as_micros()).unwrap_or(u64::MAX),
        };
        self.pods.iter().map(line).collect()
    }

    fn ask_outside(&self) -> Vec<OutsideFinding> {
        if !self.scenario.expect.outside {
            return Vec::new();
        }
        let mut findings = Vec::new();
        for pod in &self.pods {
            let (v4, v6) = self.scenario.node_addresses(pod.node);
            for address in [IpAddr::V4(fabric::OUTSIDE_V4), IpAddr::V6(fabric::OUTSIDE_V6)] {
                let node = if address.is_ipv4() { IpAddr::V4(v4) } else { IpAddr::V6(v6) };
                let seen = seen_as(&pod.namespace, address, Duration::from_secs(1));
                let unexpected = match &seen {
                    Ok(seen) if *seen == node => None,
                    Ok(seen) => Some(format!("was seen as {seen}, and should be as its node, {node}")),
                    Err(error) => Some(error.to_string()),
                };
                findings.push(OutsideFinding { from: pod.name.clone(), address, seen_as: seen.ok(), unexpected });
            }
        }
        findings
    }
}

/// What is on the nodes that should have gone with the pods. Waits a little: devices die after the answer to DEL.
pub(super) fn leftovers(nodes: &[Node]) -> Result<Vec<String>, LabError> {
    let deadline = Instant::now() + stretched(Duration::from_secs(10));
    loop {
        let mut left = Vec::new();
        for node in nodes {
            let names = node.namespace.run(super::paths::pod_links)??;
            left.extend(names.into_iter().map(|name| format!("{}: interface {name}", node.name)));
        }
        if left.is_empty() || Instant::now() > deadline {
            return Ok(left);
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
