//! A Parquet file: a column a field, compressed with Snappy.

use std::fs::File;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::{Row, Sink};

const SCHEMA: &str = "\
    message event {
        required int64 offset;
        required int64 timestamp (TIMESTAMP(MICROS, true));
        required binary channel (STRING);
        required binary event_type (STRING);
        required binary event_id (STRING);
        required binary payload (JSON);
        optional binary source (STRING);
        optional binary correlation_id (STRING);
        optional binary causation_id (STRING);
        optional binary traceparent (STRING);
    }";

/// Rows of one group; they wait in memory until it is full.
const GROUP_ROWS: usize = 64 << 10;
/// Bytes of JSON after which a group is full with fewer rows.
const GROUP_BYTES: usize = 64 << 20;

pub(super) struct Columns {
    writer: SerializedFileWriter<File>,
    offsets: Vec<i64>,
    timestamps: Vec<i64>,
    /// The text columns, in the order of the schema.
    texts: [Vec<Option<ByteArray>>; 8],
    bytes: usize,
}

impl Columns {
    pub(super) fn new(file: File) -> anyhow::Result<Self> {
        let schema = Arc::new(parse_message_type(SCHEMA).context("the schema")?);
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let writer = SerializedFileWriter::new(file, schema, Arc::new(properties))?;
        Ok(Self { writer, offsets: Vec::new(), timestamps: Vec::new(), texts: Default::default(), bytes: 0 })
    }

    fn push(&mut self, row: &Row) -> anyhow::Result<()> {
        let event = &row.event;
        self.offsets.push(i64::try_from(event.offset)?);
        let at: jiff::Timestamp = event.timestamp.parse().context("an event's timestamp")?;
        self.timestamps.push(at.as_microsecond());
        let texts = [
            Some(event.channel.as_str()),
            Some(&event.event_type),
            Some(&event.event_id),
            Some(event.payload.get()),
            event.source.as_deref(),
            event.correlation_id.as_deref(),
            event.causation_id.as_deref(),
            event.traceparent.as_deref(),
        ];
        for (column, text) in self.texts.iter_mut().zip(texts) {
            column.push(text.map(|text| ByteArray::from(Bytes::copy_from_slice(text.as_bytes()))));
        }
        self.bytes += row.text.len();
        Ok(())
    }

    fn end_group(&mut self) -> anyhow::Result<()> {
        let numbers = [std::mem::take(&mut self.offsets), std::mem::take(&mut self.timestamps)];
        let texts = std::mem::take(&mut self.texts);
        self.bytes = 0;
        let (mut numbers, mut texts) = (numbers.iter(), texts.iter());
        let mut group = self.writer.next_row_group()?;
        while let Some(mut column) = group.next_column()? {
            match column.untyped() {
                ColumnWriter::Int64ColumnWriter(writer) => {
                    let values = numbers.next().context("more columns of numbers than fields")?;
                    writer.write_batch(values, None, None)?;
                }
                ColumnWriter::ByteArrayColumnWriter(writer) => {
                    let cells = texts.next().context("more columns of text than fields")?;
                    let values: Vec<ByteArray> = cells.iter().flatten().cloned().collect();
                    let present: Vec<i16> = cells.iter().map(|cell| i16::from(cell.is_some())).collect();
                    let is_optional = writer.get_descriptor().max_def_level() > 0;
                    writer.write_batch(&values, is_optional.then_some(&present[..]), None)?;
                }
                _ => anyhow::bail!("a column of a kind that no field has"),
            }
            column.close()?;
        }
        group.close()?;
        Ok(())
    }
}

impl Sink for Columns {
    fn write(&mut self, rows: &[Row]) -> anyhow::Result<()> {
        for row in rows {
            self.push(row)?;
            if self.offsets.len() >= GROUP_ROWS || self.bytes >= GROUP_BYTES {
                self.end_group()?;
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        if !self.offsets.is_empty() {
            self.end_group()?;
        }
        self.writer.close()?;
        Ok(())
    }
}
