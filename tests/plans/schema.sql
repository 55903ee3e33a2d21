-- Tables of the plan cases. users, orders, messages, tenants, bots: by tenant. devices: by device. docs: by
-- owner. files: by file. places: by region and tenant. plans, countries: reference. global_settings,
-- archive: on one shard. audit: not listed. tokens: by token, grants by label, counters by device.
CREATE TABLE tenants (id bigint PRIMARY KEY, name text NOT NULL, plan_id integer);
CREATE TABLE users (tenant_id bigint NOT NULL, id bigint NOT NULL, name text, plan_id integer, score integer, PRIMARY KEY (tenant_id, id));
CREATE TABLE orders (tenant_id bigint NOT NULL, id bigint NOT NULL, user_id bigint, total numeric, parent_tenant bigint, PRIMARY KEY (tenant_id, id));
CREATE TABLE messages (id bigint NOT NULL, tenant_id integer NOT NULL, user_id bigint, body text);
CREATE TABLE bots (id bigint NOT NULL, tenant_id bigint NOT NULL, name text);
CREATE TABLE devices (device_id integer NOT NULL, model text, tenant_ref bigint);
CREATE TABLE docs (owner text NOT NULL, title text, n integer);
CREATE TABLE files (file_id uuid NOT NULL, path text);
CREATE TABLE places (region_code text NOT NULL, tenant_id bigint NOT NULL, id bigint, name text);
CREATE TABLE tokens (token uuid NOT NULL DEFAULT gen_random_uuid(), n integer, shard_id smallint);
CREATE TABLE grants (label text NOT NULL DEFAULT gen_random_uuid(), n integer);
CREATE TABLE counters (device_id bigserial, n integer);
CREATE TABLE plans (id integer PRIMARY KEY, name text, tenant_limit bigint);
CREATE TABLE countries (code text PRIMARY KEY, name text);
CREATE TABLE global_settings (name text PRIMARY KEY, value text);
CREATE TABLE archive (id bigint, body text);
CREATE TABLE audit (id bigint, what text);
CREATE TABLE accounts (tenant_id bigint NOT NULL, shard_id smallint NOT NULL, id bigint NOT NULL, name text, PRIMARY KEY (id), CHECK ((id >> 12) & 1023 = shard_id));
CREATE TABLE entries (tenant_id bigint NOT NULL, shard_id integer, account_id bigint, id bigint CHECK (((id >> 12) & 1023) = 1), cents bigint);
CREATE TABLE loose (tenant_id bigint NOT NULL, shard_id integer, id bigint, CHECK ((id >> 12) & 1023 = shard_id));
CREATE TABLE unnumbered (tenant_id bigint NOT NULL, shard_id text, id bigint);
CREATE TABLE defaults (id bigint, tenant_id bigint NOT NULL, shard_id smallint NOT NULL);
CREATE TABLE shard_config (shard_id smallint PRIMARY KEY, name text);
CREATE VIEW account_names AS SELECT id, shard_id AS home, name FROM accounts;
CREATE VIEW all_users AS SELECT tenant_id, id, name FROM users;
CREATE VIEW top_users AS SELECT tenant_id, id, score FROM users ORDER BY score DESC LIMIT 10;
CREATE VIEW user_counts AS SELECT tenant_id, count(*) AS n FROM users GROUP BY tenant_id;
CREATE FUNCTION my_fn(bigint) RETURNS bigint LANGUAGE sql VOLATILE AS 'SELECT 1';
CREATE FUNCTION pure_fn(bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION home_fn(bigint) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 1';
CREATE FUNCTION all_fn(bigint) RETURNS bigint LANGUAGE sql VOLATILE AS 'SELECT 1';
CREATE MATERIALIZED VIEW totals (n) AS SELECT count(*) AS n FROM all_users;
CREATE MATERIALIZED VIEW audited (what) AS SELECT what FROM audit;
CREATE DOMAIN tenant_no AS bigint CHECK (VALUE > 0);
CREATE TABLE visits (tenant_id tenant_no NOT NULL, n integer);
