//! Rows by the ids of their events.

use super::Connection;
use super::shape::Shape;
use crate::failure::Failure;

impl Shape {
    /// Which of these ids are not in the table.
    pub async fn absent(
        &self,
        connection: &Connection,
        ids: &[String],
    ) -> Result<Vec<String>, Failure> {
        let (table, id, kind) = (&self.table, &self.id, &self.id_type);
        let (fitting, mut absent): (Vec<_>, Vec<_>) =
            ids.iter().cloned().partition(|text| self.fits(text));
        let sql = format!(
            "SELECT given FROM unnest($1::text[]) given \
             WHERE NOT EXISTS (SELECT FROM {table} t WHERE t.{id} = given::{kind})"
        );
        let rows = connection.rows(&sql, &[&fitting]).await?;
        absent.extend(rows.iter().map(|row| row.get::<_, String>(0)));
        Ok(absent)
    }

    /// Whether a text can be an id of the table: of another table's events it may not be.
    pub fn fits(&self, text: &str) -> bool {
        fits(&self.id_type, text)
    }
}

fn fits(kind: &str, text: &str) -> bool {
    match kind {
        "uuid" => {
            let digits = text.bytes().filter(u8::is_ascii_hexdigit).count();
            digits == 32 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
        }
        "bigint" => text.parse::<i64>().is_ok(),
        "integer" => text.parse::<i32>().is_ok(),
        "smallint" => text.parse::<i16>().is_ok(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_other_tables_are_not_cast() {
        assert!(fits("uuid", "018f4bd0-0000-4000-8000-00000000000a"));
        assert!(!fits("uuid", "17"));
        assert!(fits("bigint", "17") && !fits("integer", "99999999999"));
        assert!(fits("text", "anything"));
    }
}
