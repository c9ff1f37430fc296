use serde_json::json;
use tokio_postgres::{Client, Error};

/// Settles a transfer and says so: both happen, or neither.
pub async fn settle(client: &mut Client, transfer: &str, amount: &str) -> Result<(), Error> {
    let update = "UPDATE transfers SET state = 'settled' WHERE id = $1";
    let insert = "INSERT INTO outbox (event_type, transfer_id, payload) VALUES ($1, $2, $3)";
    let event = json!({ "amount": amount });

    let change = client.transaction().await?;
    change.execute(update, &[&transfer]).await?;
    change
        .execute(insert, &[&"transfers.settled", &transfer, &event])
        .await?;
    change.commit().await
}
