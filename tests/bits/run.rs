//! Chapter: parallel. A short run whose θ has the same bits on every platform,
//! by the portable form: all losses, two shards, warm-up, cosine, clipping.

use moe_by_hand::block::Block;
use moe_by_hand::config::Config;
use moe_by_hand::error::Result;
use moe_by_hand::half::{Bf16, F16};
use moe_by_hand::model::Model;
use moe_by_hand::nn::loss::CrossEntropy;
use moe_by_hand::tensors::sha256;
use moe_by_hand::train::data::Text;
use moe_by_hand::train::optimizer::{AdamW, Decay, StepFrom};
use moe_by_hand::train::options::Options;
use moe_by_hand::train::precision::{Precision, Stored};
use moe_by_hand::train::trainer::Trainer;

/// SHA-256 of θ after the run, for each precision.
pub(crate) const THETA: [(Precision, &str); 2] = [
    (
        Precision::F32,
        "48575a72e3e0495b4178e7d002d405798e0765060c2e6f15fd0d4b9d76066240",
    ),
    (
        Precision::Bf16,
        "70ef1722db3d8761b423cad616316cdd064e46fb7060ca3c7d9ef5b6ad3eb3e0",
    ),
];

/// Trains in this precision; θ in hexadecimal, hashed.
pub(crate) fn theta(precision: Precision) -> Result<String> {
    match precision {
        Precision::F32 => trained::<f32>(),
        Precision::Bf16 => trained::<Bf16>(),
        Precision::F16 => trained::<F16>(),
    }
}
fn trained<T: Stored>() -> Result<String>
where
    AdamW<f32>: StepFrom<T>,
{
    let text = Text::new(include_bytes!("../../LICENSE").to_vec());
    let options = Options { steps: 100, z_loss: 1e-3, ..Options::default() };
    let model = Model::new(Config::preset("tiny")?)?;
    let adam = AdamW::new(&model.layout, options.decay, Decay::Weights);
    let t = Trainer::stored(model, text, options, adam, CrossEntropy);
    let mut t: Trainer<Block, _, _, T> = t?;
    let mut clipped = 0;
    while !t.done() {
        let norm = t.step()?.grad_norm;
        clipped += usize::from(norm > t.options().clip);
    }
    let done = (t.shards(), (1..t.steps_done()).contains(&clipped));
    assert_eq!(done, (2, true), "two shards; some steps clipped, not all");
    let bytes: Vec<u8> =
        t.params.data.iter().flat_map(|p| p.to_le_bytes()).collect();
    Ok(sha256(&bytes))
}
