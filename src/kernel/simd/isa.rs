//! Chapter: simd. Which instruction sets there are, which the CPU has, and the
//! way into one of them.

#[cfg(target_arch = "aarch64")]
use super::neon;
use super::portable::Portable;
use super::vector::Kernel;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

#[cfg(target_arch = "aarch64")]
use std::arch::is_aarch64_feature_detected as has;
#[cfg(target_arch = "x86_64")]
use std::arch::is_x86_feature_detected as has;

/// The one that this process uses.
static CHOSEN: OnceLock<Result<Isa, IsaError>> = OnceLock::new();

/// An instruction set that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Whatever the compiler may assume of any CPU: SSE2 on x86-64.
    Portable,
    /// x86-64 with AVX2 and FMA: 8 lanes, 16 registers.
    Avx2,
    /// x86-64 with AVX-512F: 16 lanes, 32 registers.
    Avx512,
    /// ARM of 64 bits: 4 lanes, 32 registers.
    Neon,
}

/// `MOE_SIMD` names what this CPU does not have, or nothing at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "MOE_SIMD is {asked}, but this CPU has {}; unset it or choose one of these",
    Isa::here().map(|isa| isa.to_string()).collect::<Vec<_>>().join(" and ")
)]
pub struct IsaError {
    /// The word.
    pub asked: String,
}

impl Isa {
    /// All of them, the fastest first.
    pub const ALL: [Isa; 4] =
        [Isa::Avx512, Isa::Avx2, Isa::Neon, Isa::Portable];

    /// Whether this CPU has it.
    pub fn available(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => has!("avx2") && has!("fma"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => has!("avx512f"),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => has!("neon"),
            _ => false,
        }
    }
    /// The sets that this CPU has, the fastest first.
    pub fn here() -> impl Iterator<Item = Isa> {
        Self::ALL.into_iter().filter(|isa| isa.available())
    }
    /// The fastest that this CPU has.
    pub fn best() -> Isa {
        Self::here().next().unwrap_or(Isa::Portable)
    }
    /// What the environment variable `MOE_SIMD` says; an empty one counts as
    /// unset.
    ///
    /// # Errors
    /// If it names no set that this CPU has.
    pub fn asked() -> Result<Option<Isa>, IsaError> {
        match std::env::var_os("MOE_SIMD") {
            Some(word) if !word.is_empty() => {
                word.to_string_lossy().parse().map(Some)
            }
            _ => Ok(None),
        }
    }
    /// What [`Isa::choose`] chose, else [`Isa::asked`], else [`Isa::best`]:
    /// read once.
    ///
    /// # Errors
    /// As [`Isa::asked`].
    pub fn chosen() -> Result<Isa, IsaError> {
        let read = || Ok(Self::asked()?.unwrap_or(Isa::best()));
        CHOSEN.get_or_init(read).clone()
    }
    /// Takes this set for the rest of the process, unless one is taken
    /// already; whether it is this one.
    pub fn choose(self) -> bool {
        CHOSEN.get_or_init(|| Ok(self)) == &Ok(self)
    }
    /// [`Isa::chosen`], for kernels.
    ///
    /// # Panics
    /// If `MOE_SIMD` names no set that this CPU has.
    #[track_caller]
    pub fn current() -> Isa {
        Self::chosen().unwrap_or_else(|e| panic!("{e}"))
    }
    /// Runs the kernel, compiled for this set.
    ///
    /// # Panics
    /// If the CPU does not have it.
    #[inline]
    #[track_caller]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Out {
        assert!(self.available(), "this CPU does not have {self}");
        match self {
            // SAFETY: the CPU has the set, as asserted above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { avx2::enter(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { avx512::enter(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => unsafe { neon::enter(kernel) },
            _ => kernel.run(Portable),
        }
    }
}
impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Neon => "neon",
        })
    }
}
impl FromStr for Isa {
    type Err = IsaError;
    /// Only what this CPU has can be named.
    fn from_str(word: &str) -> Result<Isa, IsaError> {
        let mut here = Self::here();
        here.find(|isa| isa.to_string() == word)
            .ok_or_else(|| IsaError { asked: word.into() })
    }
}
