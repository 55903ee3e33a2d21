//! Scripts by chance: transactions, settings and errors in every order, in strings and pipelines.

use std::fmt::Write as _;

const STATEMENTS: [&str; 20] = [
    "SELECT 1",
    "INSERT INTO items VALUES (1, 900, 'once')",
    "INSERT INTO items SELECT 1, max(id) + 1, 'more' FROM items WHERE tenant_id = 1",
    "SELECT count(*) FROM items WHERE tenant_id = 1",
    "SELECT 1/0",
    "SELECT no_such_column FROM items",
    "BEGIN",
    "BEGIN",
    "START TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "COMMIT",
    "ROLLBACK",
    "ROLLBACK AND CHAIN",
    "SAVEPOINT a",
    "ROLLBACK TO a",
    "RELEASE a",
    "SET TimeZone TO 'Asia/Tokyo'",
    "SET LOCAL TimeZone TO 'Europe/Berlin'",
    "RESET TimeZone",
    "SHOW TimeZone",
    "SET work_mem TO 'much'",
];

struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn statement(&mut self) -> &'static str {
        STATEMENTS[self.below(STATEMENTS.len() as u64) as usize]
    }
}

/// The script of a seed.
pub(crate) fn script(seed: u64) -> String {
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut text = format!("=== by chance, {seed}\n");
    for _ in 0..chance.below(12) + 3 {
        match chance.below(10) {
            0..4 => {
                let _ = writeln!(text, "Query {}\nread", chance.statement());
            }
            4 => {
                let (one, two, three) =
                    (chance.statement(), chance.statement(), chance.statement());
                let _ = writeln!(text, "Query {one}; {two}; {three}\nread");
            }
            _ => {
                for _ in 0..=chance.below(4) {
                    let _ = writeln!(text, "Parse - {}\nBind - -\nExecute -", chance.statement());
                    match chance.below(8) {
                        0 => text.push_str("Flush\n"),
                        1 => text.push_str("Bind - no_such\n"),
                        _ => {}
                    }
                }
                text.push_str("Sync\nread\n");
            }
        }
    }
    text.push_str("Query ROLLBACK\nread\nQuery SHOW TimeZone\nread\n");
    text.push_str("Query SELECT id, name FROM items WHERE tenant_id = 1 ORDER BY id\n");
    text
}
