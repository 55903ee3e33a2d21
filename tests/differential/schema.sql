-- The tables of the differential suite. tenants, users, orders, notes, events, bots: by tenant. devices: by
-- device. plans, countries: reference. settings: on the home shard. archive: on another one.
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN cents AS integer CHECK (VALUE >= 0);
CREATE TYPE pair AS (a integer, b text);
CREATE TABLE tenants (id bigint PRIMARY KEY, name text NOT NULL, plan_id integer, country text, since date);
CREATE TABLE users (
    tenant_id bigint NOT NULL, id bigint NOT NULL, name text, email varchar(60), plan_id integer, score integer,
    ratio double precision, balance numeric(12,2), huge numeric, active boolean, born date, seen timestamptz,
    at timestamp, tags text[], doc jsonb, uid uuid, raw bytea, span interval, small smallint, half real,
    code char(5), strict_name text COLLATE "C", german text COLLATE "de-x-icu", PRIMARY KEY (tenant_id, id));
CREATE TABLE orders (
    tenant_id bigint NOT NULL, id bigint NOT NULL, user_id bigint, total numeric, status mood, placed timestamptz,
    item varchar(40), fee cents, qty integer GENERATED ALWAYS AS (id::integer % 5) STORED,
    PRIMARY KEY (tenant_id, id));
CREATE TABLE notes (id integer, tenant_id integer NOT NULL, body text, about pair);
CREATE TABLE events (tenant_id bigint NOT NULL, day date NOT NULL, kind text, weight integer)
    PARTITION BY RANGE (day);
CREATE TABLE events_old PARTITION OF events FOR VALUES FROM (MINVALUE) TO ('2024-01-01');
CREATE TABLE events_new PARTITION OF events FOR VALUES FROM ('2024-01-01') TO (MAXVALUE);
CREATE TABLE bots (id bigint NOT NULL, tenant_id bigint NOT NULL, name text);
CREATE TABLE devices (device_id integer NOT NULL, model text, tenant_ref bigint, PRIMARY KEY (device_id));
CREATE TABLE empties (tenant_id bigint NOT NULL, n integer, label text);
CREATE TABLE twins (
    tenant_id bigint NOT NULL, n numeric, f double precision, s interval, c char(4), b jsonb, j json, p point,
    m mood, t text);
CREATE TABLE plans (id integer PRIMARY KEY, name text, price numeric(8,2));
CREATE TABLE countries (code text PRIMARY KEY, name text);
CREATE TABLE settings (name text PRIMARY KEY, value text);
CREATE TABLE archive (id bigint, tenant bigint, body text);
CREATE SCHEMA app;
CREATE TABLE app.users (tenant_id bigint NOT NULL, id bigint, name text);
CREATE VIEW v_users AS SELECT tenant_id, id, name, score FROM users;
CREATE VIEW v_top AS SELECT tenant_id, id, score FROM users ORDER BY score DESC NULLS LAST, tenant_id, id LIMIT 10;
CREATE VIEW v_counts (tenant, n) AS SELECT tenant_id, count(*) FROM users GROUP BY tenant_id;
CREATE VIEW v_status AS SELECT status, count(*) AS n, sum(total) AS total FROM orders GROUP BY status;
CREATE VIEW v_nested AS SELECT v.n, c.tenant FROM v_counts c JOIN v_status v ON v.n > c.n;
CREATE VIEW v_joined AS
    SELECT u.name, o.total, p.name AS plan FROM users u JOIN orders o ON o.user_id = u.id
    LEFT JOIN plans p ON p.id = u.plan_id;
CREATE VIEW v_plans AS SELECT id, upper(name) AS name FROM plans;
CREATE FUNCTION twice(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
CREATE FUNCTION reads_users() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM users';
