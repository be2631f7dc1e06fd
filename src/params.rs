//! Chapter: random, model. θ: all parameters in one vector, a table of named ranges,
//! and handles into it.
//!
//! A gradient is a vector of the same layout, and so are the optimizer's
//! moments. Initializing, clipping, stepping, counting, saving and checking
//! are each one loop over one slice.

use crate::kernel::matrix::{Add, Mat, MatMut, Op, Set, mat, mat_mut};
use crate::kernel::normal::fill_normal_with;
use crate::kernel::simd::Buffer;
use crate::kernel::simd::Isa;
use crate::real::Real;
use crate::rng::Rng;
use std::collections::HashSet;
use std::fmt::Display;
use std::ops::{Index, IndexMut, Range};

/// A handle: where a parameter lies in θ. Its name and role are in [`Layout`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Param {
    at: usize,
    len: usize,
    /// Width of a row.
    pub cols: usize,
    /// Its place in [`Layout::entries`].
    id: usize,
}
impl Param {
    /// Where it lies in θ.
    pub fn range(self) -> Range<usize> {
        self.at..self.at + self.len
    }
    /// Number of rows.
    pub fn rows(self) -> usize {
        self.len / self.cols
    }
}

/// What a parameter is for. Its initial value and its decay group follow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// Scales a normalized activation: starts at 1.
    Gain,
    /// Starts at 0.
    Bias,
    /// A table that is read by row: normal, never decayed by default.
    Embedding,
    /// A linear map: normal.
    Weight,
    /// A linear map that writes to the residual stream. Its initial standard
    /// deviation is divided by √(2L).
    Residual,
}

/// One parameter in the table.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Such as `layers.3.moe.experts.1.w1`.
    pub name: String,
    /// Linear maps are [in, out].
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
    /// Where it lies.
    pub param: Param,
    /// Whether training leaves it as it is: see [`Layout::freeze`].
    pub frozen: bool,
}

/// The table of contents of θ.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// In the order of θ.
    pub entries: Vec<Entry>,
    /// Length of θ.
    pub len: usize,
    /// Those that are taken.
    names: HashSet<String>,
}

/// Registers parameters under a dotted path.
#[derive(Debug)]
pub struct Builder<'a> {
    layout: &'a mut Layout,
    path: String,
}
impl Builder<'_> {
    /// The same table, one step down: `b.at("layers").at(3)`.
    pub fn at(&mut self, part: impl Display) -> Builder<'_> {
        Builder { path: format!("{}{part}.", self.path), layout: self.layout }
    }
    /// Adds a parameter to the table.
    ///
    /// # Panics
    /// If the name is taken.
    #[track_caller]
    pub fn param<const N: usize>(
        &mut self, name: &str, shape: [usize; N], role: Role,
    ) -> Param {
        let name = format!("{}{name}", self.path);
        let l = &mut *self.layout;
        assert!(l.names.insert(name.clone()), "{name} is taken");
        let (len, id) = (shape.iter().product(), l.entries.len());
        let param = Param { at: l.len, len, cols: shape[N - 1], id };
        l.len += len;
        let (shape, frozen) = (shape.into(), false);
        l.entries.push(Entry { name, shape, role, param, frozen });
        param
    }
}

/// How weights and embeddings are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Normal with this standard deviation everywhere; 0.02 is what GPT-2
    /// and Hugging Face take.
    Normal(f64),
    /// Keeps the variance through ReLU-like layers. Normal with σ = √(2 / n), n
    /// the inputs of a linear map, the width of an embedding.
    /// Source: He et al. 2015, eq. 10.
    He,
}
impl Init {
    /// The standard deviation for a parameter [in, out] of this role, in a
    /// model of `layers` blocks.
    ///
    /// ```
    /// use moe_by_hand::params::{Init, Role};
    /// assert_eq!(Init::He.sigma(&[8, 3], Role::Weight, 2), 0.5);
    /// // Two blocks add four times to the residual stream: 1/√4.
    /// assert_eq!(Init::Normal(0.02).sigma(&[8, 3], Role::Residual, 2), 0.01);
    /// ```
    pub fn sigma(self, shape: &[usize], role: Role, layers: usize) -> f64 {
        let inputs =
            shape[if role == Role::Embedding { shape.len() - 1 } else { 0 }];
        let sigma = match self {
            Init::Normal(sigma) => sigma,
            Init::He => (2.0 / inputs as f64).sqrt(), // eq: init-he
        };
        match role {
            // eq: init-residual
            Role::Residual => sigma / (2.0 * layers as f64).sqrt(),
            _ => sigma,
        }
    }
}

impl Layout {
    /// Begins at the root.
    pub fn builder(&mut self) -> Builder<'_> {
        Builder { layout: self, path: String::new() }
    }
    /// The entry of that name, such as `layers.3.moe.router.w`.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.name == name)
    }
    /// Freezes what has this name, or stands below it: `layers.0` freezes a
    /// block, `layers.0.moe.router.w` a matrix. Returns how many parameters
    /// (entries of the table) that are.
    ///
    /// What is frozen keeps its role and its initial value and is saved like
    /// the rest. The optimizer neither moves nor decays it, and its gradient
    /// is not part of the clipped norm.
    ///
    /// ```
    /// use moe_by_hand::{config::Config, model::Model};
    /// let mut model = Model::new(Config::preset("tiny").unwrap()).unwrap();
    /// assert_eq!(model.layout.freeze("layers.1.moe.router"), 1);
    /// assert_eq!(model.layout.freeze("embed"), 1);
    /// assert_eq!(model.layout.freeze("emb"), 0); // no such name
    /// ```
    #[must_use = "0 means that nothing has this name"]
    pub fn freeze(&mut self, name: &str) -> usize {
        let below = |e: &&mut Entry| match e.name.strip_prefix(name) {
            Some(rest) => rest.is_empty() || rest.starts_with('.'),
            None => false,
        };
        let found = self.entries.iter_mut().filter(below);
        found.map(|e| e.frozen = true).count()
    }
    /// A vector of this layout, all 0.
    pub fn zeros<T: Real>(&self) -> Params<T> {
        Params { data: Buffer::new(self.len, T::ZERO) }
    }
    /// A gradient of this layout, all 0.
    pub fn grads<T: Real>(&self) -> ParamGrads<T> {
        let data = Buffer::new(self.len, T::ZERO);
        ParamGrads { data, fresh: vec![false; self.entries.len()] }
    }
    /// Initial values from `seed`. Each parameter draws from a stream of its
    /// own, so that adding a layer does not change the others.
    pub fn init<T: Real>(
        &self, seed: u64, init: Init, layers: usize,
    ) -> Params<T> {
        let mut p = self.zeros();
        for e in &self.entries {
            let values = &mut p[e.param];
            match e.role {
                Role::Gain => values.fill(T::ONE),
                Role::Bias => values.fill(T::ZERO),
                role => {
                    let mut rng = Rng::named(seed, &e.name);
                    let sigma = init.sigma(&e.shape, role, layers);
                    match T::f32s_mut(values) {
                        // the same numbers, up to rounding
                        Some(values) => {
                            let isa = Isa::current();
                            fill_normal_with(isa, values, &rng, sigma);
                        }
                        None => rng.fill_normal(values, sigma),
                    }
                }
            }
        }
        p
    }
}

/// θ, or anything shaped like it: a moment, a direction.
#[derive(Clone, Debug, PartialEq)]
pub struct Params<T> {
    /// In the order of [`Layout::entries`].
    pub data: Buffer<T>,
}
impl<T: Real> Params<T> {
    /// A vector of the same layout from its values.
    ///
    /// # Panics
    /// If there are more or fewer of them.
    #[track_caller]
    pub fn like<U: Copy>(&self, data: impl Into<Buffer<U>>) -> Params<U> {
        let data = data.into();
        assert_eq!(data.len(), self.data.len(), "like: length of θ");
        Params { data }
    }
    /// A parameter as a matrix.
    pub fn mat(&self, p: Param) -> Mat<'_, T> {
        mat(&self[p], p.cols)
    }
}
impl<T> Index<Param> for Params<T> {
    type Output = [T];
    fn index(&self, p: Param) -> &[T] {
        &self.data[p.range()]
    }
}
impl<T> IndexMut<Param> for Params<T> {
    fn index_mut(&mut self, p: Param) -> &mut [T] {
        &mut self.data[p.range()]
    }
}

/// The gradient of the parameters, which every layer adds to.
///
/// A gradient that is written anew in each step need not be zeroed: after
/// [`ParamGrads::begin`] the first write to a parameter sets it and later ones
/// add, and [`ParamGrads::finish`] zeroes what nobody wrote (an idle expert).
/// Without `begin`, all writes add.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamGrads<T> {
    /// In the order of [`Layout::entries`].
    pub data: Buffer<T>,
    /// For each entry: its values are old, and the next write must set.
    fresh: Vec<bool>,
}
impl<T: Real> ParamGrads<T> {
    /// From now on, the first write to each parameter sets it.
    pub fn begin(&mut self) {
        self.fresh.fill(true);
    }
    /// Zeroes what was not written since [`ParamGrads::begin`], and what is
    /// frozen; all writes add again. `layout` is the table that the gradient
    /// was made from.
    pub fn finish(&mut self, layout: &Layout) {
        for e in &layout.entries {
            self.touch(e.param);
            if e.frozen {
                self.data[e.param.range()].fill(T::ZERO);
            }
        }
    }
    /// Makes the next write to `p` an addition, zeroing it if need be.
    fn touch(&mut self, p: Param) {
        if std::mem::take(&mut self.fresh[p.id]) {
            self.data[p.range()].fill(T::ZERO);
        }
    }
    /// The gradient of a parameter, for a kernel that adds to it.
    pub fn write(&mut self, p: Param) -> &mut [T] {
        self.touch(p);
        &mut self.data[p.range()]
    }
    /// [`ParamGrads::write`] for several parameters at once.
    ///
    /// # Panics
    /// If one is named twice.
    #[track_caller]
    pub fn many<const N: usize>(&mut self, p: [Param; N]) -> [&mut [T]; N] {
        p.iter().for_each(|&p| self.touch(p));
        let parts = self.data.get_disjoint_mut(p.map(Param::range));
        parts.expect("each parameter once")
    }
    /// The gradient of a parameter as a matrix for `matmul` to write to, and
    /// whether it shall set or add.
    pub fn accum(&mut self, p: Param) -> (MatMut<'_, T>, Op) {
        let fresh = std::mem::take(&mut self.fresh[p.id]);
        let op = if fresh { Set } else { Add };
        (mat_mut(&mut self.data[p.range()], p.cols), op)
    }
}
impl<T> Index<Param> for ParamGrads<T> {
    type Output = [T];
    fn index(&self, p: Param) -> &[T] {
        &self.data[p.range()]
    }
}
