//! Chapter: matmul. The one door to the matrix product.

use crate::kernel::product::matmul_with;
use crate::kernel::simd::Isa;
pub use crate::kernel::view::{Add, Mat, MatMut, Op, Set, mat, mat_mut};
use crate::kernel::wide::product_in_wide;
use crate::real::Real;

/// Sets C, or adds to it: the one door to the matrix product. C = A·B.
///
/// For f32 it is [`matmul_with`] and the instruction set of [`Isa::chosen`];
/// for numbers of 16 bits the same, each element rounded once; for any other
/// number, [`matmul_plain`].
///
/// cᵢⱼ = Σₖ aᵢₖbₖⱼ. With C̄ the gradient of C: Ā = C̄·Bᵀ and B̄ = Aᵀ·C̄, which
/// are products again, so there is no other backward. A transpose costs
/// nothing: `a.t()` exchanges strides. Each element is summed in the order
/// of k, from 0 or from what is there: a sum cut into several calls, or rows
/// shared among any number of threads, change no bit.
///
/// # Panics
/// If the shapes do not fit: A [m, k], B [k, n], C [m, n]. If `MOE_SIMD`
/// names an instruction set that this CPU does not have.
///
/// ```
/// use moe_by_hand::kernel::matrix::{Set, mat, mat_mut, matmul};
/// let (a, b) = ([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]);
/// let mut c = [f64::NAN; 4];
/// matmul(mat_mut(&mut c, 2), Set, mat(&a, 2), mat(&b, 2));
/// assert_eq!(c, [19.0, 22.0, 43.0, 50.0]);
/// // With C̄ = I: Ā = Bᵀ and B̄ = Aᵀ.
/// let dc = [1.0, 0.0, 0.0, 1.0];
/// let (mut da, mut db) = ([0.0; 4], [0.0; 4]);
/// matmul(mat_mut(&mut da, 2), Set, mat(&dc, 2), mat(&b, 2).t());
/// matmul(mat_mut(&mut db, 2), Set, mat(&a, 2).t(), mat(&dc, 2));
/// assert_eq!((da, db), ([5.0, 7.0, 6.0, 8.0], [1.0, 3.0, 2.0, 4.0]));
/// ```
#[track_caller]
pub fn matmul<T: Real>(mut c: MatMut<T>, op: Op, a: Mat<T>, b: Mat<T>) {
    let (need, have) = ((a.rows, a.cols, b.cols), (c.rows, b.rows, c.cols));
    assert_eq!(need, have, "(rows, inner, cols) of A, B against C, B, C");
    if let (Some(c), Some(a), Some(b)) = (c.f32s(), a.f32s(), b.f32s()) {
        return matmul_with(Isa::current(), c, op, a, b);
    }
    if T::STORED {
        return product_in_wide(c, op, a, b, matmul);
    }
    matmul_plain(c, op, a, b);
}

/// [`matmul`] as the formula says it, for any number type and any CPU.
///
/// # Panics
/// If A or B is smaller than C asks for.
#[track_caller]
pub fn matmul_plain<T: Real>(c: MatMut<T>, op: Op, a: Mat<T>, b: Mat<T>) {
    for i in 0..c.rows {
        for j in 0..c.cols {
            let c = &mut c.data[i * c.rs + j];
            let mut s = if op == Add { *c } else { T::ZERO };
            for k in 0..a.cols {
                // eq: matmul, matmul-transposed-b, matmul-backward
                s += a.data[i * a.rs + k * a.cs] * b.data[k * b.rs + j * b.cs];
            }
            *c = s;
        }
    }
}
