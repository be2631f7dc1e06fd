//! Chapter: mutants. Twins of the library's code, each with a place for
//! mistakes.

pub(crate) mod twin;
pub(crate) mod net;
pub(crate) mod layers;
pub(crate) mod optimizer;
pub(crate) mod muon;
pub(crate) mod judged;
