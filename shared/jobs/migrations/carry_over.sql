-- From jobs_0002. The columns that `settings` had replaced are dropped.
ALTER TABLE jobs.jobs
  DROP COLUMN declared_enabled,
  DROP COLUMN declared_interval_seconds,
  DROP COLUMN declared_market_hours_only,
  DROP COLUMN enabled,
  DROP COLUMN interval_seconds,
  DROP COLUMN market_hours_only;
-- An alert that is half sent names the channels that have it.
UPDATE jobs.notifications SET facts = (facts - 'told') || jsonb_build_object('sent_to', facts -> 'told')
WHERE facts ? 'told';
