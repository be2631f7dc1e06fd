//! Chapter: scaling-out. Hugging Face's files: names, layout, and reading with
//! care.
mod config;
mod layout;
mod model;

pub use layout::{from_hf, hf_name, hf_shape, rotary_row, to_hf};
pub use model::{check_bytes, load, load_bytes, save, save_as};
