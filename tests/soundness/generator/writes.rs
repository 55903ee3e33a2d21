//! INSERT, UPDATE, DELETE, MERGE.

use super::{Column, Frame, Generator, Rel};
use crate::world::{KEYS, Relation, Ty};

impl Generator<'_> {
    pub(super) fn target(&mut self) -> (&'static Relation, String, Rel) {
        let relation = self.relation(true);
        let columns = relation
            .columns
            .iter()
            .map(|(name, ty)| Column { name: (*name).to_owned(), ty: *ty })
            .collect();
        let (sql, alias) = if self.chance(30) {
            (format!("{} AS tgt", relation.sql), "tgt".to_owned())
        } else {
            (relation.sql.to_owned(), relation.short().to_owned())
        };
        (relation, sql, Rel { alias, columns })
    }

    pub(super) fn returning(&mut self, rel: &Rel) -> String {
        if self.chance(45) {
            return String::new();
        }
        let columns: Vec<String> =
            rel.columns.iter().map(|c| format!("{}.{}", rel.alias, c.name)).collect();
        format!(" RETURNING {}", columns.join(", "))
    }

    /// A condition for writes: mostly with the key in it, so that some have one shard.
    pub(super) fn target_pred(&mut self, rel: &Rel) -> String {
        let keys: Vec<Column> = rel
            .columns
            .iter()
            .filter(|c| KEYS.contains(&c.name.as_str()) || rel.alias == "tenants" && c.name == "id")
            .cloned()
            .collect();
        let mut terms = Vec::new();
        for key in keys {
            if self.chance(75) {
                let constant =
                    if self.chance(50) { self.constant(key.ty) } else { self.favourite(key.ty) };
                terms.push(format!("{}.{} = {constant}", rel.alias, key.name));
            }
        }
        if terms.is_empty() || self.chance(55) {
            terms.push(self.pred_in_parentheses());
        }
        terms.join(" AND ")
    }

    pub(super) fn pred_in_parentheses(&mut self) -> String {
        // Without them the rest may bind otherwise, which is PostgreSQL's to say.
        if self.chance(12) { self.pred() } else { format!("({})", self.pred()) }
    }

    pub(super) fn update(&mut self) -> String {
        let (relation, sql, rel) = self.target();
        self.frames.push(vec![rel.clone()]);
        let mut sets = Vec::new();
        let count = 1 + self.pick(2);
        for _ in 0..count {
            let (name, ty) =
                relation.columns[relation.columns.len() - 1 - self.pick(relation.columns.len())];
            if sets.iter().any(|s: &String| s.starts_with(&format!("{name} "))) {
                continue;
            }
            let value = match self.pick(6) {
                0 | 1 => self.constant(ty),
                2 => format!("{}.{name}", rel.alias),
                3 => "DEFAULT".to_owned(),
                4 => self.column_or_const(ty),
                _ => self.expr(ty),
            };
            sets.push(format!("{name} = {value}"));
        }
        let from = if self.spend() && self.chance(25) {
            let before = vec![rel.clone()];
            self.frames.push(Vec::new());
            let item = self.entry(&before);
            let own = self.frames.pop().unwrap_or_default();
            self.frames[0].extend(own);
            format!(" FROM {item}")
        } else {
            String::new()
        };
        let mut filter = self.target_pred(&rel);
        if !from.is_empty()
            && let Some((a, b)) = self.column_pair()
        {
            filter = format!("{filter} AND {a} = {b}");
        }
        self.frames.pop();
        let returning = self.returning(&rel);
        format!("UPDATE {sql} SET {}{from} WHERE {filter}{returning}", sets.join(", "))
    }

    pub(super) fn delete(&mut self) -> String {
        let (core, rel) = self.delete_core();
        let returning = self.returning(&rel);
        format!("{core}{returning}")
    }

    pub(super) fn delete_core(&mut self) -> (String, Rel) {
        let (_, sql, rel) = self.target();
        self.frames.push(vec![rel.clone()]);
        let using = if self.spend() && self.chance(25) {
            let before = vec![rel.clone()];
            self.frames.push(Vec::new());
            let item = self.entry(&before);
            let own = self.frames.pop().unwrap_or_default();
            if let Some(frame) = self.frames.last_mut() {
                frame.extend(own);
            }
            format!(" USING {item}")
        } else {
            String::new()
        };
        let mut filter = self.target_pred(&rel);
        if !using.is_empty()
            && let Some((a, b)) = self.column_pair()
        {
            filter = format!("{filter} AND {a} = {b}");
        }
        self.frames.pop();
        (format!("DELETE FROM {sql}{using} WHERE {filter}"), rel)
    }

    pub(super) fn insert(&mut self) -> String {
        let (relation, _, _) = self.target();
        let rel = Rel {
            alias: relation.short().to_owned(),
            columns: relation
                .columns
                .iter()
                .map(|(name, ty)| Column { name: (*name).to_owned(), ty: *ty })
                .collect(),
        };
        let mut columns: Vec<(&str, Ty)> = relation.columns.to_vec();
        if self.chance(30) {
            columns.reverse();
        }
        if self.chance(15) {
            let gone = self.pick(columns.len());
            columns.remove(gone);
        }
        let listed = columns != relation.columns || self.chance(60);
        let list = if listed {
            let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
            format!(" ({})", names.join(", "))
        } else {
            String::new()
        };
        let types: Vec<Ty> = columns.iter().map(|(_, ty)| *ty).collect();
        let rows = if self.chance(33) {
            let mut types = types;
            if self.chance(6)
                && let Some(ty) = types.first_mut()
            {
                *ty = *self.choices.one(&[Ty::Int, Ty::Text, Ty::Uuid, Ty::Num]);
            }
            self.query(&types, false)
        } else {
            self.rows(&types)
        };
        let unique: Option<&str> = match relation.sql {
            "users" | "orders" => Some("tenant_id, id"),
            "docs" => Some("owner, n"),
            "tenants" => Some("id"),
            "plans" | "app.plans" => Some("id"),
            _ => None,
        };
        let conflict = match unique {
            Some(_) if self.chance(40) => " ON CONFLICT DO NOTHING".to_owned(),
            Some(unique) if self.chance(40) => {
                let (name, ty) = *self.choices.one(relation.columns);
                let value = match self.pick(3) {
                    0 => format!("excluded.{name}"),
                    1 => self.constant(ty),
                    _ => format!("{}.{name}", relation.short()),
                };
                format!(" ON CONFLICT ({unique}) DO UPDATE SET {name} = {value}")
            }
            _ => String::new(),
        };
        let returning = self.returning(&rel);
        format!("INSERT INTO {}{list} {rows}{conflict}{returning}", relation.sql)
    }

    /// VALUES.
    fn rows(&mut self, types: &[Ty]) -> String {
        let count = 1 + self.weighted(&[70, 20, 10]);
        let mut rows = Vec::new();
        for _ in 0..count {
            let mut row = Vec::new();
            for ty in types {
                row.push(match self.weighted(&[92, 4, 4]) {
                    0 => self.constant(*ty),
                    1 => "DEFAULT".to_owned(),
                    // Assignments cast more than comparisons do.
                    _ => self.stranger(),
                });
            }
            rows.push(format!("({})", row.join(", ")));
        }
        format!("VALUES {}", rows.join(", "))
    }

    pub(super) fn merge(&mut self) -> String {
        let (relation, sql, rel) = self.target();
        self.frames.push(Vec::new());
        let before = vec![rel.clone()];
        let source = self.entry(&before);
        if let Some(frame) = self.frames.last_mut() {
            frame.push(rel.clone());
        }
        let mut on = match self.column_pair() {
            Some((a, b)) => format!("{a} = {b}"),
            None => "true".to_owned(),
        };
        if self.chance(60) {
            let more = self.target_pred(&rel);
            on = format!("{on} AND {more}");
        }
        let mut clauses = String::new();
        if self.chance(70) {
            let (name, ty) = relation.columns[relation.columns.len() - 1];
            clauses.push_str(&match self.pick(3) {
                0 => format!(" WHEN MATCHED THEN UPDATE SET {name} = {}", self.constant(ty)),
                1 => " WHEN MATCHED THEN DELETE".to_owned(),
                _ => format!(" WHEN MATCHED AND {} THEN DELETE", self.pred_in_parentheses()),
            });
        }
        if clauses.is_empty() || self.chance(50) {
            let source_only: Frame = self
                .frames
                .pop()
                .unwrap_or_default()
                .into_iter()
                .filter(|r| r.alias != rel.alias)
                .collect();
            self.frames.push(source_only);
            let values: Vec<String> =
                relation
                    .columns
                    .iter()
                    .map(|(_, ty)| {
                        if self.chance(60) { self.constant(*ty) } else { self.column_or_const(*ty) }
                    })
                    .collect();
            clauses
                .push_str(&format!(" WHEN NOT MATCHED THEN INSERT VALUES ({})", values.join(", ")));
        }
        self.frames.pop();
        format!("MERGE INTO {sql} USING {source} ON {on}{clauses}")
    }
}
