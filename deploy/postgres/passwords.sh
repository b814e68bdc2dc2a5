#!/bin/bash
# Sets the services' passwords; run once by the postgres image when the database is made, after roles.sql.
set -euo pipefail
for service in marketdata orders valuation strategy gateway; do
  variable=${service^^}_PASSWORD
  psql -v ON_ERROR_STOP=1 -v role="paperprofit_$service" -v password="${!variable}" \
    -U "$POSTGRES_USER" -d "$POSTGRES_DB" <<'SQL'
ALTER ROLE :"role" PASSWORD :'password';
SQL
done
