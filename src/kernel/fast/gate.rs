//! Chapter: simd. The way from a plain kernel to its twin.

use crate::real::Real;

/// An argument of a plain kernel, as its twin takes it: numbers of T are f32,
/// whatever else there is stays as it is.
///
/// # Panics
/// If T is not f32.
pub(crate) trait InF32 {
    /// The type of the twin's field.
    type F32;
    /// The same value.
    fn in_f32(self) -> Self::F32;
}
impl<'a, T: Real> InF32 for &'a [T] {
    type F32 = &'a [f32];
    fn in_f32(self) -> &'a [f32] {
        T::f32s(self).expect("f32 alone has twins")
    }
}
impl<'a, T: Real> InF32 for &'a mut [T] {
    type F32 = &'a mut [f32];
    fn in_f32(self) -> &'a mut [f32] {
        T::f32s_mut(self).expect("f32 alone has twins")
    }
}
impl<T: Real> InF32 for T {
    type F32 = f32;
    fn in_f32(self) -> f32 {
        self.f64() as f32
    }
}
impl InF32 for usize {
    type F32 = usize;
    fn in_f32(self) -> usize {
        self
    }
}
impl<'a> InF32 for &'a [usize] {
    type F32 = &'a [usize];
    fn in_f32(self) -> &'a [usize] {
        self
    }
}

/// `twin!(return fast::GluForward { h, gate, up });` says, in a kernel over
/// `T: Real`: if T is f32, let the twin compute this, and return.
///
/// The twin's fields are named as the kernel's arguments. With `as T` behind
/// them its result is returned.
macro_rules! twin {
    (return fast::$twin:ident { $($field:ident),+ } $(as $t:ident)?) => {
        if T::f32s(&[]).is_some() {
            use $crate::kernel::fast::{$twin, gate::InF32};
            let twin = $twin { $($field: $field.in_f32()),+ };
            let out = twin.on($crate::kernel::simd::Isa::current());
            return $crate::kernel::fast::gate::twin!(@ out $($t)?);
        }
    };
    (@ $out:ident) => { $out };
    (@ $out:ident $t:ident) => { $t::of($out.into()) };
}

/// Lists the twins of each file, and gives each a function of its own, `on`.
///
/// `Isa::run` would be compiled anew, for each set, in every crate that uses
/// the plain kernel; `on` is compiled here and nowhere else.
macro_rules! twins {
    ($($file:ident: $($twin:ident),+;)+) => {$(
        pub use $file::{$($twin),+};
        $(impl $twin<'_> {
            /// Computes by the given instruction set.
            ///
            /// # Panics
            /// If the CPU does not have it.
            pub fn on(
                self, isa: crate::kernel::simd::Isa,
            ) -> <Self as crate::kernel::simd::Kernel>::Out {
                isa.run(self)
            }
        })+
    )+};
}

pub(crate) use twin;
pub(super) use twins;
