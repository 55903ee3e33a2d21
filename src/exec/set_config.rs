//! `SELECT set_config('app.tenant_id', '42', true)`, where that is the map's `key_setting`: what SET does, and
//! a row that says so.
//!
//! No shard is asked, as none is for SET: the transaction goes to the shard of the key that it is given.
//! What else the statement sets must be settings of the application's own, which are what they are told to be.

use super::Executor;
use super::extended::{Portal, Unit};
use super::planner::Entry;
use crate::datum::Format;
use crate::error::{SqlError, SqlState};
use crate::observe::{self, RouteKind};
use crate::plan::Plan;
use crate::sql::class::{Class, SetCommand, SetValue};
use crate::wire::backend::{self, FieldDescription};
use crate::wire::frontend::BindView;

/// What such a statement sets, and answers with: one row of text.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    sets: Box<[SetCommand]>,
    columns: Vec<(String, Format)>,
    /// The row has been fetched.
    fetched: bool,
}

impl Settings {
    /// `RowDescription`.
    pub(super) fn describe(&self, out: &mut Vec<u8>) {
        let fields: Vec<FieldDescription<'_>> = self
            .columns
            .iter()
            .map(|(name, format)| FieldDescription {
                format: *format,
                ..FieldDescription::text(name)
            })
            .collect();
        backend::row_description(out, &fields);
    }

    /// The row and the tag, with this limit of rows, 0 for none. (Text looks the same in both formats.)
    fn fetch(&mut self, max_rows: i32, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.fetched, true) {
            return backend::command_complete(out, "SELECT 0");
        }
        observe::routed(RouteKind::Local);
        let value = |set: &SetCommand| match &set.value {
            SetValue::One(value) | SetValue::Raw(value) => value.clone().into_bytes(),
            SetValue::Default => Vec::new(),
        };
        let values: Vec<Vec<u8>> = self.sets.iter().map(value).collect();
        let row: Vec<Option<&[u8]>> = values.iter().map(|value| Some(value.as_slice())).collect();
        backend::data_row(out, &row);
        if max_rows == 1 {
            backend::portal_suspended(out);
        } else {
            backend::command_complete(out, "SELECT 1");
        }
    }
}

impl Executor {
    /// It sets the session's key.
    pub(super) fn sets_key(&self, plan: &Plan) -> bool {
        let Some(key_setting) = self.world.map.key_setting() else { return false };
        plan.settings.iter().flatten().any(|set| set.name == key_setting)
    }

    /// What the proxy carries out itself of a statement with this entry and plan.
    pub(super) fn settings_of(&self, entry: &Entry, plan: &Plan) -> Option<Settings> {
        if !self.sets_key(plan) {
            return None;
        }
        let columns = entry.template.as_ref()?.setting_columns()?;
        let columns = columns.into_iter().map(|name| (name.to_owned(), Format::Text)).collect();
        Some(Settings { sets: plan.settings.clone()?, columns, fetched: false })
    }

    /// Where the proxy does not carry it out, the session would not know of its key.
    ///
    /// # Errors
    ///
    /// 0A000.
    pub(super) fn refuse_key(&self, plan: &Plan) -> Result<(), SqlError> {
        if !self.sets_key(plan) {
            return Ok(());
        }
        Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "set_config of the session's key is not supported within another statement",
        )
        .detail(
            "It decides which rows later statements see, and would be known to one shard alone.",
        )
        .hint("Use SET, or SELECT set_config alone with constants or parameters."))
    }

    /// Carries it out as a query of its own, without `ReadyForQuery`.
    pub(super) fn set_by_query(&mut self, mut settings: Settings) -> Result<(), SqlError> {
        self.set_all(&settings.sets)?;
        settings.describe(&mut self.io.outbox);
        settings.fetch(0, &mut self.io.outbox);
        Ok(())
    }

    /// All of it, or none of it.
    fn set_all(&mut self, sets: &[SetCommand]) -> Result<(), SqlError> {
        let key_setting = self.world.map.key_setting().map(str::to_owned);
        let is_key = |set: &&SetCommand| key_setting.as_deref() == Some(set.name.as_str());
        for set in sets.iter().filter(is_key) {
            self.set_ours(set)?;
        }
        for set in sets.iter().filter(|set| !is_key(set)) {
            // Outside a transaction a local one is gone with the statement.
            if !set.local || self.session.settings.in_block() {
                self.set_custom(&set.name, set);
            }
        }
        self.follow_settings();
        self.last_route.note_local();
        Ok(())
    }

    /// Its portal.
    pub(super) fn settings_portal(
        &mut self,
        entry: &Entry,
        plan: &Plan,
        view: &BindView<'_>,
        unit: &mut Unit,
    ) -> Option<Portal> {
        let mut settings = self.settings_of(entry, plan)?;
        let formats = view.result_formats();
        for (n, (_, format)) in settings.columns.iter_mut().enumerate() {
            *format = formats.of(n);
        }
        unit.inject(backend::bind_complete);
        Some(Portal::Settings(Box::new(settings)))
    }

    /// Execute of such a portal.
    pub(super) fn fetch_settings(
        &mut self,
        portal: &[u8],
        max_rows: i32,
        unit: &mut Unit,
    ) -> Result<(), SqlError> {
        let Some(Portal::Settings(settings)) = self.portals.get(portal) else { return Ok(()) };
        if !settings.fetched {
            let sets = settings.sets.clone();
            if let Some(first) = sets.first() {
                self.note_local(&Class::Set(first.clone()), unit);
            }
            self.set_all(&sets)?;
            for set in sets {
                self.follow_again(&Class::Set(set), unit);
            }
        }
        if let Some(Portal::Settings(settings)) = self.portals.get_mut(portal) {
            unit.inject(|out| settings.fetch(max_rows, out));
        }
        Ok(())
    }
}
