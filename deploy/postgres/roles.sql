-- Roles and schemas of PaperProfit: one role and one schema per service, one writer per schema.
-- Run by a superuser in the database paperprofit; safe to run again. `python -m shared.database_setup` does it, sets the
-- passwords and migrates the schema jobs.
-- Another service reads only the views that an owner grants to paperprofit_services.
DO $$
DECLARE
  service text;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'paperprofit_services') THEN
    CREATE ROLE paperprofit_services NOLOGIN;
  END IF;
  -- Owns the schema of the job engine. No service can become it: it could delete the record of operators' actions.
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'paperprofit_jobs') THEN
    CREATE ROLE paperprofit_jobs NOLOGIN;
  END IF;
  FOREACH service IN ARRAY ARRAY['marketdata', 'orders', 'valuation', 'strategy', 'gateway'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'paperprofit_' || service) THEN
      EXECUTE format('CREATE ROLE %I LOGIN', 'paperprofit_' || service);
    END IF;
    EXECUTE format('GRANT paperprofit_services TO %I', 'paperprofit_' || service);
    IF pg_has_role('paperprofit_' || service, 'paperprofit_jobs', 'MEMBER') THEN  -- earlier releases granted it
      EXECUTE format('REVOKE paperprofit_jobs FROM %I', 'paperprofit_' || service);
    END IF;
    EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION %I', service, 'paperprofit_' || service);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO paperprofit_services', service);
  END LOOP;
  CREATE SCHEMA IF NOT EXISTS jobs AUTHORIZATION paperprofit_jobs;
  GRANT USAGE ON SCHEMA jobs TO paperprofit_services;
  REVOKE CREATE ON SCHEMA public FROM PUBLIC;
  EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO paperprofit_services', current_database());
END $$;
