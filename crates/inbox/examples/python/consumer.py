"""A consumer that handles each event once, as docs/consumers.md describes.

pip install -r requirements.txt && python3 consumer.py

Needs sql/inbox.sql and crates/inbox/examples/ledger.sql in its database, and these variables:
KAFKA_BROKERS, KAFKA_TOPICS (separated by commas), DATABASE_URL, and CONSUMER, its name in the inbox
and its consumer group.

An error ends it: whoever runs it starts it again, and the event comes again.
"""

import json
import os
import signal
import sys

import psycopg
from confluent_kafka import Consumer, KafkaException

CONSUMER = os.environ["CONSUMER"]


def handle(transaction, event):
    """The work, in the transaction in which the event was claimed."""
    transaction.execute(
        "INSERT INTO ledger_entries (consumer, event_id, transfer_id, amount_cents)"
        " VALUES (%s, %s, %s, %s)",
        (CONSUMER, event["eventId"], event["transferId"], event["payload"]["amount_cents"]),
    )


def handle_once(database, message):
    """Claim and work are one transaction: both are durable when this returns, or neither is."""
    event = json.loads(message.value())
    with database.transaction():
        claim = database.execute("SELECT inbox_claim(%s, %s)", (CONSUMER, event["eventId"]))
        (is_new,) = claim.fetchone()
        if is_new:
            handle(database, event)
    print("handled" if is_new else "duplicate", event["eventId"], flush=True)


def main():
    stopped = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.append(True))
    consumer = Consumer(
        {
            "bootstrap.servers": os.environ["KAFKA_BROKERS"],
            "group.id": CONSUMER,
            # What was aborted is not to be seen.
            "isolation.level": "read_committed",
            # Offsets are committed below, and only behind the database.
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            # After this time another process takes over from one that was killed.
            "session.timeout.ms": 6000,
        }
    )
    consumer.subscribe(os.environ["KAFKA_TOPICS"].split(","))
    try:
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database:
            while not stopped:
                message = consumer.poll(0.5)
                if message is None:
                    continue
                if message.error():
                    raise KafkaException(message.error())
                handle_once(database, message)
                consumer.commit(message=message, asynchronous=False)
    finally:
        consumer.close()


if __name__ == "__main__":
    sys.exit(main())
