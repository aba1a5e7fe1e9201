//! Group commit: transactions that wait at the same time go to the disk together. Never reorders those of one caller.

use crate::ipam::{LeaseOp, LeaseStoreError};
use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

type Answer = Result<(), LeaseStoreError>;

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<(u64, Vec<LeaseOp>)>,
    answers: HashMap<u64, Answer>,
    next_ticket: u64,
    /// A thread is writing for all that came before it began.
    writing: bool,
}

/// The threads that wait for the disk.
#[derive(Debug, Default)]
pub(super) struct Group {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Group {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // `write` does not run under the lock, and nothing else panics.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands in one transaction and waits for its answer. One of the waiting threads runs `write` for all of them;
    /// it must not panic, and answers each in order.
    pub(super) fn commit(&self, ops: &[LeaseOp], write: impl Fn(&[&[LeaseOp]]) -> Vec<Answer>) -> Answer {
        let mut queue = self.lock();
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.waiting.push((ticket, ops.to_vec()));
        loop {
            if let Some(answer) = queue.answers.remove(&ticket) {
                return answer;
            }
            if queue.writing {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            queue.writing = true;
            let together = std::mem::take(&mut queue.waiting);
            drop(queue);
            let transactions: Vec<&[LeaseOp]> = together.iter().map(|(_, ops)| ops.as_slice()).collect();
            let answers = write(&transactions);
            queue = self.lock();
            queue.writing = false;
            queue.answers.extend(together.iter().map(|(ticket, _)| *ticket).zip(answers));
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn eight_threads_share_a_write_and_each_gets_its_own_answer() {
        let group = Group::default();
        let writes = AtomicUsize::new(0);
        let op = |number: u8| vec![LeaseOp::Forget(Ipv4Addr::new(10, 0, 0, number).into())];
        let refused = op(3);
        let write = |transactions: &[&[LeaseOp]]| {
            // The first writer waits until all others stand in the queue, so that they must share the second write.
            if writes.fetch_add(1, Ordering::SeqCst) == 0 {
                while group.lock().waiting.len() + transactions.len() < 8 {
                    std::thread::yield_now();
                }
            }
            let error =
                || LeaseStoreError::Storage { operation: "write", source: std::sync::Arc::new(std::fmt::Error) };
            transactions.iter().map(|ops| if *ops == refused { Err(error()) } else { Ok(()) }).collect()
        };
        std::thread::scope(|scope| {
            let threads = [0, 1, 2, 3, 4, 5, 6, 7].map(|number| {
                let (group, write, ops) = (&group, &write, op(number));
                scope.spawn(move || group.commit(&ops, write))
            });
            let answers = threads.map(|thread| thread.join().unwrap().is_ok());
            assert_eq!(answers, [true, true, true, false, true, true, true, true]);
        });
        assert!(writes.load(Ordering::SeqCst) <= 2, "{writes:?} writes for 8 transactions");
        assert!(group.lock().answers.is_empty());
    }
}
