//! Chapter: gradcheck. What a layer is.

use crate::kernel::simd::Buffer;
use crate::kernel::vector::add_to;
use crate::params::{ParamGrads, Params};
use crate::real::Real;
use crate::rng::Rng;

/// How many sequences, and how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// B, the number of sequences.
    pub batch: usize,
    /// T, the length of each.
    pub time: usize,
}
impl Shape {
    /// N = B·T, one row for each token.
    pub fn rows(self) -> usize {
        self.batch * self.time
    }
}

/// A differentiable map of rows. It holds handles and sizes, never data.
///
/// If y = f(x), then backward computes x̄ = Jᵀȳ, which is to say
/// ⟨ȳ, J·u⟩ = ⟨x̄, u⟩ for every direction u.
pub trait Layer: Send + Sync {
    /// The output `y`, and what backward needs again. A second value of this
    /// type holds the gradients of all of it. It belongs to one [`Shape`].
    type Acts<T: Real>: Send + Sync;

    /// Memory for one forward pass, with all that its backward will read.
    /// Forward and backward themselves allocate nothing.
    fn acts<T: Real>(&self, shape: Shape) -> Self::Acts<T>;

    /// [`Layer::acts`] for passes that no backward follows: a layer may leave
    /// out what only its backward would read, and its backward then panics.
    fn acts_forward<T: Real>(&self, shape: Shape) -> Self::Acts<T> {
        self.acts(shape)
    }

    /// The output inside `a`; its gradient inside `g`.
    fn y<T: Real>(a: &mut Self::Acts<T>) -> &mut [T];

    /// The second output, if there is one: sums over the rows. Inside `g`,
    /// their gradients.
    fn totals<T: Real>(_: &mut Self::Acts<T>) -> Option<&mut Totals<T>> {
        None
    }

    /// The discrete choices that forward made, such as a router's experts. A
    /// derivative holds them fixed, so a check must not step across one.
    fn choices<T: Real>(_: &Self::Acts<T>) -> &[usize] {
        &[]
    }

    /// The cases that forward distinguished, such as an expert without a row,
    /// each with whether it occurred. A proof draws inputs until it has
    /// seen each of them.
    fn branches<T: Real>(_: &Self::Acts<T>) -> Vec<(&'static str, bool)> {
        vec![]
    }

    /// A law of exp, ln or √ that backward rests on and
    /// [`Field`](crate::field::Field) does not have, such as e^{a+b} = e^a·e^b;
    /// if there is one, the layer has no proof over the field.
    fn law(&self) -> Option<&'static str> {
        None
    }

    /// Tells `a`, before each forward pass, what the pass is for. A layer
    /// that draws random numbers keeps it; a layer of layers hands it on.
    fn context<T: Real>(_: &mut Self::Acts<T>, _: Context) {}

    /// Sets all of `a`.
    fn forward<T: Real>(&self, p: &Params<T>, x: &[T], a: &mut Self::Acts<T>);

    /// Sets `dx` and the rest of `g`; adds to `dp`. On entry `g` holds the
    /// gradients of the outputs. What is scratch in `g` may hold anything.
    fn backward<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &Self::Acts<T>,
        g: &mut Self::Acts<T>, dx: &mut [T], dp: &mut ParamGrads<T>,
    );
}

/// A layer that can continue a sequence whose past it has kept.
pub trait Decode: Layer {
    /// What it keeps of one sequence.
    type Cache<T: Real>: Send + Sync;

    /// Room for a whole context. A row sees the last `window` rows, itself
    /// among them.
    fn cache<T: Real>(&self, window: usize) -> Self::Cache<T>;

    /// Memory for [`Decode::extend`] by `time` rows at once.
    fn acts_cached<T: Real>(&self, time: usize) -> Self::Acts<T>;

    /// Sets all of `a` for the next rows of one sequence, and puts these into
    /// the cache as the rows from `start` on. What the cache holds from there
    /// on is forgotten, so a sequence is rolled back by a smaller `start`.
    /// x: [t, d]
    ///
    /// # Panics
    /// If the cache is full, or `a` is for another number of rows, or several
    /// rows come at once although the window is smaller than the sequence.
    fn extend<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &mut Self::Acts<T>,
        cache: &mut Self::Cache<T>, start: usize,
    );
}

/// What a forward pass is for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Context {
    /// Whether this is a training step: false in validation and generation.
    pub training: bool,
    /// The seed of the run.
    pub seed: u64,
    /// The training step, counted from 1.
    pub step: usize,
    /// The micro-batch of the step.
    pub micro: usize,
    /// The shard of the batch.
    pub shard: usize,
    /// The block, counted from 0.
    pub layer: usize,
}
impl Context {
    /// Random numbers for this pass and `name`: the same ones when recompute
    /// runs the pass again, and for any number of threads.
    pub fn rng(&self, name: &str) -> Rng {
        let Self { seed, step, micro, shard, layer, .. } = *self;
        let numbers = [step, micro, shard, layer].map(|n| n as u64);
        let mix = |s, n| Rng::new(s, n).bits64();
        Rng::named(numbers.into_iter().fold(seed, mix), name)
    }
}

/// The second output of a layer with a router: sums over its rows, from which
/// the losses of the whole batch are computed (see [`crate::nn::balance`]).
///
/// The totals of a batch are the sums of the totals of its shards, and like all
/// sums they are kept in numbers to compute with. In the
/// gradients of activations, `load` and `squares` hold gradients; the rest
/// has none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals<T: Real> {
    /// N, how many rows there were.
    pub rows: usize,
    /// k, how many experts each row chose.
    pub top_k: usize,
    /// The probability given to each expert, summed over the rows: [e]
    pub load: Buffer<T::Wide>,
    /// How many rows chose each expert: [e]
    pub count: Buffer<usize>,
    /// The sum of the squares of the log-sum-exps of the rows' scores. It is Σₜ
    /// ℓₜ².
    pub squares: T::Wide,
    /// Anything else that the layer counts, each with its name; reported, and
    /// without influence on a loss.
    pub other: Vec<(&'static str, T::Wide)>,
}
impl<T: Real> Totals<T> {
    /// For `experts` of which each row chooses `top_k`; to be set by a forward
    /// pass.
    pub fn new(experts: usize, top_k: usize) -> Self {
        Self {
            rows: 0,
            top_k,
            load: buffer(experts),
            count: Buffer::new(experts, usize::MAX),
            squares: T::Wide::of(f64::NAN),
            other: vec![],
        }
    }
    /// All sums 0, of no rows.
    pub fn clear(&mut self) {
        self.rows = 0;
        let zero = T::Wide::ZERO;
        self.load.fill(zero);
        self.count.fill(0);
        self.squares = zero;
        self.other.iter_mut().for_each(|(_, sum)| *sum = zero);
    }
    /// Adds the sums of more rows.
    ///
    /// # Panics
    /// If they are sums of something else.
    #[track_caller]
    pub fn add(&mut self, more: &Self) {
        let names = |t: &Self| t.other.iter().map(|o| o.0).collect::<Vec<_>>();
        let same = self.other.len() == more.other.len();
        assert!(same, "totals: {:?} and {:?}", names(self), names(more));
        self.rows += more.rows;
        add_to(&mut self.load, &more.load);
        for (count, more) in self.count.iter_mut().zip(&more.count) {
            *count += more;
        }
        self.squares += more.squares;
        for (sum, more) in self.other.iter_mut().zip(&more.other) {
            sum.1 += more.1;
        }
    }
    /// Sets these to `other` without allocating.
    ///
    /// # Panics
    /// If they are sums of something else.
    #[track_caller]
    pub fn set(&mut self, other: &Self) {
        self.clear();
        self.top_k = other.top_k;
        self.add(other);
    }
    /// Copies what a gradient flows to, load and squares.
    ///
    /// # Panics
    /// If there are not as many experts.
    #[track_caller]
    pub fn set_sums(&mut self, other: &Self) {
        self.load.copy_from_slice(&other.load);
        self.squares = other.squares;
    }
}

/// Memory that is set before it is read: in debug builds it is born NaN, so
/// that a forgotten write or a wrong order shows.
pub fn buffer<T: Real>(n: usize) -> Buffer<T> {
    Buffer::new(
        n,
        if cfg!(debug_assertions) { T::of(f64::NAN) } else { T::ZERO },
    )
}
/// [`buffer`] for indices, born as one that nothing has.
pub fn indices(n: usize) -> Buffer<usize> {
    Buffer::new(n, usize::MAX)
}
