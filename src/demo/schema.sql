-- The sample application: a chat-bot server with many tenants. Every shard has the same tables.
-- Every tenant's row carries tenant_id (tenants itself: id), and region_code for the maps that place
-- rows by region.

-- The same rows on every shard: a reference table.
CREATE TABLE plans (
    plan_tier   smallint PRIMARY KEY,
    name        varchar(32) NOT NULL,
    seats_max   integer NOT NULL
);

-- One row set for the whole installation: lives on one shard.
CREATE TABLE global_settings (
    name        varchar(64) PRIMARY KEY,
    value       text NOT NULL
);

CREATE TABLE tenants (
    id          bigint PRIMARY KEY,
    region_code varchar(3) NOT NULL,
    name        varchar(255) NOT NULL,
    slug        varchar(128) NOT NULL,
    plan_tier   smallint NOT NULL DEFAULT 0 REFERENCES plans,
    settings    jsonb NOT NULL DEFAULT '{}',
    is_active   boolean NOT NULL DEFAULT true,
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE organizations (
    org_id      uuid PRIMARY KEY,
    tenant_id   bigint NOT NULL REFERENCES tenants ON DELETE CASCADE,
    region_code varchar(3) NOT NULL,
    name        varchar(255) NOT NULL,
    slug        varchar(255) NOT NULL,
    UNIQUE (tenant_id, slug)
);

CREATE TABLE users (
    id          uuid PRIMARY KEY,
    tenant_id   bigint NOT NULL REFERENCES tenants ON DELETE CASCADE,
    region_code varchar(3) NOT NULL,
    username    varchar(128) NOT NULL,
    email       varchar(255) NOT NULL,
    locale      varchar(5) NOT NULL DEFAULT 'en-US',
    is_active   boolean NOT NULL DEFAULT true,
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, email),
    UNIQUE (tenant_id, username)
);

CREATE TABLE bots (
    id          uuid PRIMARY KEY,
    tenant_id   bigint NOT NULL REFERENCES tenants ON DELETE CASCADE,
    region_code varchar(3) NOT NULL,
    name        varchar(255) NOT NULL,
    description text,
    is_active   boolean NOT NULL DEFAULT true,
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name)
);

CREATE TABLE bot_configuration (
    id           uuid PRIMARY KEY,
    bot_id       uuid NOT NULL REFERENCES bots ON DELETE CASCADE,
    tenant_id    bigint NOT NULL,
    region_code  varchar(3) NOT NULL,
    config_key   varchar(128) NOT NULL,
    config_value text NOT NULL,
    updated_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, bot_id, config_key)
);

CREATE TABLE user_sessions (
    id            uuid PRIMARY KEY,
    tenant_id     bigint NOT NULL REFERENCES tenants ON DELETE CASCADE,
    region_code   varchar(3) NOT NULL,
    user_id       uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    bot_id        uuid NOT NULL REFERENCES bots ON DELETE CASCADE,
    title         varchar(512),
    message_count integer NOT NULL DEFAULT 0,
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON user_sessions (tenant_id, created_at DESC);

CREATE TABLE message_history (
    id            uuid PRIMARY KEY,
    session_id    uuid NOT NULL REFERENCES user_sessions ON DELETE CASCADE,
    tenant_id     bigint NOT NULL,
    region_code   varchar(3) NOT NULL,
    user_id       uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    role          smallint NOT NULL DEFAULT 1,
    content       text NOT NULL,
    token_count   integer NOT NULL DEFAULT 0,
    message_index integer NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON message_history (session_id, message_index);
CREATE INDEX ON message_history (tenant_id, created_at DESC);

CREATE TABLE bot_memories (
    id               uuid PRIMARY KEY,
    bot_id           uuid NOT NULL REFERENCES bots ON DELETE CASCADE,
    tenant_id        bigint NOT NULL,
    region_code      varchar(3) NOT NULL,
    content          text NOT NULL,
    importance_score real NOT NULL DEFAULT 0.5
);

CREATE TABLE kb_collections (
    id             uuid PRIMARY KEY,
    bot_id         uuid NOT NULL REFERENCES bots ON DELETE CASCADE,
    tenant_id      bigint NOT NULL,
    region_code    varchar(3) NOT NULL,
    name           varchar(255) NOT NULL,
    document_count integer NOT NULL DEFAULT 0,
    UNIQUE (tenant_id, bot_id, name)
);

CREATE TABLE kb_documents (
    id            uuid PRIMARY KEY,
    collection_id uuid NOT NULL REFERENCES kb_collections ON DELETE CASCADE,
    tenant_id     bigint NOT NULL,
    region_code   varchar(3) NOT NULL,
    file_name     varchar(255) NOT NULL,
    file_size     bigint,
    is_indexed    boolean NOT NULL DEFAULT false
);

CREATE TABLE tasks (
    id          uuid PRIMARY KEY,
    tenant_id   bigint NOT NULL,
    region_code varchar(3) NOT NULL,
    bot_id      uuid REFERENCES bots ON DELETE SET NULL,
    title       varchar(512) NOT NULL,
    status      smallint NOT NULL DEFAULT 0,
    priority    smallint NOT NULL DEFAULT 1,
    tags        text[],
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE usage_analytics (
    id            uuid PRIMARY KEY,
    tenant_id     bigint NOT NULL,
    region_code   varchar(3) NOT NULL,
    user_id       uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    bot_id        uuid NOT NULL REFERENCES bots ON DELETE CASCADE,
    date          date NOT NULL,
    message_count integer NOT NULL DEFAULT 0,
    total_tokens  integer NOT NULL DEFAULT 0,
    UNIQUE (tenant_id, user_id, bot_id, date)
);

CREATE TABLE analytics_events (
    id          uuid PRIMARY KEY,
    tenant_id   bigint NOT NULL,
    region_code varchar(3) NOT NULL,
    bot_id      uuid REFERENCES bots ON DELETE SET NULL,
    event_type  varchar(64) NOT NULL,
    event_data  jsonb NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON analytics_events (tenant_id, created_at DESC);
