//! Laws of what is told.
