//! Packets as an attacker, a broken card or a bad cable makes them: cut, twisted, in pieces that overlap. Never a packet that is sent.

mod cut;
mod fragments;
mod kinds;
mod laws;
mod mutants;
mod rigs;
