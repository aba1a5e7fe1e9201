//! Laws of what is told.

mod histories;
mod listeners;
mod rules;
mod world;
