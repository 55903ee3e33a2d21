//! CHECK constraints that tie a row to its shard: the number of the shard in a column, or in the bits of a
//! Snowflake id.
//!
//! Main type: [`ShardCheck`]. It is read from a constraint's text, as `pg_get_constraintdef` or a person
//! writes it; any other condition proves nothing here.

/// The column that holds the number of a row's shard, by agreement with botserver's schema.
pub const SHARD_NUMBER: &str = "shard_id";

/// A Snowflake id is 41 bits of milliseconds since 2024-01-01 UTC, 10 bits of its shard's number, 12 bits of
/// a sequence.
const SEQUENCE_BITS: u32 = 12;
const NUMBER_MASK: i64 = 1023;

/// The number of the shard that a Snowflake id was made on. What is no such id has one too, as in
/// PostgreSQL's `(id >> 12) & 1023`.
pub fn snowflake_shard(id: i64) -> i64 {
    (id >> SEQUENCE_BITS) & NUMBER_MASK
}

/// What a validated CHECK says of a column. Every one of them lets NULL pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ShardCheck {
    /// Nothing of the shard.
    #[default]
    None,
    /// It is this number: `shard_id = 3`. `None`: of a number that isn't known, because the schema was not
    /// read from a shard (a file of CREATE statements is the same for all of them).
    Number(Option<i16>),
    /// It is a Snowflake id with this number in it: `(id >> 12) & 1023 = 3`.
    Snowflake(Option<i16>),
    /// It is a Snowflake id with the number in it that the row's `shard_id` has: `(id >> 12) & 1023 =
    /// shard_id`.
    SnowflakeOfRow,
}

impl ShardCheck {
    /// What a constraint (`CHECK (…)`) says of one column, by the column's name.
    pub fn of(definition: &str) -> Option<(String, Self)> {
        let condition = stripped(after_check(definition)?)?;
        let (left, right) = split(condition, "=")?;
        Self::equal(left, right).or_else(|| Self::equal(right, left))
    }

    fn equal(left: &str, right: &str) -> Option<(String, Self)> {
        let number = || i16::try_from(constant(right)?).ok();
        if let Some(column) = name(left) {
            return number()
                .filter(|_| column == SHARD_NUMBER)
                .map(|n| (column, Self::Number(Some(n))));
        }
        let (shifted, mask) = split(unwrapped(left), "&")?;
        let (column, bits) = split(unwrapped(shifted), ">>")?;
        if constant(mask)? != NUMBER_MASK || constant(bits)? != i64::from(SEQUENCE_BITS) {
            return None;
        }
        let column = name(column)?;
        match name(right) {
            Some(other) => (other == SHARD_NUMBER).then_some((column, Self::SnowflakeOfRow)),
            None => number().map(|n| (column, Self::Snowflake(Some(n)))),
        }
    }

    /// What is taken for granted of a column of which only a file of CREATE statements, or a statement,
    /// tells: whether there are CHECKs of one shard's number is not for it to say.
    pub(crate) fn presumed(column: &str) -> Self {
        if column == SHARD_NUMBER { Self::Number(None) } else { Self::None }
    }

    /// The same, whichever shard's number it is.
    #[must_use]
    pub(crate) fn of_any_shard(self) -> Self {
        match self {
            Self::Number(_) => Self::Number(None),
            Self::Snowflake(_) => Self::Snowflake(None),
            Self::None | Self::SnowflakeOfRow => self,
        }
    }

    /// Whether a constraint is meant to be another one on each shard.
    pub fn differs_by_shard(definition: &str) -> bool {
        matches!(Self::of(definition), Some((_, Self::Number(_) | Self::Snowflake(_))))
    }
}

/// What follows the word CHECK.
fn after_check(definition: &str) -> Option<&str> {
    let definition = definition.trim();
    let word = definition.get(..5)?;
    word.eq_ignore_ascii_case("check").then(|| definition.get(5..))?
}

/// The inside of parentheses that enclose all of it. (NOT VALID or NO INHERIT may follow them: then the
/// condition doesn't hold for every row that is read.)
fn stripped(text: &str) -> Option<&str> {
    let text = text.trim();
    let inner = text.strip_prefix('(')?.strip_suffix(')')?;
    let closes = outside_quotes(inner).any(|(_, _, depth)| depth < 0);
    (!closes).then(|| unwrapped(inner))
}

/// Without the parentheses that enclose all of it, however many.
fn unwrapped(text: &str) -> &str {
    let text = text.trim();
    stripped(text).unwrap_or(text)
}

/// Both sides of an operator that stands once outside parentheses.
fn split<'t>(text: &'t str, operator: &str) -> Option<(&'t str, &'t str)> {
    let mut found = None;
    let mut end = 0;
    let is_sign = |byte: u8| b"+-*/<>=~!@#%^&|`?".contains(&byte);
    let signs = outside_quotes(text).filter(|(_, byte, depth)| *depth == 0 && is_sign(*byte));
    for (at, ..) in signs {
        if at < end {
            continue;
        }
        end = at + text.get(at..)?.bytes().take_while(|byte| is_sign(*byte)).count();
        if text.get(at..end)? == operator && found.replace((at, end)).is_some() {
            return None;
        }
    }
    let (at, end) = found?;
    Some((text.get(..at)?, text.get(end..)?))
}

/// The bytes that are not within quotes, with where they stand and how many parentheses are open after them.
fn outside_quotes(text: &str) -> impl Iterator<Item = (usize, u8, i32)> + '_ {
    let (mut quote, mut depth) = (None, 0);
    text.bytes().enumerate().filter_map(move |(at, byte)| {
        match (quote, byte) {
            (Some(open), _) => {
                quote = (byte != open).then_some(open);
                return None;
            }
            (None, b'\'' | b'"') => {
                quote = Some(byte);
                return None;
            }
            (None, b'(') => depth += 1,
            (None, b')') => depth -= 1,
            (None, _) => {}
        }
        Some((at, byte, depth))
    })
}

/// An integer, with a cast or without: `3`, `(1023)::bigint`, `'-3'::integer`.
fn constant(text: &str) -> Option<i64> {
    let text = unwrapped(text);
    let (number, cast) = text.split_once("::").map_or((text, None), |(n, ty)| (n, Some(ty.trim())));
    if !matches!(cast, None | Some("smallint" | "integer" | "bigint" | "int2" | "int4" | "int8")) {
        return None;
    }
    let number = unwrapped(number);
    let quoted = number.strip_prefix('\'').and_then(|number| number.strip_suffix('\''));
    quoted.unwrap_or(number).parse().ok()
}

/// The name of a column.
fn name(text: &str) -> Option<String> {
    let text = unwrapped(text);
    if let Some(quoted) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        let bare = quoted.replace("\"\"", "");
        return (!bare.contains('"')).then(|| quoted.replace("\"\"", "\""));
    }
    let first = text.chars().next()?;
    let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let is_name = (first.is_alphabetic() || first == '_') && text.chars().all(plain);
    is_name.then(|| text.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proves_the_shard_is_understood_and_nothing_else() {
        let check = |definition: &str, expect: Option<(&str, ShardCheck)>| {
            let expect = expect.map(|(column, check)| (column.to_owned(), check));
            assert_eq!(ShardCheck::of(definition), expect, "{definition}");
        };
        let number = |n| Some(("shard_id", ShardCheck::Number(Some(n))));
        let snowflake = |column, n| Some((column, ShardCheck::Snowflake(Some(n))));
        // As `pg_get_constraintdef` writes them.
        check("CHECK ((shard_id = 3))", number(3));
        check("CHECK ((shard_id = '-3'::integer))", number(-3));
        check("CHECK ((shard_id = (3)::smallint))", number(3));
        check("CHECK ((((id >> 12) & (1023)::bigint) = 3))", snowflake("id", 3));
        check("CHECK ((((\"Id\" >> 12) & '1023'::bigint) = (3)::bigint))", snowflake("Id", 3));
        check(
            "CHECK ((((id >> 12) & (1023)::bigint) = shard_id))",
            Some(("id", ShardCheck::SnowflakeOfRow)),
        );
        // As people do.
        check("check (Shard_Id=3)", number(3));
        check("CHECK (3 = shard_id)", number(3));
        check("CHECK (id >> 12 & 1023 = 3)", snowflake("id", 3));
        // Something else.
        for other in [
            "CHECK ((shard_id = 3)) NOT VALID",
            "CHECK ((shard_id = 3)) NO INHERIT",
            "CHECK (((shard_id = 3) OR (shard_id = 4)))",
            "CHECK ((shard_id = (3 + 1)))",
            "CHECK ((shard_id >= 3))",
            "CHECK ((shard_id <> 3))",
            "CHECK ((shard_id = 3.5))",
            "CHECK ((shard_id = 70000))",
            "CHECK ((NOT (shard_id = 3)))",
            "CHECK ((other = 3))",
            "CHECK (((shard_id)::text = '3'::text))",
            "CHECK ((id >> (12 & 1023)) = 3)",
            "CHECK ((((id >> 22) & (1023)::bigint) = 3))",
            "CHECK ((((id >> 12) & (511)::bigint) = 3))",
            "CHECK ((((id >> 12) & (1023)::bigint) = tenant_id))",
            "CHECK (((((id >> 12) & (1023)::bigint) = 3) OR (id IS NULL)))",
            "CHECK (shard_id = 3) OR (true)",
            "CHECK (\"shard_id = 3\")",
            "CHECK",
            "",
        ] {
            check(other, None);
        }
        assert!(ShardCheck::differs_by_shard("CHECK ((shard_id = 3))"));
        assert!(!ShardCheck::differs_by_shard(
            "CHECK ((((id >> 12) & (1023)::bigint) = shard_id))"
        ));
    }

    /// Frozen: the bits of ids that were given out.
    #[test]
    fn a_snowflake_id_names_its_shard() {
        // 2024-01-01 00:00:01 UTC, shard 5, sequence 7.
        assert_eq!(snowflake_shard(1000 << 22 | 5 << 12 | 7), 5);
        assert_eq!(snowflake_shard(((1 << 41) - 1) << 22 | 1023 << 12 | 4095), 1023);
        assert_eq!(snowflake_shard(4095), 0);
        assert_eq!(snowflake_shard(-1), 1023);
        assert_eq!(snowflake_shard(i64::MIN), 0);
    }
}
