//! Expressions and constants in the many ways to write them.

use super::{Generator, Parameter, Value, quoted};
use crate::world::Ty;

impl Generator<'_> {
    /// A column of this type that can be seen.
    pub(super) fn column(&mut self, ty: Ty) -> Option<String> {
        let mut found = Vec::new();
        for (depth, frame) in self.frames.iter().rev().enumerate() {
            for rel in frame {
                let hidden = self.frames.iter().rev().take(depth).flatten();
                if hidden.clone().any(|r| r.alias == rel.alias) {
                    continue;
                }
                for column in rel.columns.iter().filter(|c| c.ty == ty) {
                    let times = if depth == 0 { 4 } else { 1 };
                    let same = frame.iter().flat_map(|r| &r.columns);
                    let unique = depth == 0 && same.filter(|c| c.name == column.name).count() == 1;
                    let sql = if unique && rel.alias.len() % 2 == 0 {
                        column.name.clone()
                    } else {
                        rel.column(column)
                    };
                    found.extend(std::iter::repeat_n(sql, times));
                }
            }
        }
        if found.is_empty() { None } else { Some(self.choices.one(&found).clone()) }
    }

    pub(super) fn column_or_const(&mut self, ty: Ty) -> String {
        if self.chance(88)
            && let Some(column) = self.column(ty)
        {
            return column;
        }
        self.typed(ty)
    }

    pub(super) fn expr(&mut self, ty: Ty) -> String {
        if !self.spend() {
            return self.column_or_const(ty);
        }
        match self.weighted(&[66, 8, 5, 7, 5, 9]) {
            0 => self.column_or_const(ty),
            1 => self.typed(ty),
            2 => format!(
                "CASE WHEN {} THEN {} ELSE {} END",
                self.pred(),
                self.column_or_const(ty),
                self.column_or_const(ty)
            ),
            3 => format!("coalesce({}, {})", self.column_or_const(ty), self.column_or_const(ty)),
            4 => match ty {
                Ty::Int => format!("({} + 0)", self.column_or_const(ty)),
                Ty::Text => {
                    let function = *self.choices.one(&["lower", "upper", "trim"]);
                    format!("{function}({})", self.column_or_const(ty))
                }
                Ty::Uuid => self.column_or_const(ty),
                Ty::Num => format!("({} * 2)", self.column_or_const(ty)),
            },
            _ => {
                self.frames.push(Vec::new());
                let (from, _) = self.from();
                let filter = self.filter();
                let output =
                    if self.chance(80) { self.aggregate(ty) } else { self.column_or_const(ty) };
                self.frames.pop();
                format!("(SELECT {output} FROM {from} WHERE {filter})")
            }
        }
    }

    /// A constant whose type is not left to the context.
    pub(super) fn typed(&mut self, ty: Ty) -> String {
        match ty {
            Ty::Int => match self.pick(3) {
                0 | 1 => self.int().to_string(),
                _ => Self::typed_null(ty),
            },
            Ty::Text => format!("{}::text", quoted(self.text())),
            Ty::Uuid => format!("{}::uuid", quoted(self.uuid())),
            Ty::Num => format!("{}.5", self.pick(4)),
        }
    }

    pub(super) fn typed_null(ty: Ty) -> String {
        match ty {
            Ty::Int => "NULL::bigint",
            Ty::Text => "NULL::text",
            Ty::Uuid => "NULL::uuid",
            Ty::Num => "NULL::numeric",
        }
        .to_owned()
    }

    pub(super) fn array(&mut self, ty: Ty) -> String {
        let count = 1 + self.pick(3);
        if self.with_params && self.chance(40) {
            let value = match ty {
                Ty::Int | Ty::Num => Value::Ints(
                    (0..count)
                        .map(|_| if self.chance(10) { None } else { Some(self.int()) })
                        .collect(),
                ),
                Ty::Text => Value::Texts(
                    (0..count)
                        .map(|_| {
                            let null = self.chance(10);
                            let text = self.text();
                            (!null).then(|| text.to_owned())
                        })
                        .collect(),
                ),
                Ty::Uuid => {
                    Value::Texts((0..count).map(|_| Some(self.uuid().to_owned())).collect())
                }
            };
            let oids: &[u32] = match ty {
                Ty::Int | Ty::Num => &[0, 1016, 1007, 1005, 1231, 1022],
                Ty::Text => &[0, 1009, 1015, 1014, 1003],
                Ty::Uuid => &[0, 2951],
            };
            let oid = *self.choices.one(oids);
            let binary = self.chance(50);
            return self.param(Parameter { oid, binary, value });
        }
        let elements: Vec<String> = (0..count)
            .map(|_| match ty {
                _ if self.chance(8) => "NULL".to_owned(),
                Ty::Int | Ty::Num => self.int().to_string(),
                Ty::Text => {
                    let text = self.text();
                    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
                }
                Ty::Uuid => self.uuid().to_owned(),
            })
            .collect();
        let literal = quoted(&format!("{{{}}}", elements.join(",")));
        let cast = match ty {
            Ty::Int => {
                *self.choices.one(&["", "::bigint[]", "::int[]", "::smallint[]", "::numeric[]"])
            }
            Ty::Text => *self.choices.one(&["", "::text[]", "::varchar[]"]),
            Ty::Uuid => *self.choices.one(&["", "::uuid[]"]),
            Ty::Num => "",
        };
        format!("{literal}{cast}")
    }

    pub(super) fn param(&mut self, parameter: Parameter) -> String {
        // The same value again may be the same parameter.
        if !self.params.is_empty() && self.chance(10) {
            return format!("${}", 1 + self.pick(self.params.len()));
        }
        self.params.push(parameter);
        format!("${}", self.params.len())
    }

    /// A constant in one of the many ways to write it.
    pub(super) fn constant(&mut self, ty: Ty) -> String {
        if self.with_params && self.chance(40) {
            return self.param_of(ty);
        }
        if self.chance(3) {
            return "NULL".to_owned();
        }
        match ty {
            Ty::Int => {
                let n = self.int();
                match self.weighted(&[
                    60, 6, 4, 4, 3, 3, 2, 2, 2, 2, 2, 2, 1, 1, 2, 2, 1, 2, 1, 1, 2, 1, 1, 1,
                ]) {
                    0 => n.to_string(),
                    1 => format!("'{n}'"),
                    2 => format!("{n}.0"),
                    3 => format!("{n}::bigint"),
                    4 => format!("'{n}'::int"),
                    5 => format!("CAST('{n}' AS smallint)"),
                    6 => format!("bigint '{n}'"),
                    7 => format!("+{}", n.abs()),
                    8 => format!("({n} + 0)"),
                    9 => format!("{n}::numeric"),
                    10 => format!("({n})"),
                    11 => format!("'{n}'::text::bigint"),
                    12 => format!("' {n} '"),
                    13 => format!("E'{n}'"),
                    14 => "1.5".to_owned(),
                    15 => format!("{}.4::bigint", n.abs()),
                    16 => "9223372036854775808".to_owned(),
                    17 => format!("{}e0", n.abs()),
                    18 => format!("$${n}$$"),
                    19 => "3000000000".to_owned(),
                    20 => format!("(SELECT {n})"),
                    21 => format!("-{}", n.abs()),
                    22 => format!("'{n}'::numeric"),
                    _ => format!("{n}::float8"),
                }
            }
            Ty::Text => {
                let text = self.text();
                let plain = quoted(text);
                match self.weighted(&[60, 5, 5, 4, 3, 3, 3, 3, 2, 2, 2, 2, 2, 2, 2, 2]) {
                    0 => plain,
                    1 => format!("{plain}::text"),
                    2 => format!("{plain}::varchar"),
                    3 => format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
                    4 => format!("$q${text}$q$"),
                    5 => format!("{plain}::varchar(2)"),
                    6 => format!("{plain}::char(5)"),
                    7 => format!("({plain} || '')"),
                    8 => format!("{plain}::name"),
                    9 => format!("CAST({plain} AS text)"),
                    10 => format!("upper({plain})"),
                    11 => format!("U&{}", plain.replace('\\', "\\\\")),
                    12 => format!("{plain}::bpchar"),
                    13 if text.is_ascii() && text.len() > 1 => {
                        // One literal over two lines.
                        let (a, b) = text.split_at(1);
                        format!("{}\n  {}", quoted(a), quoted(b))
                    }
                    14 => format!(
                        "e'{}'",
                        text.replace('\\', "\\\\").replace('\'', "''").replace('a', "\\x61")
                    ),
                    _ => format!("text {plain}"),
                }
            }
            Ty::Uuid => {
                let text = self.uuid();
                match self.weighted(&[50, 10, 8, 8, 8, 4]) {
                    0 => quoted(text),
                    1 => format!("{}::uuid", quoted(text)),
                    2 => quoted(&text.to_uppercase()),
                    3 => quoted(&format!("{{{text}}}")),
                    4 => quoted(&text.replace('-', "")),
                    _ => format!("{}::text::uuid", quoted(text)),
                }
            }
            Ty::Num => match self.pick(3) {
                0 => format!("{}.5", self.pick(4)),
                1 => self.int().to_string(),
                _ => "'1.50'".to_owned(),
            },
        }
    }

    /// A constant of any type.
    pub(super) fn stranger(&mut self) -> String {
        let ty = *self.choices.one(&[Ty::Int, Ty::Text, Ty::Uuid, Ty::Num]);
        if self.chance(50) { self.typed(ty) } else { self.constant(ty) }
    }

    pub(super) fn param_of(&mut self, ty: Ty) -> String {
        let null = self.chance(5);
        let (value, oids): (Value, &[u32]) = match ty {
            Ty::Int => (Value::Int(self.int()), &[0, 20, 23, 21, 1700, 0, 20, 705, 701, 26]),
            Ty::Text => (Value::Text(self.text().to_owned()), &[0, 25, 1043, 0, 1042, 705, 19]),
            Ty::Uuid => (Value::Text(self.uuid().to_owned()), &[0, 2950]),
            Ty::Num => (Value::Int(self.int()), &[0, 1700]),
        };
        let oid = *self.choices.one(oids);
        let binary = self.chance(50);
        let value = if null { Value::Null } else { value };
        let name = self.param(Parameter { oid, binary, value });
        match self.pick(12) {
            0 if ty == Ty::Int => format!("{name}::bigint"),
            1 if ty == Ty::Int => format!("{name}::int"),
            2 if ty == Ty::Text => format!("{name}::text"),
            3 if ty == Ty::Text => format!("{name}::varchar"),
            _ => name,
        }
    }
}
