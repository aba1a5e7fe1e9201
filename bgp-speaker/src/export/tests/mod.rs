//! Laws of what is told.

mod histories;
mod listeners;
mod moves;
mod rules;
mod world;
