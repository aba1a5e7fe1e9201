//! The word a person meant. Never offers one that is far off.

/// The candidate nearest to a word: at most a third of its letters differ (but one always may), upper and lower case
/// and `-`, `_` being equal. A word that begins or continues a candidate of four letters or more is one letter off.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let folded = fold(word);
    candidates
        .iter()
        .map(|candidate| {
            let other = fold(candidate);
            let begins =
                other.len().min(folded.len()) >= 4 && (other.starts_with(&folded) || folded.starts_with(&other));
            (if begins { 1.min(distance(&folded, &other)) } else { distance(&folded, &other) }, *candidate)
        })
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(word.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn fold(word: &str) -> Vec<char> {
    word.chars().filter(|letter| !matches!(letter, '-' | '_')).flat_map(char::to_lowercase).collect()
}

/// Levenshtein's distance. `O(a * b)`, so long words count as far off.
fn distance(a: &[char], b: &[char]) -> usize {
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_word_finds_its_neighbour_and_a_strange_one_none() {
        let keys = ["backend", "backendConfig", "stateDir", "ipam", "mtu"];
        assert_eq!(nearest("bakend", &keys), Some("backend"));
        assert_eq!(nearest("state_dir", &keys), Some("stateDir"));
        assert_eq!(nearest("STATEDIR", &keys), Some("stateDir"));
        assert_eq!(nearest("stateDirectory", &keys), Some("stateDir"));
        assert_eq!(nearest("mtu-", &keys), Some("mtu"));
        assert_eq!(nearest("policy", &keys), None);
        assert_eq!(nearest(&"x".repeat(10_000), &keys), None);
    }
}
