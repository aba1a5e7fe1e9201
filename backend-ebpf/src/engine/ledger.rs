//! How many connections lost their entry before anybody read it, from three counts. Never one by one: nobody saw them.

/// Counts of one map of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    map: u32,
    /// Connections that got an entry.
    begun: u64,
    /// Entries that are there.
    present: u64,
}

/// What was counted since somebody wants to know.
///
/// # Laws
/// 1. Whatever begins while entries are counted, it never says that more are lost than are.
/// 2. When nothing begins while they are counted, it has said of all that were lost since the first count.
///
/// For the first law a program makes an entry before it counts it, and only one that it made. Where the first count falls between both,
/// that one, of each CPU, is taken for lost. What is lost is an entry: also one of a connection that was open before anything was enforced,
/// of which nobody would have been told.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    first: Option<Counts>,
    taken: u64,
    lost: u64,
}

impl Ledger {
    /// Takes in a count of entries: `begun` before and after them, how many are there after so many were taken away. Answers how
    /// many more are lost than was said before.
    pub(super) fn look(&mut self, map: u32, begun: [u64; 2], present: u64, taken: u64) -> u64 {
        let [before, after] = begun;
        let Some(first) = self.first.filter(|first| first.map == map) else {
            *self = Self { first: Some(Counts { map, begun: after, present }), taken: 0, lost: 0 };
            return 0;
        };
        self.taken += taken;
        let there = first.present.saturating_add(before.saturating_sub(first.begun));
        let lost = there.saturating_sub(present).saturating_sub(self.taken);
        let more = lost.saturating_sub(self.lost);
        self.lost += more;
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Begins(u64),
        MakesRoom(u64),
        /// So many are taken, and so many begin while entries are counted, of which so many are seen.
        Counted {
            taken: u64,
            meanwhile: u64,
            seen: u64,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_u64..50).prop_map(Step::Begins),
            (0_u64..20).prop_map(Step::MakesRoom),
            (0_u64..20, 0_u64..5, 0_u64..5).prop_map(|(taken, meanwhile, seen)| Step::Counted {
                taken,
                meanwhile,
                seen: seen.min(meanwhile)
            }),
        ]
    }

    proptest! {
        #[test]
        fn it_never_says_more_than_are_lost_and_all_of_them_when_it_is_quiet(steps in proptest::collection::vec(step(), 0..40)) {
            let (mut ledger, mut begun, mut present, mut lost, mut said) = (Ledger::default(), 100_u64, 30_u64, 0_u64, 0_u64);
            ledger.look(1, [begun; 2], present, 0);
            for step in steps {
                match step {
                    Step::Begins(more) => { begun += more; present += more; }
                    Step::MakesRoom(wanted) => { let gone = wanted.min(present); present -= gone; lost += gone; }
                    Step::Counted { taken, meanwhile, seen } => {
                        let before = begun;
                        let taken = taken.min(present);
                        let found = present - taken + seen;
                        begun += meanwhile;
                        present = present - taken + meanwhile;
                        said += ledger.look(1, [before, begun], found, taken);
                        prop_assert!(said <= lost, "{said} of {lost}");
                    }
                }
            }
            said += ledger.look(1, [begun; 2], present, 0);
            prop_assert_eq!(said, lost);
        }
    }

    #[test]
    fn another_map_is_counted_from_its_beginning() {
        let mut ledger = Ledger::default();
        assert_eq!([ledger.look(1, [10, 10], 5, 0), ledger.look(1, [20, 20], 5, 0)], [0, 10]);
        assert_eq!([ledger.look(2, [20, 20], 0, 0), ledger.look(2, [21, 21], 0, 0)], [0, 1]);
    }

    #[test]
    fn what_begins_while_entries_are_counted_first_is_not_taken_for_lost() {
        let mut ledger = Ledger::default();
        // Three began, two of which were seen.
        ledger.look(1, [10, 13], 7, 0);
        assert_eq!(ledger.look(1, [13, 13], 8, 0), 0);
    }
}
