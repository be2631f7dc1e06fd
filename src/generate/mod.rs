//! Generation: how a token is chosen, and how a sequence grows by it; in
//! reading order.
mod sample;

mod decode;

pub use decode::{Decoder, Stop, generate};
pub use sample::{
    Sampler, rank, sample_inverse_cdf, sample_temperature, sample_top_k,
    sample_top_p,
};
