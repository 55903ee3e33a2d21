use proptest::prelude::*;

use super::*;

fn scanned(sql: &str) -> Scan {
    let mut out = Scan::default();
    scan(sql.as_bytes(), true, &Limits::default(), &mut out).unwrap();
    out
}

/// A shape in print: marks become `‹kind›`.
fn print(shape: &[u8]) -> String {
    let mut text = String::new();
    for &byte in shape {
        match byte {
            1 => text.push('\u{2460}'),
            2 => text.push('\u{2461}'),
            3 => text.push('\u{2462}'),
            4 => text.push('\u{2463}'),
            5 => text.push('\u{2464}'),
            6 => text.push('\u{2465}'),
            other => text.push(other as char),
        }
    }
    text
}

/// Statements: their shapes, with ① integers, ② decimals, ③ strings, ④ escape strings, ⑤ dollar strings,
/// ⑥ others.
fn shapes(sql: &str) -> Vec<String> {
    let out = scanned(sql);
    out.statements.iter().map(|statement| print(out.shape_of(statement))).collect()
}

#[test]
fn literals_leave_the_shape() {
    let check = |sql: &str, expect: &str| assert_eq!(shapes(sql), [expect], "{sql}");
    check("SELECT 1", "SELECT ①");
    check("SELECT name FROM t WHERE id = 42 AND k='x'", "SELECT name FROM t WHERE id = ① AND k=③");
    check("  SELECT\t\n1 , 2;  ", "SELECT ① , ①");
    check("SELECT/**/1--x\n,2", "SELECT ① ,①");
    check("a/* x /* y */ z */b", "a b");
    check("a+--x\n+b", "a+ +b");
    check("/* x */ -- y\n a /* z */", "a");
    check("1.5 .5 5. 1e5 1E-5 5.e+3", "② ② ② ② ② ②");
    check("1..10", "①..①");
    check("0x1F 0o17 0b1_1 1_000 1_0.0_1e1_0 0X_f", "⑥ ⑥ ⑥ ⑥ ⑥ ⑥");
    check("a.b1, a1.5", "a.b1, a1②");
    check("$1 $2$3", "$1 $2$3");
    check("'a''b' '' E'a\\'b' e'\\\\'", "③ ③ ④ ④");
    check(r"'a\'", "③");
    check("$$a'b$$ $x$ $$ $y$ $x$", "⑤ ⑤");
    check("$a$ $b$a$", "⑤");
    check("a$b$c$b$", "a$b$c$b$");
    check("1$a$x$a$ 1e+5$$x$$ 1_0.5$$x$$", "①⑤ ②⑤ ⑥⑤");
    check("b'1' B'1' x'1' X'1' n'1' N'it''s' u&'a' U&'a'", "⑥ ⑥ ⑥ ⑥ ⑥ ⑥ ⑥ ⑥");
    check("x'1''2'", "⑥③");
    check("ab'1'", "ab③");
    check("'a'\n'b'", "⑥");
    check("'a' -- x\n -- y\n 'b' 'c'", "⑥ ③");
    check("'a' 'b'", "③ ③");
    check("'a' /* \n */ 'b'", "③ ③");
    check("'a' -- x 'b'", "③");
    check("E'a'\n'\\'b'", "⑥");
    check("\"a''b\" \"a\"\"1\" U&\"1\" u & \"1\"", "\"a''b\" \"a\"\"1\" U&\"1\" u & \"1\"");
    check("a>=-1 a<-1 a@-1 a*-1", "a>=-① a<-① a@-① a*-①");
    check("x::int::text := :y", "x::int::text := :y");
    check("a[1:2]", "a[①:①]");
    check("\u{a0}x 'é'", "Â\u{a0}x ③");
}

#[test]
fn positions_and_limits_stay() {
    let check = |sql: &str, expect: &str| assert_eq!(shapes(sql), [expect], "{sql}");
    check("SELECT 1 ORDER BY 2, 3 DESC", "SELECT ① ORDER BY 2, 3 DESC");
    check("SELECT 1 ORDER\n/* x */ bY 2", "SELECT ① ORDER bY 2");
    check("SELECT 1 GROUP BY (2), 'x'", "SELECT ① GROUP BY (2), ③");
    check("GROUP BY 1 HAVING x > 5 ORDER BY 1", "GROUP BY 1 HAVING x > ① ORDER BY 1");
    check("GROUP BY 1 UNION SELECT 1", "GROUP BY 1 UNION SELECT ①");
    check("GROUP BY t.having, 2", "GROUP BY t.having, 2");
    check("ORDER BY 1 LIMIT 5 OFFSET '3'", "ORDER BY 1 LIMIT 5 OFFSET '3'");
    check("FETCH FIRST 5 ROWS ONLY", "FETCH FIRST 5 ROWS ONLY");
    check("FROM (SELECT 1 LIMIT 5) x WHERE y = 1", "FROM (SELECT ① LIMIT 5) x WHERE y = ①");
    check("ORDER BY (SELECT 1 LIMIT 2), 3", "ORDER BY (SELECT 1 LIMIT 2), 3");
    check("ORDER BY (SELECT 1 UNION SELECT 2), 3", "ORDER BY (SELECT 1 UNION SELECT 2), 3");
    check("sum(x) OVER (ORDER BY 1), 2", "sum(x) OVER (ORDER BY 1), ①");
    check("WITHIN GROUP (ORDER BY x) WHERE y = 1", "WITHIN GROUP (ORDER BY x) WHERE y = ①");
    check("SELECT DISTINCT ON (1, (2)) 3", "SELECT DISTINCT ON (1, (2)) ①");
    check("SELECT t.limit FROM t WHERE a = 1", "SELECT t.limit FROM t WHERE a = ①");
    check("SELECT x AS offset FROM t WHERE a = 1", "SELECT x AS offset FROM t WHERE a = ①");
    check(
        "SELECT ORDER BY 1 ON CONFLICT DO UPDATE SET a = 1",
        "SELECT ORDER BY 1 ON CONFLICT DO UPDATE SET a = ①",
    );
    check("LIMIT 1 RETURNING 1", "LIMIT 1 RETURNING ①");
    check(
        "EXPLAIN (ANALYZE 0, FORMAT 'json') SELECT 1",
        "EXPLAIN (ANALYZE 0, FORMAT 'json') SELECT ①",
    );
    check("SELECT U&\"d!0061\" UESCAPE '!', '!'", "SELECT U&\"d!0061\" UESCAPE '!', ③");
    check(
        "SELECT a WHERE (b, 1) = 1 ORDER BY 0x10, 1.5, 'x'",
        "SELECT a WHERE (b, ①) = ① ORDER BY 0x10, 1.5, ③",
    );
}

#[test]
fn statements_end_at_semicolons() {
    let check = |sql: &str, expect: &[&str]| assert_eq!(shapes(sql), expect, "{sql}");
    check("", &[""]);
    check(" -- x\n ; /* ; */ ;", &[""]);
    check("a; b", &["a", "b"]);
    check(";;a ;; b;;", &["a", "b"]);
    check("a';'; \"b;\" $$;$$ --;\n; c /*;*/", &["a③", "\"b;\" ⑤", "c"]);
    check(
        "CREATE RULE r AS ON INSERT TO t DO (a; b); c",
        &["CREATE RULE r AS ON INSERT TO t DO (a; b)", "c"],
    );
    check(
        "CREATE FUNCTION f() BEGIN ATOMIC a; b; END; c",
        &["CREATE FUNCTION f() BEGIN ATOMIC a; b; END", "c"],
    );
    check(
        "create or replace procedure f() begin atomic end; c",
        &["create or replace procedure f() begin atomic end", "c"],
    );
    check(
        "CREATE /* x */ FUNCTION f() BEGIN ATOMIC SELECT CASE WHEN a THEN b END; SELECT 1 end; END; c",
        &["CREATE FUNCTION f() BEGIN ATOMIC SELECT CASE WHEN a THEN b END; SELECT ① end; END", "c"],
    );
    check(
        "CREATE FUNCTION f() BEGIN ATOMIC SELECT 1 ORDER BY 1; SELECT 1; END",
        &["CREATE FUNCTION f() BEGIN ATOMIC SELECT ① ORDER BY 1; SELECT ①; END"],
    );
    check(
        "CREATE FUNCTION begin() RETURNS int AS 'x'; c",
        &["CREATE FUNCTION begin() RETURNS int AS ③", "c"],
    );
    check("SELECT begin atomic; c; END", &["SELECT begin atomic", "c", "END"]);
    check("CREATE TABLE begin atomic; c", &["CREATE TABLE begin atomic", "c"]);
    check("BEGIN; c; END", &["BEGIN", "c", "END"]);
    check("SELECT 1 LIMIT 2; SELECT 3", &["SELECT ① LIMIT 2", "SELECT ①"]);
}

#[test]
fn spans_and_counts() {
    let sql = "/* x */ SELECT 'é', 12 ;\n  UPDATE t SET a = $3 WHERE (b[(1)]) = 1.5 -- z";
    let out = scanned(sql);
    let text = |span: Span| &sql[span.start as usize..span.end as usize];
    let [first, second] = &out.statements[..] else { panic!("{:?}", out.statements) };
    assert_eq!(text(first.span), "SELECT 'é', 12");
    assert_eq!(text(second.span), "UPDATE t SET a = $3 WHERE (b[(1)]) = 1.5");
    assert_eq!((first.tokens, first.depth, first.params), (4, 0, 0));
    assert_eq!((second.tokens, second.depth, second.params), (17, 3, 3));
    let literals = |statement: &Scanned| -> Vec<&str> {
        let text = text(statement.span);
        let of = |literal: &Literal| &text[literal.span.start as usize..literal.span.end as usize];
        out.literals_of(statement).iter().map(of).collect()
    };
    assert_eq!(literals(first), ["'é'", "12"]);
    assert_eq!(literals(second), ["1", "1.5"]);
}

#[test]
fn hints_are_found_before_the_first_token() {
    let check = |sql: &str, expect: &[Option<&str>]| {
        let out = scanned(sql);
        let text = |span: Span| &sql[span.start as usize..span.end as usize];
        let hints: Vec<_> = out.statements.iter().map(|s| s.hint.map(text)).collect();
        assert_eq!(hints, expect, "{sql}");
    };
    check("/* pgmeridian: shard=deu */ SELECT 1", &[Some("shard=deu")]);
    check("/*pgmeridian:key=1*/SELECT 1", &[Some("key=1")]);
    check("-- x\n/* y */\n/* PgMeridian :  key=1\n*/ -- z\nSELECT 1", &[Some("key=1")]);
    check("/* pgmeridian: */ SELECT 1", &[Some("")]);
    check("SELECT 1 /* pgmeridian: key=1 */", &[None]);
    check("SELECT /* pgmeridian: key=1 */ 1", &[None]);
    check("-- /* pgmeridian: key=1 */\nSELECT 1", &[None]);
    check("/* a pgmeridian: key=1 */ SELECT 1", &[None]);
    check("/* pgmeridian is fine */ SELECT 1", &[None]);
    check("/**/ /*/**/*/ SELECT 1", &[None]);
    check("a; /* pgmeridian: key=1 */ b; c", &[None, Some("key=1"), None]);
    check("/* pgmeridian: key=1 */; c", &[None]);
    check("/* pgmeridian: key=1 */ a; b", &[Some("key=1"), None]);
}

#[test]
fn faults_read_as_postgresql_words_them() {
    let check = |sql: &str, message: &str, position: u32| {
        let mut out = Scan::default();
        let error = scan(sql.as_bytes(), true, &Limits::default(), &mut out).unwrap_err();
        assert_eq!(error.message, message, "{sql}");
        assert_eq!(error.position, Some(position), "{sql}");
        assert_eq!(error.code, SqlState::SYNTAX_ERROR, "{sql}");
    };
    check("SELECT 'é', 'abc", "unterminated quoted string at or near \"'abc\"", 13);
    check("SELECT 'a''", "unterminated quoted string at or near \"'a''\"", 8);
    check(r"SELECT E'a\'", r#"unterminated quoted string at or near "E'a\'""#, 8);
    check(r"SELECT E'a\", r#"unterminated quoted string at or near "E'a\""#, 8);
    check("SELECT 'a'\n'b", "unterminated quoted string at or near \"'a'\n'b\"", 8);
    check("b'1", "unterminated bit string literal at or near \"b'1\"", 1);
    check("n'1", "unterminated quoted string at or near \"'1\"", 2);
    check("x'1", "unterminated hexadecimal string literal at or near \"x'1\"", 1);
    check("$a$ $b$", "unterminated dollar-quoted string at or near \"$a$ $b$\"", 1);
    check("a /* b /* */", "unterminated /* comment at or near \"/* b /* */\"", 3);
    check("/*/", "unterminated /* comment at or near \"/*/\"", 1);
    check("\"a", "unterminated quoted identifier at or near \"\"a\"", 1);
    check("\"\"", "zero-length delimited identifier at or near \"\"\"\"", 1);
    check("U&\"\"", "zero-length delimited identifier at or near \"U&\"\"\"", 1);
    check("1a", "trailing junk after numeric literal at or near \"1a\"", 1);
    check("1.5e", "trailing junk after numeric literal at or near \"1.5e\"", 1);
    check("0.0e+a", "trailing junk after numeric literal at or near \"0.0e+\"", 1);
    check("1__0", "trailing junk after numeric literal at or near \"1__0\"", 1);
    check("1e5$$a$$", "trailing junk after numeric literal at or near \"1e5$$a$$\"", 1);
    check("1_0$a", "trailing junk after numeric literal at or near \"1_0$a\"", 1);
    check("0x1$", "trailing junk after numeric literal at or near \"0x1$\"", 1);
    check("0b12", "trailing junk after numeric literal at or near \"0b12\"", 1);
    check("0x", "invalid hexadecimal integer at or near \"0x\"", 1);
    check("$1a", "trailing junk after parameter at or near \"$1a\"", 1);
    check("a \u{1}", "syntax error at or near \"\u{1}\"", 3);
    check("a)", "syntax error at or near \")\"", 2);
}

#[test]
fn limits_are_named() {
    let limits = Limits { tokens_max: 20, depth_max: 3, literals_max: 2 };
    let check = |sql: &str, code: &str, message: &str| {
        let mut out = Scan::default();
        let error = scan(sql.as_bytes(), true, &limits, &mut out).unwrap_err();
        assert_eq!((error.code.0, error.message.as_str()), (code, message), "{sql}");
    };
    check("((((", "54001", "parentheses are nested more than 3 deep");
    check("([([", "54001", "parentheses are nested more than 3 deep");
    check("1 2 3", "53400", "the statement has more than 2 literals");
    check(&"a;".repeat(11), "53400", "the query string has more than 20 tokens");
    check("$0", "42P02", "there is no parameter $0");
    check("$65536", "42P02", "there is no parameter $65536");
    check("$99999999999999", "42P02", "there is no parameter $99999999999999");
    check(
        "/* pgmeridian: key=1 */ /* pgmeridian: key=1 */ a",
        "22023",
        "more than one pgmeridian hint before a statement",
    );
    let mut out = Scan::default();
    assert!(scan(b"((([]))) 1 2; 1 2; $65535", true, &limits, &mut out).is_err());
    assert!(scan(b"((())) 1 2; 1 2; $65535", true, &limits, &mut out).is_ok());
    let deep = "(".repeat(10_000);
    assert!(scan(deep.as_bytes(), true, &Limits::default(), &mut out).is_err());
}

#[test]
fn without_standard_strings_backslashes_escape() {
    let mut out = Scan::default();
    let mut check = |sql: &str, expect: Option<&str>| {
        let result = scan(sql.as_bytes(), false, &Limits::default(), &mut out);
        let shape = result.ok().map(|()| print(&out.shapes));
        assert_eq!(shape.as_deref(), expect, "{sql}");
    };
    check(r"'a\'b'", Some("③"));
    check(r"n'a\'b'", Some("⑥"));
    check(r"'a\'", None);
    check(r"E'a\'b'", Some("④"));
    check(r"U&'a'", None);
    check(r"x'1\'", Some("⑥"));
}

#[test]
fn long_runs_take_linear_time() {
    let limits = Limits { tokens_max: u32::MAX, ..Limits::default() };
    let mut out = Scan::default();
    for part in
        ["+", "-+", "*+", "/", "a;", "'a'\n", "'a' ", "begin atomic ", "$a", "\"a\"", "/**/"]
    {
        let sql = format!("CREATE /* {} */ x {}", "x".repeat(100_000), part.repeat(200_000));
        // That some have too many literals doesn't matter here.
        let _ = scan(sql.as_bytes(), true, &limits, &mut out);
    }
}

/// Pieces that meet each other in interesting ways.
fn soup() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "'",
        "''",
        "\"",
        "\\",
        "$",
        "$$",
        "$a$",
        "$1",
        "1",
        "0x",
        "1e",
        ".",
        "..",
        "_",
        "e",
        "E'",
        "U&",
        "b'",
        "--",
        "/*",
        "*/",
        "\n",
        " ",
        "\t",
        "(",
        ")",
        "[",
        "]",
        ";",
        ",",
        "+",
        "-",
        "*",
        "/",
        "<",
        "=",
        "@",
        ":",
        "é",
        "ORDER",
        "BY",
        "GROUP",
        "LIMIT",
        "DISTINCT",
        "ON",
        "UNION",
        "BEGIN",
        "ATOMIC",
        "END",
        "CREATE",
        "FUNCTION",
        "EXPLAIN",
        "UESCAPE",
        "AS",
        "pgmeridian:",
        "select",
        "\u{1}",
        "\r",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// What has to hold of any scan that succeeds.
fn invariants(text: &[u8], standard_strings: bool) {
    let mut out = Scan::default();
    if scan(text, standard_strings, &Limits::default(), &mut out).is_err() {
        return;
    }
    assert!(!out.statements.is_empty());
    let mut end = 0;
    for statement in &out.statements {
        assert!(statement.span.start >= end && statement.span.end >= statement.span.start);
        end = statement.span.end;
        let own = &text[statement.span.start as usize..statement.span.end as usize];
        let marks = out.literals_of(statement).iter().map(|l| l.kind.mark());
        let shape = out.shape_of(statement);
        assert!(shape.len() <= own.len());
        let mut at = 0;
        for literal in out.literals_of(statement) {
            assert!(literal.span.start >= at && literal.span.end > literal.span.start);
            at = literal.span.end;
            assert!(at as usize <= own.len());
        }
        // Within quotes that are kept there may be anything.
        if !own.iter().any(|b| matches!(b, b'"' | b'\'' | b'$')) {
            assert!(shape.iter().copied().filter(|b| *b < 9).eq(marks));
        }
        if let Some(hint) = statement.hint {
            assert!(hint.end <= statement.span.start && hint.start <= hint.end);
        }
        again(text, statement, standard_strings, &out);
    }
}

/// A statement's own text is one statement, of the same shape and literals: what is kept by shape may be
/// used for it.
fn again(text: &[u8], statement: &Scanned, standard_strings: bool, out: &Scan) {
    let own = &text[statement.span.start as usize..statement.span.end as usize];
    let mut alone = Scan::default();
    scan(own, standard_strings, &Limits::default(), &mut alone).unwrap();
    assert_eq!(alone.statements.len(), 1);
    assert_eq!(alone.shapes, out.shape_of(statement));
    assert_eq!(alone.literals, out.literals_of(statement));
    assert_eq!(alone.statements[0].tokens, statement.tokens);
    // The class is read from any of them without a panic.
    if let Ok(own) = std::str::from_utf8(own) {
        crate::sql::class::classify(own, standard_strings);
        for literal in &alone.literals {
            crate::sql::literal::text_of(own, *literal, standard_strings);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), standard_strings: bool) {
        invariants(&bytes, standard_strings);
    }

    #[test]
    fn any_soup(text in soup(), standard_strings: bool) {
        invariants(text.as_bytes(), standard_strings);
        let _ = crate::sql::hint::parse(&text);
    }

    /// Blanks and comments between tokens change nothing but themselves.
    #[test]
    fn blanks_are_alike(text in soup(), blank in prop::sample::select(vec![" ", "\t ", "/**/", " /* ; ' */ "])) {
        let mut one = Scan::default();
        let mut other = Scan::default();
        let limits = Limits::default();
        let spaced = |blank: &str| {
            let mut spaced = String::new();
            let mut lexer = Lexer::new(text.as_bytes(), true);
            while let Ok(Some(token)) = lexer.step() {
                spaced.push_str(&text[token.span.start as usize..token.span.end as usize]);
                spaced.push_str(blank);
            }
            spaced
        };
        let first = scan(spaced(" ").as_bytes(), true, &limits, &mut one);
        let second = scan(spaced(blank).as_bytes(), true, &limits, &mut other);
        prop_assert_eq!(first.is_ok(), second.is_ok());
        if first.is_ok() {
            prop_assert_eq!(one.shapes, other.shapes);
        }
    }
}
