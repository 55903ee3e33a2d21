//! OIDs of built-in types (PostgreSQL: `src/include/catalog/pg_type.dat`).

use super::Oid;

/// The first one that is not PostgreSQL's own (`FirstNormalObjectId` in `transam.h`).
pub const FIRST_NORMAL: Oid = 16384;

/// `bool`
pub const BOOL: Oid = 16;
/// `bytea`
pub const BYTEA: Oid = 17;
/// `name`
pub const NAME: Oid = 19;
/// `int8`
pub const INT8: Oid = 20;
/// `int2`
pub const INT2: Oid = 21;
/// `int4`
pub const INT4: Oid = 23;
/// `text`
pub const TEXT: Oid = 25;
/// `json`
pub const JSON: Oid = 114;
/// `unknown`
pub const UNKNOWN: Oid = 705;
/// `bpchar`, `char(n)`
pub const BPCHAR: Oid = 1042;
/// `varchar`
pub const VARCHAR: Oid = 1043;
/// `numeric`
pub const NUMERIC: Oid = 1700;
/// `uuid`
pub const UUID: Oid = 2950;
/// `int2[]`
pub const INT2_ARRAY: Oid = 1005;
/// `int4[]`
pub const INT4_ARRAY: Oid = 1007;
/// `text[]`
pub const TEXT_ARRAY: Oid = 1009;
/// `varchar[]`
pub const VARCHAR_ARRAY: Oid = 1015;
/// `int8[]`
pub const INT8_ARRAY: Oid = 1016;
/// `uuid[]`
pub const UUID_ARRAY: Oid = 2951;
/// `numeric[]`
pub const NUMERIC_ARRAY: Oid = 1231;
