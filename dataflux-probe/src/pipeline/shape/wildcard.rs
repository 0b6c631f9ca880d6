//! Wildcards: `*` is any text, `?` any one character, everything else itself.

/// Whether the whole text is as the pattern says. Takes at most as many steps as both lengths multiplied.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut seen) = (0, 0);
    // Where the last `*` is, and how much of the text it takes.
    let mut star: Option<(usize, usize)> = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(&wanted) if wanted == '?' || wanted == text[seen] => {
                at += 1;
                seen += 1;
            }
            _ => {
                let Some((place, taken)) = star else {
                    return false;
                };
                star = Some((place, taken + 1));
                at = place + 1;
                seen = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|&rest| rest == '*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_wildcard_is_a_regular_expression_in_short(pattern in "[ab*?]{0,9}", text in "[ab\u{e4}]{0,12}") {
            let long = pattern.replace('*', ".*").replace('?', ".");
            let expected = regex::Regex::new(&format!("^{long}$")).unwrap().is_match(&text);
            prop_assert_eq!(matches(&pattern, &text), expected);
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        assert!(!matches(&"*a".repeat(200), &"b".repeat(20_000)));
        assert!(!matches(
            &format!("{}b", "*a".repeat(200)),
            &"a".repeat(20_000)
        ));
    }
}
