//! How many instructions the rooms without IO take for a statement: frames, shape, plan, and the scan of
//! the answer. Counted by valgrind, which is the same on a busy machine as on a quiet one.
//!
//! `cargo bench --bench instructions` compares with `benches/instructions.txt` and fails where a statement
//! takes a tenth more than is written there; `cargo test --bench instructions` does so with code that is not
//! optimised and `benches/instructions-debug.txt`, which is built in a minute and shows the same mistakes.
//! `-- --record` writes the file anew, after a change that is worth it. What was recorded with another compiler is
//! shown beside, and judged by nobody. All statements are run some times, and again with one of them
//! some hundred times more: the difference is what that one takes, with nothing of the start in it.

#![expect(clippy::print_stdout, reason = "a report for people")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a bench says what is wrong by panicking")]

mod pure;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode};

use pgmeridian::datum::{Format, Param};
use pgmeridian::exec::planner::{Planned, Planner, Reading};
use pgmeridian::plan::{Inputs, Scope};
use pgmeridian::session::responses::{Responses, StepKind};
use pgmeridian::wire::frame;
use pgmeridian::wire::frontend::BindView;

use self::pure::{HASH, JOIN, NoScope, POINT, PREPARED, message, settings, world};

const RECORD: &str = if cfg!(debug_assertions) {
    concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions-debug.txt")
} else {
    concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt")
};

/// What a statement may take more than is recorded.
const TOLERANCE: f64 = 1.10;

/// Runs before those that count, and runs that count.
const FEW: u64 = if cfg!(debug_assertions) { 10 } else { 100 };
const MORE: u64 = if cfg!(debug_assertions) { 200 } else { 2_000 };

/// How a client says it.
enum Way {
    /// As a Query.
    Simple(&'static str),
    /// Bind of two parameters in this format, for [`PREPARED`].
    Bound(Format),
    /// Parse and Bind, unnamed.
    Parsed,
    /// A Query of a shape that was never seen.
    Unknown(&'static str),
}

const STATEMENTS: [(&str, Way); 12] = [
    ("point SELECT", Way::Simple(POINT)),
    ("three-table join", Way::Simple(JOIN)),
    (
        "INSERT",
        Way::Simple(
            "INSERT INTO accounts (tenant_id, id, name, balance) VALUES (42, 7, 'Ada', 100)",
        ),
    ),
    (
        "UPDATE",
        Way::Simple(
            "UPDATE accounts SET balance = balance - 5, name = 'Grace' WHERE tenant_id = 42 AND id = 7",
        ),
    ),
    ("DELETE", Way::Simple("DELETE FROM items WHERE tenant_id = 42 AND order_id IN (1, 2, 3)")),
    (
        "keys of several shards",
        Way::Simple("SELECT name FROM accounts WHERE tenant_id IN (1, 2, 3, 4, 5, 6, 7)"),
    ),
    (
        "aggregate over all shards",
        Way::Simple("SELECT tenant_id, count(*), sum(balance) FROM accounts GROUP BY tenant_id"),
    ),
    ("ping", Way::Simple("SELECT 1")),
    ("prepared, text", Way::Bound(Format::Text)),
    ("prepared, binary", Way::Bound(Format::Binary)),
    ("parsed and bound", Way::Parsed),
    ("join of an unknown shape", Way::Unknown(JOIN)),
];

/// What a statement runs in.
struct Bench {
    planner: Planner,
    reading: Reading,
    world: std::sync::Arc<pgmeridian::mapstore::World>,
    responses: Responses,
    answer: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        let answer = [
            message(b'T', &[0; 60]),
            message(b'D', &[0; 40]),
            message(b'C', b"SELECT 1\0"),
            message(b'Z', b"I"),
        ];
        Self {
            planner: Planner::default(),
            reading: settings(),
            world: world(HASH),
            responses: Responses::default(),
            answer: answer.concat(),
        }
    }

    fn run(&mut self, way: &Way, times: u64) {
        match way {
            Way::Simple(sql) => self.simple(sql, times, false),
            Way::Unknown(sql) => self.simple(sql, times, true),
            Way::Bound(format) => self.bound(*format, times, false),
            Way::Parsed => self.bound(Format::Text, times, true),
        }
    }

    fn simple(&mut self, sql: &str, times: u64, unknown: bool) {
        let query = message(b'Q', format!("{sql}\0").as_bytes());
        let mut planned: Vec<Planned> = Vec::new();
        let mut segments = Vec::new();
        for _ in 0..times {
            if unknown {
                self.planner = Planner::default();
            }
            let frame = frame::next(black_box(&query), frame::STATEMENT_BYTES_MAX);
            let text = pgmeridian::wire::frontend::query(frame.unwrap().unwrap().body).unwrap();
            planned.clear();
            let (world, reading) = (&self.world, &self.reading);
            self.planner.plan_simple(world, reading, text, &NoScope, &mut planned).unwrap();
            black_box(&planned);
            self.responses.begin(false);
            self.responses.expect(StepKind::Query, false);
            segments.clear();
            self.responses.feed(black_box(&self.answer), &mut segments).unwrap();
            assert!(self.responses.done());
        }
    }

    fn bound(&mut self, format: Format, times: u64, parse: bool) {
        let (code, values) = match format {
            Format::Text => (0, [b"42".to_vec(), b"7".to_vec()]),
            Format::Binary => (1, [42_i64.to_be_bytes().to_vec(), 7_i64.to_be_bytes().to_vec()]),
        };
        let mut body = vec![0, 0, 0, 1, 0, code, 0, 2];
        for value in &values {
            body.extend_from_slice(&(value.len() as u32).to_be_bytes());
            body.extend_from_slice(value);
        }
        body.extend_from_slice(&[0, 0]);
        let bind = message(b'B', &body);
        let answer = [message(b'2', b""), self.answer.clone()].concat();
        let mut parsed = self.planner.parse(&self.world, &self.reading, PREPARED.as_bytes());
        let mut segments = Vec::new();
        for _ in 0..times {
            if parse {
                parsed =
                    self.planner.parse(&self.world, &self.reading, black_box(PREPARED.as_bytes()));
            }
            let readied = &parsed.as_ref().unwrap().readied;
            let frame = frame::next(black_box(&bind), frame::STATEMENT_BYTES_MAX).unwrap().unwrap();
            let view = BindView::parse(frame.body).unwrap();
            let mut params = [Param { oid: 20, format, value: None }; 2];
            for (param, (format, value)) in params.iter_mut().zip(view.parameters()) {
                (param.format, param.value) = (format, value);
            }
            let inputs = Inputs {
                text: PREPARED,
                literals: &readied.literals,
                params: &params,
                utf8: true,
                standard_strings: true,
            };
            let template = readied.entry.template.as_ref().unwrap();
            black_box(template.plan(&self.world.map, &inputs, &Scope::default()).unwrap());
            self.responses.begin(false);
            for kind in
                [StepKind::Bind, StepKind::DescribePortal, StepKind::Execute, StepKind::Sync]
            {
                self.responses.expect(kind, false);
            }
            segments.clear();
            self.responses.feed(black_box(&answer), &mut segments).unwrap();
            assert!(self.responses.done());
        }
    }
}

/// Instructions of this program when it runs each statement [`FEW`] times, and this one [`MORE`] times more.
fn count(name: &str) -> u64 {
    let program = std::env::current_exe().unwrap();
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(program)
        .args(["--run", name])
        .output()
        .unwrap_or_else(|error| panic!("valgrind: {error} (apt-get install valgrind)"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let line = said.lines().find_map(|line| line.split_once("refs:"));
    let digits: String = line.unwrap().1.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// What each statement takes. Instructions are counted as well with other work beside.
fn count_all() -> Vec<u64> {
    let names: Vec<&str> = std::iter::once("").chain(STATEMENTS.map(|(name, _)| name)).collect();
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let mut counts = Vec::new();
    for some in names.chunks(at_once) {
        std::thread::scope(|scope| {
            let running: Vec<_> =
                some.iter().map(|name| scope.spawn(move || count(name))).collect();
            counts.extend(running.into_iter().map(|one| one.join().unwrap()));
        });
    }
    let few = counts.remove(0);
    counts.iter().map(|count| (count - few) / MORE).collect()
}

/// The compiler, as it calls itself.
fn compiler() -> String {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let output = Command::new(rustc).arg("--version").output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Names and instructions, a line each, below a line of the compiler.
fn recorded() -> (bool, BTreeMap<String, u64>) {
    let text = std::fs::read_to_string(RECORD).unwrap_or_default();
    let same_compiler = text.lines().next().is_some_and(|line| line.ends_with(&compiler()));
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let counts = lines
        .filter_map(|line| line.rsplit_once('\t'))
        .map(|(name, count)| (name.to_owned(), count.parse().unwrap()))
        .collect();
    (same_compiler, counts)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [run, name] = arguments.as_slice()
        && run == "--run"
    {
        for (own, way) in &STATEMENTS {
            Bench::new().run(way, if own == name { FEW + MORE } else { FEW });
        }
        return ExitCode::SUCCESS;
    }
    let counts = count_all();
    let (same_compiler, known) = recorded();
    let mut record = format!("# Instructions per statement; see instructions.rs. {}\n", compiler());
    if !same_compiler {
        println!("recorded with another compiler: what is too many is not known");
    }
    let mut failed = false;
    for ((name, _), own) in STATEMENTS.iter().zip(counts) {
        let _ = writeln!(record, "{name}\t{own}");
        let before = known.get(*name).copied();
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let ratio = before.map(|before| own as f64 / before as f64);
        let verdict = match ratio {
            None => "not recorded".to_owned(),
            Some(ratio) if same_compiler && ratio > TOLERANCE => {
                format!("{ratio:.2} of what is recorded: too many")
            }
            Some(ratio) => format!("{ratio:.2} of what is recorded"),
        };
        failed |= ratio.is_none_or(|ratio| same_compiler && ratio > TOLERANCE);
        println!("{name:26} {own:8}  {verdict}");
    }
    if arguments.iter().any(|argument| argument == "--record") {
        std::fs::write(Path::new(RECORD), record).unwrap();
        println!("recorded");
        return ExitCode::SUCCESS;
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
