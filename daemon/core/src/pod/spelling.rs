//! What somebody may have meant who wrote a word that is not known.

/// Longer words are not compared: the work grows with the square.
const LONGEST: usize = 64;

/// The known word that is nearest, if one is near enough to be a slip of the hand. Case, `-`, `_` and `.` count for
/// nothing, so that `proxyType` is `proxy-type`.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = bare(word);
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    let near = known.into_iter().filter_map(|candidate| {
        let bare = bare(candidate);
        let apart = distance(&word, &bare);
        // One slip in a short word, two in a longer one, and never a word of which nothing is left.
        let allowed = if bare.len().min(word.len()) < 5 { 1 } else { bare.len().max(word.len()) / 4 + 1 };
        (apart <= allowed && apart < bare.len()).then_some((apart, candidate))
    });
    near.min().map(|(_, candidate)| candidate)
}

fn bare(word: &str) -> Vec<char> {
    word.chars().filter(|c| !matches!(c, '-' | '_' | '.')).flat_map(char::to_lowercase).collect()
}

/// Letters to add, take away, change, or swap with their neighbour (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, right) in b.iter().enumerate() {
            let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX / 2);
            let mut least = (at(&above, j + 1) + 1).min(at(&row, j) + 1);
            least = least.min(at(&above, j) + usize::from(left != right));
            if i > 0 && j > 0 && a.get(i - 1) == Some(right) && b.get(j - 1) == Some(left) {
                least = least.min(at(&before, j - 1) + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 6] = ["transparent", "reverse", "forward", "dual", "proxy-type", "tls-out"];

    #[test]
    fn a_slip_of_the_hand_is_understood() {
        for (word, meant) in [
            ("tansparent", "transparent"),
            ("Reverse", "reverse"),
            ("foward", "forward"),
            ("daul", "dual"),
            ("proxyType", "proxy-type"),
            ("proxy_tpye", "proxy-type"),
            ("tlsOut", "tls-out"),
        ] {
            assert_eq!(nearest(word, KNOWN), Some(meant), "{word}");
        }
    }

    #[test]
    fn another_word_is_not_taken_for_a_slip() {
        for word in ["", "-", "d", "sidecar", "x".repeat(1000).as_str(), "none"] {
            assert_eq!(nearest(word, KNOWN), None, "{word}");
        }
    }
}
