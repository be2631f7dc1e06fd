//! Chapter: simd. Memory for numbers, and how much of it there would be.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::fmt;
use std::num::NonZero;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What the address of every [`Buffer`] is a multiple of, in bytes: a cache
/// line, which is also the longest vector.
pub const ALIGN: usize = 64;
/// Bytes of a page.
const PAGE: usize = 4096;
/// Bytes of a large page, where a program can ask the system for such pages:
/// a buffer of at least this length begins in one. In pages of 4 KiB, a step
/// that goes through 64 MB has 16,000 addresses to look up in each pass.
const LARGE: usize =
    if cfg!(target_os = "linux") { 2 << 20 } else { usize::MAX };
/// From this many bytes on, buffers begin at different places of a page, each
/// a [`STEP`] after the one before. AdamW reads and writes four at a time, and
/// a third slower with AVX-512 if they agree in the last 12 bits of addresses.
const LONG: usize = 1 << 20;
/// In lines of a page this has no divisor in common with their number, so that
/// all 64 places come before one comes again.
const STEP: usize = 17 * ALIGN;

/// A fixed number of values in memory of their own, at an address that is a
/// multiple of [`ALIGN`]. It dereferences to a slice.
///
/// ```
/// use moe_by_hand::kernel::simd::{ALIGN, Buffer};
/// let mut x = Buffer::new(3, 0.5f32);
/// x[1] = 2.0;
/// assert_eq!(x, [0.5, 2.0, 0.5]);
/// assert_eq!(x.as_ptr().addr() % ALIGN, 0);
/// ```
pub struct Buffer<T> {
    at: NonNull<T>,
    len: usize,
}
// SAFETY: a buffer owns its values, as a vector does.
unsafe impl<T: Send> Send for Buffer<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Buffer<T> {}

thread_local! {
    /// Inside [`asked`]: what buffers asked for so far.
    static ASKED: Cell<Option<[u64; 2]>> = const { Cell::new(None) };
}

/// The bytes of all buffers that `make` asks for on this thread, and what it
/// made. The buffers have no memory and a length of 0: this is how the size of
/// anything is known before it is taken, from the very code that takes it.
///
/// ```
/// use moe_by_hand::kernel::simd::{Buffer, bytes};
/// let make = || (Buffer::new(1 << 60, 0.0f32), Buffer::new(3, 0usize));
/// let three = 3 * size_of::<usize>() as u64;
/// assert_eq!(bytes(make).0, (1 << 62) + 4096 + three); // a page for a long one
/// ```
pub fn bytes<R>(make: impl FnOnce() -> R) -> (u64, R) {
    let ([values, pages], made) = asked(make);
    (values.saturating_add(pages), made)
}
/// [`bytes`] in two parts: those of the values, and the pages in which long
/// buffers begin.
pub(crate) fn asked<R>(make: impl FnOnce() -> R) -> ([u64; 2], R) {
    /// Ends the count of this call, also when `make` panics.
    struct Outer(Option<[u64; 2]>);
    impl Drop for Outer {
        fn drop(&mut self) {
            let inner = ASKED.get().unwrap_or_default();
            ASKED.set(self.0.map(|outer| sum(outer, inner)));
        }
    }
    let outer = Outer(ASKED.replace(Some([0; 2])));
    let made = make();
    let asked = ASKED.get().unwrap_or_default();
    drop(outer);
    (asked, made)
}
fn sum([a, b]: [u64; 2], [c, d]: [u64; 2]) -> [u64; 2] {
    [a.saturating_add(c), b.saturating_add(d)]
}

impl<T: Copy> Buffer<T> {
    /// `len` times `value`.
    ///
    /// # Panics
    /// If the system has not that much memory, or no program can.
    #[track_caller]
    pub fn new(len: usize, value: T) -> Self {
        Self::filled(len, |_| value)
    }
}
impl<T> Buffer<T> {
    /// The value of `f` at each index.
    #[track_caller]
    fn filled(len: usize, f: impl Fn(usize) -> T) -> Self {
        if let Some(asked) = ASKED.get() {
            let size = (size_of::<T>() as u64).saturating_mul(len as u64);
            let spare = Self::spare(size.try_into().unwrap_or(usize::MAX));
            ASKED.set(Some(sum(asked, [size, spare as u64])));
            return Self::default();
        }
        let layout = Self::layout(len);
        if layout.size() == 0 {
            return Self { len, ..Self::default() };
        }
        // SAFETY: the size is not 0.
        let Some(at) = NonNull::new(unsafe { alloc(layout) }.cast::<T>())
        else {
            handle_alloc_error(layout)
        };
        #[cfg(all(target_os = "linux", not(miri)))]
        if layout.align() == LARGE {
            // SAFETY: the memory was allocated just now, and advice changes no
            // value. If there are no large pages, it fails and changes nothing.
            unsafe {
                let (at, large) = (at.as_ptr().cast(), libc::MADV_HUGEPAGE);
                libc::madvise(at, layout.size(), large);
            }
        }
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let mut place = 0;
        if Self::spare(len * size_of::<T>()) > 0 {
            place = NEXT.fetch_add(1, Relaxed).wrapping_mul(STEP) % PAGE;
        }
        // SAFETY: where it is not 0, there is a page more than the values take.
        let at = unsafe { at.byte_add(place) };
        for i in 0..len {
            // SAFETY: there is memory for `len` values.
            unsafe { at.add(i).write(f(i)) };
        }
        Self { at, len }
    }
    #[track_caller]
    fn layout(len: usize) -> Layout {
        let layout = Layout::array::<T>(len).and_then(|l| {
            let size = l.size() + Self::spare(l.size());
            let align = match size - l.size() {
                0 => ALIGN.max(l.align()),
                _ if l.size() < LARGE => PAGE,
                _ => LARGE,
            };
            Layout::from_size_align(size, align)
        });
        layout.unwrap_or_else(|_| panic!("{len} values are too many"))
    }
    /// Bytes that are allocated besides values of this size: a page, in which a
    /// long buffer begins where the one before did not.
    fn spare(size: usize) -> usize {
        if size < LONG || align_of::<T>() > ALIGN { 0 } else { PAGE }
    }
}
impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        let layout = Self::layout(self.len);
        let spare = Self::spare(self.len * size_of::<T>());
        let place = self.at.addr().get() % spare.max(1);
        if layout.size() > 0 {
            // SAFETY: it was allocated with this layout, `place` bytes before
            // the values. They are `Copy`, since only such can be put in, so
            // nothing is to be done for them.
            unsafe { dealloc(self.at.byte_sub(place).as_ptr().cast(), layout) }
        }
    }
}
impl<T> Default for Buffer<T> {
    /// No values.
    fn default() -> Self {
        let nowhere = const { NonZero::new(ALIGN).unwrap() };
        Self { at: NonNull::without_provenance(nowhere), len: 0 }
    }
}
impl<T> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `len` values were written there; where there are none, a
        // dangling pointer is allowed.
        unsafe { slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }
}
impl<T> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and nobody else has a reference.
        unsafe { slice::from_raw_parts_mut(self.at.as_ptr(), self.len) }
    }
}
impl<T: Copy> From<&[T]> for Buffer<T> {
    fn from(x: &[T]) -> Self {
        Self::filled(x.len(), |i| x[i])
    }
}
impl<T: Copy> From<Vec<T>> for Buffer<T> {
    fn from(x: Vec<T>) -> Self {
        x.as_slice().into()
    }
}
impl<T: Copy> FromIterator<T> for Buffer<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        values.into_iter().collect::<Vec<T>>().into()
    }
}
impl<T: Clone> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        Self::filled(self.len, |i| self[i].clone())
    }
}
impl<T: fmt::Debug> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        (**self).fmt(f)
    }
}
impl<T: PartialEq<U>, U> PartialEq<Buffer<U>> for Buffer<T> {
    fn eq(&self, other: &Buffer<U>) -> bool {
        **self == **other
    }
}
impl<T: PartialEq<U>, U> PartialEq<[U]> for Buffer<T> {
    fn eq(&self, other: &[U]) -> bool {
        **self == *other
    }
}
impl<T: PartialEq<U>, U> PartialEq<Vec<U>> for Buffer<T> {
    fn eq(&self, other: &Vec<U>) -> bool {
        **self == **other
    }
}
impl<T: PartialEq<U>, U> PartialEq<Buffer<U>> for Vec<T> {
    fn eq(&self, other: &Buffer<U>) -> bool {
        **self == **other
    }
}
impl<T: PartialEq<U>, U, const N: usize> PartialEq<[U; N]> for Buffer<T> {
    fn eq(&self, other: &[U; N]) -> bool {
        **self == *other
    }
}
impl<'a, T> IntoIterator for &'a Buffer<T> {
    type Item = &'a T;
    type IntoIter = slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
impl<'a, T> IntoIterator for &'a mut Buffer<T> {
    type Item = &'a mut T;
    type IntoIter = slice::IterMut<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}
