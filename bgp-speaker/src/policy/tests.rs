//! Laws of policies.
