//! The arguments of EXECUTE: which of them are constants, and what they say.
//!
//! Only what is a constant by its tokens alone is one: a literal, a number with a sign, NULL, TRUE, FALSE.
//! Everything else, a cast too, is an expression, which only PostgreSQL can evaluate.

use std::borrow::Cow;

use super::ir::Span;
use super::lexer::{Literal, LiteralKind};
use super::literal;
use super::token::{Lexer, Token, TokenKind};

/// One argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument<'a> {
    /// NULL.
    Null,
    /// A string, read by the parameter's type.
    Text(Cow<'a, str>),
    /// A whole number, with its sign.
    Integer(Cow<'a, str>),
    /// Another number.
    Decimal(Cow<'a, str>),
    /// TRUE or FALSE.
    Boolean(bool),
    /// Anything else.
    Expression,
}

/// The arguments in this part of the text, which is what stands between EXECUTE's parentheses.
pub fn read(text: &str, span: Span, standard_strings: bool) -> Vec<Argument<'_>> {
    let inner = text.get(span.start as usize..span.end as usize).unwrap_or_default();
    let mut lexer = Lexer::new(inner.as_bytes(), standard_strings);
    let (mut arguments, mut tokens, mut depth) = (Vec::new(), Vec::new(), 0_u32);
    // What can't be cut into tokens, the statement's own lexer has refused before.
    while let Ok(Some(token)) = lexer.step() {
        let symbol = match token.kind {
            TokenKind::Symbol => written(inner, token),
            _ => "",
        };
        match symbol {
            "," if depth == 0 => {
                arguments.push(argument(inner, &tokens, standard_strings));
                tokens.clear();
                continue;
            }
            "(" | "[" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            _ => {}
        }
        tokens.push(token);
    }
    arguments.push(argument(inner, &tokens, standard_strings));
    arguments
}

fn written(text: &str, token: Token) -> &str {
    text.get(token.span.start as usize..token.span.end as usize).unwrap_or_default()
}

fn argument<'a>(text: &'a str, tokens: &[Token], standard_strings: bool) -> Argument<'a> {
    let (sign, token) = match tokens {
        [token] => ("", *token),
        [sign, token] if sign.kind == TokenKind::Operator => (written(text, *sign), *token),
        _ => return Argument::Expression,
    };
    match token.kind {
        TokenKind::Literal(kind @ (LiteralKind::Integer | LiteralKind::Decimal)) => {
            let digits = written(text, token);
            let number = match sign {
                "" | "+" => Cow::Borrowed(digits),
                "-" => Cow::Owned(format!("-{digits}")),
                _ => return Argument::Expression,
            };
            match kind {
                LiteralKind::Integer => Argument::Integer(number),
                _ => Argument::Decimal(number),
            }
        }
        TokenKind::Literal(kind) if sign.is_empty() => {
            let literal = Literal { kind, span: token.span };
            literal::text_of(text, literal, standard_strings)
                .map_or(Argument::Expression, Argument::Text)
        }
        TokenKind::Word if sign.is_empty() => {
            let word = written(text, token);
            match word {
                word if word.eq_ignore_ascii_case("null") => Argument::Null,
                word if word.eq_ignore_ascii_case("true") => Argument::Boolean(true),
                word if word.eq_ignore_ascii_case("false") => Argument::Boolean(false),
                _ => Argument::Expression,
            }
        }
        _ => Argument::Expression,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_constants_are_constants() {
        use Argument::{Boolean, Decimal, Expression, Integer, Null, Text};
        let check = |text: &str, expect: &[Argument<'_>]| {
            let span = Span { start: 1, end: text.len() as u32 - 1 };
            assert_eq!(read(text, span, true), expect, "{text}");
        };
        check("(1)", &[Integer("1".into())]);
        check(
            "(-1, + 2,3.5 , -1e3)",
            &[
                Integer("-1".into()),
                Integer("2".into()),
                Decimal("3.5".into()),
                Decimal("-1e3".into()),
            ],
        );
        check(
            "('it''s', E'a\\n', $$x$$)",
            &[Text("it's".into()), Text("a\n".into()), Text("x".into())],
        );
        check("(NULL, true, False)", &[Null, Boolean(true), Boolean(false)]);
        check(
            "('1'::int, f(1, 2), ARRAY[1,2], 1 + 1, - - 1, x)",
            &[Expression, Expression, Expression, Expression, Expression, Expression],
        );
        check("(-'1', 'a' /* , */, (1))", &[Expression, Text("a".into()), Expression]);
    }
}
