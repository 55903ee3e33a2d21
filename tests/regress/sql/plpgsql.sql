-- Functions, procedures, triggers and blocks: their notices, errors with context, and what they leave.
CREATE TABLE ledger (id serial PRIMARY KEY, what text NOT NULL, at_depth int);
CREATE FUNCTION said(what text) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE 'saying %', what;
    INSERT INTO ledger (what) VALUES (what);
    RETURN lastval();
END $$;
SELECT said('one');
SELECT said(NULL);
SELECT said('two'), said('three');
SELECT currval('ledger_id_seq'), lastval();
CREATE FUNCTION deep(n int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    IF n = 0 THEN
        RAISE EXCEPTION 'too deep' USING ERRCODE = 'P9999', DETAIL = 'below', HINT = 'stay up';
    END IF;
    RETURN deep(n - 1);
END $$;
SELECT deep(3);
\set VERBOSITY verbose
SELECT deep(0);
\set VERBOSITY default
DO $$ DECLARE r record; BEGIN
    FOR r IN SELECT * FROM ledger ORDER BY id LOOP RAISE INFO '% %', r.id, r.what; END LOOP;
    BEGIN PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN RAISE WARNING 'caught %', SQLSTATE; END;
    PERFORM set_config('app.mark', 'set by a block', false);
END $$;
SHOW app.mark;
SELECT current_setting('app.mark');
DO $$ BEGIN EXECUTE 'CREATE TEMP TABLE made_within (id int)'; INSERT INTO made_within VALUES (42); END $$;
SELECT * FROM made_within;
DROP TABLE made_within;
CREATE PROCEDURE steps(INOUT n int) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger (what) VALUES ('kept');
    COMMIT;
    INSERT INTO ledger (what) VALUES ('undone');
    ROLLBACK;
    n := n + 1;
END $$;
CALL steps(1);
BEGIN;
CALL steps(1);
ROLLBACK;
SELECT what FROM ledger ORDER BY id;
CREATE FUNCTION watched() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE '% % %', TG_OP, TG_WHEN, COALESCE(NEW.what, OLD.what);
    PERFORM set_config('app.last', TG_OP, false);
    IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
    NEW.at_depth := pg_trigger_depth();
    RETURN NEW;
END $$;
CREATE TRIGGER watch BEFORE INSERT OR UPDATE OR DELETE ON ledger FOR EACH ROW EXECUTE FUNCTION watched();
INSERT INTO ledger (what) VALUES ('watched') RETURNING what, at_depth;
SHOW app.last;
UPDATE ledger SET what = upper(what) WHERE what = 'watched' RETURNING what;
DELETE FROM ledger WHERE what = 'WATCHED';
SELECT current_setting('app.last');
CREATE FUNCTION rows_of(n int) RETURNS TABLE (i int, square int) LANGUAGE sql AS
    $$ SELECT g, g * g FROM generate_series(1, n) g $$;
SELECT * FROM rows_of(3);
SELECT rows_of(2);
SELECT pg_advisory_lock(77);
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
SELECT pg_advisory_unlock(77), pg_advisory_unlock(77);
DROP TABLE ledger;
DROP FUNCTION said(text), deep(int), watched(), rows_of(int);
DROP PROCEDURE steps(int);
