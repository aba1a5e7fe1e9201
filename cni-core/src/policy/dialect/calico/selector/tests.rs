//! Laws of the language; the recorded verdicts of Calico's own parser are run by `tests/policy_oracles.rs`.

use super::*;
use proptest::prelude::*;

#[test]
fn and_binds_closer_than_or_and_the_canonical_form_reads_back() {
    for (text, canonical) in [
        ("a=='b'||c==\"d\"&&has(e)", r#"(a == "b" || (c == "d" && has(e)))"#),
        ("! ! a notin {}", "!!a not in {}"),
        ("a startswith 'x' && a ends  with 'y'", r#"(a starts with "x" && a ends with "y")"#),
        ("all in {'x'} && has == 'y'", r#"(all in {"x"} && has == "y")"#),
        ("  ", "all()"),
    ] {
        let expression = parse(text).unwrap();
        assert_eq!(expression.to_string(), canonical, "{text}");
        assert_eq!(parse(canonical).unwrap(), expression, "{text}");
    }
}

#[test]
fn what_is_no_selector_is_refused_with_its_place() {
    let error = parse("a == b").unwrap_err().to_string();
    assert_eq!(error, r#""a == b" is no selector: at "b": expected a text in quotes"#);
    for text in ["a in {'x',}", "has()", "a == 'x' b", "a containsx 'y'", "(a == 'x'", "all(", "a startswithx 'y'"] {
        assert!(parse(text).is_err(), "{text}");
    }
    assert!(parse(&"!".repeat(100_000)).is_err(), "depth is bounded");
    assert!(parse(&"(".repeat(60_000)).is_err());
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_and_what_is_read_has_a_canonical_form(text in r#"[ab(){}!&|='",a-z ]{0,24}"#) {
        if let Ok(expression) = parse(&text) {
            prop_assert_eq!(parse(&expression.to_string()), Ok(expression));
        }
    }
}
