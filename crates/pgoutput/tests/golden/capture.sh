#!/bin/sh
# Writes NAME-text.hex and NAME-binary.hex beside this script.
#   capture.sh CONNINFO NAME      for example: capture.sh 'host=localhost dbname=golden' pg15
# CONNINFO names an empty database; see README.md for what the server needs.
set -eu
conninfo=$1
name=$2
cd "$(dirname "$0")"
# Text values are printed in the session's formats.
export PGCLIENTENCODING=UTF8
export PGOPTIONS='-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c bytea_output=hex -c client_min_messages=warning'

sql() { psql --no-psqlrc --quiet --tuples-only --no-align --field-separator=' ' -v ON_ERROR_STOP=1 "$@" "$conninfo"; }
changes() {
    sql -c "SELECT lsn, encode(data, 'hex')
        FROM pg_logical_slot_$1_binary_changes('golden', NULL, NULL, 'proto_version', '1',
            'publication_names', 'golden', 'messages', 'true', 'binary', '$2')"
}

sql -f scenarios.sql
changes peek false >"$name-text.hex"
changes get true >"$name-binary.hex"
sql -c "SELECT pg_drop_replication_slot('golden'), pg_replication_origin_drop('upstream')" >/dev/null
