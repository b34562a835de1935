//! A SQLite database with one table.

use std::path::Path;

use anyhow::Context;
use rusqlite::{Connection, params};

use super::{Row, Sink};

const SCHEMA: &str = "\
    pragma journal_mode = off;
    pragma synchronous = off;
    create table events (
        offset integer primary key,
        timestamp text not null,
        channel text not null,
        event_type text not null,
        event_id text not null,
        payload text not null,
        source text,
        correlation_id text,
        causation_id text,
        traceparent text
    ) strict;";

/// Made at the end: sorting once is less work than keeping order all the time.
const INDEXES: &str = "\
    create index events_by_channel on events (channel, offset);
    create index events_by_type on events (event_type, offset);
    create index events_by_time on events (timestamp);
    pragma optimize;";

pub(super) struct Database(Connection);

impl Database {
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let connection = Connection::open(path).context("opening the database")?;
        connection.execute_batch(SCHEMA).context("making the table")?;
        Ok(Self(connection))
    }
}

impl Sink for Database {
    fn write(&mut self, rows: &[Row]) -> anyhow::Result<()> {
        let transaction = self.0.transaction()?;
        {
            let mut insert =
                transaction.prepare("insert into events values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
            for Row { event, .. } in rows {
                insert.execute(params![
                    i64::try_from(event.offset)?,
                    event.timestamp,
                    event.channel,
                    event.event_type,
                    event.event_id,
                    event.payload.get(),
                    event.source,
                    event.correlation_id,
                    event.causation_id,
                    event.traceparent,
                ])?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn finish(self: Box<Self>) -> anyhow::Result<()> {
        self.0.execute_batch(INDEXES).context("making the indexes")?;
        self.0.close().map_err(|(_, error)| error).context("closing the database")
    }
}
