// A consumer that handles each event once, as docs/consumers.md describes, and decrypts payloads as
// docs/encryption.md does.
//
// npm ci && node consumer.js
//
// Needs sql/inbox.sql and crates/inbox/examples/ledger.sql in its database, and these variables:
// KAFKA_BROKERS and KAFKA_TOPICS (separated by commas), DATABASE_URL, CONSUMER (its name in the inbox,
// and its consumer group), and OUTBOX_KEYRING_FILE.
//
// An error ends it: whoever runs it starts it again, and the event comes again.

import { readFileSync } from "node:fs";
import kafkajs from "kafkajs";
import lz4 from "lz4js";
import pg from "pg";
import { opened, readKeyring } from "./decrypt.js";

const { CompressionCodecs, CompressionTypes, Kafka } = kafkajs;
const { KAFKA_BROKERS, KAFKA_TOPICS, DATABASE_URL, CONSUMER, OUTBOX_KEYRING_FILE } = process.env;

// The relay compresses with lz4, which kafkajs does not bring along.
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async ({ buffer }) => Buffer.from(lz4.compress(buffer)),
  decompress: async (buffer) => Buffer.from(lz4.decompress(buffer)),
});

// The work, in the transaction in which the event was claimed.
async function handle(transaction, event) {
  await transaction.query(
    `INSERT INTO ledger_entries (consumer, event_id, transfer_id, amount_cents)
     VALUES ($1, $2, $3, $4)`,
    [CONSUMER, event.eventId, event.transferId, event.payload.amount_cents],
  );
}

// Claim and work are one transaction: both are durable when this returns, or neither is.
async function handleOnce(database, event) {
  await database.query("BEGIN");
  try {
    const claim = "SELECT inbox_claim($1, $2) AS is_new";
    const { rows } = await database.query(claim, [CONSUMER, event.eventId]);
    if (rows[0].is_new) await handle(database, event);
    await database.query("COMMIT");
    console.log(rows[0].is_new ? "handled" : "duplicate", event.eventId);
  } catch (error) {
    await database.query("ROLLBACK");
    throw error;
  }
}

const keys = readKeyring(readFileSync(OUTBOX_KEYRING_FILE, "utf8"));
const database = new pg.Client({ connectionString: DATABASE_URL });
const kafka = new Kafka({ clientId: CONSUMER, brokers: KAFKA_BROKERS.split(",") });
const consumer = kafka.consumer({
  groupId: CONSUMER,
  // What was aborted is not to be seen.
  readUncommitted: false,
  // After this time another process takes over from one that was killed.
  sessionTimeout: 6000,
  heartbeatInterval: 1500,
  // kafkajs tries an event that fails a few times; then this process ends, and another one begins.
  retry: { restartOnFailure: async () => false },
});
consumer.on(consumer.events.CRASH, ({ payload }) => {
  console.error(payload.error);
  process.exit(1);
});
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.once(signal, async () => {
    await consumer.disconnect();
    await database.end();
  });
}

await database.connect();
await consumer.connect();
await consumer.subscribe({ topics: KAFKA_TOPICS.split(","), fromBeginning: true });
await consumer.run({
  // Offsets are committed below, and only behind the database.
  autoCommit: false,
  eachMessage: async ({ topic, partition, message }) => {
    // Before the transaction begins: keys may be far away.
    const event = await opened(JSON.parse(message.value), message.headers, keys);
    await handleOnce(database, event);
    const offset = (BigInt(message.offset) + 1n).toString();
    await consumer.commitOffsets([{ topic, partition, offset }]);
  },
});
