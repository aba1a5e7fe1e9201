//! Speakers on a network in memory, in virtual time: what BGP users expect of a whole speaker.

mod basics;
mod bed;
mod bfd;
mod gathering;
mod live;
mod mesh;
mod next_hops;
mod reflection;
mod refresh;
mod restart;

pub(super) use bed::agreed;
