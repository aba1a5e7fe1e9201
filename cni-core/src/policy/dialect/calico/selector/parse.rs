//! Text to expression. Never recurses deeper than a bound, whatever the text.

use super::{Expression, Test};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Parentheses and negations within each other; more is a mistake or an attack.
const MOST_DEPTH: usize = 64;
/// The longest label, in bytes.
const MOST_LABEL_BYTES: usize = 512;
/// The longest selector, in bytes.
const MOST_BYTES: usize = 64 * 1024;

/// A text that is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no selector: at {rest:?}: {wanted}")]
pub struct InvalidSelector {
    /// How it begins.
    pub text: String,
    /// What stands where it went wrong; empty: its end.
    pub rest: String,
    /// What was expected there.
    pub wanted: &'static str,
}

/// Reads a selector; the empty text is `all()`.
pub(in crate::policy::dialect::calico) fn parse(text: &str) -> Result<Expression, InvalidSelector> {
    let shown = |text: &str| text.chars().take(40).collect::<String>();
    let mut parser = Parser { rest: text.trim() };
    if parser.rest.is_empty() {
        return Ok(Expression::All);
    }
    let fits = if text.len() > MOST_BYTES { Err("it is too long; 64 KiB are allowed") } else { Ok(()) };
    let parsed = fits.and_then(|()| parser.or(0)).and_then(|expression| {
        if parser.rest.is_empty() { Ok(expression) } else { Err("expected && or || or the end") }
    });
    parsed.map_err(|wanted| InvalidSelector { text: shown(text), rest: shown(parser.rest), wanted })
}

struct Parser<'t> {
    rest: &'t str,
}

type Parsed<T> = Result<T, &'static str>;

impl<'t> Parser<'t> {
    /// Takes a piece of punctuation and the white space behind it.
    fn take(&mut self, token: &str) -> bool {
        let found = self.rest.strip_prefix(token);
        self.rest = found.map_or(self.rest, str::trim_start);
        found.is_some()
    }

    fn want(&mut self, token: &str, wanted: &'static str) -> Parsed<()> {
        if self.take(token) { Ok(()) } else { Err(wanted) }
    }

    /// Takes a word that ends where letters end.
    fn word(&mut self, word: &str) -> bool {
        let ends = |rest: &str| !rest.starts_with(|next: char| is_of_label(next));
        match self.rest.strip_prefix(word) {
            Some(rest) if ends(rest) => {
                self.rest = rest.trim_start();
                true
            }
            _ => false,
        }
    }

    fn or(&mut self, depth: usize) -> Parsed<Expression> {
        let mut parts = vec![self.and(depth)?];
        while self.take("||") {
            parts.push(self.and(depth)?);
        }
        Ok(if parts.len() == 1 { parts.swap_remove(0) } else { Expression::Or(parts) })
    }

    fn and(&mut self, depth: usize) -> Parsed<Expression> {
        let mut parts = vec![self.operation(depth)?];
        while self.take("&&") {
            parts.push(self.operation(depth)?);
        }
        Ok(if parts.len() == 1 { parts.swap_remove(0) } else { Expression::And(parts) })
    }

    fn operation(&mut self, depth: usize) -> Parsed<Expression> {
        if depth > MOST_DEPTH {
            return Err("it is nested deeper than 64");
        }
        // `!=` never begins an operation.
        if self.take("!") {
            return Ok(Expression::Not(Box::new(self.operation(depth + 1)?)));
        }
        if self.take("(") {
            let inner = self.or(depth + 1)?;
            self.want(")", "expected )")?;
            return Ok(inner);
        }
        let label = self.label()?;
        if self.take("(") {
            return self.function(label);
        }
        self.test().map(|test| Expression::Label(label.into(), test))
    }

    fn function(&mut self, name: &str) -> Parsed<Expression> {
        let expression = match name {
            "all" => Expression::All,
            "global" => Expression::Global,
            "has" => Expression::Has(self.label()?.into()),
            _ => return Err("expected all(), global() or has(LABEL)"),
        };
        self.want(")", "expected )")?;
        Ok(expression)
    }

    fn label(&mut self) -> Parsed<&'t str> {
        let end = self.rest.find(|c: char| !is_of_label(c)).unwrap_or(self.rest.len());
        if end == 0 {
            return Err("expected a label, all(), global(), has(LABEL), ! or (");
        }
        if end > MOST_LABEL_BYTES {
            return Err("the label is too long; 512 characters are allowed");
        }
        let (label, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        Ok(label)
    }

    fn test(&mut self) -> Parsed<Test> {
        let with = |this: &mut Self, first: &str| {
            let before = this.rest;
            // "starts with", "startswith".
            if this.rest.strip_prefix(first).is_some_and(|rest| rest.trim_start().starts_with("with")) {
                this.rest = this.rest[first.len()..].trim_start();
                if this.word("with") {
                    return true;
                }
            }
            this.rest = before;
            false
        };
        if self.take("==") {
            Ok(Test::Equal(self.string()?))
        } else if self.take("!=") {
            Ok(Test::Unequal(self.string()?))
        } else if self.word("contains") {
            Ok(Test::Contains(self.string()?))
        } else if with(self, "starts") {
            Ok(Test::StartsWith(self.string()?))
        } else if with(self, "ends") {
            Ok(Test::EndsWith(self.string()?))
        } else if self.word("in") {
            Ok(Test::In(self.set()?))
        } else if self.word("notin") || (self.word("not") && self.word("in")) {
            Ok(Test::NotIn(self.set()?))
        } else {
            Err("expected ==, !=, in, not in, contains, starts with or ends with")
        }
    }

    fn set(&mut self) -> Parsed<BTreeSet<Arc<str>>> {
        self.want("{", "expected { and a list of texts in quotes")?;
        let mut values = BTreeSet::new();
        if self.take("}") {
            return Ok(values);
        }
        loop {
            values.insert(self.string()?);
            if !self.take(",") {
                self.want("}", "expected , or }")?;
                return Ok(values);
            }
        }
    }

    /// A text in single or double quotes; nothing is escaped.
    fn string(&mut self) -> Parsed<Arc<str>> {
        let wanted = "expected a text in quotes";
        let quote = self.rest.chars().next().filter(|c| matches!(c, '"' | '\'')).ok_or(wanted)?;
        let (text, rest) = self.rest[1..].split_once(quote).ok_or("the quote is not closed")?;
        self.rest = rest.trim_start();
        Ok(text.into())
    }
}

fn is_of_label(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-')
}
