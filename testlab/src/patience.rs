//! Deadlines for what has to happen, stretched on slow machines in one place. Never for what must not happen, and never
//! shorter than written.

use std::sync::LazyLock;
use std::time::Duration;

/// How many times as long as written we wait, 1 to 100: for an emulated machine.
const FACTOR: &str = "CNIDARIAN_PATIENCE";
const MOST: u32 = 100;

/// A deadline as it is on this machine.
#[must_use]
pub fn stretched(deadline: Duration) -> Duration {
    static CHOSEN: LazyLock<u32> = LazyLock::new(|| factor(std::env::var(FACTOR).ok().as_deref()));
    deadline * *CHOSEN
}

fn factor(text: Option<&str>) -> u32 {
    text.and_then(|text| text.parse().ok()).unwrap_or(1).clamp(1, MOST)
}

#[cfg(test)]
mod tests {
    use super::factor;

    #[test]
    fn a_deadline_is_never_shorter_than_written() {
        assert_eq!([None, Some(""), Some("0"), Some("-3"), Some("1"), Some("x")].map(factor), [1; 6]);
        assert_eq!([Some("4"), Some("1000")].map(factor), [4, 100]);
    }
}
