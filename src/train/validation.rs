//! Chapter: training. The loss on text that was not trained on.

use crate::block::Block;
use crate::kernel::simd::Buffer;
use crate::kernel::wide::{in_wide, rows};
use crate::layer::{Layer, Shape};
use crate::model::{Acts, Model};
use crate::nn::loss::cross_entropy_forward;
use crate::params::Params;
use crate::real::Real;
use crate::train::data::window;
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rows that one thread takes at once.
const ROWS: usize = 512;

/// Memory to run the model over all windows of a text.
///
/// The windows go through the model in chunks of a fixed size, and each
/// window's loss has a place of its own, so that the sum has one order and
/// the mean the same bits on any number of threads.
pub struct Validation<B: Layer = Block, T: Real = f32> {
    /// One chunk of windows.
    shape: Shape,
    /// One for each thread.
    slots: Vec<Slot<B, T>>,
    /// Summed cross-entropy of each window.
    sums: Buffer<f64>,
}
struct Slot<B: Layer, T: Real> {
    tokens: Buffer<usize>,
    targets: Buffer<usize>,
    a: Acts<T, B>,
}

/// How many windows of `time` bytes a text of `n` bytes has: ⌊(n − 1)/T⌋,
/// one after the other; the last byte is only predicted.
///
/// ```
/// use moe_by_hand::train::validation::windows;
/// // tinyshakespeare's last tenth
/// assert_eq!(windows(111_540, 64), 1742);
/// assert_eq!((windows(64, 64), windows(65, 64)), (0, 1));
/// ```
pub fn windows(n: usize, time: usize) -> usize {
    n.saturating_sub(1) / time
}

/// The windows of `time` bytes, out of those of `n` bytes, that one thread
/// takes at once.
fn chunk(n: usize, time: usize) -> Shape {
    let batch = (ROWS / time).clamp(1, windows(n, time).max(1));
    Shape { batch, time }
}

impl<B: Layer> Validation<B> {
    /// For `n` bytes in windows of `time`, on as many threads as are here.
    pub fn new(m: &Model<B>, n: usize, time: usize) -> Self {
        Self::for_threads(m, n, time, rayon::current_num_threads())
    }
}
impl<B: Layer, T: Real> Validation<B, T> {
    /// [`Validation::new`] for so many threads, and numbers of any kind.
    pub fn for_threads(
        m: &Model<B>, n: usize, time: usize, threads: usize,
    ) -> Self {
        let shape = chunk(n, time);
        let slot = || Slot {
            tokens: Buffer::new(shape.rows(), 0),
            targets: Buffer::new(shape.rows(), 0),
            a: m.acts_forward(shape),
        };
        let windows = windows(n, time);
        let chunks = windows.div_ceil(shape.batch);
        let threads = threads.min(chunks);
        let slots = (0..threads).map(|_| slot()).collect();
        Self { shape, slots, sums: Buffer::new(windows, 0.0) }
    }
    /// Mean cross-entropy, in nats per byte.  text: [n]
    ///
    /// Every window begins at position 0, and nothing is carried over. From
    /// time to time `go_on` is told how many windows are done; if it says no,
    /// the result is `None`.
    ///
    /// # Panics
    /// If the text has no more bytes than one window.
    #[track_caller]
    pub fn loss(
        &mut self, m: &Model<B>, p: &Params<T>, text: &[u8],
        go_on: impl Fn(usize) -> bool + Sync,
    ) -> Option<f64> {
        let Shape { batch, time } = self.shape;
        let count = self.sums.len();
        assert!(count > 0, "{} bytes for one window of {time}", text.len());
        assert_eq!(windows(text.len(), time), count, "windows of the text");
        let chunks = count.div_ceil(batch);
        // Slot s takes the chunks that belong to its share of the sums.
        let share = chunks.div_ceil(self.slots.len()) * batch;
        let done = AtomicUsize::new(0);
        let sums = self.sums.par_chunks_mut(share).enumerate();
        let whole = sums.zip(&mut self.slots).all(|((i, sums), slot)| {
            sums.chunks_mut(batch).enumerate().all(|(j, sums)| {
                let text = &text[(i * share + j * batch) * time..];
                slot.losses(m, p, text, sums, time);
                let n = sums.len();
                go_on(done.fetch_add(n, Ordering::Relaxed) + n)
            })
        });
        let sum: f64 = self.sums.iter().sum();
        whole.then(|| sum / (count * time) as f64)
    }
}
impl<B: Layer, T: Real> Slot<B, T> {
    /// Sets sums to the losses of the text's first windows. The last chunk
    /// may have fewer than there is room for: what stands in the other rows
    /// does not matter, because no sequence sees another.
    fn losses(
        &mut self, m: &Model<B>, p: &Params<T>, text: &[u8], sums: &mut [f64],
        time: usize,
    ) {
        let Self { tokens, targets, a } = self;
        let each = tokens.chunks_exact_mut(time);
        let each = each.zip(targets.chunks_exact_mut(time));
        for (i, (x, y)) in each.enumerate().take(sums.len()) {
            window(x, y, &text[i * time..]);
        }
        m.forward(p, tokens, a);
        let v = m.config.vocab;
        for (i, sum) in sums.iter_mut().enumerate() {
            let at = i * time..(i + 1) * time;
            let z = &a.head.y[at.start * v..at.end * v];
            let lse = &mut a.lse[at.clone()];
            let targets = &targets[at];
            *sum = 0.0;
            in_wide(time, [], [rows(z, v)], |now, [], [z]| {
                let (lse, targets) = (&mut lse[now.clone()], &targets[now]);
                *sum += cross_entropy_forward(lse, z, targets).f64();
            });
        }
    }
}
