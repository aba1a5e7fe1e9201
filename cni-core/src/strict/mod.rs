//! Reads configuration so that each error names the key's full path and the nearest right key. Never guesses a value.
//!
//! Derive `Deserialize` with `deny_unknown_fields` on a `Raw*` type and read it with [`from_value`]:
//!
//! ```
//! #[derive(serde::Deserialize)]
//! #[serde(rename_all = "camelCase", deny_unknown_fields)]
//! struct RawPool { block_size: u8 }
//!
//! let error = cni_core::strict::from_value::<RawPool>(serde_json::json!({"blocksize": 26}), "pool").err();
//! assert_eq!(error.map(|error| error.to_string()).as_deref(), Some("pool.blocksize: no such key; did you mean `blockSize`?"));
//! ```

mod de;
mod nearest;

pub use de::{StrictError, from_value};
pub use nearest::nearest;
