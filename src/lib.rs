//! **Mixture of Experts, by Hand**: a decoder-only Mixture-of-Experts
//! Transformer on the CPU, forward and backward, with no autograd.
//!
//! Every gradient is derived on paper, in the book, and proven by tests:
//! against central differences, against dual numbers, over a finite field
//! with `==`, against PyTorch.
//!
//! # Letters
//!
//! The same in a formula and in code, there in lower case.
//!
//! | letter | meaning |
//! |---|---|
//! | B `batch`, T `time`, N = B·T `n` | sequences, their length, rows |
//! | D `d` | width |
//! | H `heads`, K `kv`, dₕ `head` | query heads, key/value heads, their size |
//! | F `f`, E `e`, k `top_k` | expert width, experts, experts for each token |
//! | V `v`, L `layers` | vocabulary, blocks |
//! | `a`, `g` | activations, and their gradients |
//! | x̄ = ∂L/∂x `dx` | a single gradient, of the same shape |
//!
//! # Begin
//!
//! A whole model: built, trained a little, and writing.
//!
//! ```
//! use moe_by_hand::config::Config;
//! use moe_by_hand::generate::{Decoder, Sampler, generate};
//! use moe_by_hand::model::Model;
//! use moe_by_hand::rng::Rng;
//! use moe_by_hand::tokens::{Characters, encode};
//! use moe_by_hand::train::data::Text;
//! use moe_by_hand::train::{options::Options, trainer::Trainer};
//!
//! // Two blocks of width 32, with four experts of which a byte uses two.
//! let sizes = Config { hidden: 32, layers: 2, head: 8, experts: 4,
//!                      intermediate: 32, ..Config::preset("bytes")? };
//! let model = Model::new(sizes)?;
//! let text = Text::new(b"The gate chose an expert. ".repeat(50));
//! let options = Options { steps: 40, batch: 4, seq: 32, lr: 1e-2,
//!                         ..Options::default() };
//! let mut trainer = Trainer::new(model, text, options)?;
//! let before = trainer.validate();
//! while !trainer.done() {
//!     trainer.step()?;
//! }
//! assert!(trainer.validate() < before / 2.0); // in nats per byte
//!
//! let mut decoder = Decoder::new(&trainer.model);
//! let mut sampler = Sampler::new(0.8, 0, 1.0)?; // temperature, top-k, top-p
//! let mut rng = Rng::named(0, "sample");
//! let (mut text, prompt) = (Characters::default(), encode("The "));
//! generate(&mut decoder, &trainer.params, &prompt, 30, &mut sampler, &mut rng,
//!          |token| {
//!              print!("{}", text.push(token));
//!              true // and go on
//!          })?;
//! # moe_by_hand::error::Result::Ok(())
//! ```
//!
//! A layer, its backward, and the proof that they fit:
//!
//! ```
//! use moe_by_hand::gradcheck::assert_layer;
//! use moe_by_hand::layer::Shape;
//! use moe_by_hand::nn::swiglu::SwiGlu;
//! // rows of width 6, through an inner width of 4
//! let shape = Shape { batch: 2, time: 3 };
//! assert_layer(|b| SwiGlu::new(b, 6, 4), shape, 6);
//! ```
//!
//! [`model::Model`] is the whole network, [`train::trainer::Trainer`] trains
//! it, [`generate::Decoder`] lets it write, and [`check::assert`] proves any
//! equation of the book.
//!
//! # In reading order
//!
//! The order of the modules below, and of the files inside each, is the
//! order to read them in: a file uses only those before it, and a test holds
//! it to that.
#![warn(clippy::disallowed_methods)]

pub mod error;
pub mod system;
pub mod file;
pub mod json;
pub mod elementary;
pub mod real;
pub mod half;
pub mod field;
pub mod degree;
pub mod rng;
pub mod tensors;
pub mod kernel;
pub mod params;
pub mod layer;
pub mod ratio;
pub mod gradcheck;
pub mod nn;
pub mod config;
pub mod memory;
pub mod block;
pub mod model;
pub mod tokens;
pub mod generate;
pub mod hf;
#[expect(clippy::disallowed_methods, reason = "draws, and nothing follows")]
pub mod figure;
pub mod train;
#[expect(clippy::disallowed_methods, reason = "a second opinion on a formula")]
pub mod check;
#[expect(clippy::disallowed_methods, reason = "angles, to compare them")]
pub mod oracle;
