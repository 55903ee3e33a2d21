//! What the functions of BEFORE ROW triggers assign.
//!
//! [`may_assign`] reads a function's source, and finds every place where PL/pgSQL could give a column of NEW
//! another value. What only fills a value that is missing counts as none: `NEW.x := coalesce(NEW.x, …)`, and
//! `IF NEW.x IS NULL THEN NEW.x := …`. Of other languages it says yes where the column is named at all.

use super::tokens::{Token, tokenize};

/// Whether a function in this language with this source may change the column of the row that it is called for.
pub fn may_assign(language: &str, source: &str, column: &str) -> bool {
    if language != "plpgsql" {
        return source.contains(column);
    }
    let Ok(tokens) = tokenize(source, None) else { return true };
    let code = Code { source, tokens: &tokens };
    (0..tokens.len()).any(|at| code.assigns(at, column) || code.returns_another(at))
}

struct Code<'t> {
    source: &'t str,
    tokens: &'t [Token],
}

impl Code<'_> {
    fn word(&self, at: usize, word: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is_word(self.source, word))
    }

    fn symbol(&self, at: usize, symbol: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is(self.source, symbol))
    }

    fn is_column(&self, at: usize, column: &str) -> bool {
        self.tokens.get(at).and_then(|token| token.name(self.source)).is_some_and(|n| n == column)
    }

    /// NEW at `at` is what something is assigned to, whole or in this column.
    fn assigns(&self, at: usize, column: &str) -> bool {
        if !self.word(at, "new") {
            return false;
        }
        let whole = !self.symbol(at + 1, ".");
        if !whole && !self.is_column(at + 2, column) {
            return false;
        }
        let end = if whole { at + 1 } else { at + 3 };
        let is_target = match at.checked_sub(1) {
            None => true,
            Some(before) => {
                let starts = ["begin", "then", "else", "loop"].iter().any(|w| self.word(before, w));
                starts || self.symbol(before, ";") || self.symbol(before, ">>")
            }
        };
        let sign = self.symbol(end, "=") || self.symbol(end, ":=");
        let colon = self.symbol(end, ":") && self.symbol(end + 1, "=");
        if is_target && (sign || colon) {
            let value = if sign { end + 1 } else { end + 2 };
            return whole || !self.fills(at, value, column);
        }
        self.behind_into(at)
    }

    /// The assignment to NEW's column at `at`, of the value at `value`, gives it one only where it has none.
    fn fills(&self, at: usize, value: usize, column: &str) -> bool {
        let own = |at: usize| {
            self.word(at, "new") && self.symbol(at + 1, ".") && self.is_column(at + 2, column)
        };
        if self.word(value, "coalesce") && self.symbol(value + 1, "(") && own(value + 2) {
            return self.symbol(value + 5, ",");
        }
        let Some(condition) = at.checked_sub(7) else { return false };
        let missing = ["is", "null", "then"];
        self.word(condition, "if")
            && own(condition + 1)
            && missing.iter().zip(condition + 4..).all(|(word, at)| self.word(at, word))
    }

    /// Among the targets of SELECT … INTO, FETCH … INTO, RETURNING … INTO.
    fn behind_into(&self, at: usize) -> bool {
        let mut before = at;
        while let Some(previous) = before.checked_sub(1) {
            if self.word(previous, "into") || self.word(previous, "strict") {
                return true;
            }
            let token = self.tokens.get(previous);
            let named = token.is_some_and(|token| token.name(self.source).is_some());
            if !(named || self.symbol(previous, ",") || self.symbol(previous, ".")) {
                return false;
            }
            before = previous;
        }
        false
    }

    /// RETURN of another row than the one that came.
    fn returns_another(&self, at: usize) -> bool {
        self.word(at, "return")
            && !self.symbol(at + 1, ";")
            && !(self.symbol(at + 2, ";")
                && ["new", "old", "null"].iter().any(|word| self.word(at + 1, word)))
    }
}

#[cfg(test)]
mod tests {
    use super::may_assign;

    #[test]
    fn finds_what_changes_a_column() {
        let changes = [
            "BEGIN NEW.k := NEW.k + 1; RETURN NEW; END",
            "BEGIN new.\"k\" = 5; RETURN NEW; END",
            "BEGIN IF true THEN NEW.k := 1; END IF; RETURN NEW; END",
            "BEGIN SELECT 1 INTO NEW.k; RETURN NEW; END",
            "BEGIN SELECT 1, 2 INTO STRICT NEW.a, NEW.k; RETURN NEW; END",
            "BEGIN NEW := other; RETURN NEW; END",
            "BEGIN SELECT t.* INTO NEW FROM t; RETURN NEW; END",
            "DECLARE r record; BEGIN RETURN r; END",
            "BEGIN RETURN (NEW.a, 1); END",
            "BEGIN NEW.k := coalesce(5, NEW.k); RETURN NEW; END",
            "BEGIN IF NEW.a IS NULL THEN NEW.k := 1; END IF; RETURN NEW; END",
        ];
        for source in changes {
            assert!(may_assign("plpgsql", source, "k"), "{source}");
        }
        assert!(may_assign("plpython3u", "TD['new']['k'] = 1; return 'MODIFY'", "k"));
    }

    #[test]
    fn leaves_the_rest_alone() {
        let harmless = [
            "BEGIN NEW.updated := now(); RETURN NEW; END",
            "BEGIN IF NEW.k = 5 THEN RETURN NULL; END IF; RETURN NEW; END",
            "BEGIN IF NEW.a > 1 AND NEW.k = 5 THEN RAISE 'no'; END IF; RETURN NEW; END",
            "BEGIN INSERT INTO log VALUES (NEW.k); RETURN NEW; END",
            "BEGIN NEW.k := COALESCE(NEW.k, current_setting('app.k')::int); RETURN NEW; END",
            "BEGIN IF NEW.k IS NULL THEN NEW.k := 1; END IF; RETURN NEW; END",
            "BEGIN RETURN OLD; END",
            "BEGIN UPDATE t SET k = NEW.k WHERE id = NEW.id; RETURN NEW; END",
            "BEGIN SELECT max(n) INTO NEW.n FROM t WHERE k = NEW.k; RETURN NEW; END",
        ];
        for source in harmless {
            assert!(!may_assign("plpgsql", source, "k"), "{source}");
        }
        assert!(!may_assign("plpython3u", "TD['new']['n'] = 1; return 'MODIFY'", "k"));
    }
}
